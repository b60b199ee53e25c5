"""The order of a trajectory's requests: what waits for what, and the numbers that follow."""

from __future__ import annotations

from heapq import heapify, heappop, heappush

from traj.build.lanes import Request
from traj.events import Session

Key = tuple[int, int]


def arrange(session: Session, lanes: list[list[Request]]) -> list[Request]:
    """Sets `waits` and `number` of every request and gives them in the order of their numbers.

    By start, earlier lanes first; but never before what a request waits for, which it needed: a
    start before the start of that is raised to it. Where damaged ids make a circle of the waits,
    one is dropped and counted (broken_dependency).
    """
    _link(session, lanes)
    every = {request.key: request for lane in lanes for request in lane}
    blocked = {key: len(request.waits) for key, request in every.items()}
    after: dict[Key, list[Key]] = {}
    for key, request in every.items():
        for wait in request.waits:
            after.setdefault(wait, []).append(key)
    times = _order_times(lanes)
    ready = [(times[key], key) for key, count in blocked.items() if not count]
    heapify(ready)
    ordered: list[Request] = []
    while len(ordered) < len(every):
        if not ready:
            _break_circle(session, every, blocked, times, ready)
        _, key = heappop(ready)
        request = every[key]
        request.number = len(ordered)
        ordered.append(request)
        for other in after.get(key, ()):
            blocked[other] -= 1
            if blocked[other] == 0:
                _settle_start(session, every[other], every, times)
                heappush(ready, (times[other], other))
    return ordered


def _settle_start(
    session: Session, request: Request, every: dict[Key, Request], times: dict[Key, int]
) -> None:
    """A request cannot have been sent before what it waits for was sent; nor, in its own lane,
    before that was answered: a clock that says so is no better than a derived one."""
    earliest = max(times[key] for key in request.waits)
    times[request.key] = max(times[request.key], earliest)
    if request.start_us is None:
        return
    own = (every[key].turn.end_us or 0 for key in request.waits if key[0] == request.lane)
    contradicted = request.start_us < max(earliest, *own, 0)
    request.start_us = max(request.start_us, earliest)
    if contradicted and request.clock != "derived":
        request.clock = "derived"
        session.lose("clock_disorder")


def _link(session: Session, lanes: list[list[Request]]) -> None:
    """A request waits for the one before it in its lane; a sub-agent's first for the one that
    started it; and one that carries a sub-agent's report for the sub-agent's last."""
    asked: dict[str, Key] = {}
    for lane in lanes:
        for request in lane:
            for asked_for in request.turn.answer.tool_calls if request.turn.answer else ():
                asked.setdefault(asked_for.id, request.key)
    reports: dict[str, list[Key]] = {}
    for index, described in enumerate(session.lanes):
        if not lanes[index]:
            continue
        spawner = asked.get(described.spawned_by or "") or _turn(lanes, described.spawned_at)
        if spawner is not None and spawner[0] != index:
            lanes[index][0].waits.append(spawner)
        if described.joined_by is not None:
            reports.setdefault(described.joined_by, []).append(lanes[index][-1].key)
    _join_at(session, lanes)
    for lane in lanes:
        for before, request in zip([None, *lane], lane, strict=False):
            if before is not None:
                request.waits.append(before.key)
            for call in request.brought:
                # A failed request brings its results again with the next attempt.
                joined = reports.get(call, ())
                request.waits += [k for k in joined if k[0] != request.lane]


def _join_at(session: Session, lanes: list[list[Request]]) -> None:
    """Where the source says which turn waits for a lane's last, it does."""
    for index, described in enumerate(session.lanes):
        joined = _turn(lanes, described.joined_at)
        if joined is not None and joined[0] != index and lanes[index]:
            lanes[joined[0]][joined[1]].waits.append(lanes[index][-1].key)


def _turn(lanes: list[list[Request]], at: tuple[int, int] | None) -> Key | None:
    """The key of a turn, if it is there."""
    known = at is not None and at[0] < len(lanes) and at[1] < len(lanes[at[0]])
    return at if known else None


def _order_times(lanes: list[list[Request]]) -> dict[Key, int]:
    """A time to order by: never falling in a lane, known for every request."""
    times: dict[Key, int] = {}
    for lane in lanes:
        latest = next((r.start_us for r in lane if r.start_us is not None), 0)
        for request in lane:
            if request.start_us is not None:
                latest = max(latest, request.start_us)
            times[request.key] = latest
    return times


def _break_circle(
    session: Session,
    every: dict[Key, Request],
    blocked: dict[Key, int],
    times: dict[Key, int],
    ready: list[tuple[int, Key]],
) -> None:
    """Frees the earliest waiting request from what has not been numbered yet."""
    _, key = min((times[key], key) for key, count in blocked.items() if count > 0)
    request = every[key]
    request.waits = [wait for wait in request.waits if every[wait].number >= 0]
    blocked[key] = 0
    session.lose("broken_dependency")
    ready.append((times[key], key))
