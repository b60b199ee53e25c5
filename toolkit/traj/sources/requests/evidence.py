"""Evidence of what requests have to do with each other: calls that start agents, summaries."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import orjson

from traj.events import Message

_ENOUGH = 24  # characters that are no chance
_RECENT = 8  # answers
_RECENT_CALLS = 64
_LOOKED_AT = 4  # messages of a prompt in which a task or a summary stands


class Asking:
    """The calls that were asked for: when, and what their arguments say."""

    def __init__(self) -> None:
        self._open: dict[str, int | None] = {}  # calls without a result: when they were asked for
        self._said: dict[str, list[str]] = {}  # what recent calls say that started no agent yet

    def ask(self, answer: Message, end_us: int | None) -> None:
        """Notes an answer's calls."""
        for call in answer.tool_calls:
            self._open[call.id] = end_us
            found = [text for text in _strings(call.arguments) if len(text) >= _ENOUGH]
            if found:
                self._said[call.id] = found
        while len(self._said) > _RECENT_CALLS:
            self._said.pop(next(iter(self._said)))

    def answer(self, call: str) -> int | None:
        """A call's result has come; gives when it was asked for, None where unknown."""
        return self._open.pop(call, None)

    def waits(self, call: str) -> bool:
        """Whether a call's result is still to come."""
        return call in self._open

    def started(self, messages: Sequence[Message]) -> str | None:
        """The call that says what the first message of a conversation says."""
        texts = [one.content for one in messages[:_LOOKED_AT] if one.role == "user" and one.content]
        for call, said in self._said.items():
            if any(one in text for one in said for text in texts):
                del self._said[call]
                return call
        return None


class Summaries:
    """The texts of recent answers, which a compacted prompt brings along."""

    def __init__(self) -> None:
        self._lines: list[str] = []

    def add(self, answer: Message) -> None:
        """Notes an answer's longest line."""
        line = max((answer.content or "").splitlines(), key=len, default="").strip()
        if len(line) >= _ENOUGH:
            self._lines = [*self._lines[-_RECENT + 1 :], line]

    def brought(self, messages: Sequence[Message]) -> bool:
        """Whether a message of another than the model holds such a text."""
        texts = [one.content for one in messages[:_LOOKED_AT] if one.role in ("user", "system")]
        return any(line in text for line in self._lines for text in texts if text)


def _strings(text: str) -> Iterator[str]:
    try:
        found: Any = orjson.loads(text)
    except ValueError:
        return
    waiting = [found]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value.strip()
        elif isinstance(value, dict):
            waiting += value.values()
        elif isinstance(value, list):
            waiting += value
