"""Dynamo's `mooncake` (ai-dynamo 1.6): a line a request, each with the ids of its whole prompt.

For Dynamo's simulated replay, which draws a prompt's tokens from the ids and times it on a model of
an engine. A session is a lane: its first request has a `timestamp` (milliseconds; all trajectories
begin at 0), each next one a `delay` from the end of the one before, sub-agents' time included.
With `replay_concurrency` the timestamps count for nothing and that many sessions run at a time.
`dynamo-agentic` keeps who waits for whom; this format is read by more programs.

Ids are those of blocks of 512 tokens, as many as hold the prompt; the last, partial one is shared
by no other prompt, so of a shared beginning up to 511 tokens are not seen. Equal ids mean equal
beginnings in all plays. aiperf reads lines with `session_id` in another way: see aiperf-mooncake.
"""

from __future__ import annotations

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

NAME = "dynamo-mooncake"
SUMMARY = "Dynamo mooncake: lengths, cache blocks and times, a line a request; no text"
HARNESS = "ai-dynamo 1.6"
PROOF = "replayed"
TEXT = False
CARRIES = ("lengths", "hashes", "delays", "output_length")
DROPS = {
    "counted_length": COUNTED_LENGTH,
    "model": "one model answers: those of a trajectory that used several are not told apart",
    "no_clock": NO_CLOCK,
    "wait": "requests that wait for another lane: sessions know nothing of each other",
}
FILE = "mooncake.jsonl"
BLOCK = 512


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder; nothing is sent to any engine."""
    del tally, options
    return (
        "python -c 'import json; from dynamo.replay import run_trace_replay; "
        f'print(json.dumps(run_trace_replay("{FILE}", trace_format="mooncake", '
        f"trace_block_size={BLOCK}).summary))'"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes mooncake.jsonl and sessions.jsonl."""
    tally = Tally()
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            _write(play, tally, lines, notes)
            tally.play(play)
    return tally


def prompts(out: Path, phase: int) -> Iterator[BlockPrompt]:
    """A phase's requests in the order of the file."""
    plays = sessions.plays(out)
    for _, line in read_back.lines(out / FILE):
        tokens = line["input_length"]
        ids = line["hash_ids"][: tokens // BLOCK]
        yield BlockPrompt(phase, plays[line["session_id"]], ids, BLOCK, tokens)


def _write(play: Play, tally: Tally, lines: IO[bytes], notes: IO[bytes]) -> None:
    import orjson

    timeline = Timeline(play)
    lanes = timeline.lanes()
    last: dict[int, int] = {}  # by lane: the turn before
    blocks = PromptBlocks(play, BLOCK)
    for prompt in blocks:
        turn = prompt.turn
        lane = play.turns["lane"][turn]
        line = {
            "request_id": f"{play.name}.t{turn}",
            "session_id": _session(play, lane),
            "input_length": prompt.tokens,
            "output_length": play.output_tokens(turn),
            "hash_ids": prompt.all_ids(),
        }
        if lane in last:
            line["delay"] = timeline.pause_us(last[lane], turn) / 1000
        else:
            line["timestamp"] = timeline.start_us[turn] / 1000
        last[lane] = turn
        lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    for lane, turns in lanes.items():
        sessions.note(notes, _session(play, lane), play, turns)
    tally.sessions += len(lanes)
    tally.lose("counted_length", blocks.counted)
    tally.lose("no_clock", timeline.unclocked)
    tally.lose("wait", timeline.waits_elsewhere(lanes.values()))
    tally.lose("model", len({play.turns["model"][turn] for turn in play.sent}) > 1)


def _session(play: Play, lane: int) -> str:
    return f"{play.name}.l{lane}"
