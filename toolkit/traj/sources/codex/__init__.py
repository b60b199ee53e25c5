"""Codex CLI: `~/.codex/sessions/<year>/<month>/<day>/rollout-<time>-<thread>.jsonl`.

One file is one thread. A session is a root thread with the threads of its sub-agents; a fork is a
session of its own, whose file begins with a copy of its parent's history.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.events import Lane, Repository, Session
from traj.sources.about import About
from traj.sources.codex import wire
from traj.sources.codex.content import MEANING
from traj.sources.codex.thread import ThreadReader
from traj.sources.lines import epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import HISTORY, Located

NAME = "codex"
ABOUT = About(
    "Codex CLI",
    MEANING,
    lengths="request",
    turn_clock="derived",
    tool_clock="logged",
    seen="real sessions",
    places=(".codex/sessions", ".codex/archived_sessions"),
    lacks=("retries", "tool definitions", "text of reasoning (encrypted)"),
)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a rollout by its first line; empty for anything else."""
    first = next(iter(head), None)
    if first is None:
        return []
    meta = first.get("payload") if first.get("type") == "session_meta" else None
    if isinstance(meta, dict):
        thread = meta.get("id") or meta.get("session_id")
        if not isinstance(thread, str):
            return []
        parent = meta.get("parent_thread_id") or _deep_parent(meta.get("source"))
        history = meta.get("forked_from_id") if isinstance(meta.get("history_base"), dict) else None
        return [
            Located(
                path,
                NAME,
                thread,
                parent=parent if isinstance(parent, str) else None,
                history=history if isinstance(history, str) else None,
            )
        ]
    old = isinstance(first.get("id"), str) and "timestamp" in first and "type" not in first
    if old and ("instructions" in first or "git" in first or _has_state(head)):
        return [Located(path, NAME, first["id"])]
    return []


def _deep_parent(source: object) -> object:
    for key in ("subagent", "thread_spawn", "parent_thread_id"):
        source = source.get(key) if isinstance(source, dict) else None
    return source


def _has_state(head: Iterable[dict[str, Any]]) -> bool:
    return any(line.get("record_type") == "state" for line in head)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: the root thread and those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Codex")
    session.lanes.append(Lane("main"))
    threads: list[ThreadReader] = []
    past = {part.session_id: part for part in parts if part.part == HISTORY}
    own = [part for part in parts if part.part != HISTORY]
    for part in sorted(own, key=lambda part: (part.session_id != session_id, part.path.name)):
        if part.session_id == session_id:
            index = 0
        else:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent"))
        thread = ThreadReader(session, index, part.session_id)
        _read_file(session, thread, part)
        _read_history(session, thread, past)
        thread.finish()
        threads.append(thread)
    if threads and threads[0].index:
        session.lose("main_lane_missing")
    for thread in threads:
        thread.tie(threads)
    _describe(session, threads)
    return session


def _read_file(session: Session, thread: ThreadReader, part: Located) -> None:
    file = len(session.files)
    for number, _, line in read_lines(part.path, wire.DECODER, session):
        thread.line(line, file, number)


def _read_history(session: Session, thread: ThreadReader, past: dict[str, Located]) -> None:
    """Puts the history that a fork only refers to in front of it, from its parents' files."""
    base = thread.meta.history_base
    seen: set[str] = set()
    while base is not None and base.thread_id is not None and base.thread_id not in seen:
        seen.add(base.thread_id)
        part = past.get(base.thread_id)
        if part is None:
            session.lose("fork_history_missing")
            return
        parent = ThreadReader(session, 0, base.thread_id)
        _read_file(session, parent, part)
        thread.precede(parent, base.end_ordinal_exclusive or 0)
        base = parent.meta.history_base


def _describe(session: Session, threads: Sequence[ThreadReader]) -> None:
    first = threads[0]
    session.agent_version = first.meta.cli_version
    starts = [thread.started_us for thread in threads if thread.started_us is not None]
    session.started_us = min(starts) if starts else epoch_us(first.meta.timestamp)
    git = first.meta.git
    if git is not None:
        session.repository = Repository(git.repository_url, git.commit_hash, git.branch)
    session.title = first.title
