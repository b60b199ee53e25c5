"""Agents at work on an engine in virtual time: hours of a rack in minutes of one core.

Each agent works through trajectories one after another: a request is sent when all that it waits
for is answered and its delay is over. What happens next, be it on whichever replica, is taken from
one heap, so that all of it happens in order, and nothing depends on chance or the machine.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from traj.engine.fleet import Fleet
from traj.engine.parameters import PS_PER_US, Parameters
from traj.engine.request import Progress, Request

if TYPE_CHECKING:
    import pyarrow as pa

Trajectory = Sequence[Request]

_INTEGERS = (
    *("agent", "trajectory", "request", "replica", "send_us", "admitted_us", "first_us", "last_us"),
    *("input_tokens", "cached_tokens", "output_tokens", "preemptions"),
)


@dataclass(frozen=True, slots=True)
class Unanswered:
    """A request without an answer: still under way at the end, or refused for the reason given."""

    agent: int
    trajectory: int
    request: int
    send_us: int
    input_tokens: int
    label: Hashable
    error: str | None


@dataclass(slots=True)
class Simulated:
    """What became of the requests, as columns, in the order in which they were answered.

    `agent`, `trajectory` (of the agent) and `request` (of the trajectory) count from 0. `send_us`
    and what follows are times at the client but for `admitted_us`, which is the engine's; all are
    rounded down to microseconds. `label` is what the request bore.
    """

    agent: array[int] = field(default_factory=lambda: array("q"))
    trajectory: array[int] = field(default_factory=lambda: array("q"))
    request: array[int] = field(default_factory=lambda: array("q"))
    replica: array[int] = field(default_factory=lambda: array("q"))
    send_us: array[int] = field(default_factory=lambda: array("q"))
    admitted_us: array[int] = field(default_factory=lambda: array("q"))
    first_us: array[int] = field(default_factory=lambda: array("q"))
    last_us: array[int] = field(default_factory=lambda: array("q"))
    input_tokens: array[int] = field(default_factory=lambda: array("q"))
    cached_tokens: array[int] = field(default_factory=lambda: array("q"))
    output_tokens: array[int] = field(default_factory=lambda: array("q"))
    preemptions: array[int] = field(default_factory=lambda: array("q"))
    label: list[Hashable] = field(default_factory=list)
    unanswered: list[Unanswered] = field(default_factory=list)
    end_us: int = 0  # when the simulation ended
    steps: int = 0  # that the replicas took together
    busy_us: int = 0  # time that they spent in them

    def __len__(self) -> int:
        return len(self.agent)

    def ttft_us(self) -> array[int]:
        """From the send to the first token, a request each."""
        return array("q", (b - a for a, b in zip(self.send_us, self.first_us, strict=True)))

    def speed(self) -> array[float]:
        """Tokens a second after the first one, a request each; NaN for answers of one token."""
        columns = zip(self.first_us, self.last_us, self.output_tokens, strict=True)
        nan = float("nan")
        return array("d", ((n - 1) * 1e6 / max(1, b - a) if n > 1 else nan for a, b, n in columns))

    def table(self) -> pa.Table:
        """As an Arrow table, without the labels."""
        import pyarrow as pa

        columns = {
            name: pa.Array.from_buffers(
                pa.int64(), len(self), [None, pa.py_buffer(getattr(self, name))]
            )
            for name in _INTEGERS
        }
        return pa.table(columns)


def simulate(
    parameters: Parameters,
    agents: Sequence[Iterator[Trajectory]],
    *,
    until_us: int | None = None,
    starts_us: Sequence[int] | None = None,
) -> Simulated:
    """Has agents work until they have nothing left to do, or until a time.

    An iterator is asked for its next trajectory when the one before is done, at that point of
    virtual time: agents may draw from one common source. `starts_us`: when each agent begins, by
    default all at 0. A request that the engine can never serve is listed as unanswered with the
    reason, and what waits for it goes on.
    """
    return _Simulation(parameters, agents, starts_us).run(until_us)


@dataclass(slots=True, eq=False)
class _Agent:
    number: int
    trajectories: Iterator[Trajectory]
    trajectory: int = -1
    requests: Trajectory = ()
    missing: list[int] = field(default_factory=list)  # how many each one waits for
    followers: list[list[int]] = field(default_factory=list)
    left: int = 0

    def next(self) -> list[int] | None:
        """Goes on to the next trajectory. Gives what can be sent at once; None at the end."""
        requests: Trajectory = ()
        while not requests:
            found = next(self.trajectories, None)
            if found is None:
                return None
            self.trajectory += 1
            requests = found
        self.requests, self.left = requests, len(requests)
        self.missing, self.followers = [], [[] for _ in requests]
        for place, request in enumerate(requests):
            waits = request.waits
            if waits is None:
                waits = (place - 1,) if place else ()
            for wait in waits:
                if not 0 <= wait < place:
                    raise ValueError(f"request {place} of a trajectory cannot wait for {wait}")
                self.followers[wait].append(place)
            self.missing.append(len(waits))
        return [place for place, missing in enumerate(self.missing) if not missing]

    def after(self, place: int) -> list[int] | None:
        """What can be sent once that request is answered; None at the very end."""
        self.left -= 1
        if not self.left:
            return self.next()
        ready = []
        for follower in self.followers[place]:
            self.missing[follower] -= 1
            if not self.missing[follower]:
                ready.append(follower)
        return ready


@dataclass(slots=True, eq=False)
class _Sent:
    """One request on its way there, or answered on its way back."""

    agent: _Agent
    trajectory: int
    place: int
    request: Request
    send_ps: int
    is_over: bool = False


class _Simulation:
    def __init__(
        self,
        parameters: Parameters,
        agents: Sequence[Iterator[Trajectory]],
        starts_us: Sequence[int] | None,
    ) -> None:
        self._parameters = parameters
        self._arrive = round(parameters.arrive_us * PS_PER_US)
        self._reply = round(parameters.reply_us * PS_PER_US)
        self._fleet = Fleet(parameters)
        self._sent: dict[Progress, _Sent] = {}
        self._columns = Simulated()
        # Time, a number that keeps the order of what happens at one time, and what: the step of a
        # replica ends, a request arrives or its answer does, an agent begins.
        self._heap: list[tuple[int, int, int | _Sent | _Agent]] = []
        self._entries = 0
        for number, trajectories in enumerate(agents):
            start = starts_us[number] if starts_us is not None else 0
            self._push(start * PS_PER_US, _Agent(number, trajectories))

    def run(self, until_us: int | None) -> Simulated:
        heap, engines = self._heap, self._fleet.engines
        until = None if until_us is None else until_us * PS_PER_US
        now = 0
        while heap and (until is None or heap[0][0] <= until):
            now = heap[0][0]
            touched = set()
            while heap and heap[0][0] == now:
                what = heapq.heappop(heap)[2]
                if isinstance(what, _Sent):
                    if what.is_over:
                        self._send(what.agent, what.agent.after(what.place), now)
                    else:
                        touched.add(self._arrive_at_engine(what, now))
                elif isinstance(what, _Agent):
                    self._send(what, what.next(), now)
                elif engines[what].ends_ps == now:  # else it was cut short
                    touched.add(what)
                    for progress in engines[what].complete():
                        self._answer(progress, what, now)
            for number in sorted(touched):
                engine = engines[number]
                if engine.ends_ps is None:
                    engine.begin(now)
                if engine.ends_ps is not None:
                    self._push(engine.ends_ps, number)
        return self._result(now if until is None else until)

    def _push(self, at_ps: int, what: int | _Sent | _Agent) -> None:
        self._entries += 1
        heapq.heappush(self._heap, (at_ps, self._entries, what))

    def _send(self, agent: _Agent, places: list[int] | None, now_ps: int) -> None:
        for place in places or ():
            request = agent.requests[place]
            send = now_ps + request.delay_us * PS_PER_US
            sent = _Sent(agent, agent.trajectory, place, request, send)
            error = self._parameters.refusal(request.input_tokens, request.output_tokens)
            if error is None:
                self._push(send + self._arrive, sent)
            else:
                sent.is_over = True
                self._columns.unanswered.append(_unanswered(sent, error))
                # Never at once, so that agents who are always refused come to an end.
                self._push(send + max(PS_PER_US, self._arrive + self._reply), sent)

    def _arrive_at_engine(self, sent: _Sent, now_ps: int) -> int:
        progress = Progress(sent.request)
        self._sent[progress] = sent
        session = (sent.agent.number, sent.trajectory)
        return self._fleet.submit(progress, session, now_ps)

    def _answer(self, progress: Progress, replica: int, now_ps: int) -> None:
        sent, columns = self._sent.pop(progress), self._columns
        assert progress.admitted_ps is not None
        assert progress.first_ps is not None
        assert progress.cached_tokens is not None
        columns.agent.append(sent.agent.number)
        columns.trajectory.append(sent.trajectory)
        columns.request.append(sent.place)
        columns.replica.append(replica)
        columns.send_us.append(sent.send_ps // PS_PER_US)
        columns.admitted_us.append(progress.admitted_ps // PS_PER_US)
        columns.first_us.append((progress.first_ps + self._reply) // PS_PER_US)
        columns.last_us.append((now_ps + self._reply) // PS_PER_US)
        columns.input_tokens.append(sent.request.input_tokens)
        columns.cached_tokens.append(progress.cached_tokens)
        columns.output_tokens.append(sent.request.output_tokens)
        columns.preemptions.append(progress.preemptions)
        columns.label.append(sent.request.label)
        sent.is_over = True
        self._push(now_ps + self._reply, sent)

    def _result(self, end_ps: int) -> Simulated:
        columns, engines = self._columns, self._fleet.engines
        waiting = [what for _, _, what in self._heap if isinstance(what, _Sent)]
        on_the_way = [sent for sent in waiting if not sent.is_over and sent.send_ps <= end_ps]
        columns.unanswered += [_unanswered(s, None) for s in (*self._sent.values(), *on_the_way)]
        columns.end_us = end_ps // PS_PER_US
        columns.steps = sum(engine.ticks for engine in engines)
        columns.busy_us = sum(engine.busy_ps for engine in engines) // PS_PER_US
        return columns


def _unanswered(sent: _Sent, error: str | None) -> Unanswered:
    return Unanswered(
        sent.agent.number,
        sent.trajectory,
        sent.place,
        sent.send_ps // PS_PER_US,
        sent.request.input_tokens,
        sent.request.label,
        error,
    )
