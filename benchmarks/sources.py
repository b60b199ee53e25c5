"""Every session format over real files: what is found in them, how exact it is, and how fast.

    python -m benchmarks.sources ../shared/corpus ../shared/captures --json results.json

All files below the given folders are taken as `traj record` would take them. What it refuses is
listed with the reason. Exactness is counted by turn: usage whole, partial or unknown; the clock of
requests. Speed is of reading alone (file to events) in one process, and of reading and building,
over the largest sessions of each format, each read again and again until it took a second. How
reading grows with a session is shown of live logs, in which every request sends all of it again:
one conversation of each API, made for this, in several lengths.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import corpus, measure
from benchmarks.results import sources_tables

if TYPE_CHECKING:
    from traj.sources import SessionFiles

LARGEST = 3  # sessions of a format whose reading is timed
SECONDS = 1.0
REQUESTS = (200, 2_000, 5_000)  # of the conversations that growth is measured on
ROUNDS = 3


def seen(folders: list[Path]) -> dict[str, Any]:
    """What lies in the folders, by format."""
    from traj.build import build
    from traj.build.tokens import Counter as Tokens
    from traj.build.tokens import open_tokenizer
    from traj.errors import SourceError
    from traj.sources import find

    tokens = Tokens(open_tokenizer())
    found = find(folders)
    by_format: dict[str, list[SessionFiles]] = {}
    for session in found.sessions:
        by_format.setdefault(session.format, []).append(session)
    refused = [(str(path.name), reason) for path, reason in found.refused]
    formats = {}
    for name, sessions in sorted(by_format.items()):
        tally, losses = Counter[str](), Counter[str]()
        clocks, usage = Counter[str](), Counter[str]()
        for session in sessions:
            try:
                built = build(session.read(), tokens, "benchmark")
            except SourceError as error:
                refused.append((session.parts[0].path.name, str(error)))
                continue
            turns, calls = built.tables["turns"], built.tables["tool_calls"]
            tally.update(sessions=1, files=len({part.path for part in session.parts}))
            tally.update(bytes=session.bytes, turns=len(turns["turn"]))
            tally.update(tool_calls=len(calls["call"]), messages=len(built.tables["messages"]))
            tally.update(timed_calls=sum(end is not None for end in calls["end_us"]))
            losses.update(built.losses)
            clocks.update(turns["clock"])
            usage.update(turns["usage_source"])
        largest = sorted(sessions, key=lambda session: -session.bytes)[:LARGEST]
        formats[name] = {
            **tally,
            "losses": dict(sorted(losses.items())),
            "clocks": dict(sorted(clocks.items())),
            "usage": dict(sorted(usage.items())),
            "timed_bytes": sum(session.bytes for session in largest),
            "read_megabytes_per_s": speed(largest, lambda session: session.read()),
            "build_megabytes_per_s": speed(
                largest, lambda session: build(session.read(), tokens, "benchmark")
            ),
        }
    reasons = Counter(reason for _, reason in refused)
    return {"formats": formats, "refused": dict(reasons.most_common())}


def speed(sessions: list[SessionFiles], work: Callable[[SessionFiles], object]) -> float:
    """Megabytes a second, over all sessions in turn."""
    work(sessions[0])
    begun = time.perf_counter()
    done = 0
    while time.perf_counter() - begun < SECONDS:
        for session in sessions:
            work(session)
            done += session.bytes
    return done / (time.perf_counter() - begun) / 1e6


def growth() -> list[dict[str, Any]]:
    """How long live logs of one conversation take to read, by its requests."""
    sys.path.insert(0, str(corpus.ROOT / "tests"))
    import live_logs
    from traj.sources import find

    found = []
    for api in live_logs.PATHS:
        for requests in REQUESTS:
            with tempfile.TemporaryDirectory() as folder:
                log = live_logs.write(Path(folder) / "run.jsonl", api, requests)
                (session,) = find([log]).sessions
                seconds = []
                for _ in range(ROUNDS):
                    begun = time.perf_counter()
                    session.read()
                    seconds.append(time.perf_counter() - begun)
                found.append(
                    {"api": api, "requests": requests, "bytes": session.bytes, "s": min(seconds)}
                )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("folders", type=Path, nargs="+")
    options = parser.parse_args()
    result = {"benchmark": "sources", **measure.machine(), **seen(options.folders)}
    result["growth"] = growth()
    if options.json:
        measure.write_json(options.json, result)
    print(sources_tables(result))


if __name__ == "__main__":
    main()
