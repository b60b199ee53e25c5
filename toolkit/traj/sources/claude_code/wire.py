"""The lines of a Claude Code session file, as far as they are needed."""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment, Message, Rebase, ToolCall, ToolRun, Usage
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
    querySource: str | None = None
    shapeHash: str | None = None
    shape: Shape | None = None
    hash: str | None = None


DECODER = msgspec.json.Decoder(Line)


def usage(raw: RawUsage | None, final: bool) -> Usage:
    """The schema's figures of a raw usage; `final` is whether the answer's last figures are in it.

    Figures that are all zero come from gateways that do not count: unknown, not zero.
    """
    if raw is None:
        return Usage()
    fresh, read, written = (
        raw.input_tokens,
        raw.cache_read_input_tokens,
        raw.cache_creation_input_tokens,
    )
    parts = [part for part in (fresh, read, written) if part is not None]
    if not any(parts) and not raw.output_tokens:
        return Usage()
    whole = final and None not in (fresh, read, written, raw.output_tokens)
    details = raw.output_tokens_details
    return Usage(
        input_tokens=sum(parts) if parts else None,
        cached_tokens=read,
        cache_write_tokens=written,
        output_tokens=raw.output_tokens,
        reasoning_tokens=details.thinking_tokens if details else None,
        source="reported" if whole else "partial",
    )


def merged(old: RawUsage | None, new: RawUsage | None) -> RawUsage | None:
    """Usage is repeated on every line of an answer and may grow: the largest figure is the last."""
    if old is None or new is None:
        return new or old
    details = new.output_tokens_details or old.output_tokens_details
    return RawUsage(
        _larger(old.input_tokens, new.input_tokens),
        _larger(old.cache_read_input_tokens, new.cache_read_input_tokens),
        _larger(old.cache_creation_input_tokens, new.cache_creation_input_tokens),
        _larger(old.output_tokens, new.output_tokens),
        details,
    )


def _larger(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return max(a, b)


def blocks(content: Content) -> list[Block | str]:
    """An answer's content as blocks."""
    return content if isinstance(content, list) else [content or ""]


def assistant(blocks: list[Block | str], time_us: int | None, file: int, line: int) -> Message:
    """An answer's blocks as one message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(block)
        elif block.type == "text":
            texts.append(block.text or "")
        elif block.type == "thinking":
            if block.thinking:
                thoughts.append(block.thinking)
        elif block.type in ("tool_use", "server_tool_use", "mcp_tool_use"):
            calls.append(
                ToolCall(block.id or "", block.name or "", bytes(block.input).decode() or "{}")
            )
        elif text := flat(block.content):
            texts.append(text)
    return Message(
        role="assistant",
        content="\n".join(texts) if texts else None,
        reasoning="\n".join(thoughts) if thoughts else None,
        tool_calls=tuple(calls),
        time_us=time_us,
        file=file,
        line=line,
    )


def from_user(
    content: Content,
    names: dict[str, str],
    time_us: int | None,
    by_person: bool,
    file: int,
    line: int,
    role: str = "user",
) -> list[Message]:
    """A user message's blocks as messages: one a tool result, and one for all the rest.

    `names` maps tool call ids to tool names.
    """
    if isinstance(content, str):
        return [Message(role, content, time_us=time_us, by_person=by_person, file=file, line=line)]
    found: list[Message] = []
    texts: list[str] = []
    images: list[Attachment] = []
    for block in content or ():
        if isinstance(block, str):
            texts.append(block)
        elif block.type == "tool_result":
            call = block.tool_use_id or ""
            found.append(
                Message(
                    "tool",
                    flat(block.content),
                    tool_call_id=call,
                    name=names.get(call),
                    attachments=attachments(block.content),
                    time_us=time_us,
                    file=file,
                    line=line,
                )
            )
        elif block.type in ("image", "document"):
            images.append(attachment(block))
        elif block.text is not None:
            texts.append(block.text)
    if texts or images:
        text = "\n".join(texts) if texts else None
        found.append(
            Message(
                role,
                text,
                attachments=tuple(images),
                time_us=time_us,
                by_person=by_person,
                file=file,
                line=line,
            )
        )
    return found


def flat(content: Content) -> str | None:
    """The text of a tool result, its parts joined by line feeds; None where it has no text."""
    if content is None or isinstance(content, str):
        return content
    texts = [
        part if isinstance(part, str) else part.text
        for part in content
        if isinstance(part, str) or part.text is not None
    ]
    return "\n".join(text for text in texts if text is not None) if texts else None


def attachments(content: Content) -> tuple[Attachment, ...]:
    """The images and documents among a tool result's parts."""
    if content is None or isinstance(content, str):
        return ()
    return tuple(
        attachment(part)
        for part in content
        if not isinstance(part, str) and part.type in ("image", "document")
    )


class _Source(Struct):
    type: str | None = None
    media_type: str | None = None
    data: str | None = None


def attachment(block: Block) -> Attachment:
    """What is kept of an image: its kind, its hash and its size."""
    try:
        source = msgspec.json.decode(block.source, type=_Source)
    except msgspec.DecodeError:
        return Attachment(None, None, None)
    if source.type != "base64" or source.data is None:
        return Attachment(source.media_type, None, None)
    try:
        payload = base64.b64decode(source.data)
    except (binascii.Error, ValueError):
        return Attachment(source.media_type, None, None)
    return Attachment(source.media_type, hashlib.sha256(payload).hexdigest(), len(payload))


FRESH = Rebase("edit", ())
_EXIT = re.compile(r"\A(?:Error: )?Exit code (\d{1,9})")


class _Task(Struct):
    prompt: str | None = None


def task_prompt(raw: Raw) -> str | None:
    """The prompt that a Task or Agent call gives its sub-agent."""
    try:
        return msgspec.json.decode(raw, type=_Task).prompt
    except msgspec.DecodeError:
        return None


def finish_run(
    run: ToolRun, block: Block, details: ResultDetails | None, denial: str | None, time: int | None
) -> None:
    """Writes down how a tool call ended."""
    run.end_us = time
    text = flat(block.content) or ""
    code = _EXIT.match(text) if block.is_error else None
    run.exit_code = int(code.group(1)) if code else None
    run.status = _status(text, bool(block.is_error), denial, details)
    if details is None:
        return
    run.truncated = details.truncated
    if details.exitCode is not None:
        run.exit_code = details.exitCode
    if details.isAsync or details.backgroundTaskId or details.status == "async_launched":
        run.background = True
    took = details.totalDurationMs if details.totalDurationMs is not None else details.durationMs
    if took is not None and took >= 0 and time is not None and run.start_us is not None:
        # The tool's own duration ends where its result line was written.
        start = time - round(took * 1000)
        if start >= run.start_us:
            run.start_us, run.clock = start, "logged"


def _status(text: str, is_error: bool, denial: str | None, details: ResultDetails | None) -> str:
    if denial or text.startswith("The user doesn't want to"):
        return "rejected"
    if (details and details.interrupted) or text.startswith("[Request interrupted"):
        return "interrupted"
    if is_error:
        return "timeout" if text.startswith("Command timed out") else "error"
    return "ok"


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
