"""Chat messages and tools for fine-tuning, in OpenAI's form: a line a context.

A line is `{"messages": [...], "tools": [...]}`: the longest prompt of a context that was answered,
with its answer last; the earlier prompts of the context are its beginnings. A compacted or rewound
lane has several contexts, and sub-agents and side lanes have theirs: lines.jsonl says of each line
which they are, so that some can be left out. It also counts calls that no result follows at once
(interrupted, or not in the record): lines with such calls OpenAI refuses.

Nothing but what OpenAI takes stands in the lines: so no reasoning. Arguments are JSON in a string
there, which also lets Arrow hold them. Chat templates of open models mostly want an object: who
trains with those decodes them first (TRL 1.16 does not).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Record, Row, ranges
from traj.exporters.tally import Tally
from traj.workload.chat import Messages

if TYPE_CHECKING:
    from pathlib import Path
    from typing import IO

    from traj.workload.chat import Fronts
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "openai-jsonl"
SUMMARY = "OpenAI chat messages and tools for fine-tuning, a line a context; an archive"
HARNESS = "OpenAI chat fine-tuning, datasets 5"
PROOF = "loaded"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = archive.TAKES
CARRIES = ("text", "tools")
DROPS = {
    "answer": "answers that the last prompt of their context does not hold",
    "attachment": "images and documents are not stored, so their messages go without them",
    "failed_turn": "requests that failed have no answer to learn from",
    "front": "requests with another system prompt, or other tools, than their context's last",
    "reasoning": "messages whose reasoning is left out: OpenAI takes none",
    "timing": "times have no place",
    "tool_definition": "a provider's own tool is left out: it is no function",
    "unsent": "messages that no line holds",
    "usage": "tokens have no place",
    "waits": "requests that waited for another lane: lines know nothing of each other",
}
FILE = "conversations.jsonl"
LINES = "lines.jsonl"


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes conversations.jsonl, and lines.jsonl, which says what each line is."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / LINES).open("wb") as notes:
        for play in phase:
            _Writer(play, phase.load.fronts, tally, lines, notes).write()
    return tally


class _Writer:
    """Writes one trajectory's lines."""

    def __init__(
        self, play: Play, fronts: Fronts, tally: Tally, lines: IO[bytes], notes: IO[bytes]
    ) -> None:
        self.play, self.record, self.fronts, self.tally = play, Record(play), fronts, tally
        self.lines, self.notes = lines, notes
        self.messages = Messages(play.rows.messages)
        self.held = bytearray(len(self.record.messages))

    def write(self) -> None:
        last: dict[tuple[int, int], Row] = {}
        for turn in self.record.turns:
            if turn["output"] is not None:
                last[turn["lane"], turn["context"]] = turn
        for turn in last.values():
            self._line(turn)
        archive.count_trajectory(self.tally, self.play, len(last))
        self._count(last)

    def _line(self, turn: Row) -> None:
        import orjson

        numbers = [number for start, stop in ranges(turn) for number in range(start, stop)]
        numbers.append(turn["output"])
        messages = [self.messages.message(number, reasoning=False) for number in numbers]
        system = self.fronts.systems.get(turn["system_id"])
        if system is not None:
            messages.insert(0, {"role": "system", "content": system})
        line: Row = {"messages": messages}
        tools = self.fronts.tools.get(turn["tools_id"])
        if tools:  # OpenAI refuses an empty list
            line["tools"] = tools
        self.lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
        names = ("trajectory_id", "turn", "lane", "lane_kind", "lane_name", "context")
        note = {"line": self.tally.sessions} | {name: turn[name] for name in names}
        note["unanswered_calls"] = _unanswered(messages)
        self.notes.write(orjson.dumps(note, option=orjson.OPT_APPEND_NEWLINE))
        self.tally.sessions += 1
        self.tally.messages += len(numbers)
        archive.count_turn(self.tally, self.play, turn["turn"])
        for number in numbers:
            self.held[number] = 1

    def _count(self, last: dict[tuple[int, int], Row]) -> None:
        turns, tally = self.record.turns, self.tally
        held = [row for row in self.record.messages if self.held[row["message"]]]
        tally.lose("attachment", sum(len(one["attachments"] or ()) for one in held))
        tally.lose("reasoning", sum(one["reasoning"] is not None for one in held))
        answers = {turn["output"] for turn in turns} - {None}
        left = [number for number, found in enumerate(self.held) if not found]
        tally.lose("answer", sum(number in answers for number in left))
        tally.lose("unsent", sum(number not in answers for number in left))
        answered = [turn for turn in turns if turn["output"] is not None]
        tally.lose("failed_turn", len(turns) - len(answered))
        for turn in answered:
            of = last[turn["lane"], turn["context"]]
            tally.lose("front", any(turn[x] != of[x] for x in ("system_id", "tools_id")))
            waits = [self.record.turns[wait]["lane"] for wait in turn["wait_for"]]
            tally.lose("waits", any(lane != turn["lane"] for lane in waits))
        calls = [call for found in self.record.calls.values() for call in found]
        tally.lose("timing", sum(one["start_us"] is not None for one in [*turns, *calls]))
        tally.lose("usage", sum(turn["usage_source"] != "none" for turn in turns))
        used = {turn["tools_id"] for turn in last.values()}
        tally.lose("tool_definition", sum(self.fronts.lost_tools.get(x, 0) for x in used))


def _unanswered(messages: list[Row]) -> int:
    """Calls without their results right behind them; those of the last message await theirs."""
    found = 0
    waiting: set[str] = set()
    for message in messages:
        if message["role"] == "tool":
            waiting.discard(message["tool_call_id"])
        else:
            found += len(waiting)
            waiting = {call["id"] for call in message.get("tool_calls", ())}
    return found
