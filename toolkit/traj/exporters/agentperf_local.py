"""agentperf-local's replays (Artificial Analysis): every request as it was, one after the other.

A manifest lists tasks, a task's trace has a line a request with its whole prompt, so any prompt can
be sent, and the files grow with the square of a session. One user is played: tasks in their order,
each request when the one before has ended. So a task is a trajectory, its sub-agents in line: the
requests in the order in which they began, each after its own delay.

As agentperf-local 0.3 replays it, each found by running it:
- A message keeps role, content, name, tool calls and call id; other fields are dropped, so
  reasoning that was sent again stands in front of the text.
- Tool time stands behind a request, as tool calls: with `--tool-mode fixed_delay` it sleeps the sum
  of their `duration_ms`. The one call written there is the next request's delay, user included.
- `exact` lengths: `max_tokens` with `ignore_eos`, up to `--max-output-tokens` (16,384 if not set).
- A prefix of its own would stand in front of all (`--cache-isolation`): the command turns it off.
- It counts answers with o200k_base, which tiktoken downloads where it has not got it.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from traj.exporters import read_back, sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import Part, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orjson import Fragment

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play
    from traj.workload.prompts import Prompts, Spoken

NAME = "agentperf-local"
SUMMARY = "Artificial Analysis' agentperf-local: recorded text, tools, delays, one user in turn"
HARNESS = "agentperf-local 0.3"
PROOF = "replayed"
TEXT = True
CARRIES = ("text", "delays", "tools", "output_length")
DROPS = {
    "first_delay": "time before a trajectory's first request: tool time stands behind a request",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "reasoning_as_text": "messages whose reasoning goes in front of their text",
    "serialised": "requests sent after one that they did not wait for: one user, no sub-agents "
    "beside their parent",
}
MANIFEST = "manifest.json"
TRACES = "traces"
LARGEST = 16_384  # its own limit to answers where none is set
_ROW_BITS, _INDEX_BITS = 18, 18  # of a part's place; the rest is the task


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    policy = "exact" if options.output == "forced" else "recorded"
    most = max([LARGEST, *tally.output_tokens])
    return (
        f'agentperf-local run {MANIFEST} --base-url "$URL/v1" --model {model} --output-dir results '
        f"--tool-mode fixed_delay --no-cache-isolation --output-token-policy {policy} "
        f"--max-output-tokens {most}"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes manifest.json, traces/ and sessions.jsonl."""
    import orjson

    tally = Tally()
    tasks = []
    (out / TRACES).mkdir()
    with (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            assert play.prompts is not None
            if play.sent:
                tasks.append(_Writer(play, play.prompts, tally).write(out))
                sessions.note(notes, play.name, play, play.sent)
            tally.play(play)
    manifest = {
        "name": f"traj-phase-{phase.number}",
        "source": "traj",
        "mode": "single_user_agentic_replay",
        "version": 1,
        "tasks": tasks,
    }
    options = orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE
    (out / MANIFEST).write_bytes(orjson.dumps(manifest, option=options))
    return tally


class _Writer:
    """Writes one play as a task."""

    def __init__(self, play: Play, prompts: Prompts, tally: Tally) -> None:
        self._play, self._prompts, self._tally = play, prompts, tally
        self._folded: dict[Spoken, Fragment] = {}
        self._last: dict[int, tuple[int, list[Spoken]]] = {}  # by lane: turn and prompt

    def write(self, out: Path) -> dict[str, Any]:
        """Writes the trace, and gives the manifest's entry."""
        import orjson

        play, tally, sent = self._play, self._tally, self._play.sent
        trace = f"{TRACES}/{play.name}.jsonl"
        delays = [play.delay_us(turn) / 1000 for turn in sent[1:]] + [0.0]
        with (out / trace).open("wb") as lines:
            for index, (turn, delay_ms) in enumerate(zip(sent, delays, strict=True)):
                row = self._row(index, turn, delay_ms)
                lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
                before = sent[index - 1] if index else None
                tally.lose("serialised", index > 0 and before not in play.schedule.waits(turn))
        tally.sessions += 1
        tally.lose("first_delay", play.delay_us(sent[0]) > 0)
        tally.lose("model", len({play.turns["model"][turn] for turn in sent}) > 1)
        return {
            "task_id": play.name,
            "trace": trace,
            "source_recording": play.trajectory_id,
            "model_calls": len(sent),
            "tool_calls": sum(delay > 0 for delay in delays),
            "total_recorded_tool_delay_ms": sum(delays),
            "required_context_tokens": max(
                play.input_tokens(turn) + play.output_tokens(turn) for turn in sent
            ),
        }

    def _row(self, index: int, turn: int, delay_ms: float) -> dict[str, Any]:
        play = self._play
        messages = [self._message(one) for one in self._prompt(turn)]
        self._tally.messages += len(messages)
        return {
            "version": 1,
            "turn_id": f"{play.name}:{turn}",
            "task_id": play.name,
            "conversation_id": play.name,
            "conversation_idx": index,
            "messages": messages,
            "tools": self._prompts.tools(turn) or [],
            "target_output_tokens": play.output_tokens(turn),
            "recorded_prompt_tokens": play.input_tokens(turn),
            "recorded_completion_tokens": play.output_tokens(turn),
            "simulated_tool_delay_ms_after": delay_ms,
            "recorded_tool_calls_after": [{"duration_ms": delay_ms}] if delay_ms else [],
        }

    def _prompt(self, turn: int) -> list[Spoken]:
        lane, prompts = self._play.turns["lane"][turn], self._prompts
        before, earlier = self._last.get(lane, (turn, []))
        if earlier and prompts.extends(before, turn):
            spoken = [*earlier, *prompts.added(before, turn)]
        else:
            spoken = prompts.whole(turn)
        self._last[lane] = turn, spoken
        return spoken

    def _message(self, spoken: Spoken) -> Fragment:
        import orjson

        found = self._folded.get(spoken)
        if found is None:
            message = self._prompts.message(spoken)
            if reasoning := message.get("reasoning_content"):
                self._tally.lose("reasoning_as_text")
                texts = [text for text in (reasoning, message["content"]) if text]
                message = {**message, "content": "\n".join(texts)}
                del message["reasoning_content"]
            found = self._folded[spoken] = orjson.Fragment(orjson.dumps(message))
        return found


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, task by task; a prompt that begins with the one before goes
    on from it."""
    plays = sessions.plays(out)
    for task, path in enumerate(_traces(out)):
        messages: list[Any] = []
        tools: list[Any] = []
        for number, (_, row) in enumerate(read_back.lines(path)):
            place = (task << _ROW_BITS | number) << _INDEX_BITS
            found = [
                (one["role"], Part(read_back.texts(one), place + index))
                for index, one in enumerate(row["messages"])
            ]
            goes_on = number > 0 and tools == row["tools"]
            if goes_on and messages == row["messages"][: len(messages)]:
                parts, after = [part for _, part in found[len(messages) :]], number - 1
            else:
                front = Part(read_back.tool_texts(row["tools"]), place + read_back.TOOLS)
                parts, after = read_back.in_order(found, front), None
            yield Prompt(phase, plays[row["task_id"]], parts, after)
            messages, tools = row["messages"], row["tools"]


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    rest, index = divmod(place, 1 << _INDEX_BITS)
    task, number = divmod(rest, 1 << _ROW_BITS)
    rows = (row for _, row in read_back.lines(_traces(out)[task]))
    row = next(row for at, row in enumerate(rows) if at == number)
    if index == read_back.TOOLS:
        return read_back.tool_texts(row["tools"])
    return read_back.texts(row["messages"][index])


def _traces(out: Path) -> list[Path]:
    import orjson

    tasks = orjson.loads((out / MANIFEST).read_bytes())["tasks"]
    return [out / task["trace"] for task in tasks]
