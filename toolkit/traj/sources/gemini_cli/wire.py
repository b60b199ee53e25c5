"""What Gemini CLI writes, as far as it is needed: its session files, old (one document) and new
(a line a change), and its stream-json output.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct, field

from traj.events import Session
from traj.sources.lines import UNDECODABLE, Count

NOTHING = Raw()


class Response(Struct, rename="camel"):
    """A tool's result, within a part."""

    id: str | None = None
    name: str | None = None
    response: Raw = NOTHING


class Call(Struct):
    """A call, within a part."""

    id: str | None = None
    name: str | None = None
    args: Raw = NOTHING


class Inline(Struct, rename="camel"):
    mime_type: str | None = None
    data: str | None = None


class Part(Struct, rename="camel"):
    """A part of a message's content."""

    text: str | None = None
    thought: Annotated[bool | None, msgspec.Meta()] = None
    function_call: Call | None = None
    function_response: Response | None = None
    inline_data: Inline | None = None


class Thought(Struct):
    subject: str | None = None
    description: str | None = None
    timestamp: str | None = None


class Tokens(Struct):
    """Here `input` includes the cached, and `output` does not include the thoughts."""

    input: Count | None = None
    output: Count | None = None
    cached: Count | None = None
    thoughts: Count | None = None
    tool: Count | None = None


class ToolCall(Struct, rename="camel"):
    """A call with what came of it."""

    id: str | None = None
    name: str | None = None
    args: Raw = NOTHING
    result: Raw = NOTHING
    status: str | None = None
    timestamp: str | None = None
    agent_id: str | None = None


class Note(Struct, rename="camel"):
    """A message of a session: user, gemini (model in some files), info, warning or error."""

    id: str | None = None
    type: str | None = None
    timestamp: str | None = None
    content: Raw = NOTHING
    parts: Raw = NOTHING
    model: str | None = None
    thoughts: list[Thought] | None = None
    tokens: Tokens | None = None
    tool_calls: list[ToolCall] | None = None


class Change(Struct, rename="camel"):
    """Of a $set line."""

    messages: list[Raw] | None = None
    summary: str | None = None


class Line(Note, rename="camel"):
    """A line: the header, a message, or a change."""

    session_id: str | None = None
    start_time: str | None = None
    kind: str | None = None
    summary: str | None = None
    messages: list[Raw] | None = None
    change: Change | None = field(default=None, name="$set")
    rewind_to: str | None = field(default=None, name="$rewindTo")


class Stats(Struct):
    """Of a result event: sums over the run."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cached: Count | None = None


class Event(Struct):
    """A line of the stream-json output."""

    type: str | None = None
    timestamp: str | None = None
    session_id: str | None = None
    model: str | None = None
    role: str | None = None
    content: str | None = None
    tool_name: str | None = None
    tool_id: str | None = None
    parameters: Raw = NOTHING
    status: str | None = None
    output: str | None = None
    error: Raw = NOTHING
    stats: Stats | None = None


LINE = msgspec.json.Decoder(Line)
NOTE = msgspec.json.Decoder(Note)
EVENT = msgspec.json.Decoder(Event)
_PARTS = msgspec.json.Decoder(list[Part | str] | Part | str)


def parts_of(raw: Raw) -> list[Part]:
    """The parts of a content, which may be a text, a part, or a list of both."""
    data = bytes(raw)
    if not data or data == b"null":
        return []
    try:
        found = _PARTS.decode(data)
    except UNDECODABLE:
        return []
    listed = found if isinstance(found, list) else [found]
    return [Part(text=one) if isinstance(one, str) else one for one in listed]


def text_of(raw: Raw, session: Session) -> str:
    """A tool's result as text: its output or its error, else the whole of it as JSON."""
    text = raw_text(raw, session)
    try:
        value: Any = msgspec.json.decode(text) if text else ""
    except UNDECODABLE:
        return text
    if isinstance(value, dict):
        for key in ("output", "error", "result"):
            if isinstance(value.get(key), str):
                return str(value[key])
    return value if isinstance(value, str) else text


def raw_text(raw: Raw, session: Session) -> str:
    """A JSON value as its own text. Bytes in it that are no UTF-8 were not looked at when its line
    was decoded: they are replaced, and counted."""
    data = bytes(raw)
    try:
        return data.decode()
    except UnicodeDecodeError:
        session.lose("invalid_utf8")
        return data.decode("utf-8", "replace")
