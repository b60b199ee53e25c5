"""The events of a Copilot CLI session, as far as they are needed. Data of different kinds of event
stand side by side.
"""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Session
from traj.sources.lines import UNDECODABLE, Count, Milliseconds

NOTHING = Raw()


class ToolRequest(Struct, rename="camel"):
    tool_call_id: str | None = None
    name: str | None = None
    arguments: Raw = NOTHING


class Result(Struct):
    content: str | None = None


class Metrics(Struct, rename="camel"):
    duration_ms: Milliseconds | None = None


class Telemetry(Struct):
    metrics: Metrics | None = None


class Spent(Struct, rename="camel"):
    """Here the input includes what was read from the cache and written to it."""

    input_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_tokens: Count | None = None


class ModelMetric(Struct):
    usage: Spent | None = None


class Context(Struct, rename="camel"):
    branch: str | None = None
    repository: str | None = None
    head_commit: str | None = None


class Asked(Struct, rename="camel"):
    """What a permission was asked for."""

    tool_call_id: str | None = None


class Data(Spent, rename="camel"):
    """What an event says."""

    session_id: str | None = None
    copilot_version: str | None = None
    selected_model: str | None = None
    new_model: str | None = None
    reasoning_effort: str | None = None
    context: Context | None = None
    content: str | None = None
    transformed_content: str | None = None
    attachments: list[Raw] | None = None
    role: str | None = None
    message_id: str | None = None
    api_call_id: str | None = None
    model: str | None = None
    reasoning_text: str | None = None
    tool_requests: list[ToolRequest] | None = None
    chunk_index: Count | None = None
    parent_tool_call_id: str | None = None
    tool_call_id: str | None = None
    tool_name: str | None = None
    success: bool | None = None
    result: Result | str | None = None
    error: Raw = NOTHING
    tool_telemetry: Telemetry | None = None
    agent_name: str | None = None
    error_type: str | None = None
    message: str | None = None
    status_code: Count | None = None
    summary_content: str | None = None
    compaction_tokens_used: Spent | None = None
    messages_removed_during_truncation: Count | None = None
    model_metrics: dict[str, ModelMetric] | None = None
    request_id: str | None = None
    permission_request: Asked | None = None
    title: str | None = None


class Event(Struct, rename="camel"):
    """One line."""

    type: str | None = None
    id: str | None = None
    timestamp: str | None = None
    agent_id: str | None = None
    data: Data | None = None


DECODER = msgspec.json.Decoder(Event)


def text_of(raw: Raw, session: Session) -> str | None:
    """A value as text: a string as itself, an error by its message, else its JSON."""
    data = bytes(raw)
    if not data or data == b"null":
        return None
    try:
        text = data.decode()
        value: Any = msgspec.json.decode(text)
    except UNDECODABLE:
        session.lose("invalid_utf8")
        return data.decode("utf-8", "replace")
    if isinstance(value, dict) and isinstance(value.get("message"), str):
        return str(value["message"])
    return value if isinstance(value, str) else text
