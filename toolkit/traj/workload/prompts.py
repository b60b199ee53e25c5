"""The text of one play's requests: recorded messages, with prefixes and fills in their places.

A prompt is a list of `Spoken`: which message, in which of its forms. Equal ones have equal JSON,
made once, so requests that repeat a message repeat its bytes, and a file costs what it is long.
Prefix, front fill and system prompt make one system message; where a prompt has no system prompt
but begins with a system message, they stand in that one.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson

from traj.workload.turns import Ranges, added

if TYPE_CHECKING:
    from collections.abc import Callable

    from traj.workload.chat import Fronts, Messages
    from traj.workload.lengths import Kind, Lengths
    from traj.workload.prefixes import Prefixes
    from traj.workload.turns import Columns
    from traj.workload.words import Words

# Numbers of messages that the record does not have as such.
FRONT, NOTHING = -1, -2


class Spoken(NamedTuple):
    """A message of a prompt: its number, and what makes its form."""

    number: int
    reasoning: bool = True
    as_user: bool = False  # a system message in the user's name
    front: tuple[bytes | None, Kind | None, str | None] | None = None  # prefix, fill, system prompt


class Prompts:
    """The prompts of one play; `late_systems` counts system messages that go in the user's name."""

    def __init__(
        self,
        turns: Columns,
        messages: Messages,
        fronts: Fronts,
        lengths: Lengths,
        prefixes: Prefixes,
        words: Callable[[], Words],
        agent: str,
    ) -> None:
        self.late_systems = 0
        self._turns, self._messages, self._fronts = turns, messages, fronts
        self._lengths, self._prefixes, self._words, self._agent = lengths, prefixes, words, agent
        self._made: dict[Spoken, dict[str, Any]] = {}
        self._json: dict[Spoken, orjson.Fragment] = {}

    def tools(self, turn: int) -> list[dict[str, Any]] | None:
        """The turn's tool definitions; the same object for the same definitions."""
        return self._fronts.tools.get(self._turns["tools_id"][turn])

    def extends(self, before: int, turn: int) -> bool:
        """Whether a turn's prompt is that of the turn before and something more."""
        ranges = self._turns.ranges(before)
        if not ranges or not added(ranges, self._turns.ranges(turn)):
            return False
        if self.tools(before) and not self.tools(turn):
            return False
        same = ("system_id", "earlier_reasoning")
        if any(self._turns[name][turn] != self._turns[name][before] for name in same):
            return False
        if self._prefixes.user() and not self._lengths.has_user(before):
            return False  # the prefix will stand in the first user message, which is new
        return self._front(before) == self._front(turn)

    def whole(self, turn: int) -> list[Spoken]:
        """All of a turn's prompt."""
        ranges = self._turns.ranges(turn)
        prefix, kind, system = self._front(turn)
        reasoning = self._reasoning(turn)
        numbers = [number for start, stop in ranges for number in range(start, stop)]
        found: list[Spoken] = []
        if system is not None or ((prefix or kind) and not self._begins_with_system(numbers)):
            found.append(Spoken(FRONT, front=(prefix, kind, system)))
        elif prefix or kind:
            found.append(Spoken(numbers.pop(0), reasoning, front=(prefix, kind, None)))
        leading, user = True, self._prefixes.user()
        for number in numbers:
            is_system = self._messages.is_system(number)
            leading = leading and is_system
            late = is_system and not leading
            self.late_systems += late
            front = None
            if user and self._messages.role(number) == "user":
                front, user = (user, None, None), None
            found.append(Spoken(number, reasoning, late, front))
        return found or [Spoken(NOTHING)]

    def is_empty(self, turn: int) -> bool:
        """Whether the record holds nothing of the turn's prompt."""
        return not self._turns.ranges(turn) and not any(self._front(turn))

    def added(self, before: int, turn: int) -> list[Spoken]:
        """What a turn's prompt has beyond one that it extends."""
        more: Ranges = added(self._turns.ranges(before), self._turns.ranges(turn)) or []
        reasoning = self._reasoning(turn)
        found: list[Spoken] = []
        for start, stop in more:
            for number in range(start, stop):
                late = self._messages.is_system(number)
                self.late_systems += late
                found.append(Spoken(number, reasoning, late))
        return found

    def message(self, spoken: Spoken) -> dict[str, Any]:
        """The message as a chat-completions request holds it."""
        found = self._made.get(spoken)
        if found is None:
            found = self._made[spoken] = self._message(spoken)
        return found

    def json(self, spoken: Spoken) -> orjson.Fragment:
        """The same as JSON, to be put into a larger one."""
        found = self._json.get(spoken)
        if found is None:
            found = self._json[spoken] = orjson.Fragment(orjson.dumps(self._message(spoken)))
        return found

    def lost_tools(self, tools_id: str | None) -> int:
        """How many of the definitions have no chat form."""
        return self._fronts.lost_tools.get(tools_id or "", 0)

    def _message(self, spoken: Spoken) -> dict[str, Any]:
        if spoken.number == FRONT:
            assert spoken.front is not None
            return {"role": "system", "content": self._text_in_front(*spoken.front)}
        if spoken.number == NOTHING:
            return {"role": "user", "content": ""}
        message = self._messages.message(
            spoken.number, reasoning=spoken.reasoning, as_user=spoken.as_user
        )
        fill = self._lengths.fills.get(spoken.number)
        if fill:
            text = message.get("content") or ""
            key = self._messages.sha256(spoken.number).encode()
            message["content"] = text + self._words().text(fill, key, before=text)
        if spoken.front is not None:
            prefix, kind, _ = spoken.front
            message["content"] = self._text_in_front(prefix, kind, message.get("content") or "")
        return message

    def _text_in_front(self, prefix: bytes | None, kind: Kind | None, text: str | None) -> str:
        text = text or ""
        if kind is not None:
            key = "\0".join((self._agent, *kind)).encode()
            digest = hashlib.blake2b(key, digest_size=16, person=b"traj front").digest()
            text = self._words().text(self._lengths.fronts[kind], digest, after=text) + text
        if prefix is not None:
            text = self._words().text(self._prefixes.tokens(), prefix, after=text) + text
        return text

    def _front(self, turn: int) -> tuple[bytes | None, Kind | None, str | None]:
        """What stands before a prompt's messages: prefix's key, kind of fill, system prompt."""
        turns = self._turns
        kind = self._lengths.kind(turn)
        prefix = self._prefixes.front(turns["lane"][turn], turns["context"][turn])
        system = self._fronts.systems.get(turns["system_id"][turn])
        return prefix, kind if self._lengths.fronts.get(kind) else None, system

    def _begins_with_system(self, numbers: list[int]) -> bool:
        return bool(numbers) and self._messages.is_system(numbers[0])

    def _reasoning(self, turn: int) -> bool:
        return bool(self._turns["earlier_reasoning"][turn] == "kept")
