"""Anthropic's messages. Their `input_tokens` are those that no cache held."""

from __future__ import annotations

from typing import Any

import msgspec

from traj.engine.prompts import Piece
from traj.engine.wire import Ask, RefusedError, Said, decode, event, tool_piece


class _Block(msgspec.Struct):
    text: str | None = None
    thinking: str | None = None
    name: str | None = None
    input: msgspec.Raw = msgspec.Raw()
    content: str | list[_Block] | None = None


_Blocks = str | list[_Block]


class _Message(msgspec.Struct):
    role: str
    content: _Blocks


class _Body(msgspec.Struct):
    messages: list[_Message]
    max_tokens: int
    model: str | None = None
    system: _Blocks | None = None
    tools: list[msgspec.Raw] | None = None
    stream: bool | None = None
    ignore_eos: bool | None = None
    min_tokens: int | None = None


class Messages:
    """Content blocks."""

    PATH = "/v1/messages"
    ERRORS = "anthropic"

    def read(self, body: bytes) -> Ask:
        found = decode(body, _Body)
        if found.max_tokens < 1:
            raise RefusedError("max_tokens must be at least 1")
        if not found.messages:
            raise RefusedError("messages: there are none")
        pieces = tool_piece(found.tools)
        if found.system:
            pieces.append(Piece("system", _texts(found.system)))
        pieces += [Piece(message.role, _texts(message.content)) for message in found.messages]
        return Ask(
            model=found.model,
            pieces=pieces,
            most=found.max_tokens,
            least=found.min_tokens or 0,
            forced=bool(found.ignore_eos),
            stream=bool(found.stream),
        )

    def whole(self, said: Said) -> Any:
        content = [{"type": "text", "text": said.text}]
        usage = _input(said) | _output(said)
        return _message(said, content, _reason(said)) | ({"usage": usage} if usage else {})

    def opening(self, said: Said) -> bytes:
        begun = _message(said, [], None)
        if usage := _input(said):
            begun |= {"usage": usage | {"output_tokens": 1}}
        block = {"type": "text", "text": ""}
        return event({"type": "message_start", "message": begun}, "message_start") + event(
            {"type": "content_block_start", "index": 0, "content_block": block},
            "content_block_start",
        )

    def piece(self, said: Said, text: str) -> bytes:  # noqa: ARG002 - as others need it
        delta = {"type": "text_delta", "text": text}
        name = "content_block_delta"
        return event({"type": name, "index": 0, "delta": delta}, name)

    def closing(self, said: Said) -> bytes:
        usage = _output(said)
        delta = {"stop_reason": _reason(said), "stop_sequence": None}
        last = {"type": "message_delta", "delta": delta} | ({"usage": usage} if usage else {})
        return (
            event({"type": "content_block_stop", "index": 0}, "content_block_stop")
            + event(last, "message_delta")
            + event({"type": "message_stop"}, "message_stop")
        )


def _texts(content: _Blocks) -> tuple[str, ...]:
    if isinstance(content, str):
        return (content,) if content else ()
    found: list[str] = []
    for block in content:
        found += [text for text in (block.thinking, block.text, block.name) if text]
        if asked := bytes(block.input):
            found.append(asked.decode())
        if block.content:
            found += _texts(block.content)
    return tuple(found)


def _reason(said: Said) -> str:
    return "max_tokens" if said.reason == "length" else "end_turn"


def _input(said: Said) -> dict[str, int]:
    if said.input_tokens is None or said.cached_tokens is None:
        return {}
    return {
        "input_tokens": said.input_tokens - said.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": said.cached_tokens,
    }


def _output(said: Said) -> dict[str, int]:
    return {} if said.output_tokens is None else {"output_tokens": said.output_tokens}


def _message(said: Said, content: list[Any], reason: str | None) -> dict[str, Any]:
    return {
        "id": f"msg_{said.id}",
        "type": "message",
        "role": "assistant",
        "model": said.model,
        "content": content,
        "stop_reason": reason,
        "stop_sequence": None,
    }
