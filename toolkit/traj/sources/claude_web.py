"""Claude Code's sessions as its website gives them out: one document, `{loglines: [...]}`.

The lines are those of Claude Code without their envelope: what was said, with times, and no
figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from traj.events import Lane, Session
from traj.sources.about import About
from traj.sources.dialogue import Dialogue, blocks_of, named
from traj.sources.documents import items
from traj.sources.documents import read as read_document
from traj.sources.lines import Head, epoch_us
from traj.sources.located import Located

NAME = "claude_web"
ABOUT = About(
    "Claude Code on the web",
    None,
    lengths="none",
    turn_clock="derived",
    tool_clock="derived",
    seen="fixtures",
    lacks=("figures", "system prompt and tool definitions", "compactions"),
)
NOTHING = Raw()


class Inner(Struct):
    content: Raw = NOTHING
    model: str | None = None
    id: str | None = None


class Note(Struct):
    type: str | None = None
    timestamp: str | None = None
    message: Inner | None = None


class Document(Struct):
    loglines: list[Raw] = []


DECODER = msgspec.json.Decoder(Document)
NOTE = msgspec.json.Decoder(Note)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a document by its lines."""
    found = head.document
    lines = found.get("loglines") if isinstance(found, dict) else None
    first = lines[0] if isinstance(lines, list) and lines else None
    if not isinstance(first, dict) or not {"type", "timestamp"} <= set(first):
        return []
    return [Located(path, NAME, named(path, first))]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "Claude Code")
    session.lanes.append(Lane("main"))
    talk = Dialogue(session, api="anthropic_messages")
    document = read_document(parts[0].path, DECODER, session)
    for number, note in items(document.loglines, NOTE, session):
        time = epoch_us(note.timestamp)
        if time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time
        inner = note.message
        if inner is None or note.type not in ("user", "assistant"):
            session.lose(f"item:{(note.type or '')[:40]}")
        elif note.type == "user":
            talk.user(blocks_of(inner.content, session), time, number)
        else:
            talk.model = inner.model or talk.model
            blocks = blocks_of(inner.content, session)
            talk.answer(blocks, time, number, response_id=inner.id)
    talk.finish()
    return session
