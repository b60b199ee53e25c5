"""vLLM's multi-turn benchmark (`benchmarks/multi_turn` of its source): users' turns; live replies.

The file is a JSON list of conversations, `id` and `messages`, in which user and assistant alternate
and a message has a role and a text. As vLLM 0.28 sends it, each found by running it:

- A request is everything up to a user's message. So all that a request adds is one message, and a
  conversation's first prompt (prefix, system prompt, tools, any history) is one user message too.
- The reply takes the place of the recorded answer in the history. The recorded one is counted with
  the harness's tokenizer, and that is the cap on the reply. `min_tokens` is worked out too but not
  sent, so replies may end before.
- Requests follow each other at once. A client with room for several conversations breaks off those
  that run when the last has been given out, so each client has one at a time.

The script is not in vLLM's wheel: VLLM_SOURCE says where its source lies. One conversation stands
in one line, so that the file can be read in pieces.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from traj.exporters import live_replies, sessions
from traj.exporters.growing import as_text
from traj.exporters.live_replies import Replied
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import Part, Prompt
from traj.workload.prompts import Spoken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "vllm-multi-turn"
SUMMARY = "vLLM multi-turn benchmark: recorded questions and results, live capped replies"
HARNESS = "vLLM 0.28 (benchmarks/multi_turn of its source)"
PROOF = "replayed"
TEXT = True
CARRIES = ("text",)
DROPS = {
    **live_replies.DROPS,
    "flattened": "conversations that begin with answers: their history is in their first message",
    "merged": "messages that go as part of the one before: a request adds one",
    "output_cap": "requests whose reply may end before its recorded length: it is a cap",
    "output_length": "requests whose recorded length is not that of their answer's text, which "
    "vLLM counts",
    "system_as_user": "conversations whose system prompt goes in the user's name",
}
FILE = "conversations.json"


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL, TOKENIZER and VLLM_SOURCE set."""
    del tally
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        'python "$VLLM_SOURCE/benchmarks/multi_turn/benchmark_serving_multi_turn.py" '
        f'--input-file {FILE} --url "$URL" --model "$TOKENIZER" --served-model-name {model} '
        "--num-clients 1 --max-active-conversations 1 --no-early-stop "
        "--stats-json-output results.json"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes conversations.json and sessions.jsonl."""
    import orjson

    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        lines.write(b"[")
        between = b"\n"
        for play in phase:
            assert play.prompts is not None
            replied = Replied(play, play.prompts, tally)
            for number, conversation in enumerate(replied.conversations):
                name = f"{play.name}.c{number}"
                messages: list[dict[str, str]] = []
                bases, replies = replied.bases(conversation), 0
                for index, turn in enumerate(conversation):
                    if index:
                        new = replied.added(conversation[index - 1], turn)
                    else:
                        new = _first(replied.first(turn), tally)
                    tally.lose("merged", len(new) - 1)
                    answer = play.prompts.message(Spoken(play.turns["output"][turn]))
                    messages.append({"role": "user", "content": _joined(new)})
                    messages.append({"role": "assistant", "content": as_text(answer)})
                    reply = max(1, replied.answer_tokens(turn))
                    live_replies.send(
                        tally, phase.options.max_context, bases[index] + replies, reply
                    )
                    replies += reply
                    tally.lose("output_length", reply != play.output_tokens(turn))
                tally.messages += len(messages)
                lines.write(between + orjson.dumps({"id": name, "messages": messages}))
                between = b",\n"
                sessions.note(notes, name, play, conversation)
            replied.count()
        lines.write(b"\n]\n")
    if phase.options.output == "forced":
        tally.lose("output_cap", len(tally.output_tokens))
    return tally


def _first(messages: list[dict[str, str]], tally: Tally) -> list[dict[str, str]]:
    tally.lose("system_as_user", messages[0]["role"] == "system")
    tally.lose("flattened", any(one["role"] == "assistant" for one in messages))
    return messages


def _joined(messages: list[dict[str, Any]]) -> str:
    return "\n\n".join(one["content"] for one in messages if one["content"])


def prompts(out: Path, phase: int) -> Iterator[Prompt]:
    """The prompts of a phase's files, conversation by conversation; live replies are taken to be
    as the recorded answers."""
    plays = sessions.plays(out)
    counts: dict[str, int] = {}
    for place, conversation in live_replies.rows(out / FILE):
        play = plays[conversation["id"]]
        parts: list[Part] = []
        after: int | None = None
        for index, message in enumerate(conversation["messages"]):
            text = message["content"]
            parts.append(Part((text,) if text else (), place + index))
            if message["role"] == "user":
                yield Prompt(phase, play, parts, after)
                after = counts.get(play, 0)
                counts[play] = after + 1
                parts = []


def read(out: Path, place: int) -> Sequence[str]:
    """The texts of a part again."""
    conversation, index = live_replies.row_at(out / FILE, place)
    text = conversation["messages"][index]["content"]
    return [text] if text else []
