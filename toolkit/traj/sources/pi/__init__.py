"""Pi and OpenClaw: `~/.pi/agent/sessions/<folder>/<time>_<session>.jsonl`.

One file is one session: a tree of entries of which one branch is active; the others were paid for
too. A fork begins with a copy of its parent's entries.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.events import Lane, Session
from traj.sources.about import About
from traj.sources.lines import epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located
from traj.sources.pi import wire
from traj.sources.pi.content import MEANING
from traj.sources.pi.tree import TreeReader

NAME = "pi"
ABOUT = About(
    "Pi, OpenClaw",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="derived",
    seen="real sessions",
    places=(".pi/agent/sessions", ".openclaw/agents"),
    lacks=(
        "the words that Pi puts around a summary",
        "system prompt and tools before version 0.8x",
        "retries of the provider's client",
        "the model of OpenClaw's requests, where its log leaves it out",
    ),
)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a session by its header, the first line."""
    first = next(iter(head), None)
    if first is None or first.get("type") != "session" or "harness" in first:
        return []
    session, time = first.get("id"), first.get("timestamp")
    if isinstance(session, str) and isinstance(time, str) and isinstance(first.get("cwd"), str):
        return [Located(path, NAME, session)]
    return []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "Pi")
    session.lanes.append(Lane("main"))
    tree = TreeReader(session)
    for number, _, entry in read_lines(parts[0].path, wire.DECODER, session):
        if entry.type == "session":
            tree.begin(entry)
        else:
            tree.entry(entry, number)
        time = epoch_us(entry.timestamp)
        if time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time
    return session
