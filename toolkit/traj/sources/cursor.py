"""Cursor: `~/.cursor/projects/<folder>/agent-transcripts/<session>/<session>.jsonl`.

What was said and called, without times, figures and mostly without what the tools gave back.
Sub-agents' transcripts lie in `subagents` beside their session's.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Lane, Session
from traj.sources.about import About
from traj.sources.dialogue import Dialogue, blocks_of, named
from traj.sources.lines import Head
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "cursor"
ABOUT = About(
    "Cursor",
    None,
    lengths="none",
    turn_clock="none",
    tool_clock="none",
    seen="fixtures",
    places=(".cursor/projects",),
    lacks=(
        "figures",
        "times",
        "most results of tools",
        "system prompt and tool definitions",
        "the call that started a sub-agent",
    ),
)


class Inner(Struct):
    content: Raw = Raw()


class Line(Struct):
    """One line: a message, or a note that a turn ended."""

    type: str | None = None
    role: str | None = None
    message: Inner | None = None
    model: str | None = None


DECODER = msgspec.json.Decoder(Line)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a transcript by its first line: a role, a message of blocks, and no type."""
    first = next(iter(head), None) or {}
    message = first.get("message")
    if "type" in first or first.get("role") not in ("user", "assistant"):
        return []
    if not isinstance(message, dict) or not isinstance(message.get("content"), list):
        return []
    if path.parent.name != "subagents":
        return [Located(path, NAME, named(path, first))]
    return [Located(path, NAME, named(path, first), parent=_session_above(path))]


def _session_above(path: Path) -> str:
    """The session in whose folder a sub-agent's transcript lies."""
    folder = path.parent.parent
    found = sorted(folder.glob("*.jsonl"))
    if len(found) != 1:
        return folder.name
    return named(found[0], next(iter(Head(found[0])), None))


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session and its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Cursor")
    session.lanes.append(Lane("main"))
    ordered = sorted(parts, key=lambda part: (part.session_id != session_id, part.path.name))
    session.lose("main_lane_missing", ordered[0].session_id != session_id)
    for part in ordered:
        index = 0
        if part.session_id != session_id:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent", part.path.stem))
            session.lose("subagent_without_call")
        talk = Dialogue(session, index)
        talk.file = len(session.files)
        for number, _, line in read_lines(part.path, DECODER, session):
            _take(session, talk, line, number)
        talk.finish()
    return session


def _take(session: Session, talk: Dialogue, line: Line, number: int) -> None:
    blocks = blocks_of(line.message.content, session) if line.message else []
    talk.model = line.model or talk.model
    if line.role == "user":
        talk.user(blocks, None, number)
    elif line.role == "assistant":
        talk.answer(blocks, None, number)
    elif line.type != "turn_ended":
        session.lose(f"item:{(line.type or line.role or '')[:40]}")
