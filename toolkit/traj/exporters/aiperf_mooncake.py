"""aiperf's `mooncake_trace` (aiperf 0.13) in lengths: a turn says what it adds, not what it sends.

With `session_id` aiperf sends a turn's synthetic text behind all that the session held before, the
engine's own answers among it. So a line's `input_length` is the recorded prompt less what was sent
and less the answer that came: the prompt on the wire has the recorded length if answers are as long
as asked for and come back whole (no reasoning parser, which would take part of them away). A prompt
that repeats less of the earlier answer than that (providers drop reasoning) leaves nothing to add:
it is sent one token long beyond what is there (`longer`), and later turns add less for it.

A session is a run of prompts of one lane that only grow: sub-agents, and what follows a compaction,
are sessions of their own. `delay` is the time from the end of the session's turn before, with the
waiting for sub-agents; a first turn has a `timestamp` instead, which counts under
`--fixed-schedule` alone: there all trajectories begin together and lanes lie beside each other as
recorded. The command here plays session after session.

`hash_ids` of a first turn are those of the whole prompt, equal where prompts begin alike; a later
turn's stand for what it adds. The last block is partial and has an id of its own, since aiperf
wants one length an id. aiperf draws the text of an id by (seed, hash of the file, id).
"""

from __future__ import annotations

import hashlib
import shlex
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from traj.exporters import read_back, sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import BlockPrompt
from traj.workload.prompt_blocks import COUNTED_LENGTH, LaidPrompt, PromptBlocks, block_id
from traj.workload.timeline import NO_CLOCK, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "aiperf-mooncake"
SUMMARY = "aiperf mooncake_trace: lengths and cache blocks, a line a turn with what it adds"
HARNESS = "aiperf 0.13"
PROOF = "replayed"
TEXT = False
CARRIES = ("lengths", "hashes", "delays", "output_length")
DROPS = {
    "counted_length": COUNTED_LENGTH,
    "longer": "requests sent longer than recorded: what a session held before cannot be taken back",
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "no_clock": NO_CLOCK,
    "phases": "trajectories whose phases would share a front: aiperf draws text by file",
    "repeats": "sessions that begin with more of another than its first prompt: the rest is drawn "
    "anew, since the other's answers are in it",
    "shorter_answer": "requests behind answers that --output capped lets be shorter than recorded",
    "wait": "requests that wait for another session: sessions know nothing of each other",
}
FILE = "mooncake.jsonl"
BLOCK = 512


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type chat --streaming --use-server-token-count "
        f"--input-file {FILE} --custom-dataset-type mooncake_trace --isl-block-size {BLOCK} "
        f"--no-fixed-schedule --dataset-sampling-strategy sequential "
        f"--concurrency 1 --num-sessions {tally.sessions}"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes mooncake.jsonl and sessions.jsonl; the tally has the lengths that are sent."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            _Sessions(play, tally).write(lines, notes)
            tally.losses_of(play)
    return tally


def prompts(out: Path, phase: int) -> Iterator[BlockPrompt]:
    """A phase's requests. Of two sessions only the first prompts share anything: in later ones lie
    the engine's answers. Other files have other text.
    """
    plays = sessions.plays(out)
    with (out / FILE).open("rb") as file:
        scope = int(hashlib.file_digest(file, "sha256").hexdigest()[:15], 16)
    sent: dict[str, tuple[int, list[int]]] = {}  # by session: tokens held, ids of whole blocks
    for _, line in read_back.lines(out / FILE):
        session, more = line["session_id"], line["input_length"]
        if session not in sent:
            sent[session] = 0, [scope ^ one for one in line["hash_ids"][: more // BLOCK]]
        held, ids = sent[session]
        tokens, own = held + more, block_id(session) >> 1
        ids = [*ids, *range(own + len(ids), own + tokens // BLOCK)]
        sent[session] = tokens + line["output_length"], ids
        yield BlockPrompt(phase, plays[session], ids, BLOCK, tokens)


@dataclass(slots=True)
class _Session:
    """A session as far as it is written: `number` in its lane, and the tokens that it holds."""

    name: str
    number: int
    turns: list[int] = field(default_factory=list)
    tokens: int = 0


class _Sessions:
    """The sessions of one play, as they are written turn by turn."""

    def __init__(self, play: Play, tally: Tally) -> None:
        self.play = play
        self.tally = tally
        self.timeline = Timeline(play)
        self.blocks = PromptBlocks(play, BLOCK)
        self.sessions: list[_Session] = []
        self.of_lane: dict[int, _Session] = {}  # the last one
        self.seen: set[int] = set()  # blocks of all prompts
        self.seen_first: set[int] = set()  # of those prompts that begin a session

    def write(self, lines: IO[bytes], notes: IO[bytes]) -> None:
        import orjson

        for prompt in self.blocks:
            line = self._begin(prompt) if prompt.begins else self._go_on(prompt)
            lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
            self.seen.update(prompt.ids)
        for session in self.sessions:
            sessions.note(notes, session.name, self.play, session.turns)
        self._count()

    def _begin(self, prompt: LaidPrompt) -> dict[str, Any]:
        lane = self.play.turns["lane"][prompt.turn]
        number = self.of_lane[lane].number + 1 if lane in self.of_lane else 0
        session = _Session(f"{self.play.name}.l{lane}.p{number}", number)
        self.of_lane[lane] = session
        self.sessions.append(session)
        self.tally.lose("repeats", _front(prompt, self.seen) > _front(prompt, self.seen_first))
        self.seen_first.update(prompt.ids)
        line = self._line(session, prompt, prompt.tokens, prompt.all_ids(), 0)
        return line | {"timestamp": self.timeline.start_us[prompt.turn] / 1000}

    def _go_on(self, prompt: LaidPrompt) -> dict[str, Any]:
        session = self.of_lane[self.play.turns["lane"][prompt.turn]]
        more = prompt.tokens - session.tokens
        self.tally.lose("longer", more < 1)
        self.tally.lose("shorter_answer", self.play.options.output == "capped")
        more = max(1, more)
        # What is added is the same where all before it and its length are.
        end = prompt.all_ids()[-1]
        ids = [block_id("added", end, more, number) for number in range(-(-more // BLOCK))]
        pause_us = self.timeline.pause_us(session.turns[-1], prompt.turn)
        return self._line(session, prompt, more, ids, pause_us) | {"delay": pause_us / 1000}

    def _line(
        self, session: _Session, prompt: LaidPrompt, more: int, ids: list[int], delay_us: int
    ) -> dict[str, Any]:
        output = self.play.output_tokens(prompt.turn)
        self.tally.request(session.tokens + more, output, delay_us)
        session.turns.append(prompt.turn)
        session.tokens += more + output
        line: dict[str, Any] = {"session_id": session.name, "input_length": more}
        line |= {"output_length": output, "hash_ids": ids}
        if self.play.options.output == "forced":
            line["extra"] = {"ignore_eos": True, "min_tokens": output}
        return line

    def _count(self) -> None:
        play, tally = self.play, self.tally
        counted = ("counted_input_tokens", "counted_cached_tokens")
        sums = (sum(play.turns[name][turn] or 0 for turn in play.sent) for name in counted)
        tally.trajectory(len(play.sent), *sums)
        tally.sessions += len(self.sessions)
        tally.lose("wait", self.timeline.waits_elsewhere(one.turns for one in self.sessions))
        tally.lose("counted_length", self.blocks.counted)
        tally.lose("no_clock", self.timeline.unclocked)
        tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)
        shared = play.options.prefix in ("none", "shared-system")
        tally.lose("phases", shared and play.options.phases > 1 and bool(play.sent))


def _front(prompt: LaidPrompt, seen: set[int]) -> int:
    """How many blocks of a prompt's front were seen: ids stand for all that is before them."""
    return sum(block in seen for block in prompt.ids)
