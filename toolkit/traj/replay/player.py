"""Plays one script: each request when all that it waits for is complete and its delay is over."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from traj.replay.outcome import Outcome, now_us
from traj.replay.results import Requests, Sent

if TYPE_CHECKING:
    from traj.replay.client import Client
    from traj.replay.scripts import Script, Step

TIMER_US = 1_000
RECENT = 200  # answers, of which progress tells
HOPELESS = 20  # failures, and not one answer or one request under way: nobody is there


class Seen(NamedTuple):
    """What a person who watches is told of an answer."""

    ttft_us: int
    tokens_per_s: float | None


@dataclass(slots=True)
class State:
    """What all agents of a process share."""

    stopping: bool = False
    active: int = 0  # agents that play
    all_active_us: int | None = None  # since when all of them do
    played: int = 0  # trajectories, to their ends
    sent: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    first_error: str | None = None
    failed_by: Counter[str] = field(default_factory=Counter)  # of each name
    recent: deque[Seen] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def hopeless(self) -> bool:
        """Whether nothing was answered and nothing more can be hoped for."""
        under_way = self.sent - self.failed - self.cancelled
        enough = HOPELESS if not under_way else HOPELESS + 10 * self.active
        return not self.answered and self.failed >= enough


def summed(states: Iterable[State]) -> State:
    """What several processes have done together."""
    found = State()
    for state in states:
        found.active += state.active
        found.sent += state.sent
        found.answered += state.answered
        found.failed += state.failed
        found.failed_by.update(state.failed_by)
        found.recent.extend(state.recent)
        found.first_error = found.first_error or state.first_error
    return found


class Player:
    """Plays scripts for agents, one each at a time, and writes down what came of every request."""

    def __init__(self, client: Client, requests: Requests, state: State) -> None:
        self._client, self._requests, self._state = client, requests, state

    async def play(self, script: Script, agent: int, free_us: int) -> None:
        """Until all requests of the script are answered, or the run stops. The agent has been free
        to play since `free_us`."""
        waits = _Waits(script, free_us)
        async with asyncio.TaskGroup() as group:
            for index in waits.first():
                group.create_task(self._follow(waits, index, agent, group))

    async def _follow(
        self, waits: _Waits, index: int, agent: int, group: asyncio.TaskGroup
    ) -> None:
        """One request and what follows it, one after another; what goes beside has its own task."""
        following = [index]
        while following:
            index, *others = following
            for other in others:
                group.create_task(self._follow(waits, other, agent, group))
            step = waits.script.steps[index]
            end_us = await self._request(waits.script, step, agent, waits.ready_us[index])
            following = [] if self._state.stopping else waits.ended(index, end_us)

    async def _request(self, script: Script, step: Step, agent: int, ready_us: int) -> int:
        """Gives the time at which it ended."""
        body = script.body(step)  # before the delay, so that sending is all that is left
        due_us = ready_us + step.delay_us
        # The loop's timers are as wide as this: the last of the time is spent looking at the clock.
        while (left_us := due_us - now_us()) > 0:  # noqa: ASYNC110
            await asyncio.sleep(max(0, left_us - TIMER_US) / 1e6)
        if self._state.stopping:
            return due_us
        outcome = Outcome()
        self._state.sent += 1
        try:
            await self._client.send(body, outcome)
        except asyncio.CancelledError:
            outcome.status, outcome.end_us = "cancelled", now_us()
            raise
        finally:
            self._note(outcome)
            self._requests.add(Sent(script, step, agent, due_us, outcome))
        return outcome.end_us

    def _note(self, outcome: Outcome) -> None:
        state = self._state
        if outcome.status == "ok":
            state.answered += 1
            if (seen := outcome.seen()) is not None:
                state.recent.append(Seen(*seen))
        elif outcome.status == "cancelled":
            state.cancelled += 1
        else:
            state.failed += 1
            state.failed_by[outcome.status] += 1
            state.first_error = state.first_error or f"{outcome.status}: {outcome.error}"
            state.stopping = state.stopping or state.hopeless


class _Waits:
    """How far a script is: what each step still waits for, and since when it waits for nothing."""

    def __init__(self, script: Script, free_us: int) -> None:
        self.script = script
        self.ready_us = [free_us] * len(script.steps)
        self._left = [len(step.waits) for step in script.steps]
        self._followers: list[list[int]] = [[] for _ in script.steps]
        for index, step in enumerate(script.steps):
            for wait in step.waits:
                self._followers[wait].append(index)

    def first(self) -> list[int]:
        """The steps that wait for nothing."""
        return [index for index, left in enumerate(self._left) if not left]

    def ended(self, index: int, end_us: int) -> list[int]:
        """A step is complete: those that wait for nothing any more."""
        found = []
        for other in self._followers[index]:
            self._left[other] -= 1
            self.ready_us[other] = max(self.ready_us[other], end_us)
            if not self._left[other]:
                found.append(other)
        return found
