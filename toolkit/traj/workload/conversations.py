"""Cuts runs into conversations that only grow, and says what starts and joins what, and when.

Made for harnesses in which a conversation's turns may start other conversations and wait for them,
but only for those that the same conversation started; and in which conversations can be put into
rounds, each begun when the one before has ended.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traj.workload.schedule import Run, Schedule

Extends = Callable[[int, int], bool]  # turn before, turn
Group = list[list["Run"]]  # rounds, one after the other, of runs beside each other


@dataclass(slots=True)
class Conversation:
    """Turns of a run, each prompt beginning with the one before.

    `spawns`: by index of the turn after whose completion runs start, then by index of the turn
    that waits for them. `followers`: what starts when the conversation has ended, and must have
    ended before the run's next one starts. `beside`: what starts when the conversation has ended,
    beside the followers and the rest of the run.
    """

    turns: list[int]
    spawns: dict[int, dict[int, list[Run]]] = field(default_factory=dict)
    followers: list[Group] = field(default_factory=list)
    beside: list[Run] = field(default_factory=list)


class Conversations:
    """The conversations of a trajectory's runs."""

    def __init__(self, schedule: Schedule, extends: Extends) -> None:
        self.lost_waits = 0
        self.longer_waits = 0
        self.added_waits = 0
        self.moved_delays = 0
        self._schedule = schedule
        self._extends = extends
        self._moved: defaultdict[int, int] = defaultdict(int)
        self._awaited = {id(run) for run in schedule.runs if run.joined_at is not None}
        self._awaited |= {id(one) for run in schedule.runs for one in run.after}
        self._of = {id(run): self._cut(run) for run in schedule.runs}
        for run in schedule.runs:  # owners first: a delay may move on and on
            self._move_delays(run)

    def of(self, run: Run) -> list[Conversation]:
        return self._of[id(run)]

    def delay_us(self, turn: int) -> int:
        """How long to wait before a request, other requests' share of the waiting included."""
        return self._schedule.delay_us(turn) + self._moved[turn]

    def groups(self, runs: Sequence[Run]) -> list[Group]:
        """Runs that depend on each other, together, in rounds: each after those it must follow."""
        found: list[list[Run]] = []
        for run in runs:
            related = [group for group in found if any(one in group for one in run.after)]
            found = [group for group in found if group not in related]
            found.append([*(one for group in related for one in group), run])
        return [self._rounds(group) for group in found]

    def _rounds(self, runs: list[Run]) -> Group:
        rounds: list[list[Run]] = []
        number: dict[int, int] = {}
        for run in runs:
            number[id(run)] = max((number.get(id(one), -1) for one in run.after), default=-1) + 1
            if number[id(run)] == len(rounds):
                rounds.append([])
            rounds[number[id(run)]].append(run)
        for before, after in pairwise(rounds):
            self.longer_waits += sum(any(one not in run.after for one in before) for run in after)
        return rounds

    def _cut(self, run: Run) -> list[Conversation]:
        pieces = self._split(run.turns, set())
        places = _places(pieces)
        cuts = set()
        for child in run.children:
            assert child.spawned_at is not None  # only what the root owns starts from nothing
            at, index = places[child.spawned_at]
            joined = None if child.joined_at is None else places[child.joined_at][0]
            if joined != at and self._later(pieces[at], index, child) is None:
                cuts.add(child.spawned_at)
        parts = [Conversation(turns) for turns in self._split(run.turns, cuts)]
        places = _places([part.turns for part in parts])
        staged: defaultdict[int, list[Run]] = defaultdict(list)
        for child in run.children:
            at, index = places[child.spawned_at or 0]
            join = None if child.joined_at is None else places[child.joined_at]
            if index == len(parts[at].turns) - 1 and join == (at + 1, 0):
                staged[at].append(child)
                continue
            self.lost_waits += bool(child.after)
            if join is None or join[0] != at:
                self._let_go(run, parts[at], index, child)
            else:
                parts[at].spawns.setdefault(index, {}).setdefault(join[1], []).append(child)
        for at, runs in staged.items():
            parts[at].followers = self.groups(runs)
        return parts

    def _let_go(self, run: Run, part: Conversation, index: int, child: Run) -> None:
        """Places a run that no turn of the same conversation waits for."""
        self.lost_waits += child.joined_at is not None
        if index == len(part.turns) - 1:
            part.beside.append(child)
            self.longer_waits += id(run) in self._awaited
            return
        self.added_waits += 1
        join = self._later(part.turns, index, child) or index + 1
        part.spawns.setdefault(index, {}).setdefault(join, []).append(child)

    def _split(self, turns: list[int], cuts: set[int]) -> list[list[int]]:
        """Turns in pieces that grow, ended after the cuts too."""
        pieces: list[list[int]] = []
        for turn in turns:
            before = pieces[-1][-1] if pieces else None
            if before is None or before in cuts or not self._extends(before, turn):
                pieces.append([])
            pieces[-1].append(turn)
        return pieces

    def _later(self, turns: list[int], index: int, child: Run) -> int | None:
        """Index of a turn that can wait for a run which nobody waited for without being held up:
        in the record the run had ended before the turn before it. None where there is none.
        """
        end = self._schedule.end_us(child)
        ends = self._schedule.turns["end_us"]
        for later in range(index + 2, len(turns)):
            before = ends[turns[later - 1]]
            if end is not None and before is not None and end <= before:
                return later
        return None

    def _move_delays(self, run: Run) -> None:
        """Where a turn must wait for runs, its delay goes before their last requests."""
        ends = self._schedule.turns["end_us"]
        for part in self.of(run):
            for spawns in part.spawns.values():
                for join, children in spawns.items():
                    turn, before = part.turns[join], part.turns[join - 1]
                    late = [child for child in children if _ends_after(ends, child, before)]
                    if late and self.delay_us(turn):
                        self.moved_delays += 1
                    for child in late:
                        self._moved[child.turns[-1]] += self.delay_us(turn)


def _ends_after(ends: list[int | None], run: Run, turn: int) -> bool:
    end, other = ends[run.turns[-1]], ends[turn]
    return end is not None and other is not None and end > other


def _places(pieces: list[list[int]]) -> dict[int, tuple[int, int]]:
    """Of each turn: its piece, and its index there."""
    return {turn: (at, i) for at, turns in enumerate(pieces) for i, turn in enumerate(turns)}
