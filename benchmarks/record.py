"""Measures `traj record` against the floor: parsing the same bytes with orjson, and no more.

    python -m benchmarks.record --json benchmarks/results/record.json

One run gives speed, CPU and memory beside the floor's, the dataset's size beside its source's,
the growth of the time with a session's length, and the peak memory over a large corpus.
"""

from __future__ import annotations

import argparse
import shlex
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks import corpus, measure
from benchmarks.results import record_tables
from benchmarks.synthetic import lengthened
from benchmarks.traj_tokens import turns_held

LAUNCH_TRAJ = corpus.ROOT / "benchmarks" / "checkout.py"
# `traj record` ends with 1 where something could not be recorded: corpora hold broken files.
ACCEPTED = (0, 1)


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    megabytes: float
    memory_megabytes: float
    repeats: int
    growth_turns: int
    growth_repeats: int


FULL = Plan(100, 200, 5, 50, 3)
QUICK = Plan(13, 26, 3, 20, 3)


@dataclass(frozen=True, slots=True)
class Bench:
    """Where to work and which `traj` to measure."""

    scratch: Path
    traj: list[str]
    corpus: Path

    @staticmethod
    def of(scratch: str, traj: str | None, corpus_folder: Path) -> Bench:
        """With no command given, the toolkit beside these benchmarks is measured."""
        command = shlex.split(traj) if traj else [sys.executable, str(LAUNCH_TRAJ)]
        return Bench(Path(scratch), command, corpus_folder)

    def record(self, source: Path, out: Path) -> measure.Run:
        """One whole run of `traj record` into a fresh dataset, which stays on disk."""
        shutil.rmtree(out, ignore_errors=True)
        command = [*self.traj, "record", str(source), "-o", str(out), "--no-scrub", "--jobs", "1"]
        # Python ends with 1 too where there is no `traj` to run, so the dataset must be there.
        run = measure.run(command, accept=ACCEPTED, makes=out)
        if not turns_held(out):
            raise measure.CommandFailedError(f"{' '.join(command)}: no turns in the dataset")
        return run

    def floor(self, source: Path) -> measure.Run:
        command = [sys.executable, "-m", "benchmarks.floor", str(source)]
        return measure.run(command, env={"PYTHONPATH": str(corpus.ROOT)})


def speed(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Floor and `traj record` in turn over one corpus."""
    source, out = bench.scratch / "corpus", bench.scratch / "dataset"
    built = corpus.build(source, plan.megabytes, bench.corpus)
    bench.floor(source)  # warms the file cache
    runs = measure.in_turn(
        {"floor": partial(bench.floor, source), "traj": partial(bench.record, source, out)},
        plan.repeats,
    )
    result = {
        "corpus": asdict(built),
        "floor": measure.summary(runs["floor"], built.bytes),
        "traj": measure.summary(runs["traj"], built.bytes),
        "wall_ratio": measure.ratio(runs["traj"], runs["floor"]),
        "cpu_ratio": measure.ratio(runs["traj"], runs["floor"], "cpu_s"),
        "dataset_bytes": measure.folder_bytes(out),
        "turns": turns_held(out),
    }
    shutil.rmtree(source)
    return result


def size(bench: Bench) -> dict[str, Any]:
    """Bytes of the dataset beside the bytes of its source, every session once.

    Replicas would flatter: they repeat their text, and Parquet's compression sees that.
    """
    source, out = bench.scratch / "once", bench.scratch / "dataset"
    built = corpus.build(source, 0, bench.corpus)
    bench.record(source, out)
    dataset = measure.folder_bytes(out)
    return {"corpus": asdict(built), "dataset_bytes": dataset, "ratio": dataset / built.bytes}


def growth(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Time for 1, 10 and 100 times the turns of one session, and what a further turn costs.

    Start-up is most of a short run, so the cost of a turn is taken from the difference between
    one length and the next, pair by pair: equal costs mean that the time grows linearly.
    """
    folder, out = bench.scratch / "growth", bench.scratch / "dataset"
    turns = [plan.growth_turns, plan.growth_turns * 10, plan.growth_turns * 100]
    files = {count: lengthened(folder / str(count), count) for count in turns}
    actions: dict[str, Callable[[], measure.Run]] = {
        str(count): partial(bench.record, path, out) for count, path in files.items()
    }
    runs = measure.in_turn(actions, plan.growth_repeats)
    steps: list[dict[str, Any]] = []
    for shorter, count in zip([None, *turns], turns, strict=False):
        size = files[count].stat().st_size
        one = {"turns": count, "bytes": size, **measure.summary(runs[str(count)], size)}
        if shorter is not None:
            pairs = zip(runs[str(shorter)], runs[str(count)], strict=True)
            more = median(long.cpu_s - short.cpu_s for short, long in pairs)
            one["cpu_ms_per_further_turn"] = more / (count - shorter) * 1_000
        steps.append(one)
    shallow, steep = (step["cpu_ms_per_further_turn"] for step in steps[1:])
    return {"steps": steps, "ratio_per_turn": steep / shallow}


def memory(bench: Bench, plan: Plan) -> dict[str, Any]:
    """Peak memory over a large corpus, one process."""
    source, out = bench.scratch / "large", bench.scratch / "dataset"
    built = corpus.build(source, plan.memory_megabytes, bench.corpus)
    run = bench.record(source, out)
    result = {"corpus": asdict(built), "traj": asdict(run)}
    shutil.rmtree(source)
    return result


def measure_all(bench: Bench, plan: Plan, parts: list[str]) -> dict[str, Any]:
    wanted: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": partial(speed, bench, plan),
        "size": partial(size, bench),
        "growth": partial(growth, bench, plan),
        "memory": partial(memory, bench, plan),
    }
    result: dict[str, Any] = {"benchmark": "record", "plan": asdict(plan), **measure.machine()}
    own = str(LAUNCH_TRAJ) in bench.traj
    command = "traj" if own else " ".join(bench.traj)
    result["traj_command"] = f"{command} record SOURCE -o DATASET --no-scrub --jobs 1"
    for name in parts:
        print(f"measuring {name} …", file=sys.stderr)
        result[name] = wanted[name]()
    return result


PARTS = ["speed", "size", "growth", "memory"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="small corpora, fewer repeats")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--traj", help="the command measured (default: this checkout's)")
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT_CORPUS)
    parser.add_argument("--scratch", type=Path, help="folder for corpora (default: a temporary)")
    parser.add_argument("--part", action="append", choices=PARTS, help="only this (repeatable)")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="traj-bench-", dir=options.scratch) as scratch:
        bench = Bench.of(scratch, options.traj, options.corpus)
        result = measure_all(bench, QUICK if options.quick else FULL, options.part or PARTS)
    if options.json:
        measure.write_json(options.json, result)
    print(record_tables(result))


if __name__ == "__main__":
    try:
        main()
    except measure.CommandFailedError as failure:
        sys.exit(str(failure))
