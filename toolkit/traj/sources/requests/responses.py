"""OpenAI's Responses API: bodies to messages and figures."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw, Struct

from traj.events import Attachment, Message, Sampling, ToolCall, Usage
from traj.sources.lines import Count
from traj.sources.requests.pieces import (
    NOTHING,
    Text,
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
from traj.sources.requests.spoken import MEANINGS, RESPONSES, Answered, Asked, Names

_CALLS = {
    "function_call": "",
    "custom_tool_call": "",
    "local_shell_call": "local_shell",
    "shell_call": "shell",
    "apply_patch_call": "apply_patch",
    "tool_search_call": "tool_search",
}
_SUMMARIES = ("compaction", "compaction_summary")
_HIDDEN = ("reasoning", *_SUMMARIES)


class Item(Struct):
    """An item of input or output."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: Raw = NOTHING
    name: str | None = None
    call_id: str | None = None
    arguments: Raw = NOTHING
    input: Raw = NOTHING
    action: Raw = NOTHING
    operation: Raw = NOTHING
    output: Raw = NOTHING
    summary: Raw = NOTHING
    encrypted_content: str | None = None


class _Image(Struct):
    type: str | None = None
    image_url: str | None = None
    file_data: str | None = None


class _Request(Struct):
    model: str | None = None
    input: Raw = NOTHING
    instructions: Raw = NOTHING
    tools: Raw = NOTHING
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning: Raw = NOTHING
    stream: bool | None = None
    previous_response_id: str | None = None


class _InputDetails(Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    input_tokens_details: _InputDetails | None = None
    output_tokens_details: _OutputDetails | None = None


class _Why(Struct):
    reason: str | None = None


class _Error(Struct):
    type: str | None = None
    code: str | int | None = None


class _Response(Struct):
    id: str | None = None
    model: str | None = None
    status: str | None = None
    output: Raw = NOTHING
    usage: Raw = NOTHING
    incomplete_details: Raw = NOTHING
    error: Raw = NOTHING


def asked(body: bytes) -> Asked | None:
    """The request of a body; None where it is none."""
    request = fit(body, _Request)
    if request is None:
        return None
    text = fit(request.input, str)
    found = [] if text is not None else parts(request.input, Item)
    return Asked(
        RESPONSES,
        request.model,
        tuple(messages(found)) if text is None else (Message("user", text),),
        text_of(request.instructions),
        json_text(request.tools),
        Sampling(
            request.max_output_tokens,
            request.temperature,
            request.top_p,
            effort_of(request.reasoning),
            request.stream,
        ),
        request.previous_response_id,
        any(item.encrypted_content is not None for item in found),
    )


def messages(items: list[Item]) -> list[Message]:
    """Items as messages: those that the model made in a row are one answer."""
    answer: list[Item] = []
    found = told(items, {}, answer)
    return [*found, said(answer)] if answer else found


def told(items: Iterable[Item], names: Names, answer: list[Item]) -> list[Message]:
    """Items as messages. `answer` holds the items of an answer that has begun, before and after:
    more of it may follow. Calls are added to `names`."""
    found: list[Message] = []
    for item in items:
        if item.type in _SUMMARIES:  # stands for what was said before it: no part of an answer
            if answer:
                found.append(said(answer))
                answer.clear()
            found.append(said([item]))
            continue
        if item.role == "assistant" or item.type in _HIDDEN or item.type in _CALLS:
            answer.append(item)
            if item.call_id is not None:
                name = item.name or _CALLS.get(item.type or "", "")
                names.update([(item.call_id, name)])
            continue
        if answer:
            found.append(said(answer))
            answer.clear()
        message = _told(item, names)
        if message is not None:
            found.append(message)
    return found


def _told(item: Item, names: Names) -> Message | None:
    """What the agent says: a message, or a tool's output."""
    if item.role is not None:
        role = "system" if item.role == "developer" else item.role
        return Message(role, text_of(item.content), attachments=_attachments(item.content))
    if item.call_id is not None and bytes(item.output):
        text = fit(item.output, str)
        if text is None:
            listed = bytes(item.output).lstrip().startswith(b"[")
            text = text_of(item.output) if listed else json_text(item.output)
        return Message(
            "tool",
            text,
            tool_call_id=item.call_id,
            name=names.get(item.call_id) or None,
            attachments=_attachments(item.output),
        )
    return None


def said(items: list[Item]) -> Message:
    """An answer's items as one message."""
    texts: list[str | None] = []
    thoughts: list[str | None] = []
    calls: list[ToolCall] = []
    for item in items:
        if item.type in _HIDDEN:
            thoughts.append(text_of(item.content) or _summary(item))
        elif item.type in _CALLS:
            raws = (item.arguments, item.input, item.action, item.operation)
            raw = next((raw for raw in raws if bytes(raw)), NOTHING)
            name = item.name or _CALLS[item.type]
            calls.append(ToolCall(item.call_id or item.id or "", name, arguments(raw)))
        elif item.role == "assistant":
            texts.append(text_of(item.content))
    return Message("assistant", joined(texts), joined(filter(None, thoughts)), tuple(calls))


def _summary(item: Item) -> str | None:
    return joined(part.text for part in parts(item.summary, Text)) or None


def _attachments(raw: Raw) -> tuple[Attachment, ...]:
    if not bytes(raw).lstrip().startswith(b"["):
        return ()
    found = parts(raw, _Image)
    return tuple(
        payload(one.image_url or one.file_data, None)
        for one in found
        if one.type in ("input_image", "input_file")
    )


def usage(raw: Raw | bytes, *, whole: bool = True) -> Usage:
    """The schema's figures."""
    figures = fit(raw, _Usage)
    if figures is None:
        return Usage()
    inside, outside = figures.input_tokens_details, figures.output_tokens_details
    return MEANINGS[RESPONSES].usage(
        figures.input_tokens,
        inside.cached_tokens if inside else None,
        figures.output_tokens,
        written_tokens=inside.cache_write_tokens if inside else None,
        reasoning_tokens=outside.reasoning_tokens if outside else None,
        whole=whole,
    )


def answered(body: bytes, *, complete: bool = True) -> Answered | None:
    """The answer of a body; None where it is none."""
    response = fit(body, _Response)
    if response is None:
        return None
    error = fit(response.error, _Error)
    items = parts(response.output, Item)
    if (error is not None or response.status == "failed") and not items:
        kind = (error.code or error.type) if error else None
        return Answered(response_id=response.id, error=str(kind or "error"))
    message = said(items) if items else None
    why = fit(response.incomplete_details, _Why)
    if why is not None:
        reason = stop(why.reason)
    elif message is not None:
        reason = "tool_use" if message.tool_calls else "end_turn"
    else:
        reason = None
    return Answered(
        message,
        response.model,
        response.id,
        usage(response.usage, whole=complete),
        reason if complete else None,
        complete=complete,
    )
