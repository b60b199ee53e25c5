"""OpenAI's chat completions, as many providers speak it: bodies to messages and figures."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Raw, Struct

from traj.events import Attachment, Message, Sampling, ToolCall, Usage
from traj.sources.lines import Count
from traj.sources.requests.pieces import (
    NOTHING,
    arguments,
    fit,
    json_text,
    parts,
    payload,
    stop,
    text_of,
)
from traj.sources.requests.spoken import CHAT, MEANINGS, Answered, Asked, Names


class _Function(Struct):
    name: str | None = None
    arguments: Raw = NOTHING
    input: Raw = NOTHING


class _Call(Struct):
    id: str | None = None
    function: _Function | None = None
    custom: _Function | None = None


class Spoken(Struct):
    """A message, asked or answered. Providers do not agree on the name of reasoning."""

    role: str | None = None
    content: Raw = NOTHING
    name: str | None = None
    tool_calls: Raw = NOTHING
    tool_call_id: str | None = None
    reasoning_content: Raw = NOTHING
    reasoning: Raw = NOTHING
    refusal: Raw = NOTHING


class _Url(Struct):
    url: str | None = None


class _File(Struct):
    file_data: str | None = None
    data: str | None = None
    format: str | None = None


class _Part(Struct):
    type: str | None = None
    image_url: _Url | str | None = None
    input_audio: _File | None = None
    file: _File | None = None


class _Request(Struct):
    model: str | None = None
    messages: Raw = NOTHING
    tools: Raw = NOTHING
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    stream: bool | None = None


class _PromptDetails(Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class _OutputDetails(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _OutputDetails | None = None
    prompt_cache_hit_tokens: Count | None = None  # DeepSeek's own


class _Choice(Struct):
    message: Raw = NOTHING
    finish_reason: str | None = None


class _Response(Struct):
    id: str | None = None
    model: str | None = None
    choices: Raw = NOTHING
    usage: Raw = NOTHING
    error: Raw = NOTHING


class _Error(Struct):
    type: str | None = None
    code: str | int | None = None


def asked(body: bytes) -> Asked | None:
    """The request of a body; None where it is none."""
    request = fit(body, _Request)
    if request is None:
        return None
    most = request.max_completion_tokens
    return Asked(
        CHAT,
        request.model,
        messages(request.messages),
        None,
        json_text(request.tools),
        Sampling(
            request.max_tokens if most is None else most,
            request.temperature,
            request.top_p,
            request.reasoning_effort,
            request.stream,
        ),
    )


def messages(raw: Raw | bytes) -> tuple[Message, ...]:
    """A list of chat messages; results have the names of their calls."""
    return tuple(told(parts(raw, Raw), {}))


def told(items: Iterable[Raw | bytes], names: Names) -> list[Message]:
    """Items of a list of messages as messages; those of another shape are left out. Calls are
    added to `names`."""
    found: list[Message] = []
    for item in items:
        one = fit(item, Spoken)
        if one is None:
            continue
        message = spoken(one, names)
        names.update((call.id, call.name) for call in message.tool_calls)
        found.append(message)
    return found


_ROLES = {
    "assistant": "assistant",
    "developer": "system",
    "function": "tool",
    "system": "system",
    "tool": "tool",
}


def spoken(one: Spoken, names: Names | None = None) -> Message:
    """A chat message. Beside tool calls an empty text is no text."""
    calls = tuple(_call(call) for call in parts(one.tool_calls, _Call))
    text = text_of(one.content)
    if text is None:
        text = text_of(one.refusal)
    role = _ROLES.get(one.role or "", "user")
    own = role == "assistant"
    reasoning = (text_of(one.reasoning_content) or text_of(one.reasoning)) if own else None
    known = None if names is None else names.get(one.tool_call_id or "")
    return Message(
        role,
        None if own and not text else text,
        reasoning or None,
        calls if own else (),
        one.tool_call_id if role == "tool" else None,
        one.name or (known if role == "tool" else None),
        _attachments(one.content),
    )


def _call(call: _Call) -> ToolCall:
    function = call.function or call.custom or _Function()
    raw = function.arguments if bytes(function.arguments) else function.input
    return ToolCall(call.id or "", function.name or "", arguments(raw))


def _attachments(raw: Raw) -> tuple[Attachment, ...]:
    if not bytes(raw).startswith(b"["):
        return ()
    found = []
    for part in parts(raw, _Part):
        if part.image_url is not None:
            image = part.image_url
            found.append(payload(image if isinstance(image, str) else image.url, None))
        elif (file := part.input_audio or part.file) is not None:
            found.append(payload(file.data or file.file_data, file.format))
    return tuple(found)


def usage(raw: Raw | bytes, *, whole: bool = True) -> Usage:
    """The schema's figures."""
    figures = fit(raw, _Usage)
    if figures is None:
        return Usage()
    prompt, output = figures.prompt_tokens_details, figures.completion_tokens_details
    cached = prompt.cached_tokens if prompt else None
    return MEANINGS[CHAT].usage(
        figures.prompt_tokens,
        figures.prompt_cache_hit_tokens if cached is None else cached,
        figures.completion_tokens,
        written_tokens=prompt.cache_write_tokens if prompt else None,
        reasoning_tokens=output.reasoning_tokens if output else None,
        whole=whole,
    )


def answered(body: bytes, *, complete: bool = True) -> Answered | None:
    """The answer of a body; None where it is none."""
    response = fit(body, _Response)
    if response is None:
        return None
    if fit(response.error, Raw) is not None and bytes(response.error) != b"null":
        return Answered(error=_error(response.error))
    choice = next(iter(parts(response.choices, _Choice)), None)
    said = fit(choice.message, Spoken) if choice else None
    message = None if said is None else spoken(said)
    if message is not None and message.role != "assistant":
        message = None
    return Answered(
        message,
        response.model,
        response.id,
        usage(response.usage, whole=complete),
        stop(choice.finish_reason) if choice else None,
        complete=complete,
    )


def _error(raw: Raw) -> str:
    error = fit(raw, _Error)
    return str((error.type or error.code) if error else "") or "error"
