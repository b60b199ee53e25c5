"""OpenAI's chat completions, with the options by which vLLM and others force lengths."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.json import Decoder

from traj.replay.apis.events import decode, failed, forcing

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traj.replay.outcome import Outcome


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_CHUNK = Decoder(_Chunk)


class Chat:
    """Messages as the load has them."""

    PATH = "chat/completions"

    def head(self, model: str, output_tokens: int, *, forced: bool) -> bytes:
        length = {"max_tokens": output_tokens, **forcing(output_tokens, forced=forced)}
        streamed = {"stream": True, "stream_options": {"include_usage": True}}
        return orjson.dumps({"model": model, **length, **streamed})[:-1]

    def tools(self, tools: Sequence[dict[str, Any]]) -> bytes:
        return b',"tools":' + orjson.dumps(tools)

    def message(self, message: dict[str, Any], before: str) -> tuple[bytes, str]:
        between = b"," if before else b',"messages":['
        return between + orjson.dumps(message), "messages"

    def close(self, before: str) -> bytes:  # noqa: ARG002 - as others need it
        return b"]}"

    def event(self, data: bytes, at_us: int, outcome: Outcome, parts: list[str]) -> bool:
        if data == b"[DONE]":
            return True
        chunk = decode(_CHUNK, data)
        if chunk.error:
            raise failed(chunk.error)
        if chunk.usage is not None:
            outcome.input_tokens = chunk.usage.prompt_tokens
            outcome.output_tokens = chunk.usage.completion_tokens
            details = chunk.usage.prompt_tokens_details
            outcome.cached_tokens = details.cached_tokens if details else None
        for choice in chunk.choices or ():
            if choice.delta is not None and _spoken(choice.delta, parts):
                outcome.said(at_us)
            outcome.finish_reason = choice.finish_reason or outcome.finish_reason
        return False


def _spoken(delta: _Delta, parts: list[str]) -> bool:
    """Whether the event carries a part of the answer."""
    before = len(parts)
    parts += [text for text in (delta.content, delta.reasoning_content, delta.reasoning) if text]
    for call in delta.tool_calls or ():
        if call.function is not None:
            parts += [text for text in (call.function.name, call.function.arguments) if text]
    return len(parts) > before
