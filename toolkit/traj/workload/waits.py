"""Which of a play's waits say something: those that no other wait of the same request implies.

For formats that hold a graph of requests and not conversations.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traj.workload.play import Play


class Waits:
    """The answered turns that each answered turn waits for.

    `direct`, by turn: the waits that are not over anyway when another one is, in order.
    """

    def __init__(self, play: Play) -> None:
        self.direct: dict[int, list[int]] = {}
        self._before: dict[int, int] = {}  # by turn: a bit for each turn that must have ended
        for turn in play.sent:  # a turn waits for earlier ones alone
            waits = play.schedule.waits(turn)
            implied = 0
            for wait in waits:
                implied |= self._before[wait]
            self.direct[turn] = [wait for wait in waits if not implied >> wait & 1]
            self._before[turn] = implied | sum(1 << wait for wait in waits)

    def follows(self, turn: int, wait: int) -> bool:
        """Whether a turn cannot be sent before the other has ended."""
        return bool(self._before[turn] >> wait & 1)
