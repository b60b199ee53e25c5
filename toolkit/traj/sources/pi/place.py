"""What holds at an entry of Pi's tree: the context, and the prompt as it was patched so far."""

from __future__ import annotations

from typing import Any, NamedTuple

import msgspec
from msgspec import Raw

from traj.events import Session
from traj.sources.chains import Chain
from traj.sources.pi import wire
from traj.sources.pi.content import text_of


class Prompt:
    """The system prompt and tools at a place in the tree: system messages patch them in turn."""

    def __init__(
        self, texts: tuple[str, ...], sections: dict[str, str], tools: dict[str, wire.Tool]
    ) -> None:
        self._texts = texts
        self._sections = sections
        self._tools = tools
        self._declared: dict[str, str] = {}
        self.system = "\n\n".join([*texts, *(text for text in sections.values() if text)]) or None

    def patched(self, change: wire.Inner) -> Prompt:
        """The prompt with a system message's changes."""
        text = text_of(change.content)
        sections, tools = dict(self._sections), dict(self._tools)
        for name, section in (change.sections or {}).items():
            if section is None:
                sections.pop(name, None)
            else:
                sections[name] = section
        for tool in change.tools_removed or ():
            tools.pop(tool.name, None)
        for tool in change.tools_added or ():
            tools[tool.name] = tool
        return Prompt((*self._texts, text) if text else self._texts, sections, tools)

    def tools(self, api: str, session: Session) -> str | None:
        """The tools as a request to that API has them, JSON text."""
        if not self._tools:
            return None
        if api not in self._declared:
            listed = [_declaration(tool, api) for tool in self._tools.values()]
            self._declared[api] = wire.raw_text(Raw(msgspec.json.encode(listed)), session)
        return self._declared[api]


EMPTY = Prompt((), {}, {})


def _declaration(tool: wire.Tool, api: str) -> dict[str, Any]:
    schema = tool.parameters if bytes(tool.parameters) else Raw(b"{}")
    told: dict[str, Any] = {"name": tool.name, "description": tool.description}
    if api == "anthropic_messages":
        return {**told, "input_schema": schema}
    told["parameters"] = schema
    return {"type": "function", "function": told} if api == "openai_chat" else told


class Place(NamedTuple):
    """The conversation after an entry."""

    parent: Place | None
    number: int | None  # of the entry's own message, if a request would hold it
    context: Chain | None
    prompt: Prompt
    model: str | None = None
    effort: str | None = None


START = Place(None, None, None, EMPTY)
