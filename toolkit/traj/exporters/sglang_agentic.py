"""SGLang's `agentic-trace` (`sglang.benchmark.serving`): what each round adds; replies are live.

The file is one JSON object. A conversation is a list of rounds, each with `messages`, what it adds
to the one before, and `prompt_tokens`, which nothing reads but a person. As SGLang 0.5.23 sends it,
each found by running it:

- Of a message its role and text are sent, nothing else; tools could only be the same for all.
- The engine's reply joins the history. It is as long as `--sharegpt-output-len` says, one number
  for all requests: the mean of the recorded lengths, so that they have the same sum. End of
  sequence is ignored unless `--disable-ignore-eos` is given, as it is under `--output capped`.
- Rounds follow each other at once, conversations `--max-concurrency` at a time in the file's order.
- A conversation may begin with recorded answers: they are sent as they stand.

One conversation stands in one line, so that the file can be read in pieces.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from traj.exporters import live_replies, sessions
from traj.exporters.live_replies import Replied, Requests
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import Part, Prompt

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "sglang-agentic"
SUMMARY = "SGLang agentic-trace: recorded questions and results, live replies of one length"
HARNESS = "sglang 0.5.23"
PROOF = "replayed"
TEXT = True
CARRIES = ("text",)
DROPS = {
    **live_replies.DROPS,
    "output_length": "requests whose answer is not as long as recorded: one length is for all",
}
FILE = "agentic_trace.json"
_REPLY = " the"  # a token wherever English is known; stands for a live reply's


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    length = tally.output_tokens[0] if tally.output_tokens else 1
    ends = "" if options.output == "forced" else " --disable-ignore-eos"
    return (
        f"python -m sglang.benchmark.serving --backend sglang-oai-chat "
        f'--base-url "$URL" --model {model} --tokenizer "$TOKENIZER" '
        f"--dataset-name agentic-trace --dataset-path {FILE} --num-prompts {tally.sessions} "
        f"--sharegpt-output-len {length} --max-concurrency 1 --warmup-requests 0{ends} "
        f"--output-file results.jsonl"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes agentic_trace.json and sessions.jsonl."""
    import orjson

    tally, requests = Tally(), Requests()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        lines.write(b'{"conversations":[')
        between = b"\n"
        for play in phase:
            assert play.prompts is not None
            replied = Replied(play, play.prompts, tally)
            for number, conversation in enumerate(replied.conversations):
                rounds: list[dict[str, Any]] = []
                bases = replied.bases(conversation)
                for index, turn in enumerate(conversation):
                    messages = (
                        replied.added(conversation[index - 1], turn)
                        if index
                        else replied.first(turn)
                    )
                    tokens = play.input_tokens(turn)
                    rounds.append({"messages": messages, "prompt_tokens": tokens})
                    requests.add(bases[index], index, play.output_tokens(turn))
                    tally.messages += len(messages)
                lines.write(between + orjson.dumps(rounds))
                between = b",\n"
                sessions.note(notes, f"{play.name}.c{number}", play, conversation)
            replied.count()
        length = requests.mean_output()
        lines.write(b'\n],"metadata":' + orjson.dumps({"output_tokens": length}) + b"}\n")
    for base, replies, output in zip(
        requests.bases, requests.replies, requests.outputs, strict=True
    ):
        sent = base + replies * length
        live_replies.send(tally, phase.options.max_context, sent, length)
        tally.lose("output_length", output != length)
    return tally


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, conversation by conversation; of a live reply, its length."""
    plays = list(sessions.plays(out).values())
    reply = _reply(out)
    counts: dict[str, int] = {}
    for play, (place, rounds) in zip(plays, live_replies.rows(out / FILE), strict=True):
        parts: list[Part] = []
        after: int | None = None
        index = 0
        for one in rounds:
            for text in (message["content"] for message in one["messages"]):
                parts.append(Part((text,) if text else (), place + index))
                index += 1
            yield Prompt(phase, play, parts, after)
            after = counts.get(play, 0)
            counts[play] = after + 1
            parts = [Part((reply,), place + index)]
            index += 1


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    rounds, index = live_replies.row_at(out / FILE, place)
    texts: list[str] = []
    for one in rounds:
        texts += [message["content"] for message in one["messages"]]
        if index == len(texts):
            return [_reply(out)]
        texts.append("")
    return [texts[index]] if texts[index] else []


def _reply(out: Path) -> str:
    """As many tokens as a live reply has."""
    import orjson

    with (out / FILE).open("rb") as file:
        first = file.readline()
        file.seek(-min((out / FILE).stat().st_size, 200), 2)
        last = file.read().splitlines()[-1]
    return _REPLY * int(orjson.loads(first + last)["metadata"]["output_tokens"])
