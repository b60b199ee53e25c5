"""What archives have in common: a trajectory's rows as plain values, told lane by lane.

An archive is the record in another format, not a load made of it. So it takes no option that would
change it, has all turns, the failed ones too, and is not replayed.
"""

from __future__ import annotations

from bisect import bisect_left
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from traj.workload.turns import Ranges

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from datetime import datetime

    from traj.exporters.tally import Tally
    from traj.workload.play import Play

Row = dict[str, Any]
TAKES = ("split", "sample", "seed")
_KEYS = ("schema_version", "trajectory_id")


class Entry(NamedTuple):
    """What comes next in a lane: a system prompt, a message, an answer (a turn with its message)
    or a request that got none (a turn alone)."""

    turn: Row | None = None
    message: Row | None = None
    system_id: str | None = None


class Record:
    """One trajectory's rows. `turns` and `messages` are lists by their numbers; `calls` are by
    turn, `lanes` are the turns by lane, `spawned_by` is the call that started a lane."""

    def __init__(self, play: Play) -> None:
        rows = play.rows
        self.trajectory_id = play.trajectory_id
        self.head: Row = rows.trajectories.to_pylist()[0]
        self.turns: list[Row] = rows.turns.to_pylist()
        self.messages: list[Row] = rows.messages.to_pylist()
        self.calls: dict[int, list[Row]] = {}
        self.spawned_by: dict[int, Row] = {}
        for call in rows.tool_calls.to_pylist():
            self.calls.setdefault(call["turn"], []).append(call)
            if call["spawned_lane"] is not None:
                self.spawned_by.setdefault(call["spawned_lane"], call)
        self.lanes: dict[int, list[Row]] = {0: []}
        for turn in self.turns:
            self.lanes.setdefault(turn["lane"], []).append(turn)
        self._answers = {turn["output"] for turn in self.turns}
        self._numbers: dict[int, list[int]] = {}  # of messages, by lane
        self._results: dict[tuple[int, str], list[Row]] = {}
        for message in self.messages:
            lane = message["lane"]
            self.lanes.setdefault(lane, [])
            self._numbers.setdefault(lane, []).append(message["message"])
            if message["tool_call_id"] is not None:
                self._results.setdefault((lane, message["tool_call_id"]), []).append(message)

    def entries(self, lane: int) -> Iterator[Entry]:
        """A lane from its beginning to its end: each of its messages and turns once, each system
        prompt where it was first used. Of a prompt, what the lane did not have before stands before
        the turn; messages of other lanes are told there."""
        turns, numbers = self.lanes[lane], self._numbers.get(lane, [])
        systems: set[str | None] = {None}
        told = 0
        for turn in turns:
            if turn["system_id"] not in systems:
                systems.add(turn["system_id"])
                yield Entry(system_id=turn["system_id"])
            output = turn["output"]
            until = max((_within(numbers, *span) for span in ranges(turn)), default=0)
            if output is not None:  # what only another lane's prompt held comes before it too
                until = max(until, bisect_left(numbers, output))
            for number in numbers[told:until]:
                if number not in self._answers:
                    yield Entry(message=self.messages[number])
            told = max(told, until)
            yield Entry(turn, None if output is None else self.messages[output])
        for number in numbers[told:]:
            if number not in self._answers:
                yield Entry(message=self.messages[number])

    def result(self, call: Row) -> Row | None:
        """The message that brought a call's result; None where the record holds none."""
        found = self._results.get((call["lane"], call["tool_call_id"]), ())
        asked = self.turns[call["turn"]]["output"]
        return next((one for one in found if asked is None or one["message"] > asked), None)

    def at(self, time_us: int | None) -> datetime | None:
        """A time of the trajectory on the calendar; None where one of the two is unknown."""
        start: datetime | None = self.head["started_at"]
        return None if start is None or time_us is None else start + timedelta(microseconds=time_us)


def ranges(turn: Row) -> Ranges:
    """The messages of a turn's prompt."""
    return [(span["start"], span["stop"]) for span in turn["input"]]


def rest(row: Row, used: Collection[str]) -> Row:
    """What a row knows beyond the columns that were used; unknown is left out."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and name not in used and name not in _KEYS
    }


def arguments(text: str) -> tuple[Row | None, str | None]:
    """A call's arguments as an object, None where they are none; and their text where the object
    does not give it back to the letter."""
    import orjson

    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None, text
    if not isinstance(found, dict):
        return None, text
    return found, None if orjson.dumps(found).decode() == text else text


def count(tally: Tally, play: Play) -> None:
    """Counts a whole trajectory as recorded, failed requests too."""
    for turn in range(len(play.turns["lane"])):
        count_turn(tally, play, turn)
    count_trajectory(tally, play, len(play.turns["lane"]))


def count_turn(tally: Tally, play: Play, turn: int) -> None:
    """Counts a request: the provider's figures where known, else the dataset's counts."""
    turns, lengths = play.turns, []
    for name in ("input_tokens", "output_tokens"):
        reported = turns[name][turn]
        lengths.append(turns[f"counted_{name}"][turn] or 0 if reported is None else reported)
    tally.request(lengths[0], lengths[1], turns["delay_us"][turn] or 0)


def count_trajectory(tally: Tally, play: Play, requests: int) -> None:
    """Counts the trajectory, once its requests are."""
    turns = play.turns
    counted = ("counted_input_tokens", "counted_cached_tokens")
    sums = [sum(tokens or 0 for tokens in turns[name]) for name in counted]
    tally.trajectory(requests, *sums)


def _within(numbers: list[int], start: int, stop: int) -> int:
    """How many of the ascending numbers lie before the last one in the range, that one included;
    0 where none lies in it."""
    found = bisect_left(numbers, stop)
    return found if found and numbers[found - 1] >= start else 0
