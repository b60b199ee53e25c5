"""Which answer of the agent's own log is which on the wire: by the answer's id, else by the ids of
the calls it asks for, else by its text where its neighbours leave no other."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Container, Iterator

from traj.events import Session, Turn

Place = tuple[int, int]  # lane, and number of the step in it
_Pair = tuple[int, int]  # an answer's number on the wire, and in the log
_Key = tuple[_Pair | None, _Pair | None, str]
_BETWEEN = "__"  # Gemini CLI puts the tool's name and this before a call's id


def matched(wire: Session, log: Session) -> dict[Place, Place]:
    """Places on the wire to places in the log, each at most once."""
    found: dict[Place, Place] = {}
    taken: set[Place] = set()
    by_id: dict[str, Place] = {}
    by_call: dict[str, Place] = {}
    for place, turn in _answers(log):
        if turn.response_id is not None:
            by_id.setdefault(turn.response_id, place)
        for call in turn.answer.tool_calls if turn.answer else ():
            by_call.setdefault(own_id(call.id), place)
    for place, turn in _answers(wire):
        calls = turn.answer.tool_calls if turn.answer else ()
        there = by_id.get(turn.response_id or "")
        if there is None:
            ids = (own_id(call.id) for call in calls)
            there = next((by_call[one] for one in ids if one in by_call), None)
        if there is not None and there not in taken:
            found[place] = there
            taken.add(there)
    return {**found, **dict(_between(wire, log, found))}


def own_id(call: str) -> str:
    """A call's id as it is on the wire."""
    return call.rpartition(_BETWEEN)[2] or call


def lanes_of(found: dict[Place, Place]) -> dict[int, int]:
    """Lanes on the wire to the lanes of the log that have most of their answers."""
    shared: dict[int, Counter[int]] = {}
    for (lane, _), (other, _) in found.items():
        shared.setdefault(lane, Counter())[other] += 1
    return {lane: counts.most_common(1)[0][0] for lane, counts in shared.items()}


def _answers(session: Session) -> Iterator[tuple[Place, Turn]]:
    for index, lane in enumerate(session.lanes):
        for place, step in enumerate(lane.steps):
            if isinstance(step, Turn) and step.answer is not None:
                yield (index, place), step


def _between(
    wire: Session, log: Session, found: dict[Place, Place]
) -> Iterator[tuple[Place, Place]]:
    """Answers that nothing but their text tells: where the same neighbours stand around them, and
    the text is there once on either side."""
    taken = set(found.values())
    for lane, other in lanes_of(found).items():
        pairs = {a: b for (at, a), (there, b) in found.items() if (at, there) == (lane, other)}
        here = _once(_left(wire, lane, found), sorted((a, (a, b)) for a, b in pairs.items()))
        there = _once(_left(log, other, taken), sorted((b, (a, b)) for a, b in pairs.items()))
        for key in here.keys() & there.keys():
            place, far = here[key], there[key]
            if place is not None and far is not None and (other, far) not in taken:
                taken.add((other, far))
                yield (lane, place), (other, far)


def _left(session: Session, lane: int, known: Container[Place]) -> Iterator[tuple[int, str]]:
    """The places and texts of a lane's answers that are not known yet."""
    for place, step in enumerate(session.lanes[lane].steps):
        answer = step.answer if isinstance(step, Turn) else None
        if answer is not None and answer.content and (lane, place) not in known:
            yield place, answer.content.strip()


def _once(
    left: Iterator[tuple[int, str]], pairs: list[tuple[int, _Pair]]
) -> dict[_Key, int | None]:
    """Places by the pairs around them and their text; None where it is there more than once."""
    places: dict[_Key, int | None] = {}
    starts = [place for place, _ in pairs]
    for place, text in left:
        at = bisect(starts, place)
        before = pairs[at - 1][1] if at else None
        behind = pairs[at][1] if at < len(pairs) else None
        key = (before, behind, text)
        places[key] = None if key in places else place
    return places
