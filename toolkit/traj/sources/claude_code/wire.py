"""The lines of a Claude Code session file, as far as they are needed."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from traj.sources.lines import Count, ExitCode, Milliseconds

NOTHING = Raw()


class Block(Struct):
    """A content block of the Messages API, of any type."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: str | list[Block | str] | None = None
    is_error: bool | None = None
    source: Raw = NOTHING


Content = str | list[Block | str] | None


class OutputDetails(Struct):
    thinking_tokens: Count | None = None


class RawUsage(Struct):
    """`input_tokens` here is what was neither read from nor written to the cache."""

    input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens: Count | None = None
    output_tokens_details: OutputDetails | None = None


class ApiMessage(Struct):
    role: str | None = None
    id: str | None = None
    model: str | None = None
    content: Content = None
    stop_reason: str | None = None
    usage: RawUsage | None = None


class Rendered(Struct):
    content: Content = None


class Payload(Struct):
    """What an `attachment` line holds besides its rendering."""

    type: str | None = None
    prompt: Content = None


class Shape(Struct):
    system: Raw = NOTHING
    tools: Raw = NOTHING


class Thinking(Struct):
    type: str | None = None


class Params(Struct):
    """The parameters of a request, from an `api-request` line."""

    model: str | None = None
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    thinking: Thinking | None = None
    output_config: dict[str, Any] | None = None


class ResultDetails(Struct):
    """The parts of `toolUseResult` that say how a tool ran."""

    durationMs: Milliseconds | None = None
    totalDurationMs: Milliseconds | None = None
    agentId: str | None = None
    interrupted: bool | None = None
    isAsync: bool | None = None
    backgroundTaskId: str | None = None
    status: str | None = None
    exitCode: ExitCode | None = None
    truncated: bool | None = None


class Line(Struct):
    """One line of a session file. Only what is read is named."""

    type: str | None = None
    subtype: str | None = None
    uuid: str | None = None
    parentUuid: str | None = None
    timestamp: str | None = None
    sessionId: str | None = None
    isSidechain: bool | None = None
    agentId: str | None = None
    version: str | None = None
    gitBranch: str | None = None
    requestId: str | None = None
    requestRef: str | None = None
    isMeta: bool | None = None
    isCompactSummary: bool | None = None
    isVisibleInTranscriptOnly: bool | None = None
    isApiErrorMessage: bool | None = None
    isAbortedMidStream: bool | None = None
    toolDenialKind: str | None = None
    message: ApiMessage | None = None
    attachment: Payload | None = None
    rendered: list[Rendered] | None = None
    renderedRole: str | None = None
    toolUseResult: ResultDetails | str | list[Raw] | None = None
    error: Raw = NOTHING
    retryAttempt: Annotated[int, msgspec.Meta(ge=0, le=1000)] | None = None
    effort: str | None = None
    aiTitle: str | None = None
    customTitle: str | None = None
    summary: str | None = None
    # api-request, api-request-shape, api-request-blob
    id: str | None = None
    base: str | None = None
    keep: Count | None = None
    tail: list[str] | None = None
    params: Params | None = None
    shapeHash: str | None = None
    shape: Shape | None = None
    hash: str | None = None


DECODER = msgspec.json.Decoder(Line)


class _Task(Struct):
    prompt: str | None = None


def task_prompt(raw: Raw) -> str | None:
    """The prompt that a Task or Agent call gives its sub-agent."""
    try:
        return msgspec.json.decode(raw, type=_Task).prompt
    except msgspec.DecodeError:
        return None


class AgentMeta(Struct):
    """`agent-<id>.meta.json` beside a sub-agent's log."""

    agentType: str | None = None
    toolUseId: str | None = None


def agent_meta(log: Path) -> AgentMeta:
    """What the file beside a sub-agent's log says; nothing where there is none."""
    try:
        return msgspec.json.decode(log.with_suffix(".meta.json").read_bytes(), type=AgentMeta)
    except (OSError, msgspec.DecodeError):
        return AgentMeta()
