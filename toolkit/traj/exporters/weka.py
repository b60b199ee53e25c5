"""Weka traces, the format of kv-cache-tester: lengths, times and cache blocks, no text.

A file of `traces/` is a trajectory. Lane 0's requests lie in `requests`; each other run (sub-agent
or side lane) is a `subagent` entry with its own, all of type "n", since inference-perf reads no
other inside an entry.

- `in`, `out`: the provider's figures; where they are missing, the dataset's counts.
- `t`, `api_time`: as recorded, in seconds. Where derived clocks overlap, a request is moved to
  after what it waited for, since readers find out by time who waits for whom.
- `think_time`: `delay_us`, counted from the end of what the request waited for.
- `hash_ids`: whole blocks of 64 tokens, floor(in / 64) of them; `traj.workload.blocks` defines
  them. Tokens that the record lacks (`unseen_input_tokens` of the first context of a lane kind)
  lie in front of everything and are the same in all lanes of that kind: real system prompts are.
  A prompt that begins with another lane's messages (a compaction) has that lane's front. Ids count
  within a trace: aiperf draws a block's text from (seed, trace id, id) and Dynamo's replay keeps
  traces apart too, so nothing is shared by trajectories, plays or phases (`local_ids`).

As aiperf 0.13 replays it: a run starts when the request of lane 0 listed before it has ended, and
is joined by the first request of lane 0 that began after it ended; a request that had to wait for a
run is sent at once, its think time is left out.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from traj.exporters import sessions
from traj.exporters.tally import Tally
from traj.workload.cache_simulation import BlockPrompt
from traj.workload.prompt_blocks import COUNTED_LENGTH, PromptBlocks, block_id
from traj.workload.schedule import Run
from traj.workload.timeline import NO_CLOCK, Timeline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "weka"
SUMMARY = "Weka (kv-cache-tester) traces: lengths, cache blocks, times, sub-agents; no text"
HARNESS = "aiperf 0.13"
PROOF = "replayed"
TEXT = False
CARRIES = ("lengths", "hashes", "delays", "sub_agents", "output_length")
DROPS = {
    "counted_length": COUNTED_LENGTH,
    "join_delay": "requests that waited for a nested run: aiperf sends them at once when it ends",
    "nesting": "entries do not nest: what a sub-agent started lies beside the sub-agent",
    "outlives": "nested runs that go on after the main lane's last request: aiperf 0.13 may lose "
    "their delayed requests and then not end (--ignore-trace-delays helps, aiperf-dag has no such)",
    "local_ids": "traces whose front others would share (none, shared-system, mlperf): ids count "
    "within a trace alone, and readers draw text by trace and id",
    "no_clock": NO_CLOCK,
}
FOLDER = "traces"
BLOCK = 64
STOPS = {"tool_use": "tool_use", "end_turn": "end_turn"}
UNKNOWN_MODEL = "unknown"


def command(tally: Tally, options: LoadOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type chat --streaming --use-server-token-count "
        f"--input-file {FOLDER} --custom-dataset-type weka_trace --use-think-time-only "
        f"--extra-inputs ignore_eos:true --dataset-sampling-strategy sequential "
        f"--concurrency 1 --num-sessions {tally.trajectories}"
    )


def write(phase: Phase, out: Path) -> Tally:
    """Writes traces/ and sessions.jsonl."""
    tally = Tally()
    folder = out / FOLDER
    folder.mkdir()
    with (out / sessions.FILE).open("wb") as notes:
        for play in phase:
            trace = _Trace(play, tally)
            tally.play(play)
            if play.sent:
                (folder / f"{play.name}.json").write_bytes(trace.to_json())
                sessions.note(notes, play.name, play, play.sent)
    return tally


def prompts(out: Path, phase: int) -> Iterator[BlockPrompt]:
    """A phase's requests by time: readers draw other text for each trace."""
    import orjson

    for name, play in sessions.plays(out).items():
        trace = orjson.loads((out / FOLDER / f"{name}.json").read_bytes())
        first = block_id(trace["id"]) >> 1
        listed = [one.get("requests", [one]) for one in trace["requests"]]
        found = sorted((one for inner in listed for one in inner), key=lambda one: float(one["t"]))
        for request in found:
            ids = [first + one for one in request["hash_ids"]]
            yield BlockPrompt(phase, play, ids, BLOCK, request["in"])


class _Trace:
    """One play's trace."""

    def __init__(self, play: Play, tally: Tally) -> None:
        self.play = play
        self.tally = tally
        self.turns = play.turns
        self.messages = play.messages
        self.schedule = play.schedule
        self.sent = play.sent
        self.timeline = Timeline(play)
        self.start_us, self.end_us = self.timeline.start_us, self.timeline.end_us
        self.blocks = PromptBlocks(play, BLOCK, shared=False)
        self.parts = self.blocks.parts
        self.hash_ids = {prompt.turn: prompt.ids for prompt in self.blocks}

    def to_json(self) -> bytes:
        import orjson

        # Where the main agent got no answer at all, the first lane that did is in its place.
        first = 0 if 0 in {run.lane for run in self.schedule.runs} else self.schedule.runs[0].lane
        main = [run for run in self.schedule.runs if run.lane == first]
        turns = [turn for run in main for turn in run.turns]
        nested: dict[int, list[Run]] = {turn: [] for turn in turns}
        for run in self.schedule.runs:
            if run.lane != first:
                nested[self._listed_after(run, first, turns)].append(run)
        requests: list[dict[str, Any]] = []
        for turn in turns:
            requests.append(self._request(turn))
            entries = [self._entry(run, turn) for run in nested[turn]]
            requests += sorted(entries, key=lambda entry: (entry["t"], entry["agent_id"]))
        self._count(turns)
        trace = {
            "id": self.play.name,
            "models": self._models(self.sent),
            "block_size": BLOCK,
            "hash_id_scope": "local",
            **self._front(turns[0]),
            "requests": requests,
        }
        return orjson.dumps(trace, option=orjson.OPT_APPEND_NEWLINE)

    def _count(self, main: list[int]) -> None:
        tally = self.tally
        tally.sessions += len(self.schedule.runs)
        tally.lose("counted_length", self.blocks.counted)
        tally.lose("no_clock", self.timeline.unclocked)
        tally.lose("local_ids", self.play.options.prefix not in ("aa", "context"))
        last = self.start_us[main[-1]]
        tally.lose(
            "outlives", sum(self.start_us[run.turns[-1]] > last for run in self.schedule.runs)
        )
        joins = {run.joined_at for run in self.schedule.runs}
        held = [turn for turn in main if turn in joins and self.play.delay_us(turn)]
        tally.lose("join_delay", len(held))
        owners = [run.owner for run in self.schedule.runs if run.lane != 0]
        tally.lose("nesting", sum(owner is not None and owner.lane > 0 for owner in owners))

    def _listed_after(self, run: Run, lane: int, main: list[int]) -> int:
        """The request of the main lane that a nested run is listed after, and so starts after."""
        if run.owner is not None and run.owner.lane == lane and run.spawned_at is not None:
            return run.spawned_at
        started = [turn for turn in main if self.start_us[turn] <= self.start_us[run.turns[0]]]
        return started[-1] if started else main[0]

    def _entry(self, run: Run, after: int) -> dict[str, Any]:
        """A nested run. One that began before all of lane 0 begins with it."""
        late = max(0, self.start_us[after] - self.start_us[run.turns[0]])
        requests = [self._request(turn, late) for turn in run.turns]
        start = min(self.end_us[after], self.start_us[run.turns[0]] + late)
        end = self.end_us[run.turns[-1]] + late
        again = f"-{run.number}" if run.number else ""
        lane = self.turns["lane_name"][run.turns[0]] or self.turns["lane_kind"][run.turns[0]]
        answers = [self.turns["output"][turn] for turn in run.turns]
        calls = [self.messages["tool_calls"][answer] for answer in answers]
        return {
            "t": _seconds(start),
            "type": "subagent",
            "agent_id": f"lane-{run.lane:03d}{again}",
            "subagent_type": lane,
            "duration_ms": (end - start) // 1000,  # down: a joining request must not seem earlier
            "total_tokens": sum(one["in"] + one["out"] for one in requests),
            "tool_use_count": sum(len(asked) for asked in calls if asked),
            "status": "completed",
            "requests": requests,
            "models": self._models(run.turns),
            **self._front(run.turns[0]),
        }

    def _request(self, turn: int, late_us: int = 0) -> dict[str, Any]:
        turns = self.turns
        answer_calls = self.messages["tool_calls"][turns["output"][turn]]
        ranges = turns.ranges(turn)
        result = bool(ranges) and self.messages["role"][ranges[-1][1] - 1] == "tool"
        output = "tool_use" if answer_calls else "text"
        return {
            "t": _seconds(self.start_us[turn] + late_us),
            "type": "n",
            "model": self._model(turn),
            "in": self.play.input_tokens(turn),
            "out": self.play.output_tokens(turn),
            "hash_ids": self.hash_ids[turn],
            "input_types": ["tool_result" if result else "text"],
            "output_types": [output],
            "stop": STOPS.get(turns["stop_reason"][turn] or output, ""),
            "api_time": _seconds(self.end_us[turn] - self.start_us[turn]),
            "think_time": _seconds(self.play.delay_us(turn)),
        }

    def _front(self, turn: int) -> dict[str, int]:
        """What stands before the messages; the part that the record lacks is mostly system prompt.

        Readers round the front up to whole blocks and want something left for the user.
        """
        room = (max(1, self.play.input_tokens(turn)) - 1) // BLOCK * BLOCK
        tools = min(room, self.parts.front(turn, "tools_id"))
        unseen = self.parts.unseen.get(self.parts.kind(turn), 0)
        system = min(room - tools, self.parts.front(turn, "system_id") + unseen)
        return {"tool_tokens": tools, "system_tokens": system}

    def _model(self, turn: int) -> str:
        return self.play.model(turn) or UNKNOWN_MODEL

    def _models(self, turns: list[int]) -> list[str]:
        return sorted({self._model(turn) for turn in turns})


def _seconds(us: int) -> float:
    return round(us / 1e6, 6)
