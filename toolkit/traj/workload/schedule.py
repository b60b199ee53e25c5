"""A trajectory's turns as runs that start, wait for and outlast each other.

`wait_for` is a graph over turns; harnesses know conversations that spawn others and join them. A
`Run` is what lies between: a stretch of one lane that one thing set off. It belongs to the run
that set it off (its owner), starts after a turn of it, and may be joined by a later turn of it. A
lane is one run, unless it is woken again from outside (a resumed sub-agent). Runs that nothing set
off belong to the root, which has no turns. A run ends when all that it set off has ended.

Only turns with an answer are sent; who waited for a failed one waits for what that one waited for.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from traj.workload.turns import Columns

ROOT = -1  # lane of the run that owns all others


@dataclass(slots=True, eq=False)
class Run:
    """A stretch of a lane; `number` counts the lane's runs, `turns` are turn numbers in order."""

    lane: int
    number: int
    owner: Run | None
    spawned_at: int | None  # turn of the owner; None where nothing came before (owner is the root)
    after: list[Run]  # other runs of the same owner that must have ended before this one starts
    turns: list[int] = field(default_factory=list)
    joined_at: int | None = None  # turn of the owner
    children: list[Run] = field(default_factory=list)

    def path(self) -> list[Run]:
        """From the root down to this run."""
        found: list[Run] = []
        run: Run | None = self
        while run is not None:
            found.append(run)
            run = run.owner
        return found[::-1]


class Schedule:
    """The runs of one trajectory. `lost_waits` counts waits that runs cannot
    express, `longer_waits` those for part of a run that wait for all of it."""

    COLUMNS = ("lane", "wait_for", "start_us", "end_us", "delay_us", "output")

    def __init__(
        self,
        turns: Columns,
        spawned: dict[int, int] | None = None,
        delays_us: Sequence[int | None] | None = None,
    ) -> None:
        """`spawned` gives the turn that asked for a sub-agent, by its lane; `delays_us` are those
        of a tool-time policy, by turn, in place of the recorded ones.
        """
        self.turns = turns
        self._delays = delays_us
        self.root = Run(ROOT, 0, None, None, [])
        self.runs: list[Run] = []  # owners before what they own
        self.lost_waits = 0
        self.longer_waits = 0
        self.failed = 0
        self._spawned = spawned or {}
        self._run_of: dict[int, Run] = {}
        self._last: dict[int, Run] = {}  # by lane
        self._waits: list[list[int]] = []
        self._implied: list[list[Run]] = []  # taken to have ended when the run above has
        count = len(turns["lane"])
        sent = (turn for turn in range(count) if self._sent(turn))
        self._last_turns = set({turns["lane"][turn]: turn for turn in sent}.values())
        for turn in range(count):
            self._add(turn)
        self._settle()

    def waits(self, turn: int) -> list[int]:
        """The answered turns that must be complete before this one is sent."""
        return self._waits[turn]

    def delay_us(self, turn: int) -> int:
        """From the completion of the last of `waits` to the request; 0 where unknown.

        The time that failed attempts took is part of the recorded delay: they are not sent, but it
        passed. A policy's delay holds the policy's delays before them, for the tools ran once.
        """
        if self._delays is not None:
            failed = (one for one in self.turns["wait_for"][turn] if not self._sent(one))
            return (self._delays[turn] or 0) + max(map(self.delay_us, failed), default=0)
        waits, recorded = self._waits[turn], self.turns["delay_us"][turn] or 0
        if waits == self.turns["wait_for"][turn]:
            return int(recorded)
        ends = [self.turns["end_us"][wait] for wait in waits]
        start = self.turns["start_us"][turn]
        if start is None or None in ends:
            return int(recorded)
        return max(0, int(start) - max(ends, default=0))

    def end_us(self, run: Run) -> int | None:
        """When the run and all that it set off had ended; None where unknown."""
        ends = [self.turns["end_us"][turn] for turn in run.turns]
        ends += [self.end_us(child) for child in run.children]
        return None if None in ends else max(ends, default=0)

    def _add(self, turn: int) -> None:
        waits: set[int] = set()
        for wait in self.turns["wait_for"][turn]:
            waits.update([wait] if self._sent(wait) else self._waits[wait])
        self._waits.append(sorted(waits))
        if not self._sent(turn):
            self.failed += 1
            return
        lane = self.turns["lane"][turn]
        outer = [wait for wait in self._waits[turn] if self.turns["lane"][wait] != lane]
        run = self._last.get(lane)
        if run is None:
            asked = self._spawned.get(lane)
            if not outer and asked is not None and self._sent(asked) and asked < turn:
                outer = [asked]
            run = self._start(lane, outer)
        else:
            outer = [wait for wait in outer if not _passed(run, wait, self._path(wait))]
            if all(run in self._path(wait) for wait in outer):
                self._join(run, turn, outer)
                self.longer_waits += run.joined_at is not None
            else:
                run = self._start(lane, [*outer, run.turns[-1]])
        run.turns.append(turn)
        self._run_of[turn] = run

    def _sent(self, turn: int) -> bool:
        return self.turns["output"][turn] is not None

    def _path(self, turn: int) -> list[Run]:
        return self._run_of[turn].path()

    def _start(self, lane: int, waits: list[int]) -> Run:
        """A new run, owned by the innermost run that holds all it waits for."""
        before = self._last.get(lane)
        run = Run(lane, before.number + 1 if before else 0, self.root, None, [])
        waits = [wait for wait in waits if not self._follows(wait, waits)]
        if waits:
            paths = [self._path(wait) for wait in waits]
            depth = 0
            while all(len(path) > depth and path[depth] is paths[0][depth] for path in paths):
                depth += 1
            run.owner = paths[0][depth - 1]
            below = [path[depth:] for path in paths]
            starts = [
                inner[0].spawned_at if inner else wait
                for wait, inner in zip(waits, below, strict=True)
            ]
            run.spawned_at = max((start for start in starts if start is not None), default=None)
            if self._in_the_midst(lane, waits, below, run.spawned_at):
                self._follow_latest(run, waits)
            else:
                run.after = self._unfinished(below, run.spawned_at)
        assert run.owner is not None
        run.owner.children.append(run)
        self.runs.append(run)
        self._last[lane] = run
        return run

    def _follows(self, wait: int, waits: list[int]) -> bool:
        """Whether another of the waits cannot be over before this one is."""
        run, path = self._run_of[wait], self._path(wait)
        others = [other for other in waits if other != wait]
        return any(
            wait < other if self._run_of[other] is run else _passed(self._run_of[other], wait, path)
            for other in others
        )

    def _in_the_midst(
        self, lane: int, waits: list[int], below: list[list[Run]], start: int | None
    ) -> bool:
        """Whether to wait for the runs' ends is to wait for more than was waited for."""
        ends = set(self._last_turns)
        if lane in self._last:
            ends.add(self._last[lane].turns[-1])
        return any(
            inner and not _joined_by(inner[0], start) and wait not in ends
            for wait, inner in zip(waits, below, strict=True)
        )

    def _follow_latest(self, run: Run, waits: list[int]) -> None:
        """Has the run start after the last of its waits by the record; the others are lost, but
        for those that lie on the way there."""
        ends = self.turns["end_us"]
        latest = max(waits, key=lambda wait: (ends[wait] or 0, wait))
        run.owner, run.spawned_at = self._run_of[latest], latest
        others = [wait for wait in waits if wait != latest]
        self.lost_waits += sum(not _passed(run, wait, self._path(wait)) for wait in others)

    def _unfinished(self, below: list[list[Run]], turn: int | None) -> list[Run]:
        """The runs to wait for, of those on the way to each wait, beyond what ended by `turn`."""
        found: list[Run] = []
        for inner in below:
            self._implied.append(inner[1:])
            if inner and inner[0] not in found and not _joined_by(inner[0], turn):
                found.append(inner[0])
        return found

    def _join(self, run: Run, turn: int, waits: list[int]) -> None:
        """Has the turn wait for the ends of what its run set off."""
        for wait in waits:
            path = self._path(wait)
            inner = path[path.index(run) + 1 :]
            self._implied.append(inner[1:])
            if inner[0].joined_at is None:
                inner[0].joined_at = turn
                self.longer_waits += inner[-1].turns[-1] != wait

    def _settle(self) -> None:
        """Who joins a run has joined what that run came after; the end of a run is the end of what
        it set off only where it waited for that."""
        for run in reversed(self.runs):
            for earlier in run.after:
                if earlier.joined_at is None:
                    earlier.joined_at = run.joined_at
        for inner in self._implied:
            self.lost_waits += any(run.joined_at is None for run in inner)


def spawned_lanes(tool_calls: pa.Table) -> dict[int, int]:
    """The turn that asked for a sub-agent, by the sub-agent's lane."""
    lanes, turns = (tool_calls.column(name).to_pylist() for name in ("spawned_lane", "turn"))
    return {lane: turn for lane, turn in zip(lanes, turns, strict=True) if lane is not None}


def _joined_by(run: Run, turn: int | None) -> bool:
    return run.joined_at is not None and turn is not None and run.joined_at <= turn


def _passed(run: Run, wait: int, path: list[Run]) -> bool:
    """Whether the wait was over before the run began: on the way to where it was set off."""
    while run.owner is not None:
        if run.owner in path:
            below = path[path.index(run.owner) + 1 :]
            if any(one.joined_at is None for one in below) or run.spawned_at is None:
                return False
            return _joined_by(below[0], run.spawned_at) if below else wait <= run.spawned_at
        run = run.owner
    return False
