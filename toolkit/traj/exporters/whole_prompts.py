"""Formats in which every request holds its whole prompt: making those prompts, and reading them.

Such a file grows with the square of a session's length, but neither making nor reading it keeps
more than a prompt a lane.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from traj.exporters import read_back
from traj.workload.cache_simulation import Part, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from traj.workload.play import Play
    from traj.workload.prompts import Spoken


class Request(NamedTuple):
    """A request as a file holds it: whose it is in the play, and what is sent."""

    lane: str
    messages: list[dict[str, Any]]
    tools: Sequence[Any]


class WholePrompts:
    """The whole prompts of a play, turn after turn; what a lane repeats is not worked out again."""

    def __init__(self, play: Play) -> None:
        assert play.prompts is not None
        self._lanes, self._prompts = play.turns["lane"], play.prompts
        self._last: dict[int, tuple[int, list[Spoken]]] = {}  # by lane: turn and prompt

    def of(self, turn: int) -> list[Spoken]:
        """The prompt of a turn; turns are asked for in order."""
        lane = self._lanes[turn]
        before, spoken = self._last.get(lane, (turn, []))
        if spoken and self._prompts.extends(before, turn):
            spoken = [*spoken, *self._prompts.added(before, turn)]
        else:
            spoken = self._prompts.whole(turn)
        self._last[lane] = turn, spoken
        return spoken


def prompts(requests: Iterable[Request], phase: int, play: str, place: int) -> Iterator[Prompt]:
    """A play's requests as the cache simulation takes them: one that begins with its lane's last
    goes on from it. Places are counted from `place` on, in the order of the parts.
    """
    last: dict[str, tuple[int, Request]] = {}
    for number, request in enumerate(requests):
        before, earlier = last.get(request.lane, (0, None))
        last[request.lane] = number, request
        known = 0
        if (
            earlier is not None
            and earlier.tools == request.tools
            and earlier.messages == request.messages[: len(earlier.messages)]
        ):
            known = len(earlier.messages)
        found = [
            (message["role"], Part(read_back.texts(message), place + index))
            for index, message in enumerate(request.messages[known:])
        ]
        place += len(found)
        if known:
            yield Prompt(phase, play, [part for _, part in found], before)
            continue
        front = Part(read_back.tool_texts(request.tools), place)
        place += 1
        yield Prompt(phase, play, read_back.in_order(found, front))


def texts_at(prompts: Iterable[Prompt], place: int) -> Sequence[str]:
    """The texts of the part at a place."""
    return next(part.texts for one in prompts for part in one.parts if part.place == place)
