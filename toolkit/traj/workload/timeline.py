"""When a play's requests start and end if answers take as long as recorded: for formats that know
times and no dependencies."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from traj.workload.play import Play

NO_CLOCK = "requests without recorded times lie where the delays put them"


class Timeline:
    """Times from the trajectory's start in microseconds, by turn.

    A request that waits for others starts its delay after the last of them has ended, also where
    derived clocks overlap; one that waits for nothing starts as recorded. Where the record does not
    say how long an answer took, it takes no time. `unclocked` counts the requests without times.
    """

    def __init__(self, play: Play) -> None:
        self.start_us: dict[int, int] = {}
        self.end_us: dict[int, int] = {}
        self.unclocked = 0
        self._play = play
        for turn in play.sent:
            start, end = play.turns["start_us"][turn], play.turns["end_us"][turn]
            self.unclocked += None in (start, end)
            waits = play.schedule.waits(turn)
            at = max((self.end_us[wait] for wait in waits), default=0) + play.delay_us(turn)
            self.start_us[turn] = at if waits or start is None else start
            self.end_us[turn] = self.start_us[turn]
            if start is not None and end is not None:
                self.end_us[turn] += max(0, end - start)

    def pause_us(self, before: int, turn: int) -> int:
        """From the end of a turn to the start of a later one, whatever that one waits for."""
        return max(0, self.start_us[turn] - self.end_us[before])

    def lanes(self) -> dict[int, list[int]]:
        """The answered turns by lane, in order."""
        found: dict[int, list[int]] = {}
        for turn in self._play.sent:
            found.setdefault(self._play.turns["lane"][turn], []).append(turn)
        return found

    def waits_elsewhere(self, sessions: Iterable[list[int]]) -> int:
        """How many requests wait for one of another session than their own."""
        session_of = {turn: number for number, turns in enumerate(sessions) for turn in turns}
        return sum(
            any(session_of[wait] != session_of[turn] for wait in self._play.schedule.waits(turn))
            for turn in self._play.sent
        )
