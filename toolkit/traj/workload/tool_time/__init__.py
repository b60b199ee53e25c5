"""Tool time: how long a replay waits before each request, in place of tools and people.

A recorded delay has three parts: tools, a person, and the rest (the agent's own time). A policy
says what becomes of tools and rest, a user time what becomes of the person's part.

Under `baseline` a turn's delay is the critical path of the calls that the turn before it in its
lane asked for (`critical_path_us`), with a drawn duration each. A delay counts from the completion
of the last turn in `wait_for`. Where in the record that was another lane's (a sub-agent whose
report the turn brings), only calls count that were still at work then: the others had their time
beside the sub-agent, and one whose times are unknown is taken to have had it there too. So what
counts is what makes up the recorded tool part, and beyond that the tools which ran while the answer
was still coming in: how long an answer takes is for the measured system to show.

Delays are by turn as recorded: a failed attempt has its own, the retry what is left after it.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass, replace
from operator import and_
from statistics import median
from typing import TYPE_CHECKING

from traj.workload.tool_time.baseline import HIGH_US, LOW_US, Baseline, Fit, clipped
from traj.workload.tool_time.calls import Calls, critical_path_us, union_us
from traj.workload.tool_time.policies import parse_policy, parse_user_time

if TYPE_CHECKING:
    from traj.dataset import Dataset
    from traj.workload.turns import Columns

__all__ = ["Calls", "Parts", "ToolTime", "ToolTimeReport", "tool_time"]

Microseconds = tuple[int, int, int]  # tool, person, rest

TURNS = ("lane", "wait_for", "start_us", "end_us", "delay_us", "tool_us", "user_us")


@dataclass(frozen=True, slots=True)
class Parts:
    """Sums of the parts of delays, in seconds."""

    tool_s: float = 0.0
    user_s: float = 0.0
    rest_s: float = 0.0


@dataclass(frozen=True, slots=True)
class ToolTimeReport:
    """What a tool time made of the trajectories that it was asked about.

    Calls are those that take tool time of their own; `recorded_*` figures are over the calls with a
    known duration. Shares are null where there is nothing to share. What follows `factor` is null
    but for baseline: there `dataset_median_s` is over all calls of the dataset, which is what the
    factor is made for, the rest over the trajectories that were asked about.
    """

    policy: str
    user_time: str
    seed: str
    recorded: Parts
    sent: Parts
    calls: int
    recorded_calls: int
    recorded_over_5s_calls: float | None  # share of recorded calls that clipping shortens
    recorded_over_5s_time: float | None  # share of their time that those hold
    factor: float | None
    profile: tuple[Fit, ...] | None = None
    clipped_low: int | None = None
    clipped_high: int | None = None
    median_s: float | None = None
    dataset_median_s: float | None = None


class ToolTime:
    """The delays of a dataset's trajectories under one policy."""

    def __init__(
        self, policy: str, dataset: Dataset, seed: str = "0", user_time: str | None = None
    ) -> None:
        """See `tool_time`."""
        self._name, self._seed = policy, seed
        self._policy = parse_policy(policy)
        self._user = parse_user_time(user_time, self._policy)
        self._baseline: Baseline | None = None
        if self._policy.kind == "baseline":
            self._baseline = Baseline(dataset, seed, self._policy.profile)
        self._counted: set[str] = set()
        self._recorded_us = [0, 0, 0]
        self._sent_us = [0, 0, 0]
        self._calls = 0
        self._took_us = array("q")  # recorded
        self._drawn_us = array("q")  # before clipping

    def delays_us(self, trajectory_id: str, turns: Columns, calls: Calls) -> list[int | None]:
        """What each turn waits after the completion of what it waits for.

        `turns` has the columns TURNS, and may be the first turns of a trajectory alone. None where
        the delay is unknown; under baseline and none only a person's part can be, and is then 0.
        """
        asked = calls.by_turn()
        drawn_us = None
        if self._baseline is not None:
            drawn_us = self._baseline.durations_us(trajectory_id, calls)
        lasting = [0 if one is None else clipped(one) for one in drawn_us or ()]
        before: dict[int, int] = {}  # turn, by lane
        recorded, sent = [], []
        for turn, lane in enumerate(turns["lane"]):
            found = asked.get(before[lane], []) if lane in before else []
            parts = _recorded_parts(turns, turn, calls, found)
            if drawn_us is None or not found:
                sent.append(self._sent_parts(parts))
            else:
                tool = _critical_path_us(turns, turn, before[lane], calls, found, lasting)
                sent.append(self._sent_parts(parts, tool))
            recorded.append(parts)
            before[lane] = turn
        if trajectory_id not in self._counted:
            self._counted.add(trajectory_id)
            self._count(recorded, sent, calls, drawn_us)
        return [None if parts is None else sum(parts) for parts in sent]

    def report(self) -> ToolTimeReport:
        """What was asked for so far; a trajectory that was asked about again counts once."""
        raised = [one for one in self._took_us if one > HIGH_US]
        whole = sum(self._took_us)
        report = ToolTimeReport(
            policy=self._name,
            user_time=self._user.name,
            seed=self._seed,
            recorded=_in_seconds(self._recorded_us),
            sent=_in_seconds(self._sent_us),
            calls=self._calls,
            recorded_calls=len(self._took_us),
            recorded_over_5s_calls=len(raised) / len(self._took_us) if self._took_us else None,
            recorded_over_5s_time=sum(raised) / whole if whole else None,
            factor=self._policy.factor if self._policy.kind == "scaled" else None,
        )
        if self._baseline is None:
            return report
        drawn = self._drawn_us
        return replace(
            report,
            factor=self._baseline.scale,
            profile=self._baseline.fits,
            clipped_low=sum(one < LOW_US for one in drawn),
            clipped_high=sum(one > HIGH_US for one in drawn),
            median_s=median(map(clipped, drawn)) / 1e6 if drawn else None,
            dataset_median_s=self._baseline.median_s,
        )

    def _sent_parts(self, recorded: Microseconds | None, tool: int = 0) -> Microseconds | None:
        """What becomes of a turn's parts; `tool` is the critical path under baseline."""
        if self._policy.kind in ("baseline", "none"):
            return tool, self._user.of(recorded[1]) if recorded else 0, 0
        if recorded is None:
            return None
        was, user, rest = recorded
        factor = self._policy.factor
        if factor == 1:
            return was, self._user.of(user), rest
        return round(was * factor), self._user.of(user), round(rest * factor)

    def _count(
        self,
        recorded: list[Microseconds | None],
        sent: list[Microseconds | None],
        calls: Calls,
        drawn_us: list[int | None] | None,
    ) -> None:
        for sums, every in ((self._recorded_us, recorded), (self._sent_us, sent)):
            known = [parts for parts in every if parts is not None]
            for part, column in enumerate(zip(*known, strict=True)):
                sums[part] += sum(column)
        within = [turn < len(sent) for turn in calls.turn]
        self._calls += sum(map(and_, within, calls.own()))
        for values, kept in ((calls.took_us(), self._took_us), (drawn_us or (), self._drawn_us)):
            kept.extend(
                one for one, here in zip(values, within, strict=False) if here and one is not None
            )


def tool_time(
    policy: str, dataset: Dataset, *, seed: str = "0", user_time: str | None = None
) -> ToolTime:
    """The tool time that a policy gives a dataset; `policies` beside this has the lists.

    `user_time` None keeps people's time under `recorded` alone. Raises UsageError for an unknown
    policy or user time, a number out of range, or a profile that cannot be read.
    """
    return ToolTime(policy, dataset, seed, user_time)


def _recorded_parts(
    turns: Columns, turn: int, calls: Calls, found: list[int]
) -> Microseconds | None:
    """Tool, person and rest of a recorded delay; `found` are the calls that ran before it.

    The record's tool part holds questions to a person, waits for permission and calls that were
    refused: time of tools in the log, of a person in truth.
    """
    delay = turns["delay_us"][turn]
    if delay is None:
        return None
    tool = min(delay, turns["tool_us"][turn] or 0)
    user = min(delay - tool, turns["user_us"][turn] or 0)
    start = turns["start_us"][turn]
    if tool and start is not None and any(map(calls.for_a_person, found)):
        worked = union_us(map(calls.worked, found), start - delay, start)
        moved = max(0, tool - worked)
        tool, user = tool - moved, user + moved
    return tool, user, delay - tool - user


def _critical_path_us(
    turns: Columns, turn: int, before: int, calls: Calls, found: list[int], lasting: list[int]
) -> int:
    """How long a turn waits for calls of the turn before it in its lane."""
    lanes, ends = turns["lane"], turns["end_us"]
    since = ends[before]
    joined = [ends[wait] for wait in turns["wait_for"][turn] if lanes[wait] != lanes[turn]]
    if joined:
        if since is None or None in joined:
            return 0
        latest = max(joined)
        if latest > since:
            since = latest
            found = [one for one in found if (calls.end_us[one] or 0) > since]
    if len(found) == 1:
        return lasting[found[0]]
    spans = ((calls.start_us[one], calls.end_us[one], lasting[one]) for one in found)
    return critical_path_us(spans, since)


def _in_seconds(parts: list[int]) -> Parts:
    return Parts(*(part / 1e6 for part in parts))
