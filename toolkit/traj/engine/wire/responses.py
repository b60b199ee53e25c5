"""OpenAI's responses, without what they remember: each holds its whole conversation."""

from __future__ import annotations

from typing import Any

import msgspec

from traj.engine.prompts import Piece
from traj.engine.wire import Ask, Content, RefusedError, Said, decode, event, texts, tool_piece


class _Item(msgspec.Struct):
    role: str | None = None
    type: str | None = None
    content: Content = None
    summary: Content = None
    output: Content = None
    name: str | None = None
    arguments: str | None = None


class _Body(msgspec.Struct):
    input: str | list[_Item]
    model: str | None = None
    instructions: str | None = None
    tools: list[msgspec.Raw] | None = None
    max_output_tokens: int | None = None
    min_tokens: int | None = None
    ignore_eos: bool | None = None
    stream: bool | None = None
    prompt_cache_key: str | None = None
    previous_response_id: str | None = None


class Responses:
    """Items."""

    PATH = "/v1/responses"
    ERRORS = "openai"

    def read(self, body: bytes) -> Ask:
        found = decode(body, _Body)
        if found.previous_response_id:
            raise RefusedError("previous_response_id: this engine remembers no responses")
        if found.max_output_tokens is not None and found.max_output_tokens < 1:
            raise RefusedError("max_output_tokens must be at least 1")
        if not found.input:
            raise RefusedError("input: there is none")
        pieces = tool_piece(found.tools)
        if found.instructions:
            pieces.append(Piece("system", (found.instructions,)))
        if isinstance(found.input, str):
            pieces.append(Piece("user", (found.input,)))
        else:
            pieces += [Piece(item.role or item.type or "item", _said(item)) for item in found.input]
        return Ask(
            model=found.model,
            pieces=pieces,
            most=found.max_output_tokens,
            least=found.min_tokens or 0,
            forced=bool(found.ignore_eos),
            stream=bool(found.stream),
            session=found.prompt_cache_key,
        )

    def whole(self, said: Said) -> Any:
        return _response(said, "completed" if said.reason == "stop" else "incomplete")

    def opening(self, said: Said) -> bytes:
        said.memory["number"] = 0
        item = {"id": _item_id(said), "type": "message", "role": "assistant"}
        empty = {"type": "output_text", "text": "", "annotations": []}
        begun = _response(said, "in_progress")
        place = {"item_id": _item_id(said), "output_index": 0, "content_index": 0}
        return b"".join(
            (
                _event(said, "response.created", response=begun),
                _event(said, "response.in_progress", response=begun),
                _event(
                    said,
                    "response.output_item.added",
                    output_index=0,
                    item={**item, "status": "in_progress", "content": []},
                ),
                _event(said, "response.content_part.added", **place, part=empty),
            )
        )

    def piece(self, said: Said, text: str) -> bytes:
        place = {"item_id": _item_id(said), "output_index": 0, "content_index": 0}
        return _event(said, "response.output_text.delta", **place, delta=text, logprobs=[])

    def closing(self, said: Said) -> bytes:
        place = {"item_id": _item_id(said), "output_index": 0, "content_index": 0}
        done = self.whole(said)
        (item,) = done["output"]
        return b"".join(
            (
                _event(said, "response.output_text.done", **place, text=said.text, logprobs=[]),
                _event(said, "response.content_part.done", **place, part=item["content"][0]),
                _event(said, "response.output_item.done", output_index=0, item=item),
                _event(said, f"response.{done['status']}", response=done),
            )
        )


def _said(item: _Item) -> tuple[str, ...]:
    call = tuple(text for text in (item.name, item.arguments) if text)
    return texts(item.summary) + texts(item.content) + texts(item.output) + call


def _item_id(said: Said) -> str:
    return f"msg_{said.id}"


def _event(said: Said, name: str, **data: Any) -> bytes:
    number = said.memory["number"]
    said.memory["number"] = number + 1
    return event({"type": name, "sequence_number": number, **data}, name)


def _response(said: Said, status: str) -> dict[str, Any]:
    text = {"type": "output_text", "text": said.text, "annotations": []}
    item = {"id": _item_id(said), "type": "message", "role": "assistant", "status": status}
    begun = status == "in_progress"
    usage = None
    if not begun and said.input_tokens is not None and said.output_tokens is not None:
        usage = {
            "input_tokens": said.input_tokens,
            "input_tokens_details": {"cached_tokens": said.cached_tokens},
            "output_tokens": said.output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": said.input_tokens + said.output_tokens,
        }
    return {
        "id": f"resp_{said.id}",
        "object": "response",
        "created_at": said.created,
        "status": status,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "error": None,
        "model": said.model,
        "output": [] if begun else [{**item, "content": [text]}],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": [],
        "usage": usage,
    }
