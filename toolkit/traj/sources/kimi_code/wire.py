"""What is read of a Kimi Code log: the fields that a session is made of, and no others."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count, Milliseconds

NOTHING = Raw(b"")
Stamp = Annotated[float, msgspec.Meta(ge=0, le=4e12)]  # milliseconds since the epoch


class Media(Struct, frozen=True, rename="camel"):
    """Where an image or a document is."""

    url: str | None = None


class Part(Struct, frozen=True, rename="camel"):
    """A part of a message, or of a tool's result."""

    type: str | None = None
    text: str | None = None
    think: str | None = None
    image_url: Media | str | None = None
    mime_type: str | None = None


class Origin(Struct, frozen=True, rename="camel"):
    """Who, or what, put a message into the context."""

    kind: str | None = None
    variant: str | None = None
    trigger: str | None = None
    task_id: str | None = None
    in_turn: bool | None = None


class Said(Struct, frozen=True, rename="camel"):
    """A message that is added to the context."""

    role: str | None = None
    content: list[Part] | str | None = None
    origin: Origin | None = None
    tool_call_id: str | None = None


class Figures(Struct, frozen=True, rename="camel"):
    input_other: Count | None = None
    output: Count | None = None
    input_cache_read: Count | None = None
    input_cache_creation: Count | None = None


class Result(Struct, frozen=True, rename="camel"):
    """A tool's result."""

    output: list[Part] | str | None = None
    is_error: bool | None = None
    note: str | None = None
    duration_ms: Milliseconds | None = None
    truncated: bool | None = None


class Event(Struct, frozen=True, rename="camel"):
    """A piece of a step: a request and its answer."""

    type: str | None = None
    uuid: str | None = None
    part: Part | None = None
    tool_call_id: str | None = None
    name: str | None = None
    args: Raw = NOTHING
    result: Result | None = None
    finish_reason: str | None = None
    usage: Figures | None = None
    llm_first_token_latency_ms: Milliseconds | None = None
    llm_stream_duration_ms: Milliseconds | None = None
    message_id: str | None = None


class Approval(Struct, frozen=True, rename="camel"):
    decision: str | None = None


class Line(Struct, frozen=True, rename="camel"):
    """A line, of whatever type."""

    type: str | None = None
    time: Stamp | None = None
    created_at: Stamp | None = None
    message: Said | None = None
    event: Event | None = None
    # profile.bind, config.update and llm.request
    profile_name: str | None = None
    system_prompt: str | None = None
    # llm.tools_snapshot
    hash: str | None = None
    tools: list[Raw] | None = None
    # llm.request
    kind: str | None = None
    provider: str | None = None
    model: str | None = None
    thinking_effort: str | None = None
    thinking_keep: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    tools_hash: str | None = None
    # usage.record
    usage: Figures | None = None
    # turn.step.retrying
    failed_attempt: Count | None = None
    error_name: str | None = None
    status_code: int | None = None
    # context.apply_compaction
    summary: Raw = NOTHING
    context_summary: str | None = None
    compacted_count: Count | None = None
    kept_user_message_count: Count | None = None
    kept_head_user_message_count: Count | None = None
    dropped_count: Count | None = None  # of a request too: what was left out at its beginning
    # context.undo and token_counting.rebased
    count: Count | None = None
    length: Count | None = None
    # subagent.spawned
    subagent_id: str | None = None
    subagent_name: str | None = None
    parent_tool_call_id: str | None = None
    run_in_background: bool | None = None
    task_id: str | None = None
    # permission.record_approval_result
    tool_call_id: str | None = field(default=None)
    result: Approval | None = None


DECODER = msgspec.json.Decoder(Line)
