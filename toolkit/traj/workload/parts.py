"""What prompts are made of, part by part: names that are equal where the content is, and tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.workload.turns import Ranges, added

if TYPE_CHECKING:
    from traj.workload.blocks import Part
    from traj.workload.play import Play

_SAME = ("tools_id", "system_id", "earlier_reasoning")


class Parts:
    """The parts of one play's prompts, prefixes included."""

    def __init__(self, play: Play) -> None:
        self.unseen: dict[str, int] = {}  # by kind of lane
        self._play = play
        self._turns = play.turns
        self._messages = play.messages
        self._kinds = dict(zip(play.turns["lane"], play.turns["lane_kind"], strict=True))

    def all(self, turn: int) -> list[Part]:
        """A whole prompt: prefix, what the record lacks, tools, system prompt, messages."""
        parts: list[Part] = []
        kind = self.kind(turn)
        if prefix := self._prefix(turn):
            parts.append((f"prefix {prefix.hex()}", self._play.prefixes.tokens()))
        if self._play.options.lengths == "recorded":
            # One length a kind of lane, so that what follows lies in the same place in all of them.
            lacking = max(0, self._turns["unseen_input_tokens"][turn] or 0)
            if unseen := self.unseen.setdefault(kind, lacking):
                parts.append((f"unseen {self._play.agent} {kind}", unseen))
        for name in ("tools_id", "system_id"):
            prompt_id = self._turns[name][turn]
            if prompt_id is not None:
                parts.append((prompt_id, self.front(turn, name)))
        return parts + self._spoken(turn, self._turns.ranges(turn), self._play.prefixes.user())

    def added(self, before: int, turn: int) -> list[Part] | None:
        """What a prompt has beyond an earlier one; None where it does not begin with that."""
        if any(self._turns[name][before] != self._turns[name][turn] for name in _SAME):
            return None
        if self._prefix(before) != self._prefix(turn):
            return None
        user = self._play.prefixes.user()
        if user and not self._play.lengths.has_user(before):
            return None
        more = added(self._turns.ranges(before), self._turns.ranges(turn))
        return None if more is None else self._spoken(turn, more, None)

    def kind(self, turn: int) -> str:
        """The kind of lane whose unseen front the prompt has: of the lane that its first message
        comes from, since a lane that repeats another's messages repeats what lay before them.
        """
        ranges = self._turns.ranges(turn)
        lane = self._messages["lane"][ranges[0][0]] if ranges else None
        return str(self._kinds.get(lane, self._turns["lane_kind"][turn]))

    def front(self, turn: int, name: str) -> int:
        """Tokens of the turn's tool definitions or system prompt."""
        return self._play.prompt_tokens.get(self._turns[name][turn], 0)

    def prefix_tokens(self, turn: int) -> int:
        """Tokens of what stands before everything else."""
        return self._play.prefixes.tokens() if self._prefix(turn) else 0

    def _prefix(self, turn: int) -> bytes | None:
        return self._play.prefixes.front(self._turns["lane"][turn], self._turns["context"][turn])

    def _spoken(self, turn: int, ranges: Ranges, user: bytes | None) -> list[Part]:
        kept = self._turns["earlier_reasoning"][turn] == "kept"
        names = ("role", "sha256", "tokens", "reasoning_tokens")
        columns = [self._messages[name] for name in names]
        found: list[Part] = []
        for start, stop in ranges:
            for number in range(start, stop):
                role, sha256, tokens, thought = (column[number] for column in columns)
                if user and role == "user":
                    found.append((f"prefix {user.hex()}", self._play.prefixes.tokens()))
                    user = None
                if kept or not thought:
                    found.append((sha256, tokens))
                else:
                    found.append((f"{sha256} without reasoning", tokens - thought))
        return found
