"""Measures `traj export` over a large dataset: speed beside a floor, memory, growth.

    python -m benchmarks.export --json benchmarks/results/export.json

The dataset is recorded from generated Claude Code sessions, replicated with ids and first words
of their own: 1,000 trajectories with some 100 requests each, and a tenth of them for the growth.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, measure
from benchmarks.record import ACCEPTED, LAUNCH_TRAJ
from benchmarks.results import export_tables
from benchmarks.synthetic import claude_session

TURNS = 22  # of the person; the agent makes some 100 requests for them
DISTINCT = 20  # sessions that are generated; the rest are copies with other ids and first words
OPTIONS = {
    "text": ["--lengths", "text"],
    "recorded, aa": ["--prefix", "aa", "--tool-time", "baseline"],
}


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to work and which `traj` to measure."""

    scratch: Path
    traj: list[str]

    def dataset(self, trajectories: int) -> Path:
        """Recorded from as many sessions."""
        base, copies = self.scratch / "base", self.scratch / "copies"
        out = self.scratch / f"{trajectories}.traj"
        if not base.exists():
            for seed in range(DISTINCT):
                claude_session(base / "claude_code" / "projects" / "-home-dev-a", seed, TURNS)
        # Half a copy less than wanted: the last one is then whole.
        megabytes = measure.folder_bytes(base) / 1e6 * (trajectories / DISTINCT - 0.5)
        corpus.build(copies, megabytes, base)
        command = [*self.traj, "record", str(copies), "-o", str(out), "--no-scrub", "--quiet"]
        measure.run(command, accept=ACCEPTED, makes=out)
        shutil.rmtree(copies)
        return out

    def export(self, dataset: Path, target: str, options: list[str], out: Path) -> measure.Run:
        """One whole run of `traj export` into a fresh folder, which stays on disk."""
        shutil.rmtree(out, ignore_errors=True)
        command = [*self.traj, "export", str(dataset), "--format", target, "-o", str(out)]
        return measure.run([*command, *options, "--quiet"], makes=out)

    def floor(self, dataset: Path, out: Path) -> measure.Run:
        command = [sys.executable, "-m", "benchmarks.export_floor", str(dataset), str(out)]
        return measure.run(command, env={"PYTHONPATH": str(corpus.ROOT)})


def counts(out: Path) -> dict[str, int]:
    found: dict[str, int] = orjson.loads((out / "export.json").read_bytes())["counts"]
    return found


def speed(bench: Bench, target: str, trajectories: int, repeats: int) -> list[dict[str, Any]]:
    """Floor and export in turn, at a tenth of the trajectories and at all."""
    results: list[dict[str, Any]] = []
    datasets = [bench.dataset(count) for count in (trajectories // 10, trajectories)]
    for name, options in OPTIONS.items():
        for dataset in datasets:
            out, floor = bench.scratch / "out", bench.scratch / "floor.jsonl"
            runs = measure.in_turn(
                {
                    "floor": partial(bench.floor, dataset, floor),
                    "traj": partial(bench.export, dataset, target, options, out),
                },
                repeats,
            )
            written = measure.folder_bytes(out)
            results.append(
                {
                    "options": name,
                    "counts": counts(out),
                    "output_bytes": written,
                    "floor_bytes": floor.stat().st_size,
                    "floor": measure.summary(runs["floor"], floor.stat().st_size),
                    "traj": measure.summary(runs["traj"], written),
                    "wall_ratio": measure.ratio(runs["traj"], runs["floor"]),
                }
            )
    return results


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--traj", help="the command measured (default: this checkout's)")
    parser.add_argument("--target", default="aiperf-dag")
    parser.add_argument("--trajectories", type=int, default=1_000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="folder for datasets (default: a temporary)")
    options = parser.parse_args()
    traj = shlex.split(options.traj) if options.traj else [sys.executable, str(LAUNCH_TRAJ)]
    with tempfile.TemporaryDirectory(prefix="traj-bench-", dir=options.scratch) as scratch:
        bench = Bench(Path(scratch), traj)
        result = {
            "benchmark": "export",
            **measure.machine(),
            "traj_command": f"traj export DATASET --format {options.target} -o OUT",
            "exports": speed(bench, options.target, options.trajectories, options.repeats),
        }
    if options.json:
        measure.write_json(options.json, result)
    print(export_tables(result))


if __name__ == "__main__":
    try:
        main()
    except measure.CommandFailedError as failure:
        sys.exit(str(failure))
