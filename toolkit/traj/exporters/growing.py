"""Conversations that only grow, for harnesses whose sessions know nothing of each other.

A lane is cut where a prompt does not go on from the one before it (compaction, rewind, or what the
target cannot express), and each piece is a conversation of its own. Sub-agents are conversations
beside their parent's, and nothing can wait for them. So a request follows the one before it in its
conversation after the time that lay between them: where it waited for its lane alone, that is its
delay; where it waited for sub-agents, the time that those took in the record is part of it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traj.exporters.tally import Tally
    from traj.workload.play import Play

GoesOn = Callable[[int, int], bool]  # turn before in the lane, turn

DROPS = {
    "first_delay": "time before a request that waited for nothing: it is sent as the load begins",
    "wait": "requests that waited for something outside their conversation: conversations begin "
    "when there is room for them; what the record has between two requests of one is kept",
}


class Growing:
    """The conversations of one play, and the time before each request.

    `conversations` holds turns, in the order of their first ones. `gaps_us`, by turn: from the
    completion of the one before it in the conversation; for the first one, from the conversation's
    start.
    """

    def __init__(self, play: Play, goes_on: GoesOn) -> None:
        self.conversations: list[list[int]] = []
        self.gaps_us: dict[int, int] = {}
        self.first_delays = 0
        self.lost_waits = 0
        self._play = play
        self._before: dict[int, int] = {}
        last: dict[int, list[int]] = {}  # by lane
        for turn in play.sent:
            lane = play.turns["lane"][turn]
            conversation = last.get(lane)
            if conversation is None or not goes_on(conversation[-1], turn):
                conversation = last[lane] = []
                self.conversations.append(conversation)
            else:
                self._before[turn] = conversation[-1]
            conversation.append(turn)
        self._time()

    def count(self, tally: Tally) -> None:
        """Counts the play as it is sent, in place of `Tally.play`."""
        play, turns = self._play, self._play.turns
        tally.losses_of(play)
        if not play.sent:
            return
        for turn in play.sent:
            gap = self.gaps_us[turn]
            tally.request(play.input_tokens(turn), play.output_tokens(turn), gap)
        tally.trajectory(
            len(play.sent),
            sum(turns["counted_input_tokens"][turn] or 0 for turn in play.sent),
            sum(turns["counted_cached_tokens"][turn] or 0 for turn in play.sent),
        )
        tally.sessions += len(self.conversations)
        tally.lose("first_delay", self.first_delays)
        tally.lose("wait", self.lost_waits)
        tally.lose("model", len({turns["model"][turn] for turn in play.sent}) > 1)

    def _time(self) -> None:
        """Lets the schedule pass, with the recorded time for each answer."""
        play, starts, stops = self._play, self._play.turns["start_us"], self._play.turns["end_us"]
        ends: dict[int, int] = {}
        for turn in play.sent:
            waits, before = play.schedule.waits(turn), self._before.get(turn)
            delay = play.delay_us(turn)
            start = max(ends[wait] for wait in waits) + delay if waits else starts[turn] or 0
            took = 0
            if starts[turn] is not None and stops[turn] is not None:
                took = max(0, stops[turn] - starts[turn])
            ends[turn] = start + took
            if before is None:
                self.gaps_us[turn] = delay if waits else 0
                self.first_delays += bool(delay and not waits)
                self.lost_waits += bool(waits)
            else:
                self.gaps_us[turn] = max(0, start - ends[before])
                self.lost_waits += any(not self._held(wait, before) for wait in waits)

    def _held(self, wait: int, before: int) -> bool:
        """Whether a wait is over when an earlier turn of the conversation is."""
        lanes = self._play.turns["lane"]
        return wait == before or (wait < before and lanes[wait] == lanes[before])


def as_text(message: dict[str, Any]) -> str:
    """All that a chat message says, for harnesses that send its content alone."""
    texts = [message.get("reasoning_content"), message.get("content")]
    calls = [call["function"] for call in message.get("tool_calls") or ()]
    texts += [f"{call['name']} {call['arguments']}" for call in calls]
    return "\n".join(text for text in texts if text)
