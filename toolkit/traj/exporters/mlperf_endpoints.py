"""The agentic dataset of MLCommons' endpoints benchmark (`inference-endpoint`): flat JSONL.

A line is a message, or the results of one answer's tool calls; a conversation's lines stand
together, `turn` counts them from 1. Written by the benchmark's source, as it stood in autumn 2026
(no package of it is published):

- Roles alternate: user, assistant, then tool or user. Every user and tool line is a request: its
  prompt is all that stands before, recorded answers included. So a request adds one line: messages
  that came together are joined in it, and a prompt that begins with a history (a rewind, a fork)
  has that as text in its first line.
- `delay_seconds` is slept before the request, after the answer before it has come
  (`inject_tool_delay`). `system` and `tools` stand in a conversation's first line.
- `max_completion_tokens` is all that is said of an answer's length: nothing makes engines go on.
- Conversations begin in an order that is shuffled, `target_concurrency` at a time.

`benchmark.yaml` sets this; its salt is off, since prefixes stand in the text already.
"""

from __future__ import annotations

from itertools import pairwise
from typing import IO, TYPE_CHECKING, Any

from traj.exporters import growing, read_back, sessions
from traj.exporters.growing import Growing, as_text
from traj.exporters.tally import Tally
from traj.workload import turns as ranges
from traj.workload.cache_simulation import Part, Prompt
from traj.workload.prompts import Spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play
    from traj.workload.prompts import Prompts

NAME = "mlperf-endpoints"
SUMMARY = "MLCommons endpoints' agentic JSONL: recorded text, tools, delays; capped output lengths"
HARNESS = "mlcommons/endpoints 0.1 (source of 2026-10)"
PROOF = "read"
TEXT = True
CARRIES = ("text", "delays", "tools")
DROPS = {
    **growing.DROPS,
    "blank": "messages without text, which the format refuses: a blank is sent",
    "call_id": "tool calls without an id in the record: the format wants one, so they share one",
    "flattened": "conversations that begin with answers: their history goes as one user message",
    "merged": "messages that go as part of the one beside them: a request adds one line",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "output_cap": "requests whose answer may end before its recorded length: it is a cap",
}
FILE = "conversations.jsonl"
CONFIG = "benchmark.yaml"
BLANK = " "
NO_ID = "none"


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set: benchmark.yaml reads them."""
    del tally, options
    return f"inference-endpoint benchmark from-config --config {CONFIG}"


def write(phase: Phase, out: Path) -> Tally:
    """Writes conversations.jsonl, benchmark.yaml and sessions.jsonl."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            assert play.prompts is not None
            writer = _Writer(play, play.prompts, tally, lines)
            for number, conversation in enumerate(writer.growing.conversations):
                name = f"{play.name}.c{number}"
                writer.write(name, conversation)
                sessions.note(notes, name, play, conversation)
            writer.growing.count(tally)
    if phase.options.output == "forced":
        tally.lose("output_cap", len(tally.output_tokens))
    (out / CONFIG).write_text(_config(phase.options, max(tally.output_tokens, default=1)))
    return tally


def _config(options: LoadOptions, most: int) -> str:
    import json

    model = json.dumps(options.model) if options.model else '"${MODEL}"'  # YAML reads JSON
    return f"""\
name: traj
version: "1.0"
type: online
model_params:
  name: {model}
  tokenizer_name: "${{TOKENIZER}}"
  streaming: "on"
  max_new_tokens: {most}
datasets:
  - name: traj
    type: performance
    path: {FILE}
    agentic_inference:
      inject_tool_delay: true
      enable_salt: false
settings:
  load_pattern:
    type: agentic_inference
    target_concurrency: 1
endpoint_config:
  endpoints:
    - "${{URL}}"
  api_type: openai
report_dir: results
"""


class _Writer:
    """Writes one play's conversations."""

    def __init__(self, play: Play, prompts: Prompts, tally: Tally, lines: IO[bytes]) -> None:
        self._play, self._prompts, self._tally, self._lines = play, prompts, tally, lines
        self.growing = Growing(play, self._goes_on)

    def write(self, name: str, conversation: list[int]) -> None:
        prompts, first = self._prompts, conversation[0]
        rows = [self._first(first)]
        for before, turn in pairwise(conversation):
            answer, *rest = map(prompts.message, prompts.added(before, turn))
            rows += [self._answer(answer), self._added(rest)]
        last = self._play.turns["output"][conversation[-1]]
        rows.append(self._answer(prompts.message(Spoken(last))))
        for number, row in enumerate(rows):
            turn = conversation[number // 2]
            # In every line: a column with gaps would be read as one of floats.
            row["max_completion_tokens"] = self._play.output_tokens(turn)
            if number % 2 == 0:
                tools = prompts.tools(turn)
                if tools and (number == 0 or tools is not prompts.tools(first)):
                    row["tools"] = tools
                if gap := self.growing.gaps_us[turn]:
                    row["delay_seconds"] = gap / 1e6
            self._line({"conversation_id": name, "turn": number + 1, **row})

    def _goes_on(self, before: int, turn: int) -> bool:
        """Whether a request adds an answer, and what can go in one line."""
        if not self._prompts.extends(before, turn):
            return False
        turns, columns = self._play.turns, self._play.messages
        added = ranges.added(turns.ranges(before), turns.ranges(turn)) or []
        answer, *rest = [number for start, stop in added for number in range(start, stop)]
        roles = {columns["role"][number] for number in rest}
        if columns["role"][answer] != "assistant" or not roles or "assistant" in roles:
            return False
        return bool(columns["tool_calls"][answer]) == ("tool" in roles)

    def _first(self, turn: int) -> dict[str, Any]:
        """A conversation's first line: a whole prompt."""
        messages = [self._prompts.message(one) for one in self._prompts.whole(turn)]
        count = next(
            (at for at, one in enumerate(messages) if one["role"] != "system"), len(messages)
        )
        systems, rest = messages[:count], messages[count:]
        row = {"role": "user", "content": self._joined(rest)}
        if system := _text(systems):
            row["system"] = system
        if any(one["role"] != "user" for one in rest):
            self._tally.lose("flattened")
        else:
            self._merge(len(rest) - 1)
        self._merge(len(systems) - 1)
        return row

    def _added(self, messages: list[dict[str, Any]]) -> dict[str, Any]:
        """The line of what a request adds behind the answer."""
        results: list[tuple[str, list[dict[str, Any]]]] = []
        said: list[dict[str, Any]] = []
        for message in messages:
            if message["role"] == "tool":
                # What stands before the first result goes into that one.
                said = [message] if results else [*said, message]
                results.append((message["tool_call_id"] or NO_ID, said))
            else:
                said.append(message)
        if results:
            self._merge(len(messages) - len(results))
            found = [{"tool_call_id": call, "content": _text(one)} for call, one in results]
            return {"role": "tool", "tool_results": found}
        self._merge(len(messages) - 1)
        return {"role": "user", "content": self._joined(messages)}

    def _answer(self, message: dict[str, Any]) -> dict[str, Any]:
        row = {key: value for key, value in message.items() if value is not None}
        calls = row.get("tool_calls", ())
        if nameless := sum(not call["id"] for call in calls):
            row["tool_calls"] = [{**call, "id": call["id"] or NO_ID} for call in calls]
            self._tally.lose("call_id", nameless)
        if not row.get("content") and "tool_calls" not in row:
            row["content"] = BLANK
            self._tally.lose("blank")
        return row

    def _joined(self, messages: list[dict[str, Any]]) -> str:
        text = _text(messages)
        self._tally.lose("blank", not text)
        return text or BLANK

    def _merge(self, count: int) -> None:
        self._tally.lose("merged", max(0, count))

    def _line(self, row: dict[str, Any]) -> None:
        import orjson

        self._tally.messages += 1
        self._lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))


def _text(messages: list[dict[str, Any]]) -> str:
    return "\n\n".join(text for text in map(as_text, messages) if text)


# Indices of a line's parts: its message is 0, tool results follow; tools have their own.
_SYSTEM = read_back.TOOLS - 1


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, conversation by conversation."""
    plays = sessions.plays(out)
    counts: dict[str, int] = {}
    history: list[tuple[str, Part]] = []
    first = tools = Part(())
    sent = 0  # how much of the history the prompt before had
    for place, row in read_back.lines(out / FILE):
        own = Part(read_back.tool_texts(row.get("tools", ())), place + read_back.TOOLS)
        if row["turn"] == 1:
            history, first, sent = [], own, 0
            if "system" in row:
                history.append(("system", Part((row["system"],), place + _SYSTEM)))
        for index, texts in enumerate(_texts(row)):
            history.append((row["role"], Part(texts, place + index)))
        if row["role"] == "assistant":
            continue
        play = plays[row["conversation_id"]]
        number = counts.get(play, 0)
        now = own if own.texts else first
        if sent and now.texts == tools.texts:
            yield Prompt(phase, play, [part for _, part in history[sent:]], number - 1)
        else:
            yield Prompt(phase, play, read_back.in_order(history, now))
        counts[play] = number + 1
        tools, sent = now, len(history)


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    row, index = read_back.line_at(out / FILE, place)
    if index == read_back.TOOLS:
        return read_back.tool_texts(row["tools"])
    return (row["system"],) if index == _SYSTEM else _texts(row)[index]


def _texts(row: dict[str, Any]) -> list[tuple[str, ...]]:
    return [read_back.texts(one) for one in row.get("tool_results") or [row]]
