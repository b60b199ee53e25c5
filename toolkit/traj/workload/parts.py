"""What prompts are made of, part by part: names that are equal where the content is, and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.workload.turns import Columns, Ranges, added

if TYPE_CHECKING:
    from traj.workload.blocks import Part


class Parts:
    """The parts of one trajectory's prompts; `fronts` gives the tokens of prompts by id."""

    def __init__(self, turns: Columns, messages: Columns, fronts: dict[str, int]) -> None:
        self.unseen: dict[str, int] = {}  # by kind of lane
        self._turns = turns
        self._messages = messages
        self._fronts = fronts
        self._kinds = dict(zip(turns["lane"], turns["lane_kind"], strict=True))

    def all(self, turn: int) -> list[Part]:
        """A whole prompt: what the record lacks, tool definitions, system prompt, messages."""
        parts: list[Part] = []
        kind = self.kind(turn)
        # One length a kind of lane, so that what follows lies in the same place in all of them.
        lacking = max(0, self._turns["unseen_input_tokens"][turn] or 0)
        unseen = self.unseen.setdefault(kind, lacking)
        if unseen:
            parts.append((f"unseen {kind}", unseen))
        for name in ("tools_id", "system_id"):
            prompt_id = self._turns[name][turn]
            if prompt_id is not None:
                parts.append((prompt_id, self.front(turn, name)))
        return parts + self._spoken(turn, self._turns.ranges(turn))

    def added(self, before: int, turn: int) -> list[Part] | None:
        """What a prompt has beyond an earlier one; None where it does not begin with that."""
        same = ("tools_id", "system_id", "earlier_reasoning")
        if any(self._turns[name][before] != self._turns[name][turn] for name in same):
            return None
        more = added(self._turns.ranges(before), self._turns.ranges(turn))
        return None if more is None else self._spoken(turn, more)

    def kind(self, turn: int) -> str:
        """The kind of lane whose unseen front the prompt has: of the lane that its first message
        comes from, since a lane that repeats another's messages repeats what lay before them.
        """
        ranges = self._turns.ranges(turn)
        lane = self._messages["lane"][ranges[0][0]] if ranges else None
        return str(self._kinds.get(lane, self._turns["lane_kind"][turn]))

    def front(self, turn: int, name: str) -> int:
        """Tokens of the turn's tool definitions or system prompt."""
        return self._fronts.get(self._turns[name][turn], 0)

    def _spoken(self, turn: int, ranges: Ranges) -> list[Part]:
        kept = self._turns["earlier_reasoning"][turn] == "kept"
        columns = [self._messages[name] for name in ("sha256", "tokens", "reasoning_tokens")]
        found: list[Part] = []
        for start, stop in ranges:
            for number in range(start, stop):
                sha256, tokens, thought = (column[number] for column in columns)
                if kept or not thought:
                    found.append((sha256, tokens))
                else:
                    found.append((f"{sha256} without reasoning", tokens - thought))
        return found
