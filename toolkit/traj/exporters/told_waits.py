"""Times and marks from which inference-perf infers exactly what a play's requests wait for.

inference-perf takes for a request's predecessors the last request, by start, that had ended when
it started, and all whose answer stands in its prompt, told by the ids of its tool calls. The time
that it waits is that from their latest end to its start.

So requests are laid out as a queue is worked off: one ends after the other, in the order of their
starts; with each end starts what now waits for nothing else, after its delay; the next ends later
than all these starts. What had ended is then always a beginning of the queue, and the last of it
what the new requests waited for. Where they waited for others too, those get as answer a call that
stands in the waiting prompt.
"""

from __future__ import annotations

from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING

from traj.workload.waits import Waits

if TYPE_CHECKING:
    from traj.workload.play import Play


class ToldWaits:
    """Of one play, by turn: `start_ms` and `end_ms` in a time of its own, and in `marks` the id of
    the tool call that stands for the answer. `lost` counts waits for which there is no such call.
    """

    def __init__(self, play: Play) -> None:
        self.start_ms: dict[int, int] = {}  # in order
        self.end_ms: dict[int, int] = {}
        self.marks: dict[int, str] = {}
        self.lost = 0
        self._play = play
        self._waits = Waits(play)
        for wait, turns in self._lay_out().items():
            mark = self._mark(wait, turns)
            if mark is None:
                self.lost += len(turns)
            else:
                self.marks[wait] = mark

    def delay_ms(self, turn: int) -> int:
        """What a request waits after the last end: rounded up; 0 where it waits for nothing."""
        return -(-self._play.delay_us(turn) // 1000) if self._waits.direct[turn] else 0

    def first_delays(self) -> int:
        """How many requests that wait for nothing come later than the first one."""
        delays = [
            self._play.delay_us(turn) for turn, parents in self._waits.direct.items() if not parents
        ]
        return sum(delay > min(delays) for delay in delays)

    def _lay_out(self) -> dict[int, list[int]]:
        """Sets the times; gives, by turn, those that wait for it and for a later one too."""
        direct = self._waits.direct
        followers: dict[int, list[int]] = {}
        for turn, parents in direct.items():
            for wait in parents:
                followers.setdefault(wait, []).append(turn)
        queue = deque(turn for turn, parents in direct.items() if not parents)
        self.start_ms = dict.fromkeys(queue, 0)
        unseen: dict[int, list[int]] = {}
        latest = 0
        while queue:
            ended = queue.popleft()
            self.end_ms[ended] = now = latest = latest + 1
            ready = [
                turn
                for turn in followers.get(ended, ())
                if all(wait in self.end_ms for wait in direct[turn])
            ]
            for turn in sorted(ready, key=lambda turn: (self.delay_ms(turn), turn)):
                self.start_ms[turn] = latest = now + self.delay_ms(turn)
                queue.append(turn)
                for wait in direct[turn]:
                    if wait != ended:
                        unseen.setdefault(wait, []).append(turn)
        return unseen

    def _mark(self, wait: int, turns: list[int]) -> str | None:
        """A call that stands in the prompts of these turns, and in that of no turn which starts
        after `wait` does and need not wait for it.
        """
        order = list(self.start_ms)
        free = {
            turn for turn in order[order.index(wait) + 1 :] if not self._waits.follows(turn, wait)
        }
        for start, stop in reversed(self._play.turns.ranges(turns[0])):
            for number in reversed(range(start, stop)):
                for call in self._play.messages["tool_calls"][number] or ():
                    holders = self._holders(call["id"])
                    if holders.issuperset(turns) and holders.isdisjoint(free):
                        return str(call["id"])
        return None

    def _holders(self, call_id: str) -> set[int]:
        """The turns in whose prompts a call stands."""
        return {
            turn
            for turn in self._play.sent
            for start, stop in self._play.turns.ranges(turn)
            if any(start <= number < stop for number in self._numbers[call_id])
        }

    @cached_property
    def _numbers(self) -> dict[str, list[int]]:
        """The messages that hold a call, by its id."""
        found: dict[str, list[int]] = {}
        for number, calls in enumerate(self._play.messages["tool_calls"]):
            for call in calls or ():
                found.setdefault(call["id"], []).append(number)
        return found
