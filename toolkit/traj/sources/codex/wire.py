"""The lines of a Codex rollout file, as far as they are needed, in all generations.

Since 2025 a line is {timestamp, type, payload}; before, items stood bare on the line and the file
began with a header {id, timestamp, instructions}. One struct takes both: `Line` holds an item's
fields itself, and a `payload` of the same kind where there is one.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from traj.sources.lines import Count, ExitCode

NOTHING = Raw()


class Part(Struct):
    """A part of a message's content."""

    type: str | None = None
    text: str | None = None
    image_url: str | None = None


class RawUsage(Struct):
    """Here `input_tokens` includes the cached, and `output_tokens` the reasoning."""

    input_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    total_tokens: Count | None = None


class Info(Struct):
    """Of a token_count event."""

    total_token_usage: RawUsage | None = None
    last_token_usage: RawUsage | None = None


class Duration(Struct):
    secs: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    nanos: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0


class Item(Struct):
    """Of an item_completed event."""

    type: str | None = None
    id: str | None = None
    content: list[Part] | None = None
    exit_code: ExitCode | None = None
    status: str | None = None
    duration: Duration | None = None


class Git(Struct):
    commit_hash: str | None = None
    branch: str | None = None
    repository_url: str | None = None


class HistoryBase(Struct):
    """Where a fork's history ends in its parent's file."""

    thread_id: str | None = None
    end_ordinal_exclusive: Count | None = None


class Payload(Struct):
    """What a line says. Fields of different line types stand side by side."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: list[Part] | str | None = None
    summary: Raw = NOTHING
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = NOTHING
    input: Raw = NOTHING
    call_id: str | None = None
    output: Raw = NOTHING
    tools: Raw = NOTHING
    action: Raw = NOTHING
    status: str | None = None
    message: Raw = NOTHING
    # session_meta
    timestamp: str | None = None
    session_id: str | None = None
    forked_from_id: str | None = None
    history_base: HistoryBase | None = None
    parent_thread_id: str | None = None
    source: Raw = NOTHING
    cli_version: str | None = None
    originator: str | None = None
    instructions: str | None = None
    base_instructions: Raw = NOTHING
    agent_nickname: str | None = None
    git: Git | None = None
    # turn_context, task_started, task_complete, turn_aborted
    turn_id: str | None = None
    model: str | None = None
    effort: str | None = None
    reason: str | None = None
    num_turns: Count | None = None
    # token_count, token_usage_record
    info: Info | None = None
    usage: RawUsage | None = None
    response_id: str | None = None
    # item_completed, exec_command_end, mcp_tool_call_end
    item: Item | None = None
    started_at_ms: Count | None = None
    completed_at_ms: Count | None = None
    duration: Duration | None = None
    exit_code: ExitCode | None = None
    thread_name: str | None = None
    # compacted
    replacement_history: list[Payload] | None = None


class Line(Payload):
    """One line of a rollout: its envelope, or in early files the item itself."""

    payload: Payload | None = None
    ordinal: Count | None = None
    record_type: str | None = None


DECODER = msgspec.json.Decoder(Line)

MODEL_ITEMS = frozenset(
    (
        "reasoning",
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "tool_search_call",
        "web_search_call",
        "image_generation_call",
    )
)
TOOL_ITEMS = frozenset(("CommandExecution", "McpToolCall", "FileChange", "CollabAgentToolCall"))
OUTPUTS = frozenset(
    (
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "tool_search_output",
    )
)


def text_of(raw: Raw) -> str | None:
    """A JSON value as text: a string as itself, parts joined, anything else as its JSON."""
    data = bytes(raw)
    if not data or data == b"null":
        return None
    if data.startswith(b'"'):
        return msgspec.json.decode(data, type=str)
    if data.startswith((b"[", b"{")):
        try:
            parts = msgspec.json.decode(
                data if data.startswith(b"[") else b"[" + data + b"]", type=list[Part]
            )
        except msgspec.DecodeError:
            parts = []
        texts = [part.text for part in parts if part.text is not None]
        if texts:
            return "\n".join(texts)
    return data.decode("utf-8", "replace")  # msgspec does not look into what stays raw


def nested(raw: Raw, *keys: str) -> Any:
    """A value deep in a JSON object, None where the path does not lead to one."""
    try:
        value = msgspec.json.decode(raw) if bytes(raw) else None
    except msgspec.DecodeError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value
