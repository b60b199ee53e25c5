"""OpenAI's responses: each request holds its whole conversation as items."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from msgspec import Struct
from msgspec.json import Decoder

from traj.replay.apis.events import decode, failed, forcing

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from traj.replay.outcome import Outcome


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None


class _Reason(Struct):
    reason: str | None = None


class _Response(Struct):
    status: str | None = None
    usage: _Usage | None = None
    incomplete_details: _Reason | None = None
    error: Any = None


class _Item(Struct):
    type: str | None = None
    name: str | None = None


class _Event(Struct):
    type: str = ""
    delta: Any = None
    item: _Item | None = None
    response: _Response | None = None
    error: Any = None
    message: Any = None


_EVENT = Decoder(_Event)
_ENDS = ("response.completed", "response.incomplete")
_FAILURES = ("response.failed", "error")


class Responses:
    """A message is one item or several: its reasoning, what it says, its calls."""

    PATH = "responses"

    def head(self, model: str, output_tokens: int, *, forced: bool) -> bytes:
        length = {"max_output_tokens": output_tokens, **forcing(output_tokens, forced=forced)}
        kept = {"stream": True, "store": False}
        return orjson.dumps({"model": model, **length, **kept})[:-1]

    def tools(self, tools: Sequence[dict[str, Any]]) -> bytes:
        flat = [{"type": "function", **tool["function"]} for tool in tools]
        return b',"tools":' + orjson.dumps(flat)

    def message(self, message: dict[str, Any], before: str) -> tuple[bytes, str]:
        between = b"," if before else b',"input":['
        return between + b",".join(map(orjson.dumps, _items(message))), "input"

    def close(self, before: str) -> bytes:  # noqa: ARG002 - as others need it
        return b"]}"

    def event(self, data: bytes, at_us: int, outcome: Outcome, parts: list[str]) -> bool:
        event = decode(_EVENT, data)
        if isinstance(event.delta, str) and event.delta:
            parts.append(event.delta)
            outcome.said(at_us)
        elif event.type == "response.output_item.added" and event.item and event.item.name:
            parts.append(event.item.name)
            outcome.said(at_us)
        elif event.type in _FAILURES:
            told = event.response.error if event.response else None
            raise failed(told or event.error or event.message or event.type)
        elif event.type in _ENDS:
            _end(event.response or _Response(), outcome)
            return True
        return False


def _end(response: _Response, outcome: Outcome) -> None:
    why = response.incomplete_details
    outcome.finish_reason = why.reason if why and why.reason else response.status
    if response.usage is not None:
        details = response.usage.input_tokens_details
        outcome.input_tokens = response.usage.input_tokens
        outcome.output_tokens = response.usage.output_tokens
        outcome.cached_tokens = details.cached_tokens if details else None


def _items(message: dict[str, Any]) -> Iterator[dict[str, Any]]:
    role, content = message["role"], message.get("content") or ""
    if role == "tool":
        named = {"call_id": message["tool_call_id"], "output": content}
        yield {"type": "function_call_output", **named}
        return
    if thought := message.get("reasoning_content"):
        text = {"type": "reasoning_text", "text": thought}
        yield {"type": "reasoning", "id": "rs_0", "summary": [], "content": [text]}
    calls = message.get("tool_calls") or ()
    if content or not calls:
        yield {"role": role, "content": content}
    for call in calls:
        asked = {name: call["function"][name] for name in ("name", "arguments")}
        yield {"type": "function_call", "call_id": call["id"], **asked}
