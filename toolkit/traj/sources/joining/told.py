"""What an agent's own log tells that the wire does not: how its tools ran, what its sub-agents are
called and wait for, and when a person typed."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator

from msgspec.structs import replace

from traj.events import Lane, Message, Session, Step, ToolCall, ToolRun, Turn
from traj.sources.joining.answers import Place, lanes_of, own_id

_LOOKED_AT = 32  # texts that begin or end alike, of which the next one is looked for


def tell(wire: Session, log: Session, found: dict[Place, Place], slack_us: int) -> int:
    """Puts it into the live session. Gives the number of tools whose logged times do not fit those
    on the wire by more than `slack_us`: these keep the wire's."""
    calls = _calls(wire, log, found)
    unfit = _tools(wire, log, calls, slack_us)
    lanes = lanes_of(found)
    brought: dict[str, int | None] = {}
    for lane, other in lanes.items():
        brought.update(_persons(wire, wire.lanes[lane], log.lanes[other], slack_us))
    largest: dict[int, int] = {}
    for lane, other in lanes.items():
        if other not in largest or _size(wire, lane) > _size(wire, largest[other]):
            largest[other] = lane
    for other, lane in largest.items():
        if lane and log.lanes[other].kind == "subagent":
            _helper(wire, wire.lanes[lane], log.lanes[other], calls, brought)
    return unfit


def _size(wire: Session, lane: int) -> int:
    return len(wire.lanes[lane].steps)


def _calls(wire: Session, log: Session, found: dict[Place, Place]) -> dict[str, str]:
    """Ids of calls in the log to those on the wire: by their own, else by their places in answers
    that are the same."""
    on_wire = {own_id(call.id): call.id for turn in _turns(wire) for call in _asked(turn)}
    calls = {}
    for turn in _turns(log):
        for call in _asked(turn):
            if own_id(call.id) in on_wire:
                calls[call.id] = on_wire[own_id(call.id)]
    for (lane, place), (other, there) in found.items():
        here, far = wire.lanes[lane].steps[place], log.lanes[other].steps[there]
        if isinstance(here, Turn) and isinstance(far, Turn):
            several = _asked(here), _asked(far)
            if [call.name for call in several[0]] == [call.name for call in several[1]]:
                for mine, its in zip(*several, strict=True):
                    calls.setdefault(its.id, mine.id)
    return calls


def _tools(wire: Session, log: Session, calls: dict[str, str], slack_us: int) -> int:
    asked = {call.id: turn for turn in _turns(wire) for call in _asked(turn)}
    unfit = 0
    for its, run in log.tool_runs.items():
        mine = calls.get(its)
        if mine is None:
            continue
        known = wire.tool_runs.get(mine, ToolRun())
        fits = _fits(run, asked[mine], known, slack_us)
        unfit += not fits
        wire.tool_runs[mine] = _both(known, run, fits=fits)
    return unfit


def _fits(run: ToolRun, turn: Turn, known: ToolRun, slack_us: int) -> bool:
    """Whether a run began behind its request and before the one that brought its result. Agents
    start tools while the answer comes in; in the background tools run on."""
    time = run.start_us if run.start_us is not None else run.end_us
    if time is None:
        return True
    early = turn.start_us is not None and time < turn.start_us - slack_us
    return not early and (known.end_us is None or time <= known.end_us + slack_us)


def _both(known: ToolRun, run: ToolRun, *, fits: bool) -> ToolRun:
    """The log's word where it has one. Times are one side's: both of the log's, or the wire's."""
    start, end, clock = known.start_us, known.end_us, known.clock
    if fits and run.start_us is not None and (run.end_us is not None or end is None):
        start, end, clock = run.start_us, run.end_us, run.clock
    elif fits and run.end_us is not None and (start is None or start <= run.end_us):
        end, clock = run.end_us, "derived"
    wait = run.permission_us if run.permission_us is not None else known.permission_us
    length = None if start is None or end is None else end - start
    if wait is not None and (length is None or wait > length):
        wait = None
    return ToolRun(
        start,
        end,
        clock,
        wait,
        run.status if run.status != "unknown" else known.status,
        run.exit_code if run.exit_code is not None else known.exit_code,
        run.truncated if run.truncated is not None else known.truncated,
        run.background if run.background is not None else known.background,
    )


def _helper(
    wire: Session,
    lane: Lane,
    log: Lane,
    calls: dict[str, str],
    brought: dict[str, int | None],
) -> None:
    """Names a sub-agent's lane, and ties it to the calls that the log says, where the wire does
    not tell them. A call that waited for it has its result when the sub-agent had ended."""
    lane.kind, lane.name = "subagent", lane.name or log.name
    lane.spawned_by = lane.spawned_by or calls.get(log.spawned_by or "")
    if lane.joined_by is not None or log.joined_by is None:
        return
    call = calls.get(log.joined_by)
    run = wire.tool_runs.get(call or "")
    when = run.end_us if run is not None else brought.get(log.joined_by)
    ends = [turn.end_us for turn in _turns_of(lane) if turn.end_us is not None]
    if when is not None and ends and when >= max(ends):
        lane.joined_by = call or log.joined_by


class _Users:
    """The texts of a log's lane that are no answers, found by how they begin and end."""

    def __init__(self, log: Lane) -> None:
        self._said = [s for s in log.steps if isinstance(s, Message) and s.role == "user"]
        self._places: dict[str, list[int]] = {}
        for place, message in enumerate(self._said):
            for line in _ends(message.content or ""):
                self._places.setdefault(line, []).append(place)
        self._next = 0

    def find(self, text: str) -> Message | None:
        """The next one that a message on the wire says: alone, before other text or behind it."""
        found = [
            place
            for line in _ends(text)
            for place in self._behind(line)
            if _says(text, self._said[place].content or "")
        ]
        if not text or not found:
            return None
        self._next = min(found) + 1
        return self._said[min(found)]

    def _behind(self, line: str) -> list[int]:
        """The next places of a line; many texts may end alike."""
        places = self._places.get(line, [])
        first = bisect_left(places, self._next)
        return places[first : first + _LOOKED_AT]


def _ends(text: str) -> set[str]:
    """A text's first and last line."""
    return {text.partition("\n")[0], text.rpartition("\n")[2]}


def _says(text: str, part: str) -> bool:
    return bool(part) and (
        text == part or text.endswith("\n" + part) or text.startswith(part + "\n")
    )


def _persons(wire: Session, lane: Lane, log: Lane, slack_us: int) -> dict[str, int | None]:
    """Says of a lane's messages whether and when a person typed them, and which brought a
    sub-agent's report. Gives the names of the reports, each with the time at which it was sent."""
    users = _Users(log)
    brought: dict[str, int | None] = {}
    steps, sent = list(lane.steps), _sent(lane.steps)
    guessed: list[tuple[int, Message]] = []  # taken for typed on the wire, since the last request
    waited = False  # whether the log says when that was
    for place, step in enumerate(steps):
        if isinstance(step, Turn):
            for other, taken in guessed if waited else ():
                steps[other] = _not_typed(taken)
            guessed, waited = [], False
        if not isinstance(step, Message) or step.role != "user":
            continue
        message = users.find(step.content or "")
        if message is None:
            guessed += [(place, step)] if step.by_person else []
            continue
        typed = _not_typed(step)
        if message.by_person:
            typed = step
            if _is_between(wire.started_us, message.time_us, sent[place], slack_us):
                typed, waited = replace(step, by_person=True, time_us=message.time_us), True
        if message.brings is not None:
            brought[message.brings] = sent[place]
        steps[place] = replace(typed, brings=message.brings)
    lane.steps = steps
    return brought


def _not_typed(step: Message) -> Message:
    return replace(step, by_person=False, time_us=None) if step.by_person else step


def _sent(steps: list[Step]) -> list[int | None]:
    """When the request was sent that brought each step."""
    sent: list[int | None] = []
    start: int | None = None
    for step in reversed(steps):
        start = step.start_us if isinstance(step, Turn) else start
        sent.append(start)
    return sent[::-1]


def _is_between(first: int | None, time: int | None, last: int | None, slack_us: int) -> bool:
    if first is None or time is None or last is None:
        return False
    return first - slack_us <= time <= last + slack_us


def _turns_of(lane: Lane) -> Iterator[Turn]:
    return (step for step in lane.steps if isinstance(step, Turn))


def _turns(session: Session) -> Iterator[Turn]:
    return (turn for lane in session.lanes for turn in _turns_of(lane))


def _asked(turn: Turn) -> tuple[ToolCall, ...]:
    return () if turn.answer is None else turn.answer.tool_calls
