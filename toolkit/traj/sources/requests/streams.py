"""Streamed answers (server-sent events) put together to the body that would have come whole."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import orjson

from traj.sources.requests.spoken import ANTHROPIC, CHAT, GEMINI, RESPONSES

Event = dict[str, Any]
_ENDS = ("response.completed", "response.incomplete", "response.failed")


def is_stream(body: bytes) -> bool:
    """Whether a body is a stream of events and not one JSON value."""
    return body.lstrip()[:6] in (b"event:", b"data: ") or body.lstrip()[:5] == b"data:"


def events(body: bytes) -> Iterator[Event]:
    """The data of each event that is a JSON object. An event's data may be on several lines."""
    data: list[bytes] = []
    for line in [*body.splitlines(), b""]:
        if line.startswith(b"data:"):
            data.append(line[5:].strip())
        elif not line and data:
            try:
                found = orjson.loads(b"\n".join(data))
            except ValueError:
                found = None
            if isinstance(found, dict):
                yield found
            data = []


def whole(api: str, body: bytes) -> tuple[bytes, bool]:
    """The body that the events add up to, and whether the stream came to its end."""
    build = _BUILDERS.get(api)
    if build is None:
        return b"", False
    try:
        found, complete = build(events(body))
        return orjson.dumps(found), complete
    except (TypeError, KeyError, IndexError, AttributeError, ValueError):
        return b"", False  # events that are nothing of this API's


def _anthropic(found: Iterator[Event]) -> tuple[Event, bool]:
    message: Event = {}
    blocks: dict[int, Event] = {}
    inputs: dict[int, list[str]] = {}
    complete = False
    for event in found:
        match event.get("type"):
            case "message_start":
                message = dict(event["message"])
            case "content_block_start":
                blocks[event["index"]] = dict(event["content_block"])
            case "content_block_delta":
                block, delta = blocks.setdefault(event["index"], {}), event["delta"]
                for name in ("text", "thinking"):
                    if name in delta:
                        block[name] = (block.get(name) or "") + delta[name]
                if "partial_json" in delta:
                    inputs.setdefault(event["index"], []).append(delta["partial_json"])
            case "message_delta":
                message |= event.get("delta") or {}
                usage = {k: v for k, v in (event.get("usage") or {}).items() if v is not None}
                message["usage"] = (message.get("usage") or {}) | usage
            case "message_stop":
                complete = True
            case "error":
                return event, True
    for index, pieces in inputs.items():
        text = "".join(pieces)
        if text:  # the model's own text, which may be cut off
            blocks[index]["input"] = text
    message["content"] = [blocks[index] for index in sorted(blocks)]
    return message, complete


def _chat(found: Iterator[Event]) -> tuple[Event, bool]:
    response: Event = {}
    message: Event = {"role": "assistant"}
    calls: dict[int, Event] = {}
    reason = None
    for event in found:
        if event.get("error"):
            return event, True
        for name in ("id", "model", "usage"):
            if event.get(name):
                response[name] = event[name]
        for choice in (event.get("choices") or [])[:1]:
            reason = choice.get("finish_reason") or reason
            response.setdefault("choices", [])
            delta = choice.get("delta") or {}
            for name in ("content", "reasoning_content", "reasoning", "refusal"):
                if isinstance(delta.get(name), str):
                    message[name] = (message.get(name) or "") + delta[name]
            for place, piece in enumerate(delta.get("tool_calls") or ()):
                index = piece.get("index")
                _add_call(calls.setdefault(place if index is None else index, {}), piece)
    if calls:
        message["tool_calls"] = [calls[index] for index in sorted(calls)]
    if "choices" in response:
        response["choices"] = [{"message": message, "finish_reason": reason}]
    return response, reason is not None


def _add_call(call: Event, piece: Event) -> None:
    if piece.get("id"):
        call["id"] = piece["id"]
    told, function = piece.get("function") or {}, call.setdefault("function", {})
    if told.get("name"):
        function["name"] = told["name"]
    function["arguments"] = function.get("arguments", "") + (told.get("arguments") or "")


def _responses(found: Iterator[Event]) -> tuple[Event, bool]:
    response: Event = {}
    items: list[Event] = []
    for event in found:
        kind = event.get("type")
        if kind == "response.created":
            response = dict(event["response"])
        elif kind == "response.output_item.done":
            items.append(event["item"])
        elif kind in _ENDS:
            # Some servers leave the output out of the last event.
            ended = dict(event["response"])
            return ended | {"output": ended.get("output") or items}, True
        elif kind == "error":
            return {"error": event.get("error") or event}, True
    return response | {"output": items}, False


def _gemini(found: Iterator[Event]) -> tuple[Event, bool]:
    response: Event = {}
    pieces: list[Any] = []
    reason = None
    for event in found:
        if event.get("error"):
            return event, True
        for name in ("responseId", "modelVersion", "usageMetadata"):
            if event.get(name):
                response[name] = event[name]
        for candidate in (event.get("candidates") or [])[:1]:
            pieces += (candidate.get("content") or {}).get("parts") or []
            reason = candidate.get("finishReason") or reason
    content = {"role": "model", "parts": pieces}
    response["candidates"] = [{"content": content, "finishReason": reason}]
    return response, reason is not None


_BUILDERS: dict[str, Callable[[Iterator[Event]], tuple[Event, bool]]] = {
    ANTHROPIC: _anthropic,
    CHAT: _chat,
    RESPONSES: _responses,
    GEMINI: _gemini,
}
