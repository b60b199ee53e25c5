"""The lines of stream-json, as far as they are needed."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct

from traj.sources.requests.pieces import NOTHING


class Spoken(Struct):
    """A message: an answer, or a part of one, or what the agent tells the model."""

    id: str | None = None
    role: str | None = None
    model: str | None = None
    content: Raw = NOTHING
    stop_reason: str | None = None
    usage: Raw = NOTHING


class Event(Struct):
    """A piece of an answer as it came, with --include-partial-messages."""

    type: str | None = None
    message: Spoken | None = None
    usage: Raw = NOTHING
    delta: Spoken | None = None


class Details(Struct):
    """What Claude Code notes of a result beside it."""

    isAsync: bool | None = None
    backgroundTaskId: str | None = None
    interrupted: bool | None = None
    status: str | None = None
    content: Raw = NOTHING
    usage: Raw = NOTHING
    harnessNoteCount: int | None = None


class Line(Struct):
    """A line. Fields of different types of line stand side by side."""

    type: str | None = None
    subtype: str | None = None
    session_id: str | None = None
    uuid: str | None = None
    timestamp: str | None = None
    parent_tool_use_id: str | None = None
    subagent_type: str | None = None
    message: Spoken | None = None
    event: Event | None = None
    tool_use_result: Raw = NOTHING
    model: str | None = None
    claude_code_version: str | None = None
    attempt: int | None = None
    error: str | None = None


class Result(Struct):
    """A block of a tool's result."""

    tool_use_id: str | None = None
    is_error: bool | None = None


DECODER = msgspec.json.Decoder(Line)
