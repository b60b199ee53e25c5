"""Hermes: a session as one document, `{session_id, session_start, model, messages}`.

The messages are those of a chat-completions request; there are no times and no figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from traj.events import Lane, Session, ToolCall
from traj.sources.about import About
from traj.sources.dialogue import Dialogue, blocks_of, json_text
from traj.sources.documents import items
from traj.sources.documents import read as read_document
from traj.sources.lines import Head, epoch_us
from traj.sources.located import Located

NAME = "hermes"
ABOUT = About(
    "Hermes",
    None,
    lengths="none",
    turn_clock="none",
    tool_clock="none",
    seen="fixtures",
    places=(".hermes/sessions",),
    lacks=("figures", "times of requests and tools"),
)
NOTHING = Raw()


class Function(Struct):
    name: str | None = None
    arguments: Raw = NOTHING


class Call(Struct):
    id: str | None = None
    function: Function | None = None


class Note(Struct):
    """A message."""

    role: str | None = None
    content: Raw = NOTHING
    reasoning: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[Call] | None = None
    tool_call_id: str | None = None
    finish_reason: str | None = None


class Document(Struct):
    model: str | None = None
    session_start: str | None = None
    system_prompt: str | None = None
    tools: Raw = NOTHING
    messages: list[Raw] = []


DECODER = msgspec.json.Decoder(Document)
NOTE = msgspec.json.Decoder(Note)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a session by its fields."""
    found = head.document
    if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        return []
    name = found.get("session_id")
    own = isinstance(name, str) and isinstance(found.get("session_start"), str)
    return [Located(path, NAME, str(name))] if own and "platform" in found else []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "Hermes")
    session.lanes.append(Lane("main"))
    document = read_document(parts[0].path, DECODER, session)
    session.started_us = epoch_us(document.session_start)
    talk = Dialogue(session, api="unknown")
    talk.model, talk.system = document.model, document.system_prompt
    tools = json_text(document.tools, session)
    talk.tools = tools if tools not in ("", "null", "[]") else None
    for number, note in items(document.messages, NOTE, session):
        blocks = blocks_of(note.content, session)
        text = "\n".join(block.text for block in blocks if block.text is not None) or None
        if note.role == "user":
            talk.user(blocks, None, number)
        elif note.role == "assistant":
            thought = note.reasoning_content or note.reasoning
            talk.said(text, thought, _calls(note, session), None, number)
        elif note.role == "tool":
            failed = None if note.finish_reason is None else note.finish_reason == "error"
            talk.result(note.tool_call_id, text, None, number, failed=failed)
        elif note.role != "session_meta":
            session.lose(f"item:{(note.role or '')[:40]}")
    talk.finish()
    return session


def _calls(note: Note, session: Session) -> list[ToolCall]:
    found = []
    for call in note.tool_calls or ():
        if call.id and call.function is not None:
            given = json_text(call.function.arguments, session)
            if given.startswith('"'):  # the model's own text, as the API gives it
                given = blocks_of(Raw(given.encode()), session)[0].text or ""
            found.append(ToolCall(call.id, call.function.name or "unknown", given or "{}"))
    return found
