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
  A prompt that begins with another lane's messages (a compaction) has that lane's front.

As aiperf 0.13 replays it: a run starts when the request of lane 0 listed before it has ended, and
is joined by the first request of lane 0 that began after it ended; a request that had to wait for a
run is sent at once, its think time is left out.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any

from traj.errors import UsageError
from traj.exporters.tally import Tally
from traj.workload.blocks import BLOCK, Blocks, Layout, Part
from traj.workload.parts import Parts
from traj.workload.schedule import Run, Schedule, spawned_lanes
from traj.workload.turns import Columns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from traj.dataset import Dataset, Rows
    from traj.exporters import ExportOptions

NAME = "weka"
SUMMARY = "Weka (kv-cache-tester) traces: lengths, cache blocks, times, sub-agents; no text"
CARRIES = (
    "input and output lengths",
    "which blocks of 64 tokens requests share",
    "request times, durations and delays",
    "sub-agents and side requests as nested runs",
)
DROPS = {
    "counted_length": "requests without the provider's figures have the dataset's own counts",
    "failed_turn": "no answer is recorded; the time it took is part of the next think time",
    "join_delay": "requests that waited for a nested run: aiperf sends them at once when it ends",
    "nesting": "entries do not nest: what a sub-agent started lies beside the sub-agent",
    "outlives": "nested runs that go on after the main lane's last request: aiperf 0.13 may lose "
    "their delayed requests and then not end (--ignore-trace-delays helps, aiperf-dag has no such)",
    "no_clock": "requests without recorded times lie where the delays put them",
}
FOLDER = "traces"
TURNS = (
    *("lane", "lane_kind", "lane_name", "wait_for", "start_us", "end_us", "delay_us", "output"),
    *("input", "earlier_reasoning", "system_id", "tools_id", "model", "usage_source"),
    *("input_tokens", "output_tokens", "stop_reason", "unseen_input_tokens"),
    *("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"),
)
MESSAGES = ("lane", "role", "tokens", "reasoning_tokens", "sha256", "tool_calls")
STOPS = {"tool_use": "tool_use", "end_turn": "end_turn"}
UNKNOWN_MODEL = "unknown"


def command(tally: Tally, options: ExportOptions) -> str:
    """Run in the export's folder, with URL, MODEL and TOKENIZER set."""
    model = shlex.quote(options.model) if options.model else '"$MODEL"'
    return (
        f'aiperf profile --model {model} --url "$URL" --tokenizer "$TOKENIZER" '
        f"--endpoint-type chat --streaming --use-server-token-count "
        f"--input-file {FOLDER} --custom-dataset-type weka_trace --use-think-time-only "
        f"--extra-inputs ignore_eos:true --dataset-sampling-strategy sequential "
        f"--concurrency 1 --num-sessions {tally.trajectories}"
    )


def write(dataset: Dataset, out: Path, options: ExportOptions) -> Tally:
    """Writes traces/.

    Raises UsageError for a dataset without text: its messages' lengths are what blocks are made of.
    """
    if not dataset.files("messages"):
        raise UsageError(f"{dataset.path}: a dataset without text cannot be exported to {NAME}")
    tally = Tally()
    prompts = dataset.table("prompts", columns=["prompt_id", "tokens"])
    fronts = dict(zip(prompts["prompt_id"].to_pylist(), prompts["tokens"].to_pylist(), strict=True))
    columns: dict[str, Sequence[str]] = {
        "trajectories": ("trajectory_id",),
        "turns": TURNS,
        "messages": MESSAGES,
        "tool_calls": ("turn", "spawned_lane"),
    }
    folder = out / FOLDER
    folder.mkdir()
    for rows in dataset.trajectories(split=options.split, columns=columns):
        trace = _Trace(rows, fronts, tally, options.model)
        if trace.schedule.runs:
            (folder / f"{rows.trajectory_id}.json").write_bytes(trace.to_json())
    return tally


class _Trace:
    """One trajectory's trace."""

    def __init__(self, rows: Rows, fronts: dict[str, int], tally: Tally, model: str | None) -> None:
        self.name = rows.trajectory_id
        self.model = model
        self.tally = tally
        self.turns = Columns(rows.turns, TURNS)
        self.messages = Columns(rows.messages, MESSAGES)
        self.parts = Parts(self.turns, self.messages, fronts)
        self.schedule = Schedule(self.turns, spawned_lanes(rows.tool_calls))
        self.sent = sorted(turn for run in self.schedule.runs for turn in run.turns)
        self.start_us, self.end_us = self._times()
        self.hash_ids = self._hash_ids()

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
            "id": self.name,
            "models": self._models(self.sent),
            "block_size": BLOCK,
            "hash_id_scope": "local",
            **self._front(turns[0]),
            "requests": requests,
        }
        return orjson.dumps(trace, option=orjson.OPT_APPEND_NEWLINE)

    def _count(self, main: list[int]) -> None:
        tally, turns = self.tally, self.turns
        tally.sessions += len(self.schedule.runs)
        for turn in self.sent:
            length = turns.input_tokens(turn), turns.output_tokens(turn)
            tally.request(*length, self.schedule.delay_us(turn))
            tally.lose("counted_length", None in self._reported(turn))
            tally.lose("no_clock", None in (turns["start_us"][turn], turns["end_us"][turn]))
        tally.trajectory(
            len(self.sent),
            sum(turns["counted_input_tokens"][turn] or 0 for turn in self.sent),
            sum(turns["counted_cached_tokens"][turn] or 0 for turn in self.sent),
        )
        tally.lose("failed_turn", self.schedule.failed)
        last = self.start_us[main[-1]]
        tally.lose(
            "outlives", sum(self.start_us[run.turns[-1]] > last for run in self.schedule.runs)
        )
        joins = {run.joined_at for run in self.schedule.runs}
        held = [turn for turn in main if turn in joins and self.schedule.delay_us(turn)]
        tally.lose("join_delay", len(held))
        owners = [run.owner for run in self.schedule.runs if run.lane != 0]
        tally.lose("nesting", sum(owner is not None and owner.lane > 0 for owner in owners))

    def _reported(self, turn: int) -> tuple[int | None, int | None]:
        return self.turns["input_tokens"][turn], self.turns["output_tokens"][turn]

    def _times(self) -> tuple[dict[int, int], dict[int, int]]:
        """Start and end of each request: as recorded where that is consistent, else as the delays
        say.
        """
        starts: dict[int, int] = {}
        ends: dict[int, int] = {}
        for turn in self.sent:
            start, end = self.turns["start_us"][turn], self.turns["end_us"][turn]
            waits = self.schedule.waits(turn)
            at = max((ends[wait] for wait in waits), default=0) + self.schedule.delay_us(turn)
            starts[turn] = at if waits or start is None else start
            ends[turn] = starts[turn]
            if start is not None and end is not None:
                ends[turn] += max(0, end - start)
        return starts, ends

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
            "in": turns.input_tokens(turn),
            "out": turns.output_tokens(turn),
            "hash_ids": self.hash_ids[turn],
            "input_types": ["tool_result" if result else "text"],
            "output_types": [output],
            "stop": STOPS.get(turns["stop_reason"][turn] or output, ""),
            "api_time": _seconds(self.end_us[turn] - self.start_us[turn]),
            "think_time": _seconds(self.schedule.delay_us(turn)),
        }

    def _hash_ids(self) -> dict[int, list[int]]:
        blocks = Blocks()
        found: dict[int, list[int]] = {}
        layouts: dict[int, tuple[int, Layout]] = {}  # by lane: the turn before, and its prompt
        for turn in self.sent:
            lane = self.turns["lane"][turn]
            parts: list[Part] | None = None
            if lane in layouts:
                before, layout = layouts[lane]
                parts = self.parts.added(before, turn)
            if parts is None:
                layout = blocks.empty()
                parts = self.parts.all(turn)
            found[turn] = blocks.extend(layout, parts, self.turns.input_tokens(turn))
            layouts[lane] = turn, layout
        return found

    def _front(self, turn: int) -> dict[str, int]:
        """What stands before the messages; the part that the record lacks is mostly system prompt.

        Readers round the front up to whole blocks and want something left for the user.
        """
        room = (max(1, self.turns.input_tokens(turn)) - 1) // BLOCK * BLOCK
        tools = min(room, self.parts.front(turn, "tools_id"))
        unseen = self.parts.unseen.get(self.parts.kind(turn), 0)
        system = min(room - tools, self.parts.front(turn, "system_id") + unseen)
        return {"tool_tokens": tools, "system_tokens": system}

    def _model(self, turn: int) -> str:
        return self.model or self.turns["model"][turn] or UNKNOWN_MODEL

    def _models(self, turns: list[int]) -> list[str]:
        return sorted({self._model(turn) for turn in turns})


def _seconds(us: int) -> float:
    return round(us / 1e6, 6)
