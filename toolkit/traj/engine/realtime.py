"""The engine's virtual time made real: steps end when the wall clock says that they do.

The engine's times stay exact. If the process is late, be it by a millisecond because timers are
coarse or by more because the machine is busy, steps are caught up with, requests are let in by the
times at which they came, and the lateness is kept as a figure (`late_s`): it bounds by how much
clients saw another engine than the one that was asked for.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Hashable
from dataclasses import dataclass, field

from traj.engine.fleet import Fleet
from traj.engine.parameters import PS_PER_US, Parameters
from traj.engine.request import Progress, Request

_PS_PER_NS = 1_000


@dataclass(slots=True, eq=False)
class Reply:
    """One request's answer as it grows."""

    progress: Progress
    replica: int
    every: int | None  # be told of so many tokens at a time; None: at the end alone
    tokens: int = 0  # that are there
    told: int = 0
    is_over: bool = False
    _news: asyncio.Event = field(default_factory=asyncio.Event)

    async def more(self) -> int:
        """Waits for tokens that were not told of. Gives how many there are in all."""
        await self._news.wait()
        self._news.clear()
        self.told = self.tokens
        return self.tokens

    def tell(self, tokens: int, is_over: bool) -> None:
        self.tokens, self.is_over = tokens, is_over
        if is_over or (
            self.every and tokens and (not self.told or tokens - self.told >= self.every)
        ):
            self._news.set()


class Live:
    """All replicas, in real time. `run` must be running for anything to happen."""

    def __init__(self, parameters: Parameters) -> None:
        self.fleet = Fleet(parameters)
        self.late_s = 0.0  # the most that a step ended too late
        self._arrive_ps = round(parameters.arrive_us * PS_PER_US)
        self._reply_ps = round(parameters.reply_us * PS_PER_US)
        self._origin_ns = time.monotonic_ns()
        self._coming: list[deque[tuple[int, Progress]]] = [deque() for _ in self.fleet.engines]
        self._replies: list[dict[Progress, Reply]] = [{} for _ in self.fleet.engines]
        self._woken = asyncio.Event()

    def now_ps(self) -> int:
        """Time since this was made."""
        return (time.monotonic_ns() - self._origin_ns) * _PS_PER_NS

    def submit(
        self, request: Request, session: Hashable, received_ps: int, every: int | None
    ) -> Reply:
        """Has a request answered that was received at that time."""
        progress = Progress(request)
        place = self.fleet.route(session, [len(coming) for coming in self._coming])
        reply = self._replies[place][progress] = Reply(progress, place, every)
        arrival = max(received_ps + self._arrive_ps, self.now_ps())
        coming = self._coming[place]
        if coming:
            arrival = max(arrival, coming[-1][0])
        coming.append((arrival, progress))
        self._woken.set()
        return reply

    def abort(self, reply: Reply) -> None:
        """Has the engine forget a request whose client is gone."""
        coming = self._coming[reply.replica]
        for entry in [entry for entry in coming if entry[1] is reply.progress]:
            coming.remove(entry)
        self.fleet.engines[reply.replica].abort(reply.progress)
        self._replies[reply.replica].pop(reply.progress, None)

    async def run(self) -> None:
        """Works until it is cancelled."""
        while True:
            self._woken.clear()
            due = [time for place in range(len(self._coming)) if (time := self._due(place))]
            if not due:
                await self._woken.wait()
                continue
            wait = (min(due) - self.now_ps()) / (PS_PER_US * 1_000_000)
            if wait > 0:
                try:
                    await asyncio.wait_for(self._woken.wait(), wait)
                    continue
                except TimeoutError:
                    pass
            now = self.now_ps()
            for place in range(len(self._coming)):
                if (time := self._due(place)) and time <= now:
                    self._advance(place, now)
            await asyncio.sleep(0)

    def _due(self, place: int) -> int | None:
        """When something happens next in a replica."""
        ends = self.fleet.engines[place].ends_ps
        if ends is not None:
            return ends + self._reply_ps
        return self._coming[place][0][0] if self._coming[place] else None

    def _advance(self, place: int, now_ps: int) -> None:
        engine, coming, replies = (
            self.fleet.engines[place],
            self._coming[place],
            self._replies[place],
        )
        boundary = engine.ends_ps
        if boundary is None:
            boundary = coming[0][0]
        else:
            late = (now_ps - boundary - self._reply_ps) / (PS_PER_US * 1_000_000)
            self.late_s = max(self.late_s, late)
            for progress in engine.complete():
                if reply := replies.pop(progress, None):
                    reply.tell(progress.generated, is_over=True)
            for progress in engine.running:
                reply = replies.get(progress)
                if reply is not None and reply.every:
                    reply.tell(engine.generated(progress), is_over=False)
        while coming and coming[0][0] <= boundary:
            arrival, progress = coming.popleft()
            engine.submit(progress, arrival)
        engine.begin(boundary, most=1)
