"""The lines of a Qwen Code session, as far as they are needed: messages, and its own telemetry."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct, field

from traj.events import Session
from traj.sources.lines import UNDECODABLE, Count, Milliseconds

NOTHING = Raw()


class Response(Struct):
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
    thought: bool | str | None = None
    function_call: Call | None = None
    function_response: Response | None = None
    inline_data: Inline | None = None


class Content(Struct):
    role: str | None = None
    parts: list[Part] = []


class RawUsage(Struct, rename="camel"):
    """Here the prompt includes the cached tokens."""

    prompt_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    candidates_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    total_token_count: Count | None = None


class ToolResult(Struct, rename="camel"):
    call_id: str | None = None
    status: str | None = None
    duration_ms: Milliseconds | None = None


class Event(Struct):
    """Of a ui_telemetry line: a request that was answered or failed, or a tool that ran."""

    name: str | None = field(default=None, name="event.name")
    timestamp: str | None = field(default=None, name="event.timestamp")
    response_id: str | None = None
    model: str | None = None
    duration_ms: Milliseconds | None = None
    ttft_ms: Milliseconds | None = None
    input_token_count: Count | None = None
    output_token_count: Count | None = None
    cached_content_token_count: Count | None = None
    thoughts_token_count: Count | None = None
    total_token_count: Count | None = None
    response_text: str | None = None
    prompt_id: str | None = None
    auth_type: str | None = None
    subagent_id: str | None = None
    subagent_name: str | None = None
    error_message: str | None = None
    error: str | None = None
    call_id: str | None = None
    status: str | None = None
    success: bool | None = None


class Payload(Struct, rename="camel"):
    """What a system line carries."""

    ui_event: Event | None = None
    compressed_history: list[Content] | None = None
    custom_title: str | None = None


class Line(Struct, rename="camel"):
    """One line."""

    uuid: str | None = None
    parent_uuid: str | None = None
    timestamp: str | None = None
    type: str | None = None
    subtype: str | None = None
    provenance: str | None = None
    version: str | None = None
    git_branch: str | None = None
    model: str | None = None
    agent_name: str | None = None
    agent_round: Count | None = None
    message: Content | None = None
    usage_metadata: RawUsage | None = None
    tool_call_result: ToolResult | None = None
    system_payload: Payload | None = None


DECODER = msgspec.json.Decoder(Line)


def text_of(raw: Raw, session: Session) -> str:
    """A tool's result as text: its output or its error, else the whole of it as JSON."""
    text = raw_text(raw, session)
    try:
        value: Any = msgspec.json.decode(text) if text else ""
    except UNDECODABLE:
        return text
    if isinstance(value, dict):
        for key in ("output", "error"):
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
