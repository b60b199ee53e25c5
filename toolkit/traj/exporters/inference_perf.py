"""inference-perf's `otel_trace_replay` (inference-perf 0.7): recorded text, a trace a trajectory.

A file holds the spans of a trajectory's requests, a line a span, each with its whole array of
messages: files grow with the square of a session's length, and inference-perf holds all of them in
memory as it starts. `config.yaml` switches off whatever rewrites a request: live answers in place
of recorded ones, forced tool choices, caps on waiting.

What a request waits for, and how long, inference-perf infers. So the spans' times and answers are
not the record's but made for that (see `told_waits`): with them it waits for what the record says,
and then for the delay, in whole milliseconds.

Where tools are sent, answers end by themselves (`ignore_eos` is false) and schemas are trimmed. So
tool definitions go as text behind the system prompt; with `--output capped` they go as tools.
"""

from __future__ import annotations

import shlex
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from traj.exporters import sessions, whole_prompts
from traj.exporters.tally import Tally
from traj.exporters.told_waits import ToldWaits
from traj.exporters.whole_prompts import Request, WholePrompts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from orjson import Fragment

    from traj.workload.cache_simulation import Prompt
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play
    from traj.workload.prompts import Spoken

NAME = "inference-perf"
SUMMARY = "inference-perf otel_trace_replay: recorded text, delays, forced output lengths, DAG"
HARNESS = "inference-perf 0.7.0"
PROOF = "replayed"
TEXT = True
CARRIES = ("text", "delays", "sub_agents", "output_length")
DROPS = {
    "first_delay": "time before a request that waited for nothing: it is sent at once",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "reasoning_as_text": "answers whose reasoning goes as text: inference-perf drops it elsewhere",
    "tools_as_text": "requests whose tool definitions go as text behind the system prompt: answers "
    "beside real ones end by themselves",
    "tool_schema": "requests whose tool definitions inference-perf trims to what it knows of JSON "
    "Schema",
    "wait": "waits that inference-perf does not infer: no call stands in the waiting prompt alone",
}
FOLDER = "traces"
CONFIG = "config.yaml"
_PLACES = 1 << 18  # of a file's parts


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    del tally
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'inference-perf --config_file {CONFIG} --server.base_url "$URL" '
        f"--server.model_name {model} "
        f'--tokenizer.pretrained_model_name_or_path "$TOKENIZER"'
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes traces/, config.yaml and sessions.jsonl."""
    tally = Tally()
    (out / FOLDER).mkdir()
    longest_ms = 0
    with (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            if play.sent:
                longest_ms = max(longest_ms, _Trace(play, tally).write(out))
                sessions.note(notes, play.name, play, play.sent)
                tally.sessions += 1
            tally.play(play)
            tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)
    (out / CONFIG).write_text(_config(phase.options, tally, longest_ms))
    return tally


def _config(options: LoadOptions, tally: Tally, longest_ms: int) -> str:
    return f"""\
api:
  type: chat
  streaming: true
server:
  type: vllm
  base_url: set by --server.base_url
  ignore_eos: {str(options.output == "forced").lower()}
data:
  type: otel_trace_replay
  otel_trace_replay:
    trace_directory: {FOLDER}
    disable_output_substitution: true
    tool_choice_mode: as_recorded
    override_tool_call_max_tokens: false
    max_wait_ms: {longest_ms}
    predecessor_wait_timeout_sec: 0
load:
  type: trace_session_replay
  base_seed: 0
  # A request that waits takes a place: there is one for each.
  worker_max_concurrency: {max(1, len(tally.input_tokens))}
  stages:
    - concurrent_sessions: 1
      num_sessions: {max(1, tally.sessions)}
storage:
  local_storage:
    path: results
"""


class _Trace:
    """One play's trace."""

    def __init__(self, play: Play, tally: Tally) -> None:
        assert play.prompts is not None
        self._play, self._prompts, self._tally = play, play.prompts, tally
        self._as_text = play.options.output == "forced"
        self._waits = ToldWaits(play)
        self._whole = WholePrompts(play)
        self._json: dict[Spoken, Fragment] = {}
        self._fronts: dict[tuple[Spoken | None, int], Fragment] = {}

    def write(self, out: Path) -> int:
        """Writes the file, and gives the longest delay in milliseconds."""
        import orjson

        play = self._play
        with (out / FOLDER / f"{play.name}.json").open("wb") as file:
            head = orjson.dumps({"session_id": play.name, "trace_id": play.name, "spans": []})
            file.write(head[:-2])
            for number, turn in enumerate(play.sent):
                file.write(b",\n" if number else b"\n")
                file.write(orjson.dumps(self._span(turn)))
            file.write(b"\n]}\n")
        self._tally.lose("wait", self._waits.lost)
        self._tally.lose("first_delay", self._waits.first_delays())
        return max(map(self._waits.delay_ms, play.sent))

    def _span(self, turn: int) -> dict[str, Any]:
        import orjson

        play = self._play
        messages = self._messages(turn)
        self._tally.messages += len(messages)
        attributes: dict[str, Any] = {
            "gen_ai.operation.name": "chat",
            "gen_ai.agent.id": f"lane-{play.turns['lane'][turn]}",
            "gen_ai.request.model": play.model(turn) or "unknown",
            "gen_ai.usage.input_tokens": play.input_tokens(turn),
            "gen_ai.usage.output_tokens": play.output_tokens(turn),
            "gen_ai.input.messages": orjson.dumps(messages).decode(),
        }
        tools = self._prompts.tools(turn)
        if tools and self._as_text:
            self._tally.lose("tools_as_text")
        elif tools:
            self._tally.lose("tool_schema")
            attributes["gen_ai.tool.definitions"] = orjson.dumps(tools).decode()
        if turn in self._waits.marks:
            # Without a name it is no answer that inference-perf expects.
            mark = self._waits.marks[turn]
            part = {"type": "tool_call", "id": mark, "name": "", "arguments": f"after {turn}"}
            answer = [{"role": "assistant", "parts": [part]}]
            attributes["gen_ai.output.messages"] = orjson.dumps(answer).decode()
        return {
            "trace_id": play.name,
            "span_id": f"{turn:06d}",
            "name": "chat",
            "start_time": _time(self._waits.start_ms[turn]),
            "end_time": _time(self._waits.end_ms[turn]),
            "attributes": attributes,
        }

    def _messages(self, turn: int) -> list[Fragment]:
        spoken = self._whole.of(turn)
        tools = self._prompts.tools(turn)
        if not tools or not self._as_text:
            return [self._message(one) for one in spoken]
        front = spoken[0] if spoken else None
        if front is not None and self._prompts.message(front)["role"] != "system":
            front = None
        rest = [self._message(one) for one in (spoken[1:] if front else spoken)]
        return [self._front(front, tools), *rest]

    def _front(self, spoken: Spoken | None, tools: list[dict[str, Any]]) -> Fragment:
        """A system message with tool definitions."""
        import orjson

        key = spoken, id(tools)
        if key not in self._fronts:
            texts = [self._prompts.message(spoken)["content"]] if spoken else []
            texts.append(orjson.dumps(tools).decode())
            message = {"role": "system", "content": "\n\n".join(texts)}
            self._fronts[key] = orjson.Fragment(orjson.dumps(message))
        return self._fronts[key]

    def _message(self, spoken: Spoken) -> Fragment:
        import orjson

        if spoken not in self._json:
            message = self._prompts.message(spoken)
            if reasoning := message.get("reasoning_content"):
                self._tally.lose("reasoning_as_text")
                texts = [text for text in (reasoning, message["content"]) if text]
                message = {**message, "content": "\n".join(texts)}
                del message["reasoning_content"]
            self._json[spoken] = orjson.Fragment(orjson.dumps(message))
        return self._json[spoken]


def _time(ms: int) -> str:
    return (datetime(2000, 1, 1, tzinfo=UTC) + timedelta(milliseconds=ms)).isoformat()


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, trace by trace."""
    for number, (name, play) in enumerate(sessions.plays(out).items()):
        requests = _requests(out / FOLDER / f"{name}.json")
        yield from whole_prompts.prompts(requests, phase, play, number * _PLACES)


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    number = place // _PLACES
    name = list(sessions.plays(out))[number]
    requests = _requests(out / FOLDER / f"{name}.json")
    found = whole_prompts.prompts(requests, 0, "", number * _PLACES)
    return whole_prompts.texts_at(found, place)


def _requests(path: Path) -> Iterator[Request]:
    """The spans of a file, of which one at a time is in memory."""
    import orjson

    with path.open("rb") as file:
        next(file)
        for line in file:
            if line.startswith(b"{"):
                held = orjson.loads(line.rstrip(b",\n"))["attributes"]
                messages = orjson.loads(held["gen_ai.input.messages"])
                tools = orjson.loads(held.get("gen_ai.tool.definitions", "[]"))
                yield Request(held["gen_ai.agent.id"], messages, tools)
