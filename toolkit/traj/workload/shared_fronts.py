"""Which earlier prompt each prompt of a trajectory without text begins with, and for how long.

There are lengths alone: of each prompt, and of the part that was cached. A prompt is `cached`
tokens of an earlier prompt's front and then text of its own, so what any two share follows from
whom each goes on from:

- Where the record says which messages a prompt has (`input`, in a view whose text was taken away),
  one that goes on from the one before it in its lane has all of that. Any other has what an ideal
  cache held of it, and what the record lacks of all prompts of that kind of lane.
- Else one that is cached as far as the one before it reaches, but for less than a block, has all of
  that; so too where the cache held some of the answer between them. Any other begins like the
  latest prompt that is long enough: of its lane, its kind of lane, of any.
- Where nobody told the cached part, a longer prompt than the one before it in its context goes on
  from that, and any other is new (`guessed`).
"""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from traj.workload.turns import added

if TYPE_CHECKING:
    from collections.abc import Hashable, Sequence

    from traj.workload.turns import Columns

COLUMNS = (
    *("lane", "lane_kind", "lane_name", "context", "input", "system_id", "tools_id"),
    *("earlier_reasoning", "input_tokens", "output_tokens", "usage_source", "cached_tokens"),
    *("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"),
)
_SAME = ("system_id", "tools_id", "earlier_reasoning")
_BLOCK = 64  # of published traces: less than one is not seen to be shared
_PROVIDER_BLOCK = 128  # the coarsest steps in which providers tell cached tokens


@dataclass(slots=True)
class SharedFronts:
    """By turn, of the answered ones: the prompt's tokens, the turn whose prompt it begins with, and
    how many tokens of that. `guessed`, `unmeasured`: turns without a cached part, without a length.
    """

    tokens: dict[int, int] = field(default_factory=dict)
    before: dict[int, int | None] = field(default_factory=dict)
    shared: dict[int, int] = field(default_factory=dict)
    guessed: set[int] = field(default_factory=set)
    unmeasured: set[int] = field(default_factory=set)


class _Latest:
    """The latest prompt that is at least so long: those that a later, longer one hides are gone."""

    def __init__(self) -> None:
        self._turns: list[int] = []
        self._lengths: list[int] = []  # negative, so that they ascend

    def add(self, turn: int, tokens: int) -> None:
        while self._lengths and -self._lengths[-1] <= tokens:
            self._turns.pop()
            self._lengths.pop()
        self._turns.append(turn)
        self._lengths.append(-tokens)

    def find(self, tokens: int) -> int | None:
        """None where all are shorter."""
        at = bisect_left(self._lengths, -tokens + 1)
        return self._turns[at - 1] if at else None

    def longest(self) -> int | None:
        return self._turns[0] if self._turns else None


def shared_fronts(turns: Columns, answered: Sequence[int]) -> SharedFronts:
    """Goes through the answered turns in their order; linear but for a search by bisection."""
    plan = _Plan(turns)
    for turn in answered:
        plan.add(turn)
    return plan.found


class _Plan:
    def __init__(self, turns: Columns) -> None:
        self.found = SharedFronts()
        self._turns = turns
        self._last: dict[int, int] = {}  # by lane
        self._latest: dict[Hashable, _Latest] = {}  # by lane, kind of lane, and of all
        self._fronts: dict[Hashable, int] = {}  # by kind of lane: what all its prompts lack

    def add(self, turn: int) -> None:
        lane, found = self._turns["lane"][turn], self.found
        last = self._last.get(lane)
        tokens = self._tokens(turn, last)
        before, shared = self._shared(turn, last, tokens)
        found.tokens[turn], found.before[turn] = tokens, before
        found.shared[turn] = min(shared, tokens)
        self._last[lane] = turn
        for key in self._keys(turn):
            self._latest.setdefault(key, _Latest()).add(turn, tokens)

    def _keys(self, turn: int) -> tuple[Hashable, ...]:
        turns = self._turns
        kind = (turns["lane_kind"][turn], turns["lane_name"][turn] or "")
        return turns["lane"][turn], kind, None

    def _tokens(self, turn: int, last: int | None) -> int:
        names = ("input_tokens", "counted_input_tokens")
        known = (self._turns[name][turn] for name in names)
        tokens = next((tokens for tokens in known if tokens is not None), None)
        if tokens is None:
            self.found.unmeasured.add(turn)
            tokens = 1 if last is None else self.found.tokens[last]
        return max(1, int(tokens))

    def _shared(self, turn: int, last: int | None, tokens: int) -> tuple[int | None, int]:
        if self._turns["input"][turn]:
            return self._by_messages(turn, last, tokens)
        counted = self._turns["counted_cached_tokens"][turn]
        cached = self._turns["cached_tokens"][turn] if counted is None else counted
        if cached is None:
            return self._guess(turn, last, tokens)
        if last is not None and tokens > self.found.tokens[last]:
            reach = most = self.found.tokens[last]
            least = max(0, reach - (_PROVIDER_BLOCK if counted is None else _BLOCK))
            if counted is None:  # blocks of a trace hold prompts alone, a provider's cache more
                most += self._turns.output_tokens(last) + _PROVIDER_BLOCK
            if least < cached <= most:
                return last, reach
        return self._like(turn, cached)

    def _by_messages(self, turn: int, last: int | None, tokens: int) -> tuple[int | None, int]:
        turns, found = self._turns, self.found
        if last is not None and tokens >= found.tokens[last]:
            same = all(turns[name][last] == turns[name][turn] for name in _SAME)
            if same and added(turns.ranges(last), turns.ranges(turn)) is not None:
                return last, found.tokens[last]
        lacking = self._lacking(turn)
        kind = self._keys(turn)[1]
        front = min(lacking, self._fronts.get(kind, 0))
        self._fronts.setdefault(kind, lacking)
        return self._like(turn, (turns["counted_cached_tokens"][turn] or 0) + front)

    def _lacking(self, turn: int) -> int:
        reported = self._turns["input_tokens"][turn]
        counted = self._turns["counted_input_tokens"][turn]
        return 0 if None in (reported, counted) else max(0, reported - counted)

    def _guess(self, turn: int, last: int | None, tokens: int) -> tuple[int | None, int]:
        if last is None:
            return None, 0
        self.found.guessed.add(turn)
        context = self._turns["context"]
        goes_on = context[last] == context[turn] and tokens >= self.found.tokens[last]
        return (last, self.found.tokens[last]) if goes_on else (None, 0)

    def _like(self, turn: int, shared: int) -> tuple[int | None, int]:
        """The latest prompt that is as long as what is shared, else the longest one."""
        if not shared:
            return None, 0
        sets = [known for key in self._keys(turn) if (known := self._latest.get(key)) is not None]
        for known in sets:
            before = known.find(shared)
            if before is not None:
                return before, shared
        before = sets[-1].longest() if sets else None
        return before, 0 if before is None else min(shared, self.found.tokens[before])
