"""Codex CLI: `~/.codex/sessions/<year>/<month>/<day>/rollout-<time>-<thread>.jsonl`.

One file is one thread. A session is a root thread with the threads of its sub-agents; a fork is a
session of its own, whose file begins with a copy of its parent's history.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traj.events import Lane, Repository, Session
from traj.sources.codex import wire
from traj.sources.codex.thread import ThreadReader
from traj.sources.lines import epoch_us, read as read_lines
from traj.sources.located import Located

NAME = "codex"


def locate(path: Path, head: Sequence[dict[str, Any]]) -> Located | None:
    """Recognises a rollout by its first line; None for anything else."""
    if not head:
        return None
    first = head[0]
    meta = first.get("payload") if first.get("type") == "session_meta" else None
    if isinstance(meta, dict):
        thread = meta.get("id") or meta.get("session_id")
        if not isinstance(thread, str):
            return None
        parent = meta.get("parent_thread_id") or _deep_parent(meta.get("source"))
        return Located(path, NAME, thread, None, parent if isinstance(parent, str) else None)
    old = isinstance(first.get("id"), str) and "timestamp" in first and "type" not in first
    if old and ("instructions" in first or "git" in first or _has_state(head)):
        return Located(path, NAME, first["id"], None, None)
    return None


def _deep_parent(source: object) -> object:
    for key in ("subagent", "thread_spawn", "parent_thread_id"):
        source = source.get(key) if isinstance(source, dict) else None
    return source


def _has_state(head: Sequence[dict[str, Any]]) -> bool:
    return any(line.get("record_type") == "state" for line in head)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: the root thread and those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Codex")
    session.lanes.append(Lane("main"))
    threads: list[ThreadReader] = []
    for part in sorted(parts, key=lambda part: (part.session_id != session_id, part.path.name)):
        if part.session_id == session_id:
            index = 0
        else:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent"))
        thread = ThreadReader(session, index, part.session_id, threads)
        file = len(session.files)
        for number, _, line in read_lines(part.path, wire.DECODER, session):
            thread.line(line, file, number)
        thread.finish()
        threads.append(thread)
    if threads and threads[0].index:
        session.lose("main_lane_missing")
    for thread in threads:
        thread.tie(threads)
    _describe(session, threads)
    return session


def _describe(session: Session, threads: Sequence[ThreadReader]) -> None:
    first = threads[0]
    session.agent_version = first.meta.cli_version
    starts = [thread.started_us for thread in threads if thread.started_us is not None]
    session.started_us = min(starts) if starts else epoch_us(first.meta.timestamp)
    git = first.meta.git
    if git is not None:
        session.repository = Repository(git.repository_url, git.commit_hash, git.branch)
    session.title = first.title
