"""A session on the wire and the agent's own log of it, joined into one.

pairing       which log is of which live session
answers       which answer of the log is which on the wire
told          what the log alone tells: tools, lanes, what a person typed

What is sent and answered, its figures and its times are the wire's. Where the two differ in figures
both stand (`Turn.logged_usage`); answers that only the log has are counted in the losses.
"""

from __future__ import annotations

from msgspec.structs import replace

from traj.events import Lane, Session, Step, Turn
from traj.sources.joining.answers import Place, matched
from traj.sources.joining.told import tell

NOT_ON_THE_WIRE, ELSEWHERE, UNFIT = "not_on_the_wire", "logged_elsewhere", "log_clock_differs"
SLACK_US = 1_000_000  # by which two clocks that are the same may seem to differ
Span = tuple[int, int]  # a run's begin and end, epoch microseconds

_DAMAGED = ("malformed_line", "malformed_field", "truncated_line", "truncated_document")


def join(wire: Session, log: Session, run: Span | None) -> None:
    """Puts into a live session what the agent's own log tells of it. `run` is when the run began
    and ended; None where that is not known."""
    found = matched(wire, log)
    _figures(wire, log, found)
    _count(wire, log, found, run or _span(wire))
    wire.lose(UNFIT, tell(wire, log, found, SLACK_US))
    if wire.agent_name == "unknown":
        wire.agent_name = log.format
    wire.agent_version = wire.agent_version or log.agent_version
    wire.title = wire.title or log.title
    wire.repository = wire.repository or log.repository
    wire.files += log.files
    for kind in _DAMAGED:
        wire.lose(kind, log.losses.get(kind, 0))


def _figures(wire: Session, log: Session, found: dict[Place, Place]) -> None:
    steps: dict[int, list[Step]] = {}
    for (lane, place), (other, there) in found.items():
        told, turn = log.lanes[other].steps[there], wire.lanes[lane].steps[place]
        if isinstance(told, Turn) and isinstance(turn, Turn) and told.usage.source != "none":
            changed = steps.setdefault(lane, list(wire.lanes[lane].steps))
            changed[place] = replace(turn, logged_usage=told.usage)
    for lane, changed in steps.items():
        wire.lanes[lane].steps = changed


def _count(wire: Session, log: Session, found: dict[Place, Place], run: Span | None) -> None:
    """Counts the answers that the log alone has: of the run where it says so by time, or where
    answers that are on the wire stand before and behind them."""
    on_wire = set(found.values())
    for index, lane in enumerate(log.lanes):
        answers = [place for place, step in enumerate(lane.steps) if _is_answer(step)]
        known = [place for place in answers if (index, place) in on_wire]
        for place in answers:
            if (index, place) in on_wire:
                continue
            between = bool(known) and known[0] < place < known[-1]
            inside = between or _is_within(lane, place, run)
            wire.lose(NOT_ON_THE_WIRE if inside else ELSEWHERE)


def _is_answer(step: Step) -> bool:
    return isinstance(step, Turn) and step.answer is not None and step.status == "ok"


def _is_within(lane: Lane, place: int, run: Span | None) -> bool:
    turn = lane.steps[place]
    time = turn.end_us if isinstance(turn, Turn) else None
    return run is not None and time is not None and run[0] - SLACK_US <= time <= run[1] + SLACK_US


def _span(wire: Session) -> Span | None:
    turns = [step for lane in wire.lanes for step in lane.steps if isinstance(step, Turn)]
    ends = [turn.end_us for turn in turns if turn.end_us is not None]
    return None if wire.started_us is None or not ends else (wire.started_us, max(ends))
