"""vLLM's `timed_trace` (`vllm bench serve`, 0.28): a line a request with its time, in its order.

Requests are sent at their times, whether or not what they waited for has ended: all trajectories
begin at 0, so as many run at once as are exported (`--sample`). Nothing is a session to vLLM; the
names in `session_id` and `turn` are for people, it leaves them unread.

vLLM draws the tokens of each id from Python's hash of it, which is another in each process unless
PYTHONHASHSEED is set, as the command does; and it may try the first prompt out before it begins,
which the command forbids, since that one would be found in the cache. Ids are those of blocks of 16
tokens, as many as hold the prompt; the last, partial one is shared by no other prompt. Equal ids
mean equal beginnings in all plays.
"""

from __future__ import annotations

import shlex
from array import array
from typing import IO, TYPE_CHECKING

from traj.exporters import read_back, sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import BlockPrompt
from traj.workload.prompt_blocks import COUNTED_LENGTH, PromptBlocks
from traj.workload.timeline import NO_CLOCK, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "vllm-timed-trace"
SUMMARY = "vLLM bench serve timed_trace: lengths, cache blocks, requests at their recorded times"
HARNESS = "vLLM 0.28"
PROOF = "read"
TEXT = False
CARRIES = ("lengths", "hashes", "output_length")
DROPS = {
    "counted_length": COUNTED_LENGTH,
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "no_clock": NO_CLOCK,
    "wait": "requests that wait for another: each is sent at its time, whatever has ended by then",
}
FILE = "timed_trace.jsonl"
BLOCK = 16


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'PYTHONHASHSEED=0 vllm bench serve --backend vllm --base-url "$URL" '
        f'--endpoint /v1/completions --model {model} --tokenizer "$TOKENIZER" '
        f"--dataset-name timed_trace --dataset-path {FILE} "
        f"--timed-trace-chunk-hash-size {BLOCK} --self-timed --ready-check-timeout-sec 0 "
        f"--num-prompts {len(tally.input_tokens)}"
        + (" --ignore-eos" if options.output == "forced" else "")
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes timed_trace.jsonl and sessions.jsonl."""
    tally = Tally()
    aside = out / f"{FILE}.unsorted"
    with aside.open("w+b") as file:
        lines = _Lines(file)
        with (out / sessions.FILE).open("wb") as notes:
            for play in phase:
                _write(play, lines, tally, notes)
                tally.play(play)
        with (out / FILE).open("wb") as ordered:
            lines.copy(ordered)
    aside.unlink()
    return tally


def prompts(out: Path, phase: int) -> Iterator[BlockPrompt]:
    """A phase's requests, play after play."""
    places: dict[str, array[int]] = {}
    for place, line in read_back.lines(out / FILE):
        places.setdefault(line["session_id"], array("q")).append(place)
    for session, play in sessions.plays(out).items():
        for place in places[session]:
            line, _ = read_back.line_at(out / FILE, place)
            tokens = line["input_length"]
            ids = line["hash_ids"][: tokens // BLOCK]
            yield BlockPrompt(phase, play, ids, BLOCK, tokens)


class _Lines:
    """Lines with a time each, to be put in order: vLLM sleeps from line to line, so that one out of
    order would be late. Numbers alone are kept, the lines lie in a file.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._times_us, self._ends = array("q"), array("q")

    def add(self, time_us: int, line: bytes) -> None:
        self._file.write(line)
        self._times_us.append(time_us)
        self._ends.append(self._file.tell())

    def copy(self, ordered: IO[bytes]) -> None:
        for number in sorted(range(len(self._ends)), key=lambda one: self._times_us[one]):
            start = self._ends[number - 1] if number else 0
            self._file.seek(start)
            ordered.write(self._file.read(self._ends[number] - start))


def _write(play: Play, lines: _Lines, tally: Tally, notes: IO[bytes]) -> None:
    import orjson

    timeline, blocks = Timeline(play), PromptBlocks(play, BLOCK)
    for prompt in blocks:
        turn = prompt.turn
        line = {
            "timestamp": timeline.start_us[turn] / 1e6,
            "input_length": prompt.tokens,
            "output_length": play.output_tokens(turn),
            "hash_ids": prompt.all_ids(),
            "session_id": play.name,
            "turn": turn,
        }
        data = orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE)
        lines.add(timeline.start_us[turn], data)
    if play.sent:
        in_order = sorted(play.sent, key=lambda turn: timeline.start_us[turn])
        sessions.note(notes, play.name, play, in_order)
    tally.sessions += bool(play.sent)
    tally.lose("counted_length", blocks.counted)
    tally.lose("no_clock", timeline.unclocked)
    tally.lose("wait", sum(bool(play.schedule.waits(turn)) for turn in play.sent))
    tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)
