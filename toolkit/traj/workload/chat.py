"""Messages and tool definitions as an OpenAI chat-completions request holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    import pyarrow as pa

    from traj.dataset import Dataset

COLUMNS = (
    *("role", "content", "reasoning", "tool_calls", "tool_call_id"),
    *("attachments", "sha256"),
)


class Messages:
    """One trajectory's messages in their chat form."""

    def __init__(self, table: pa.Table) -> None:
        self._columns = {name: table.column(name).to_pylist() for name in COLUMNS}

    def role(self, number: int) -> str:
        return str(self._columns["role"][number])

    def sha256(self, number: int) -> str:
        return str(self._columns["sha256"][number])

    def is_system(self, number: int) -> bool:
        return self.role(number) == "system"

    def attachments(self) -> int:
        """How many images and documents the messages lack."""
        return sum(len(found) for found in self._columns["attachments"] if found)

    def message(self, number: int, *, reasoning: bool, as_user: bool = False) -> dict[str, Any]:
        """The message, made anew; `as_user` sends a system message in the user's name."""
        role, content, thought, calls, call_id = (
            self._columns[name][number] for name in COLUMNS[:5]
        )
        if role == "tool":
            return {"role": role, "tool_call_id": call_id, "content": content or ""}
        if role != "assistant":
            return {"role": "user" if as_user else role, "content": content or ""}
        message: dict[str, Any] = {"role": role}
        # The API wants a null, not an empty text, beside tool calls.
        message["content"] = content if content is not None or calls else ""
        if reasoning and thought is not None:
            message["reasoning_content"] = thought
        if calls:
            message["tool_calls"] = [_call(call) for call in calls]
        return message


def _call(call: dict[str, str]) -> dict[str, Any]:
    function = {"name": call["name"], "arguments": call["arguments"]}
    return {"id": call["id"], "type": "function", "function": function}


def tools(text: str) -> tuple[list[dict[str, Any]], int]:
    """Tool definitions of any API as chat completions have them, and how many could not be.

    Anthropic: {name, description, input_schema}; Responses: {type: function, name, parameters};
    chat: {type: function, function: {...}}. Tools that are no functions (a provider's own web
    search, a grammar) have no such form. Text that is no list of definitions counts as one lost.
    """
    try:
        definitions = orjson.loads(text)
    except orjson.JSONDecodeError:
        return [], 1
    if not isinstance(definitions, list):
        return [], 1
    found = [made for one in definitions if (made := _tool(one)) is not None]
    return found, len(definitions) - len(found)


def _tool(definition: Any) -> dict[str, Any] | None:
    if not isinstance(definition, dict):
        return None
    if isinstance(definition.get("function"), dict):
        return definition
    kind = definition.get("type", "custom")  # Anthropic's word for a function, and its default
    schema = definition.get("parameters" if kind == "function" else "input_schema")
    if kind not in ("function", "custom") or not isinstance(definition.get("name"), str):
        return None
    if schema is None and kind != "function":
        return None
    known = {**definition, "parameters": schema}
    names = ("name", "description", "parameters", "strict")
    function = {name: known[name] for name in names if known.get(name) is not None}
    return {"type": "function", "function": function}


class Fronts:
    """System prompts as text, and tool definitions in their chat form, by prompt id."""

    def __init__(self, dataset: Dataset) -> None:
        table = dataset.table("prompts", columns=["prompt_id", "kind", "content"])
        self.systems: dict[str, str] = {}
        self.tools: dict[str, list[dict[str, Any]]] = {}
        self.lost_tools: dict[str, int] = {}
        for row in table.to_pylist():
            if row["kind"] == "system":
                self.systems[row["prompt_id"]] = row["content"]
            else:
                definitions, lost = tools(row["content"])
                self.tools[row["prompt_id"]] = definitions
                self.lost_tools[row["prompt_id"]] = lost
