"""The replicas of an engine, and which of them gets a request.

A conversation stays where its first request went, since its blocks are there; a new one goes to the
replica with the fewest requests, of those the first. That is what routers do that know sessions.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from traj.engine.parameters import Parameters
from traj.engine.request import Progress
from traj.engine.scheduler import Engine

_KEPT = 1 << 17  # conversations that are remembered


class Fleet:
    """All replicas of one engine."""

    def __init__(self, parameters: Parameters) -> None:
        self.engines = [Engine(parameters) for _ in range(parameters.replicas)]
        self._places: dict[Hashable, int] = {}

    def route(self, session: Hashable, coming: Sequence[int] = ()) -> int:
        """The number of the replica that a conversation's next request goes to. `coming`: requests
        on their way to each of them."""
        place = self._places.pop(session, None)
        if place is None:
            loads = [len(engine.running) + len(engine.waiting) for engine in self.engines]
            if coming:
                loads = [load + more for load, more in zip(loads, coming, strict=True)]
            place = loads.index(min(loads))
            if len(self._places) >= _KEPT:
                del self._places[next(iter(self._places))]  # the one that was silent longest
        self._places[session] = place
        return place

    def submit(self, progress: Progress, session: Hashable, at_ps: int) -> int:
        """Queues a request. Gives the replica's number."""
        place = self.route(session)
        self.engines[place].submit(progress, at_ps)
        return place
