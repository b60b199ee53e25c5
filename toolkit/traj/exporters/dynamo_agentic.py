"""Dynamo's `agentic_mooncake` version 2 (ai-dynamo 1.6): requests and exactly what each waits for.

A header line, then a line a request. A play is a trajectory, a session one of its lanes.
`dependencies` are the requests that must be complete, with the time from the last completion to
this request on each of them: Dynamo waits for the latest of completion and delay. A request that
waits for nothing has the time of its start in `not_before_ms`; all trajectories begin at 0, or with
`agentic_lanes` that many run at a time, each beginning when the one before it has ended.

Ids are those of blocks of 64 tokens, as many as hold the prompt; the last, partial one is shared by
no other prompt. Equal ids mean equal beginnings, in all plays: the header must say `local`, but
Dynamo's replay gives equal ids equal tokens throughout the file.
"""

from __future__ import annotations

import hashlib
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

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

NAME = "dynamo-agentic"
SUMMARY = "Dynamo agentic_mooncake v2: lengths, cache blocks, all dependencies; no text"
HARNESS = "ai-dynamo 1.6"
PROOF = "replayed"
TEXT = False
CARRIES = ("lengths", "hashes", "delays", "sub_agents", "output_length")
DROPS = {"counted_length": COUNTED_LENGTH, "no_clock": NO_CLOCK}
FILE = "agentic_mooncake.jsonl"
BLOCK = 64
UNKNOWN_MODEL = "unknown"


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder with MODEL set; nothing is sent to any engine."""
    del tally, options
    return (
        "python -c 'import json, os; from dynamo.replay import run_trace_replay; "
        f'print(json.dumps(run_trace_replay("{FILE}", trace_format="agentic_mooncake", '
        f"trace_block_size={BLOCK}, agentic_lanes=1, "
        'execution_model=os.environ["MODEL"]).summary))\''
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes agentic_mooncake.jsonl and sessions.jsonl."""
    import orjson

    tally = Tally()
    digest = hashlib.sha256(phase.load.dataset.manifest.to_json()).hexdigest()
    header = {
        "schema": "dynamo.agentic_mooncake",
        "version": 2,
        "block_size": BLOCK,
        "hash_id_scope": "local",
        "source": {"format": "traj", "digest": digest},
    }
    plays = 0
    with (out / FILE).open("wb") as lines, (out / sessions.FILE).open("wb") as notes:
        lines.write(orjson.dumps(header, option=orjson.OPT_APPEND_NEWLINE))
        for play in phase:
            _write(play, plays, tally, lines, notes)
            tally.play(play)
            plays += bool(play.sent)
    return tally


def prompts(out: Path, phase: int) -> Iterator[BlockPrompt]:
    """A phase's requests in the order of the file."""
    plays = sessions.plays(out)
    for _, line in islice(read_back.lines(out / FILE), 1, None):  # the first is the header
        tokens = line["input_length"]
        ids = line["hash_ids"][: tokens // BLOCK]
        yield BlockPrompt(phase, plays[line["session_id"]], ids, BLOCK, tokens)


def _write(play: Play, ordinal: int, tally: Tally, lines: IO[bytes], notes: IO[bytes]) -> None:
    import orjson

    timeline = Timeline(play)
    lanes = timeline.lanes()
    spawned = {run.turns[0]: run.spawned_at for run in play.schedule.runs}
    blocks = PromptBlocks(play, BLOCK)
    for prompt in blocks:
        turn = prompt.turn
        spawned_at = spawned.get(turn)
        waits = [_dependency(play, wait, turn, spawned_at) for wait in play.schedule.waits(turn)]
        line: dict[str, Any] = {
            "request_id": _request(play, turn),
            "play_id": play.name,
            "source_play_ordinal": ordinal,
            "session_id": _session(play, turn),
            "model": play.model(turn) or UNKNOWN_MODEL,
            "input_length": prompt.tokens,
            "output_length": play.output_tokens(turn),
            "hash_ids": prompt.all_ids(),
            "not_before_ms": 0 if waits else timeline.start_us[turn] / 1000,
        }
        if None not in (play.turns["start_us"][turn], play.turns["end_us"][turn]):
            took_us = timeline.end_us[turn] - timeline.start_us[turn]
            line["recorded_api_time_ms"] = took_us / 1000
        if waits:
            line["dependencies"] = waits
        lines.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
    for turns in lanes.values():
        sessions.note(notes, _session(play, turns[0]), play, turns)
    tally.sessions += len(lanes)
    tally.lose("counted_length", blocks.counted)
    tally.lose("no_clock", timeline.unclocked)


def _dependency(play: Play, wait: int, turn: int, spawned_at: int | None) -> dict[str, Any]:
    lanes = play.turns["lane"]
    relation = "spawn" if wait == spawned_at else "join"
    return {
        "request_id": _request(play, wait),
        "trigger": "completion",
        "delay_ms": play.delay_us(turn) / 1000,
        "relation": "sequence" if lanes[wait] == lanes[turn] else relation,
    }


def _request(play: Play, turn: int) -> str:
    return f"{play.name}.t{turn}"


def _session(play: Play, turn: int) -> str:
    return f"{play.name}.l{play.turns['lane'][turn]}"
