"""Anthropic's messages: content blocks under roles that take turns.

Their `input_tokens` are those that no cache held; here they are all of the prompt, as elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.json import Decoder

from traj.replay.apis.events import decode, failed, forcing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traj.replay.outcome import Outcome


class _Usage(Struct):
    input_tokens: int | None = None
    cache_creation_input_tokens: int | None = None
    cache_read_input_tokens: int | None = None
    output_tokens: int | None = None


class _Message(Struct):
    usage: _Usage | None = None


class _Delta(Struct):
    text: str | None = None
    thinking: str | None = None
    partial_json: str | None = None
    stop_reason: str | None = None


class _Block(Struct):
    name: str | None = None


class _Event(Struct):
    type: str = ""
    message: _Message | None = None
    content_block: _Block | None = None
    delta: _Delta | None = None
    usage: _Usage | None = None
    error: Any = None


_EVENT = Decoder(_Event)


class Messages:
    """System messages that lead go where the API has its system prompt; neighbours of one role
    become one message. A tool's result is the user's."""

    PATH = "messages"

    def head(self, model: str, output_tokens: int, *, forced: bool) -> bytes:
        length = {"max_tokens": output_tokens, **forcing(output_tokens, forced=forced)}
        return orjson.dumps({"model": model, **length, "stream": True})[:-1]

    def tools(self, tools: Sequence[dict[str, Any]]) -> bytes:
        own = [
            {
                **{name: tool["function"][name] for name in ("name", "description")
                   if name in tool["function"]},
                "input_schema": tool["function"].get("parameters") or {"type": "object"},
            }
            for tool in tools
        ]  # fmt: skip
        return b',"tools":' + orjson.dumps(own)

    def message(self, message: dict[str, Any], before: str) -> tuple[bytes, str]:
        role = "user" if message["role"] == "tool" else message["role"]
        if role == "system" and before not in ("", "system"):
            role = "user"
        blocks = b",".join(map(orjson.dumps, _blocks(message)))
        if role == before:
            return b"," + blocks, role
        if role == "system":
            return b',"system":[' + blocks, role
        between = {"": b',"messages":[', "system": b'],"messages":['}.get(before, b"]},")
        return between + b'{"role":"%b","content":[' % role.encode() + blocks, role

    def close(self, before: str) -> bytes:
        # A prompt may be a system prompt alone, and the API wants a message.
        return b'],"messages":[{"role":"user","content":""}]}' if before == "system" else b"]}]}"

    def event(self, data: bytes, at_us: int, outcome: Outcome, parts: list[str]) -> bool:
        event = decode(_EVENT, data)
        if event.delta is not None:
            delta = event.delta
            if text := delta.text or delta.thinking or delta.partial_json:
                parts.append(text)
                outcome.said(at_us)
            outcome.finish_reason = delta.stop_reason or outcome.finish_reason
        if event.content_block is not None and event.content_block.name:
            parts.append(event.content_block.name)
            outcome.said(at_us)
        if event.type == "error":
            raise failed(event.error or event.type)
        if event.message is not None and event.message.usage is not None:
            _input(event.message.usage, outcome)
        elif event.usage is not None:
            outcome.output_tokens = event.usage.output_tokens
        return event.type == "message_stop"


def _input(usage: _Usage, outcome: Outcome) -> None:
    outcome.cached_tokens = usage.cache_read_input_tokens
    if usage.input_tokens is not None:
        cached = (usage.cache_read_input_tokens, usage.cache_creation_input_tokens)
        outcome.input_tokens = usage.input_tokens + sum(one or 0 for one in cached)


def _blocks(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    content, calls = message.get("content") or "", message.get("tool_calls") or ()
    if message["role"] == "tool":
        result = {"tool_use_id": message["tool_call_id"], "content": content}
        yield {"type": "tool_result", **result}
        return
    if thought := message.get("reasoning_content"):
        yield {"type": "thinking", "thinking": thought, "signature": ""}
    if content or not calls:
        yield {"type": "text", "text": content}
    for call in calls:
        named = {"id": call["id"], "name": call["function"]["name"]}
        yield {"type": "tool_use", **named, "input": _arguments(call["function"]["arguments"])}


def _arguments(text: str) -> Any:
    """An object, as the API wants; what the model wrote otherwise stands in one."""
    try:
        found = orjson.loads(text or "{}")
    except orjson.JSONDecodeError:
        found = text
    return found if isinstance(found, dict) else {"arguments": found}
