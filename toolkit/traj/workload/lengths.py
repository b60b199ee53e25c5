"""How long each request of a trajectory is when it is sent, and what it is filled up with.

A record may lack part of a prompt (the provider counted more): a system prompt that was not logged,
reasoning in encrypted form, another tokenizer's finer cuts. Under lengths `recorded` a prompt is
filled up to its length:

- in front of everything with as much as all contexts of that kind of lane lack: what is missing
  from every one of them is the agent's own instructions. One version of an agent has one text.
- behind the newest user or tool message with what the prompt still lacks. A fill belongs to its
  message: whatever repeats the message repeats the fill, so prompts share what they shared.

Text that is longer than the prompt was is sent as it is (`overlong`); a prompt that lacks something
and has no new user or tool message goes without (`unfilled`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.workload.turns import Columns, Ranges, added

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

Kind = tuple[str, str]  # of lane, and the agent's own name for it
_SAME = ("system_id", "tools_id", "earlier_reasoning")


class Lengths:
    """Lengths of one trajectory's requests in tokens; lists are by turn.

    `text`: of what the record holds. `input`: as sent, prefixes aside. `output`: of the answer.
    `unfilled`, `overlong`: turns. `fills`: by message, what is put behind it. `fronts`: by kind of
    lane, what is put before all.
    """

    def __init__(
        self,
        turns: Columns,
        messages: Columns,
        prompt_tokens: dict[str, int],
        *,
        filled: bool,
        text: bool = True,
        recounted: bool = False,
    ) -> None:
        """`filled`: requests are as long as recorded; without `text` nothing has to fill them.
        `recounted`: the messages' and prompts' tokens are another tokenizer's than the turns'.
        """
        self.fills: dict[int, int] = {}
        self.fronts: dict[Kind, int] = {}
        self.unfilled: set[int] = set()
        self.overlong: set[int] = set()
        self._turns, self._messages, self._prompt_tokens = turns, messages, prompt_tokens
        self._lane_kinds = {
            lane: (kind, name or "")
            for lane, kind, name in zip(
                turns["lane"], turns["lane_kind"], turns["lane_name"], strict=True
            )
        }
        count = len(turns["lane"])
        self.before: list[int | None] = [None] * count  # the turn whose prompt this one extends
        self._added: list[Ranges] = [turns.ranges(turn) for turn in range(count)]
        self._link()
        self.text = self._counted(recounted=recounted)
        self.output = self._outputs(recounted=recounted)
        self.input = list(self.text)
        if filled and text:
            self._fill()
        elif filled:
            for turn, tokens in enumerate(self.text):
                lacking = self._lacking(turn)
                self.input[turn] = tokens if lacking is None else max(1, tokens + lacking)

    def kind(self, turn: int) -> Kind:
        """The kind of lane whose front the prompt has: of the lane that its first message comes
        from, since a lane that repeats another's messages repeats what lay before them.
        """
        ranges = self._turns.ranges(turn)
        lane = self._messages["lane"][ranges[0][0]] if ranges else None
        return self._lane_kinds.get(lane) or self._lane_kinds[self._turns["lane"][turn]]

    def has_user(self, turn: int) -> bool:
        """Whether a user speaks in the prompt."""
        roles = self._messages["role"]
        return any(roles[number] == "user" for number in _numbers(self._turns.ranges(turn)))

    def _link(self) -> None:
        """Finds which prompts extend the one before them in their lane."""
        turns = self._turns
        last: dict[int, int] = {}
        for turn, lane in enumerate(turns["lane"]):
            if turns["output"][turn] is None:
                continue
            before = last.get(lane)
            last[lane] = turn
            if before is None or any(turns[name][before] != turns[name][turn] for name in _SAME):
                continue
            more = added(turns.ranges(before), self._added[turn])
            if more is not None:
                self.before[turn], self._added[turn] = before, more

    def _counted(self, *, recounted: bool) -> list[int]:
        if not recounted:
            return [tokens or 0 for tokens in self._turns["counted_input_tokens"]]
        found: list[int] = []
        for turn, before in enumerate(self.before):
            start = self._front_tokens(turn) if before is None else found[before]
            kept = self._turns["earlier_reasoning"][turn] == "kept"
            found.append(start + sum(self._spoken(self._added[turn], kept=kept)))
        return found

    def _front_tokens(self, turn: int) -> int:
        ids = (self._turns[name][turn] for name in ("system_id", "tools_id"))
        return sum(self._prompt_tokens.get(one, 0) for one in ids if one is not None)

    def _spoken(self, ranges: Ranges, *, kept: bool) -> Iterator[int]:
        tokens, thought = self._messages["tokens"], self._messages["reasoning_tokens"]
        for number in _numbers(ranges):
            yield tokens[number] - (0 if kept else thought[number])

    def _outputs(self, *, recounted: bool) -> list[int]:
        turns = self._turns
        found = [turns.output_tokens(turn) for turn in range(len(turns["lane"]))]
        if recounted:
            for turn, output in enumerate(turns["output"]):
                counted = turns["counted_output_tokens"][turn]
                if output is not None and counted is not None:
                    change = self._messages["tokens"][output] - counted
                    found[turn] = max(1, found[turn] + change)
        return found

    def _lacking(self, turn: int) -> int | None:
        """What the provider counted beyond the record's text; None where it is not known."""
        reported = self._turns["input_tokens"][turn]
        counted = self._turns["counted_input_tokens"][turn]
        return None if reported is None or counted is None else reported - counted

    def _fill(self) -> None:
        turns = self._turns
        sent = [turn for turn, output in enumerate(turns["output"]) if output is not None]
        for turn in sent:
            if self.before[turn] is None:
                kind, front = self.kind(turn), max(0, self._lacking(turn) or 0)
                self.fronts[kind] = min(self.fronts.get(kind, front), front)
        roles: Sequence[str] = self._messages["role"]
        known = bytearray(len(roles))  # messages that stood in a prompt
        fill = [0] * len(self.input)
        for turn in sent:
            before = self.before[turn]
            fill[turn] = self.fronts[self.kind(turn)] if before is None else fill[before]
            newest: int | None = None
            for number in _numbers(self._added[turn]):
                fill[turn] += self.fills.get(number, 0)
                if not known[number] and roles[number] in ("user", "tool"):
                    newest = number
                known[number] = 1
            lacking = self._lacking(turn)
            missing = 0 if lacking is None else lacking - fill[turn]
            if missing > 0 and newest is not None:
                self.fills[newest] = missing
                fill[turn] += missing
            elif missing > 0:
                self.unfilled.add(turn)
            elif missing < 0:
                self.overlong.add(turn)
            self.input[turn] += fill[turn]


def _numbers(ranges: Ranges) -> Iterator[int]:
    for start, stop in ranges:
        yield from range(start, stop)
