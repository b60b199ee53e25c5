"""Lanes to requests: what each request carried, which context it was in, when it could start."""

from __future__ import annotations

from collections.abc import Callable

from msgspec import Struct, field

from traj.events import Lane, Message, Rebase, Turn

Range = tuple[int, int]


def since(time: int | None, base: int | None) -> int | None:
    """A time from the trajectory's start, never before it; None where either is unknown."""
    return None if time is None or base is None else max(0, time - base)


class Request(Struct):
    """A turn with what the lane around it says of it. Times are epoch microseconds."""

    turn: Turn
    lane: int
    order: int  # in its lane
    context: int
    reason: str | None  # why the context began, on its first request
    input: list[Range]  # of messages, numbered over all lanes
    output: int | None
    needed_us: int | None  # time stamp of the last thing that the request needed
    person_us: int | None  # when a person had written what it needed of them
    brought: list[str]  # tool calls whose results, and reports, are new in it
    start_us: int | None = None
    clock: str = "none"
    waits: list[tuple[int, int]] = field(default_factory=list)  # (lane, order)
    number: int = -1

    @property
    def key(self) -> tuple[int, int]:
        return self.lane, self.order


class _Walk:
    """The state of one lane while its steps are followed."""

    def __init__(self, index: int, first: list[int]) -> None:
        self.index = index
        self.first = first
        self.next = first[index]
        self.context: list[Range] = []
        self.number = -1
        self.reason: str | None = "start"
        self.model: str | None = None
        self.needed_us: int | None = None
        self.person_us: int | None = None
        self.brought: list[str] = []

    def message(self, message: Message) -> None:
        time = message.time_us
        if time is not None:
            self.needed_us = time if self.needed_us is None else max(time, self.needed_us)
            if message.by_person:
                self.person_us = time if self.person_us is None else max(time, self.person_us)
        if message.role == "tool" and message.tool_call_id is not None:
            self.brought.append(message.tool_call_id)
        if message.brings is not None:
            self.brought.append(message.brings)
        self.append()

    def append(self) -> int:
        number = self.next
        self.next += 1
        self._extend(number, number + 1)
        return number

    def _extend(self, start: int, stop: int) -> None:
        if self.context and self.context[-1][1] == start:
            self.context[-1] = (self.context[-1][0], stop)
        else:
            self.context.append((start, stop))

    def rebase(self, step: Rebase) -> None:
        self.context = []
        for lane, start, stop in step.ranges:
            self._extend(self.first[lane] + start, self.first[lane] + stop)
        if step.reason is not None and self.reason is None:
            self.reason = step.reason

    def turn(self, turn: Turn, order: int) -> Request:
        if self.reason is None and turn.model and self.model and turn.model != self.model:
            self.reason = "model_switch"
        self.model = turn.model or self.model
        reason, self.reason = self.reason, None
        self.number += reason is not None
        request = Request(
            turn,
            self.index,
            order,
            self.number,
            reason,
            list(self.context),
            None,
            self.needed_us,
            self.person_us,
            self.brought,
        )
        if turn.answer is not None:
            request.output = self.append()
            self.needed_us = self.person_us = None
            self.brought = []
        return request


def requests(
    index: int, lane: Lane, first: list[int], is_copy: Callable[[Turn], bool]
) -> list[Request]:
    """The requests of one lane. `first` are the numbers of each lane's first message; a turn that
    is a copy of another trajectory's counts as the messages it left behind."""
    walk = _Walk(index, first)
    found: list[Request] = []
    for step in lane.steps:
        if isinstance(step, Message):
            walk.message(step)
        elif isinstance(step, Rebase):
            walk.rebase(step)
        elif is_copy(step):
            if step.answer is not None:
                walk.message(step.answer)
        else:
            found.append(walk.turn(step, len(found)))
    _start_times(found)
    return found


def _start_times(found: list[Request]) -> None:
    """Works out when each request was sent, where the source does not say."""
    end: int | None = None
    before: int | None = None
    for request in found:
        turn = request.turn
        start = turn.start_us
        if start is None and turn.clock != "none":
            known = [time for time in (request.needed_us, end) if time is not None]
            latest = turn.answer_us if turn.answer_us is not None else turn.end_us
            start = max(known, default=latest)
            if start is not None and latest is not None:
                start = min(start, latest)
            if start is not None and before is not None:
                start = max(start, before)  # where time stamps run backwards, the order decides
        request.start_us = start
        timed = start is not None or turn.end_us is not None
        request.clock = "none" if not timed else turn.clock if turn.clock != "none" else "derived"
        before = before if start is None else start
        if turn.end_us is not None:
            end = turn.end_us if end is None else max(end, turn.end_us)
