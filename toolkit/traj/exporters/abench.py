"""agentic-bench's `abench-session-jsonl-v1`: the recorded text, as sessions that only grow.

A line is a session: `system_prompt` (dropped when it is read, so empty here) and turns, each with
the messages that it adds and the answer that was recorded. As agentic-bench 0.2 replays it, each
found by running it:

- Messages have a role and a text, nothing else. `system` passes where it stands, so a prompt's
  front (prefix, fill, system prompt) is the first message and arrives; every other role becomes
  `user`. Tool definitions are not sent: they go as text behind the system prompt, tool calls and
  reasoning as text of the answer (abench's own data does so with calls).
- `pre_gap_ms` is taken for the time between two steps of an agent: it sleeps `pre_gap_ms - 1000 *
  output_tokens / rate`, where the rate is that of `source.model` in its own table. So a gap is the
  wait plus that time, and the model named is one of the table; `recorded_models` has the real ones.
- Sessions are shuffled, and played by `--max-concurrency` workers; the first gap is slept too.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

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

NAME = "abench"
SUMMARY = "agentic-bench sessions: recorded text, delays, forced output lengths; tools as text"
HARNESS = "agentic-bench 0.2"
PROOF = "replayed"
TEXT = True
WHOLE_ROWS = True  # for the provider's cached_tokens
CARRIES = ("text", "delays", "output_length")
DROPS = {
    **growing.DROPS,
    "calls_as_text": "answers whose tool calls go as text: a message has nothing but its text",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "model_name": "sessions that name a model of abench's own table in place of the recorded one, "
    "so that the generation time which it takes off each gap is known",
    "reasoning_as_text": "answers whose reasoning goes as text",
    "tool_role": "tool results, which abench sends in the user's name and without their call",
    "tools_as_text": "requests whose tool definitions go as text behind the system prompt",
}
FILE = "abench.jsonl"
# Of abench's recording_rates.json, in tokens a second. Any of its models would do.
RATE_MODEL, RATE = "zai/glm-5.2", 84.6


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    ends = "" if options.output == "forced" else " --extra-request-body '{\"ignore_eos\": false}'"
    return (
        f'abench run --base-url "$URL" --model {model} --tokenizer "$TOKENIZER" '
        f"--dataset-path {FILE} --num-sessions {tally.sessions} --max-concurrency 1 "
        f"--warmup-requests 0{ends} --output-file results.jsonl"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes abench.jsonl and sessions.jsonl."""
    import orjson

    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            assert play.prompts is not None
            writer = _Writer(play, play.prompts, tally)
            for number, conversation in enumerate(writer.growing.conversations):
                name = f"{play.name}.c{number}"
                session = writer.session(name, conversation)
                lines.write(orjson.dumps(session, option=orjson.OPT_APPEND_NEWLINE))
                sessions.note(notes, name, play, conversation)
            writer.growing.count(tally)
    return tally


class _Writer:
    """Makes one play's sessions."""

    def __init__(self, play: Play, prompts: Prompts, tally: Tally) -> None:
        self._play, self._prompts, self._tally = play, prompts, tally
        self._cached: list[int | None] = play.rows.turns.column("cached_tokens").to_pylist()
        self.growing = Growing(play, self._goes_on)

    def session(self, name: str, conversation: list[int]) -> dict[str, Any]:
        prompts, turns = self._prompts, self._play.turns
        delta = [self._message(prompts.message(one)) for one in prompts.whole(conversation[0])]
        self._put_tools(conversation, delta)
        found: list[dict[str, Any]] = []
        for index, turn in enumerate(conversation):
            if index + 1 < len(conversation):
                answer, *rest = map(prompts.message, prompts.added(turn, conversation[index + 1]))
            else:
                last = Spoken(turns["output"][turn])
                answer, rest = prompts.message(last), []
            found.append(self._turn(index, turn, delta, answer))
            delta = [self._message(one) for one in rest]
        models = sorted({turns["model"][turn] for turn in conversation} - {None})
        self._tally.lose("model_name", models != [RATE_MODEL])
        source = {"dataset": "traj", "agent": self._play.agent, "model": RATE_MODEL, "trial": 0}
        source["recorded_models"] = models
        return {"session_id": name, "source": source, "system_prompt": "", "turns": found}

    def _goes_on(self, before: int, turn: int) -> bool:
        """Whether a prompt is the one before, an answer, and something more."""
        if not self._prompts.extends(before, turn):
            return False
        if self._prompts.tools(before) is not self._prompts.tools(turn):
            return False
        turns = self._play.turns
        added = ranges.added(turns.ranges(before), turns.ranges(turn))
        assert added
        return bool(self._play.messages["role"][added[0][0]] == "assistant")

    def _turn(
        self, index: int, turn: int, delta: list[dict[str, Any]], answer: dict[str, Any]
    ) -> dict[str, Any]:
        play, output = self._play, self._play.output_tokens(turn)
        line = {
            "index": index,
            "input_delta": delta,
            "assistant_text": self._text(answer),
            "input_tokens": play.input_tokens(turn),
            "output_tokens": output,
            "pre_gap_ms": self.growing.gaps_us[turn] / 1000 + 1000 * output / RATE,
        }
        if self._cached[turn] is not None:
            line["cached_tokens"] = self._cached[turn]
        if answer.get("tool_calls"):
            line["tool_calls"] = answer["tool_calls"]
        self._tally.messages += len(delta) + 1
        return line

    def _message(self, message: dict[str, Any]) -> dict[str, Any]:
        self._tally.lose("tool_role", message["role"] == "tool")
        return {"role": message["role"], "content": self._text(message)}

    def _text(self, message: dict[str, Any]) -> str:
        self._tally.lose("calls_as_text", "tool_calls" in message)
        self._tally.lose("reasoning_as_text", bool(message.get("reasoning_content")))
        return as_text(message)

    def _put_tools(self, conversation: list[int], delta: list[dict[str, Any]]) -> None:
        import orjson

        tools = self._prompts.tools(conversation[0])
        if not tools:
            return
        self._tally.lose("tools_as_text", len(conversation))
        text = orjson.dumps(tools).decode()
        if delta and delta[0]["role"] == "system":
            delta[0]["content"] = "\n\n".join(filter(None, (delta[0]["content"], text)))
        else:
            delta.insert(0, {"role": "system", "content": text})


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, session by session."""
    plays = sessions.plays(out)
    counts: dict[str, int] = {}
    for place, session in read_back.lines(out / FILE):
        play = plays[session["session_id"]]
        parts: list[Part] = []
        after: int | None = None
        index = 0
        for turn in session["turns"]:
            for text in (message["content"] for message in turn["input_delta"]):
                parts.append(Part((text,) if text else (), place + index))
                index += 1
            yield Prompt(phase, play, parts, after)
            after = counts.get(play, 0)
            counts[play] = after + 1
            text = turn["assistant_text"]
            parts = [Part((text,) if text else (), place + index)]
            index += 1


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    session, index = read_back.line_at(out / FILE, place)
    texts: list[str] = []
    for turn in session["turns"]:
        texts += [message["content"] for message in turn["input_delta"]]
        texts.append(turn["assistant_text"])
    return [texts[index]] if texts[index] else []
