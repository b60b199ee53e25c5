"""Prompts as one text each, for completions: the texts of the messages, a blank line behind each.

Leading system messages come first, then tool definitions as JSON, then the other messages with
their reasoning, content and calls. A prefix stands in the first system message, so nothing is in
front of it. Prompts that go on from each other begin with each other's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traj.workload.play import Play
    from traj.workload.prompts import Spoken

BLANK = "\n\n"


class FlatPrompts:
    """The prompts of one play, to be asked for in order: of each lane the last one is kept.

    `messages` counts those in all prompts so far, `with_tools` the prompts with definitions.
    """

    def __init__(self, play: Play) -> None:
        assert play.prompts is not None
        self.messages = 0
        self.with_tools = 0
        self._turns = play.turns
        self._prompts = play.prompts
        self._last: dict[int, tuple[int, str, int]] = {}  # by lane: turn, text, messages

    def text(self, turn: int) -> str:
        lane, prompts = self._turns["lane"][turn], self._prompts
        tools = prompts.tools(turn)
        before, text, messages = self._last.get(lane, (None, "", 0))
        if before is not None and prompts.tools(before) is tools and prompts.extends(before, turn):
            spoken = prompts.added(before, turn)
            text += self._texts(spoken)
        else:
            spoken, messages = prompts.whole(turn), 0
            front = self._front(spoken)
            text = self._texts(spoken[:front]) + _definitions(tools) + self._texts(spoken[front:])
        messages += len(spoken)
        self._last[lane] = turn, text, messages
        self.messages += messages
        self.with_tools += bool(tools)
        return text

    def _front(self, spoken: Sequence[Spoken]) -> int:
        """How many system messages lead a prompt."""
        roles = (self._prompts.message(one)["role"] for one in spoken)
        return next((number for number, role in enumerate(roles) if role != "system"), len(spoken))

    def _texts(self, spoken: Sequence[Spoken]) -> str:
        return "".join(_text(self._prompts.message(one)) for one in spoken)


def _text(message: dict[str, Any]) -> str:
    texts = [message.get("reasoning_content"), message.get("content")]
    functions = (call["function"] for call in message.get("tool_calls") or ())
    texts += [f"{function['name']} {function['arguments']}" for function in functions]
    return "".join(text + BLANK for text in texts if text)


def _definitions(tools: list[dict[str, Any]] | None) -> str:
    return orjson.dumps(tools).decode() + BLANK if tools else ""
