"""OpenAI's chat completions and completions, with the options by which vLLM forces lengths."""

from __future__ import annotations

from typing import Any

import msgspec

from traj.engine.prompts import Piece
from traj.engine.wire import Ask, Content, RefusedError, Said, decode, event, texts, tool_piece

_COMPLETION_TOKENS = 16  # of a completion that names no length


class _StreamOptions(msgspec.Struct):
    include_usage: bool | None = None


class _Message(msgspec.Struct):
    role: str
    content: Content = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()


class _Options(msgspec.Struct, kw_only=True):
    model: str | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    stream_options: _StreamOptions | None = None
    n: int | None = None
    prompt_cache_key: str | None = None


class _ChatBody(_Options):
    messages: list[_Message]
    tools: list[msgspec.Raw] | None = None


class _CompletionBody(_Options):
    prompt: str | list[int | str | list[int]]


def _ask(body: _Options, **more: Any) -> Ask:
    if body.n not in (None, 1):
        raise RefusedError("n: this engine gives one answer")
    most = body.max_completion_tokens
    most = body.max_tokens if most is None else most
    if most is not None and most < 1:
        raise RefusedError("max_tokens must be at least 1")
    options = body.stream_options
    return Ask(
        model=body.model,
        most=more.pop("most", None) if most is None else most,
        least=body.min_tokens or 0,
        forced=bool(body.ignore_eos),
        stream=bool(body.stream),
        usage=bool(options and options.include_usage),
        session=body.prompt_cache_key,
        **{name: value for name, value in more.items() if name != "most"},
    )


def _usage(said: Said) -> dict[str, Any] | None:
    if said.input_tokens is None or said.output_tokens is None:
        return None
    return {
        "prompt_tokens": said.input_tokens,
        "completion_tokens": said.output_tokens,
        "total_tokens": said.input_tokens + said.output_tokens,
        "prompt_tokens_details": {"cached_tokens": said.cached_tokens},
    }


class Completions:
    """Prompts as they stand, without a template."""

    PATH = "/v1/completions"
    ERRORS = "openai"
    WHOLE, CHUNK = "text_completion", "text_completion"

    def read(self, body: bytes) -> Ask:
        found = decode(body, _CompletionBody)
        prompt = found.prompt
        only = prompt[0] if isinstance(prompt, list) and len(prompt) == 1 else prompt
        if isinstance(only, str):
            return _ask(found, pieces=[Piece(None, (only,))], most=_COMPLETION_TOKENS)
        numbers = only if isinstance(only, list) else [only]
        tokens = [token for token in numbers if isinstance(token, int)]
        if len(tokens) < len(numbers):
            raise RefusedError("prompt: this engine takes one at a time")
        return _ask(found, tokens=tokens, most=_COMPLETION_TOKENS)

    def whole(self, said: Said) -> Any:
        choice = {"index": 0, **self._message(said.text), "finish_reason": said.reason}
        usage = _usage(said)
        return self._frame(said, self.WHOLE, [choice]) | ({"usage": usage} if usage else {})

    def opening(self, said: Said) -> bytes:
        # All that stands before and after the text of each piece, made once.
        choice = {"index": 0, **self._delta("\0"), "finish_reason": None}
        frame = event(self._frame(said, self.CHUNK, [choice]))
        said.memory["before"], said.memory["after"] = frame.split(b'"\\u0000"')
        return b""

    def piece(self, said: Said, text: str) -> bytes:
        import orjson

        before, after = said.memory["before"], said.memory["after"]
        return b"".join((before, orjson.dumps(text), after))

    def closing(self, said: Said) -> bytes:
        choice = {"index": 0, **self._delta(""), "finish_reason": said.reason}
        found = event(self._frame(said, self.CHUNK, [choice]))
        usage = _usage(said)
        if usage and said.wants_usage:
            found += event(self._frame(said, self.CHUNK, []) | {"usage": usage})
        return found + b"data: [DONE]\n\n"

    def _frame(self, said: Said, kind: str, choices: list[Any]) -> dict[str, Any]:
        head = {"id": said.id, "object": kind, "created": said.created, "model": said.model}
        return {**head, "choices": choices}

    def _message(self, text: str) -> dict[str, Any]:
        return {"text": text, "logprobs": None}

    def _delta(self, text: str) -> dict[str, Any]:
        return self._message(text)


class ChatCompletions(Completions):
    """Messages."""

    PATH = "/v1/chat/completions"
    WHOLE, CHUNK = "chat.completion", "chat.completion.chunk"

    def read(self, body: bytes) -> Ask:
        found = decode(body, _ChatBody)
        if not found.messages:
            raise RefusedError("messages: there are none")
        pieces = [Piece(message.role, _said(message)) for message in found.messages]
        return _ask(found, pieces=[*tool_piece(found.tools), *pieces])

    def opening(self, said: Said) -> bytes:
        super().opening(said)
        choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
        return event(self._frame(said, self.CHUNK, [choice]))

    def _message(self, text: str) -> dict[str, Any]:
        return {"message": {"role": "assistant", "content": text}}

    def _delta(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text} if text else {}}


def _said(message: _Message) -> tuple[str, ...]:
    thought = message.reasoning_content or message.reasoning
    calls = bytes(message.tool_calls)
    asked = () if calls in (b"", b"null") else (calls.decode(),)
    return ((thought,) if thought else ()) + texts(message.content) + asked
