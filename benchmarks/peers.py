"""Sets `traj record` beside other readers of Claude Code sessions: speed, and tokens counted.

    python -m benchmarks.peers --json benchmarks/results/peers.json

Installs each peer in an environment of its own (`.venvs/`), runs it on the same files, all in
turn, and holds its totals against an independent count (see `usage.py`).
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks import corpus, measure
from benchmarks.peer_install import NotInstalledError, install
from benchmarks.peer_tools import TOOLS, Counts, Job, Tool, environment
from benchmarks.record import Bench
from benchmarks.results import peer_tables
from benchmarks.synthetic import claude_session, lengthened
from benchmarks.traj_tokens import traj_tokens, traj_version
from benchmarks.usage import TRUTH, Tokens, counts

CACHE = corpus.ROOT / ".venvs"
# Turns of a session, and runs of each tool. A long one too: start-up is half of a short one's time.
FULL = ((1_000, 5), (4_000, 3))
QUICK = ((100, 2), (400, 2))
_SESSION = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")


@dataclass(frozen=True, slots=True)
class Session:
    """A session and the files of its sub-agents, in either layout."""

    main: Path
    others: tuple[Path, ...]

    @property
    def files(self) -> list[Path]:
        return [self.main, *self.others]


def sessions_in(folder: Path) -> Iterator[Session]:
    """Sessions with at least one model call; sub-agents whose parent is missing are left out."""
    for main in sorted(folder.rglob("*.jsonl")):
        if _SESSION.match(main.stem) and "subagents" not in main.parts:
            session = Session(main, tuple(_subagent_files(main)))
            if counts(session.files)[TRUTH].calls:
                yield session


def _subagent_files(main: Path) -> Iterator[Path]:
    yield from sorted(main.with_suffix("").rglob("*.jsonl"))
    mark = f'"sessionId":"{main.stem}"'.encode()
    for path in sorted(main.parent.glob("agent-*.jsonl")):
        if mark in path.read_bytes():
            yield path


def lay_out(sessions: list[Session], home: Path) -> list[Session]:
    """Copies sessions into a folder like `~/.claude`."""
    laid = []
    for session in sessions:
        project = home / "projects" / session.main.parent.name
        targets = [project / path.relative_to(session.main.parent) for path in session.files]
        for path, target in zip(session.files, targets, strict=True):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        laid.append(Session(targets[0], tuple(targets[1:])))
    return laid


def installed(names: list[str], cache: Path) -> tuple[dict[str, Path], dict[str, str]]:
    """The folders with the commands of the peers that install here, and why others do not."""
    folders: dict[str, Path] = {}
    reasons: dict[str, str] = {}
    for name in names:
        print(f"installing {name} …", file=sys.stderr)
        try:
            folders[name] = install(TOOLS[name].package, cache)
        except NotInstalledError as failure:
            reasons[name] = str(failure)
    return folders, reasons


def run_tool(tool: Tool, job: Job) -> measure.Run:
    """One run into an empty folder."""
    shutil.rmtree(job.out, ignore_errors=True)
    (job.out / "home").mkdir(parents=True)
    command = tool.call(job)
    return measure.run(command, env=environment(job, tool), stdout=job.out / "stdout")


def accuracy(bench: Bench, folders: dict[str, Path], source: Path) -> dict[str, Any]:
    """Every tool's totals over the same sessions beside the independent count."""
    found = list(sessions_in(source / "claude_code")) if source.is_dir() else []
    kind = "real" if found else "generated"
    home = bench.scratch / "accuracy"
    sessions = lay_out(found or list(_generated(bench.scratch / "generated")), home)
    files = [path for session in sessions for path in session.files]
    known = counts(files)
    out = bench.scratch / "out"
    tools = {"traj": _traj_accuracy(bench, home, known)}
    for name, folder in folders.items():
        job = Job(home, sessions[0].main, out, folder)
        tools[name] = _tool_accuracy(TOOLS[name], job, sessions, known)
    return {
        "kind": kind,
        "sessions": len(sessions),
        "files": len(files),
        "bytes": sum(path.stat().st_size for path in files),
        "truth": known[TRUTH].as_json(),
        "variants": {name: tokens.as_json() for name, tokens in known.items()},
        "tools": tools,
    }


def _generated(folder: Path) -> Iterator[Session]:
    for seed in range(12):
        claude_session(folder / "-home-dev-project", seed, 3 + seed, subagents=seed % 3)
    return sessions_in(folder)


def _traj_accuracy(bench: Bench, home: Path, known: dict[str, Tokens]) -> dict[str, Any]:
    version = traj_version(bench.traj)
    dataset = bench.scratch / "dataset"
    try:
        bench.record(home / "projects", dataset)
        found = traj_tokens(dataset)
    except (measure.CommandFailedError, OSError) as failure:
        return {"version": version, "verdict": f"failed: {_last_line(failure)}"}
    return {"version": version, "tokens": found, "verdict": verdict(found, known)}


def _tool_accuracy(
    tool: Tool, job: Job, sessions: list[Session], known: dict[str, Tokens]
) -> dict[str, Any]:
    result: dict[str, Any] = {"version": tool.package.version}
    if tool.tokens is None:
        return {**result, "verdict": "keeps no token counts"}
    total: Counts = {}
    failures: list[str] = []
    for session in sessions[:1] if tool.whole_folder else sessions:
        try:
            run_tool(tool, Job(job.home, session.main, job.out, job.commands))
            total = _plus(total, tool.tokens(job.out))
        except (measure.CommandFailedError, OSError) as failure:
            failures.append(_last_line(failure))
    told = verdict(total, known) if total else "nothing"
    if failures:
        told = f"{told}; failed on {len(failures)} sessions: {failures[0]}"
    return {**result, "tokens": total, "verdict": told}


def _plus(total: Counts, more: Counts) -> Counts:
    """Adds up; what is told for no session stays untold."""
    return {
        name: None
        if total.get(name) is None and more.get(name) is None
        else (total.get(name) or 0) + (more.get(name) or 0)
        for name in total | more
    }


def verdict(found: Counts, known: dict[str, Tokens]) -> str:
    """Which way of counting gives these totals to the token, as far as they are told."""
    # A tool's own notion of a call may differ where its tokens do not, so calls come second.
    for leave_out in ((), ("calls",)):
        told = {name: n for name, n in found.items() if n is not None and name not in leave_out}
        for name, tokens in known.items():
            if told.items() <= tokens.as_json().items():
                rule = "exact" if name == TRUTH else name
                return f"{rule}, but other calls" if leave_out and "calls" in found else rule
    return "differs; no rule known"


def _last_line(failure: Exception) -> str:
    return (str(failure).strip().splitlines() or ["?"])[-1][:160]


def speed(bench: Bench, folders: dict[str, Path], turns: int, repeats: int) -> dict[str, Any]:
    """All tools in turn on one session."""
    home, out = bench.scratch / "speed", bench.scratch / "out"
    session = lengthened(home / "projects" / "-home-dev-project", turns)
    size = session.stat().st_size
    actions: dict[str, Callable[[], measure.Run]] = {
        "traj": partial(bench.record, home / "projects", bench.scratch / "dataset"),
        "orjson floor": partial(bench.floor, home / "projects"),
    }
    for name, folder in folders.items():
        actions[name] = partial(run_tool, TOOLS[name], Job(home, session, out, folder))
    working, failed = _working(actions)
    runs = measure.in_turn(working, repeats)
    tools: dict[str, Any] = {}
    for name in actions:
        one: dict[str, Any] = {"version": _version(bench, name), "writes": _writes(name)}
        if name in failed:
            one["failure"] = failed[name]
        else:
            one |= measure.summary(runs[name], size)
            if "traj" in runs:
                one["wall_ratio_to_traj"] = measure.ratio(runs[name], runs["traj"])
        tools[name] = one
    return {"bytes": size, "turns": turns, "repeats": repeats, "tools": tools}


def _working(
    actions: dict[str, Callable[[], measure.Run]],
) -> tuple[dict[str, Callable[[], measure.Run]], dict[str, str]]:
    """A first run of each, not counted: it warms the caches and tells which tools fail."""
    failed: dict[str, str] = {}
    for name, action in actions.items():
        try:
            action()
        except measure.CommandFailedError as failure:
            failed[name] = _last_line(failure)
    return {name: action for name, action in actions.items() if name not in failed}, failed


def _version(bench: Bench, name: str) -> str:
    if name == "traj":
        return traj_version(bench.traj)
    return TOOLS[name].package.version if name in TOOLS else ""


def _writes(name: str) -> str:
    own = {"traj": "Parquet dataset", "orjson floor": "nothing"}
    return TOOLS[name].writes if name in TOOLS else own[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small session, fewer repeats")
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--traj", help="the command compared (default: this checkout's)")
    parser.add_argument("--corpus", type=Path, default=corpus.DEFAULT_CORPUS)
    parser.add_argument("--cache", type=Path, default=CACHE, help="where peers are installed")
    parser.add_argument("--tool", action="append", choices=list(TOOLS), help="only this peer")
    options = parser.parse_args()
    folders, reasons = installed(options.tool or list(TOOLS), options.cache.resolve())
    result: dict[str, Any] = {"benchmark": "peers", "not_installed": reasons, **measure.machine()}
    with tempfile.TemporaryDirectory(prefix="traj-peers-") as scratch:
        bench = Bench.of(scratch, options.traj, options.corpus)
        result["accuracy"] = accuracy(bench, folders, options.corpus)
        sizes = QUICK if options.quick else FULL
        result["speed"] = [speed(bench, folders, *size) for size in sizes]
    if options.json:
        measure.write_json(options.json, result)
    print(peer_tables(result))


if __name__ == "__main__":
    main()
