"""Messages as the GenAI conventions have them: a role and parts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traj.exporters.archive import arguments, rest

if TYPE_CHECKING:
    from traj.exporters.archive import Row

_USED = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name", "attachments")


def message(row: Row) -> Row:
    """A message; columns that the conventions have no name for are its `traj`."""
    parts: list[Row] = []
    if row["reasoning"] is not None:
        parts.append({"type": "reasoning", "content": row["reasoning"]})
    if row["role"] == "tool":
        response = {"id": row["tool_call_id"], "response": row["content"]}
        parts.append({"type": "tool_call_response", **response})
    elif row["content"] is not None:
        parts.append({"type": "text", "content": row["content"]})
    parts += [_call(call) for call in row["tool_calls"] or ()]
    parts += [{"type": "attachment", **rest(one, ())} for one in row["attachments"] or ()]
    found = {"role": row["role"], "parts": parts, "traj": rest(row, _USED)}
    return found if row["name"] is None else found | {"name": row["name"]}


def _call(call: dict[str, str]) -> Row:
    """A call; `text` is what no object gives back to the letter."""
    found, text = arguments(call["arguments"])
    part: Row = {"type": "tool_call", "id": call["id"], "name": call["name"]}
    if found is None:
        return part | {"arguments": text}
    return part | {"arguments": found} | ({} if text is None else {"text": text})


def as_json(value: Any) -> str:
    """Structured values as attributes hold them where they cannot hold structure."""
    import orjson

    return orjson.dumps(value).decode()
