"""Conversations in which the engine's own answers stand in place of the recorded ones.

Some harnesses are given what a conversation is asked and put the replies that they get into its
history. Recorded answers then stand where a conversation begins with some (a rewind, a sub-agent
that was given history) and nowhere else, and prompts are longer or shorter than recorded by what
the replies are. Nothing waits between the requests of a conversation, or for another one.

A lane goes on in a new conversation where a prompt is not the one before, its answer, and then
messages of others; see `growing`. Messages are a role and a text.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

from traj.exporters.growing import Growing, as_text
from traj.workload import turns as ranges

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from traj.exporters.tally import Tally
    from traj.workload.play import Play
    from traj.workload.prompts import Prompts

DROPS = {
    "calls_as_text": "recorded answers in a conversation's beginning whose tool calls go as text",
    "context": "requests that live replies make longer than --max-context",
    "delay": "requests before which time passed: they are sent as soon as the reply before came",
    "live_reply": "answers that later prompts repeat: the engine's own reply stands in their place",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "reasoning_as_text": "recorded answers in a conversation's beginning whose reasoning goes as "
    "text",
    "tool_role": "tool results, which go in the user's name: the reply before them called no tool",
    "tools_as_text": "requests whose tool definitions go as text behind the system prompt",
    "wait": "requests that waited for something outside their conversation: nothing waits for it",
}
_INDEX_BITS = 18  # of a place: which part of its conversation


class Replied:
    """One play's conversations, what each of their requests adds, and how long they get."""

    def __init__(self, play: Play, prompts: Prompts, tally: Tally) -> None:
        self._play, self._prompts, self._tally = play, prompts, tally
        self._growing = Growing(play, self._goes_on)
        self.conversations = self._growing.conversations

    def first(self, turn: int) -> list[dict[str, str]]:
        """A whole prompt, with tool definitions behind what leads it as system."""
        import orjson

        made = [self._prompts.message(one) for one in self._prompts.whole(turn)]
        for message in made:
            self._tally.lose("calls_as_text", "tool_calls" in message)
            self._tally.lose("reasoning_as_text", bool(message.get("reasoning_content")))
        found = self._said(made)
        if tools := self._prompts.tools(turn):
            text = orjson.dumps(tools).decode()
            if found[0]["role"] == "system":
                found[0]["content"] = "\n\n".join(filter(None, (found[0]["content"], text)))
            else:
                found.insert(0, {"role": "system", "content": text})
        return found

    def added(self, before: int, turn: int) -> list[dict[str, str]]:
        """What a request adds behind the reply to the one before."""
        self._tally.lose("live_reply")
        more = self._prompts.added(before, turn)[1:]
        return self._said(map(self._prompts.message, more))

    def answer_tokens(self, turn: int) -> int:
        """Tokens of the recorded answer's text, reasoning and calls included."""
        return int(self._play.messages["tokens"][self._play.turns["output"][turn]])

    def bases(self, conversation: list[int]) -> list[int]:
        """By request of a conversation, the prompt's tokens without those of the replies in it."""
        turns, messages, found, replied = self._play.turns, self._play.messages, [], 0
        for index, turn in enumerate(conversation):
            if index:
                start, _ = self._added(conversation[index - 1], turn)[0]
                kept = turns["earlier_reasoning"][turn] == "kept"
                replied += messages["tokens"][start]
                replied -= 0 if kept else messages["reasoning_tokens"][start]
            found.append(max(1, self._play.input_tokens(turn) - replied))
        return found

    def count(self) -> None:
        """Counts the play, its requests aside."""
        play, tally, growing = self._play, self._tally, self._growing
        tally.losses_of(play)
        if not play.sent:
            return
        turns = play.turns
        tally.trajectory(
            len(play.sent),
            sum(turns["counted_input_tokens"][turn] or 0 for turn in play.sent),
            sum(turns["counted_cached_tokens"][turn] or 0 for turn in play.sent),
        )
        tally.sessions += len(self.conversations)
        tally.lose("wait", growing.lost_waits)
        delayed = sum(gap > 0 for gap in growing.gaps_us.values())
        tally.lose("delay", delayed + growing.first_delays)
        tally.lose("tools_as_text", sum(bool(self._prompts.tools(turn)) for turn in play.sent))
        tally.lose("model", len({turns["model"][turn] for turn in play.sent}) > 1)

    def _goes_on(self, before: int, turn: int) -> bool:
        if not self._prompts.extends(before, turn):
            return False
        if self._prompts.tools(before) is not self._prompts.tools(turn):
            return False
        roles = self._play.messages["role"]
        added = [
            roles[number]
            for start, stop in self._added(before, turn)
            for number in range(start, stop)
        ]
        return added[0] == "assistant" and len(added) > 1 and "assistant" not in added[1:]

    def _added(self, before: int, turn: int) -> ranges.Ranges:
        turns = self._play.turns
        return ranges.added(turns.ranges(before), turns.ranges(turn)) or []

    def _said(self, messages: Iterable[dict[str, Any]]) -> list[dict[str, str]]:
        found = []
        for message in messages:
            role = message["role"]
            self._tally.lose("tool_role", role == "tool")
            role = "user" if role == "tool" else role
            found.append({"role": role, "content": as_text(message)})
        return found


class Requests:
    """Requests whose replies' length is known when all have been seen."""

    def __init__(self) -> None:
        self.bases = array("q")
        self.replies = array("q")  # how many are in the prompt
        self.outputs = array("q")  # as recorded

    def add(self, base: int, replies: int, output: int) -> None:
        self.bases.append(base)
        self.replies.append(replies)
        self.outputs.append(output)

    def mean_output(self) -> int:
        """One length for all answers that leaves the recorded tokens in sum; 1 for no requests."""
        return max(1, round(sum(self.outputs) / max(1, len(self.outputs))))


def send(tally: Tally, max_context: int | None, input_tokens: int, output_tokens: int) -> None:
    """Counts a request as it is sent."""
    tally.request(input_tokens, output_tokens, 0)
    beyond = max_context is not None and input_tokens + output_tokens > max_context
    tally.lose("context", beyond)


def rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The conversations of a JSON file that has one a line, and nothing of them in its first and
    last line, with their places; an index in the conversation is added to a place.
    """
    import orjson

    with path.open("rb") as file:
        offset = len(file.readline())
        line = file.readline()
        for after in file:
            yield offset << _INDEX_BITS, orjson.loads(line.rstrip(b",\n"))
            offset += len(line)
            line = after


def row_at(path: Path, place: int) -> tuple[Any, int]:
    """The conversation of a place, and the index in it."""
    import orjson

    with path.open("rb") as file:
        file.seek(place >> _INDEX_BITS)
        line = file.readline()
    return orjson.loads(line.rstrip(b",\n")), place & ((1 << _INDEX_BITS) - 1)
