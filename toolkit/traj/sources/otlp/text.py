"""Messages as spans hold them: as parts (GenAI), or flattened to attributes (OpenInference)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson
from msgspec.structs import replace

from traj.events import Attachment, Message, ToolCall
from traj.sources.otlp.spans import Span
from traj.sources.otlp.words import value

Row = Mapping[str, Any]
_EVENT_ROLES = {
    **{f"gen_ai.{role}.message": role for role in ("system", "user", "assistant", "tool")},
    "gen_ai.choice": "assistant",
}


class Spoken:
    """What a chat span says: prompt, answers, system prompt, tool definitions."""

    def __init__(self, span: Span) -> None:
        found = dict(span.attributes)
        for _, more in span.events:  # where instrumentations put what is long
            found |= {k: v for k, v in more.items() if k.startswith("gen_ai.") and k not in found}
        self.prompt = messages(found.get("gen_ai.input.messages"))
        self.answers = messages(found.get("gen_ai.output.messages"))
        self.system = system(found.get("gen_ai.system_instructions"))
        self.tools = _tools(found.get("gen_ai.tool.definitions"))
        if not self.prompt and not self.answers:
            self._from_attributes(found)
        if not self.prompt and not self.answers:
            self._from_events(span)

    def _from_attributes(self, found: Row) -> None:
        for prefix in ("llm.input_messages", "gen_ai.prompt"):
            self.prompt += _flattened(nested(found, prefix))
        for prefix in ("llm.output_messages", "gen_ai.completion"):
            self.answers += _flattened(nested(found, prefix), role="assistant")
        listed = nested(found, "llm.tools")
        if self.tools is None and isinstance(listed, list):
            made = [value(one.get("tool", {}).get("json_schema")) for one in listed if one]
            self.tools = _tools([one for one in made if one])

    def _from_events(self, span: Span) -> None:
        for name, row in span.events:
            role = _EVENT_ROLES.get(name)
            if role is None:
                continue
            whole = row if name != "gen_ai.choice" else value(row.get("message")) or row
            message = _chat({"role": role, **whole})
            (self.answers if name == "gen_ai.choice" else self.prompt).append(message)


def messages(found: Any) -> list[Message]:
    """A list of messages with parts, or as chat completions have them."""
    rows = value(found)
    if isinstance(rows, dict):
        rows = [rows]
    if not isinstance(rows, list):
        return []
    made: list[Message] = []
    for row in rows:
        if isinstance(row, dict):
            made += parts(row) if isinstance(row.get("parts"), list) else [_chat(row)]
    return made


def parts(row: Row) -> list[Message]:
    """A message with parts: one for each result, and one for all the rest."""
    role = _role(row)
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    images: list[Attachment] = []
    made: list[Message] = []
    for part in row["parts"]:
        if not isinstance(part, dict):
            continue
        match part.get("type"):
            case "text":
                texts.append(text(part.get("content")) or "")
            case "reasoning" | "thinking":
                thoughts.append(text(part.get("content")) or "")
            case "tool_call":
                calls.append(_call(part, part.get("arguments"), part.get("text")))
            case "tool_call_response":
                said = part.get("response", part.get("result", part.get("content")))
                made.append(_result(part.get("id"), said, _text(row.get("name"))))
            case None:
                continue
            case _:
                images.append(_attachment(part))
    if made and images and not (texts or thoughts or calls):
        made[-1] = replace(made[-1], attachments=tuple(images))
    elif texts or thoughts or calls or images or not made:
        name = _text(row.get("name"))
        content = "\n".join(texts) if texts else None
        reasoning = "\n".join(thoughts) if thoughts else None
        made.append(
            Message(role, content, reasoning, tuple(calls), name=name, attachments=tuple(images))
        )
    return made


def system(found: Any) -> str | None:
    """A system prompt: a text, or parts of one."""
    rows = value(found)
    if isinstance(rows, list):
        said = [text(row.get("content")) for row in rows if isinstance(row, dict)]
        return "\n".join(one for one in said if one is not None) or None
    return found if isinstance(found, str) and found else None


def text(found: Any) -> str | None:
    """A text; what is structured as JSON."""
    if found is None or isinstance(found, str):
        return found
    return orjson.dumps(found, default=str).decode()


def nested(found: Row, prefix: str) -> Any:
    """What attributes with dotted names under a prefix say, as lists and objects."""
    tree: dict[str, Any] = {}
    start = prefix + "."
    for name, one in found.items():
        if not name.startswith(start):
            continue
        at = tree
        *above, last = name[len(start) :].split(".")
        for step in above:
            below = at.setdefault(step, {})
            if not isinstance(below, dict):
                break
            at = below
        else:
            at[last] = one
    return _listed(tree)


def _listed(tree: Any) -> Any:
    if not isinstance(tree, dict):
        return tree
    if tree and all(key.isdecimal() for key in tree):
        return [_listed(tree[key]) for key in sorted(tree, key=int)]
    return {key: _listed(one) for key, one in tree.items()}


def _flattened(rows: Any, role: str | None = None) -> list[Message]:
    found = []
    for row in rows if isinstance(rows, list) else ():
        if isinstance(row, dict):
            one = row.get("message", row)
            if isinstance(one, dict):
                found.append(_chat({"role": role, **one} if role else one))
    return found


def _chat(row: Row) -> Message:
    """A message as chat completions have it, or OpenInference's spelling of that."""
    role = _role(row)
    content = row.get("content")
    contents = row.get("contents")
    if content is None and isinstance(contents, list):
        content = [one.get("message_content", one) for one in contents if isinstance(one, dict)]
    if isinstance(content, list):
        pieces = [one.get("text") for one in content if isinstance(one, dict)]
        content = "\n".join(one for one in pieces if isinstance(one, str)) or None
    if role == "tool":
        name = row.get("name") or row.get("tool_call_name")
        call = row.get("tool_call_id") or row.get("id")
        return _result(call, content, _text(name))
    asked = row.get("tool_calls")
    calls = []
    for one in asked if isinstance(asked, list) else ():
        call = one.get("tool_call", one) if isinstance(one, dict) else {}
        function = call.get("function", call)
        if isinstance(function, dict):
            calls.append(_call({**function, "id": call.get("id")}, function.get("arguments")))
    said = text(content)
    reasoning = _text(row.get("reasoning_content"))
    return Message(role, said or (None if calls else said), reasoning, tuple(calls))


def _call(part: Row, arguments: Any, verbatim: Any = None) -> ToolCall:
    """A call; `verbatim` is the text of its arguments where the object does not give it back."""
    said = verbatim if isinstance(verbatim, str) else text(arguments)
    return ToolCall(_text(part.get("id")) or "", _text(part.get("name")) or "", said or "{}")


def _result(call: Any, said: Any, name: str | None) -> Message:
    return Message("tool", text(said), tool_call_id=_text(call), name=name)


def _attachment(part: Row) -> Attachment:
    size = part.get("bytes")
    return Attachment(
        _text(part.get("media_type") or part.get("mime_type")),
        _text(part.get("sha256")),
        size if isinstance(size, int) else None,
    )


def _role(row: Row) -> str:
    role = _text(row.get("role")) or "user"
    return {"developer": "system", "model": "assistant", "function": "tool"}.get(role, role)


def _text(found: Any) -> str | None:
    return found if isinstance(found, str) and found else None


def _tools(found: Any) -> str | None:
    rows = value(found)
    return orjson.dumps(rows).decode() if isinstance(rows, list) and rows else None
