"""One lane's steps as they are written, and the context that the next request would carry."""

from __future__ import annotations

import heapq

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Session, Turn

Range = tuple[int, int, int]


class Talk:
    """Writes a lane. `context` are ranges of messages, as a Rebase has them."""

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.index = index
        self.lane = session.lanes[index]
        self.context: list[Range] = []
        self.count = 0  # messages in the lane so far
        self.side: int | None = None  # the lane of requests outside the conversation
        self.asides = 0  # messages in it
        self.first_us: int | None = None  # the earliest time seen
        self.ended_us: int | None = None  # the last request of the conversation
        self.cleared: list[tuple[int, int, Message]] = []  # results, by when they were cleared

    def say(self, message: Message) -> int:
        """Adds a message to the context; gives its number in the lane."""
        self.lane.steps.append(message)
        self._saw(message.time_us)
        return self._counted()

    def answer(self, turn: Turn) -> int | None:
        """Adds a request with its answer, if it has one; gives the answer's number."""
        self.lane.steps.append(self._in_order(turn))
        self._saw(turn.start_us, turn.answer_us, turn.end_us)
        return None if turn.answer is None else self._counted()

    def _saw(self, *times: int | None) -> None:
        for time in times:
            if time is not None and (self.first_us is None or time < self.first_us):
                self.first_us = time

    def _in_order(self, turn: Turn) -> Turn:
        """A start that the log gives stands only where the request before it had ended."""
        start, before = turn.start_us, self.ended_us
        if turn.end_us is not None and (before is None or turn.end_us > before):
            self.ended_us = turn.end_us
        if start is None or before is None or start >= before:
            return turn
        self.session.lose("clock_disorder")
        return replace(turn, start_us=None, first_token_us=None, clock="derived")

    def _counted(self) -> int:
        number = self.count
        self.count += 1
        self.context = joined(self.context, (self.index, number, number + 1))
        return number

    def rebase(self, reason: str | None, context: list[Range]) -> None:
        """Puts another context in the place of this one."""
        self.context = context
        self.lane.steps.append(Rebase(reason, tuple(context)))

    def since(self, number: int, before: int) -> list[Range]:
        """The context's messages from one of the lane's own on, up to another."""
        found: list[Range] = []
        for lane, start, stop in self.context:
            own = lane == self.index
            if found or (own and start <= number < stop):
                first = max(start, number) if own and not found else start
                last = min(stop, before) if own else stop
                if first < last:
                    found.append((lane, first, last))
        return found

    def result(self, message: Message, cleared_us: int | None) -> None:
        """Adds a tool's result, and notes when it was cleared to save room."""
        number = self.say(message)
        if cleared_us is not None:
            heapq.heappush(self.cleared, (cleared_us, number, message))

    def clear(self, time_us: int | None) -> None:
        """Empties the results that had been cleared by then: what stands in their place is not
        recorded."""
        exchanged: dict[int, Message] = {}
        while time_us is not None and self.cleared and self.cleared[0][0] <= time_us:
            _, number, old = heapq.heappop(self.cleared)
            exchanged[number] = Message(
                "tool", tool_call_id=old.tool_call_id, name=old.name, file=old.file, line=old.line
            )
        if exchanged:
            self.session.lose("framing_not_recorded", len(exchanged))
            self._replace(exchanged)

    def _replace(self, exchanged: dict[int, Message]) -> None:
        context: list[Range] = []
        numbers = {}
        for old, message in exchanged.items():
            numbers[old] = self.count
            self.lane.steps.append(message)
            self.count += 1
        for lane, start, stop in self.context:
            for number in range(start, stop) if lane == self.index else ():
                new = numbers.get(number, number)
                context = joined(context, (lane, new, new + 1))
            if lane != self.index:
                context = joined(context, (lane, start, stop))
        self.rebase("edit", context)

    def aside(self, turn: Turn, name: str) -> list[Range]:
        """A request outside the conversation, of whose prompt nothing is known; gives its answer
        as a context."""
        if self.side is None:
            self.side = len(self.session.lanes)
            self.session.lanes.append(Lane("side", name=name))
        lane = self.session.lanes[self.side]
        if lane.steps:
            lane.steps.append(Rebase("edit"))
        lane.steps.append(turn)
        self._saw(turn.start_us, turn.answer_us, turn.end_us)
        self.session.lose("unresolved_request_message")
        if turn.answer is None:
            return []
        self.asides += 1
        return [(self.side, self.asides - 1, self.asides)]


def joined(context: list[Range], more: Range) -> list[Range]:
    """A context and a range behind it. The list is the same one, grown."""
    if context and context[-1][0] == more[0] and context[-1][2] == more[1]:
        context[-1] = (more[0], context[-1][1], more[2])
    else:
        context.append(more)
    return context
