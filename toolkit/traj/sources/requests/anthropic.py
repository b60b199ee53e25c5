"""Anthropic's Messages API: bodies to messages and figures."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw, Struct

from traj.events import Attachment, Message, Sampling, ToolCall, Usage
from traj.sources.lines import Count
from traj.sources.requests.pieces import (
    NOTHING,
    arguments,
    effort_of,
    fit,
    joined,
    json_text,
    parts,
    payload,
    stop,
    text_of,
)
from traj.sources.requests.spoken import ANTHROPIC, MEANINGS, Answered, Asked, Names

_CALLS = ("tool_use", "server_tool_use", "mcp_tool_use")


class _Source(Struct):
    media_type: str | None = None
    data: str | None = None
    url: str | None = None


class Block(Struct):
    """A block of content."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: Raw = NOTHING
    source: Raw = NOTHING


class _Spoken(Struct):
    role: str | None = None
    content: Raw = NOTHING


class _Request(Struct):
    model: str | None = None
    messages: Raw = NOTHING
    system: Raw = NOTHING
    tools: Raw = NOTHING
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None
    output_config: Raw = NOTHING


class _Details(Struct):
    thinking_tokens: Count | None = None


class RawUsage(Struct):
    """`input_tokens` is the uncached part alone."""

    input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    output_tokens: Count | None = None
    output_tokens_details: _Details | None = None


class _Error(Struct):
    type: str | None = None


class _Response(Struct):
    type: str | None = None
    id: str | None = None
    model: str | None = None
    content: Raw = NOTHING
    stop_reason: str | None = None
    usage: Raw = NOTHING
    error: Raw = NOTHING


def asked(body: bytes) -> Asked | None:
    """The request of a body; None where it is none."""
    request = fit(body, _Request)
    if request is None:
        return None
    return Asked(
        ANTHROPIC,
        request.model,
        tuple(told(parts(request.messages, Raw), {})),
        text_of(request.system),
        json_text(request.tools),
        Sampling(
            request.max_tokens,
            request.temperature,
            request.top_p,
            effort_of(request.output_config),
            request.stream,
        ),
    )


def told(items: Iterable[Raw | bytes], names: Names) -> list[Message]:
    """Items of a list of messages as messages; those of another shape are left out. Calls are
    added to `names`."""
    found: list[Message] = []
    for item in items:
        one = fit(item, _Spoken)
        if one is not None:
            found += spoken(one.role or "user", one.content, names)
    return found


def spoken(role: str, content: Raw | bytes, names: Names) -> list[Message]:
    """A message's content: one message for each result, and one for all the rest. `names` are
    those of calls by their ids; an answer's are added."""
    text = fit(content, str)
    if text is not None:
        return [Message(role, text)]
    blocks = parts(content, Block)
    if role == "assistant":
        message = said(blocks)
        names.update((call.id, call.name) for call in message.tool_calls)
        return [message]
    found: list[Message] = []
    texts: list[str] = []
    images: list[Attachment] = []
    for block in blocks:
        if block.type == "tool_result":
            found.append(_result(block, names))
        elif block.type in ("image", "document"):
            images.append(_attachment(block))
        elif block.text is not None:
            texts.append(block.text)
    if texts or images:
        found.append(Message(role, joined(texts), attachments=tuple(images)))
    return found


def _result(block: Block, names: Names) -> Message:
    call = block.tool_use_id or ""
    images = [one for one in parts(block.content, Block) if one.type in ("image", "document")]
    return Message(
        "tool",
        text_of(block.content),
        tool_call_id=call,
        name=names.get(call),
        attachments=tuple(_attachment(one) for one in images),
    )


def _attachment(block: Block) -> Attachment:
    source = fit(block.source, _Source) or _Source()
    return payload(source.data, source.media_type)


def said(blocks: Iterable[Block]) -> Message:
    """An answer's blocks as one message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks:
        if block.type == "thinking":
            if block.thinking:
                thoughts.append(block.thinking)
        elif block.type in _CALLS:
            calls.append(ToolCall(block.id or "", block.name or "", arguments(block.input)))
        elif block.type == "text":
            texts.append(block.text or "")
        elif text := text_of(block.content):  # what a tool of the provider's found
            texts.append(text)
    return Message("assistant", joined(texts), joined(thoughts), tuple(calls))


def usage(raw: Raw | bytes, *, whole: bool = True) -> Usage:
    """The schema's figures."""
    figures = fit(raw, RawUsage)
    if figures is None:
        return Usage()
    details = figures.output_tokens_details
    return MEANINGS[ANTHROPIC].usage(
        figures.input_tokens,
        figures.cache_read_input_tokens,
        figures.output_tokens,
        written_tokens=figures.cache_creation_input_tokens,
        reasoning_tokens=details.thinking_tokens if details else None,
        whole=whole,
    )


def answered(body: bytes, *, complete: bool = True) -> Answered | None:
    """The answer of a body; None where it is none."""
    response = fit(body, _Response)
    if response is None:
        return None
    if response.type == "error" or bytes(response.error):
        error = fit(response.error, _Error)
        return Answered(error=(error.type if error else None) or "error")
    blocks = parts(response.content, Block)
    return Answered(
        said(blocks) if blocks else None,
        response.model,
        response.id,
        usage(response.usage, whole=complete),
        stop(response.stop_reason),
        complete=complete,
    )
