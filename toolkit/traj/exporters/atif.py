"""ATIF 1.8 (Agent Trajectory Interchange Format): a document a trajectory, sub-agents inside.

A lane is a trajectory of ATIF: the main agent's the document, the others below the one whose call
started them, with a reference at that call's result; side lanes (titles, compactions) lie below the
main one. A step is a system prompt, a message, or a turn: its answer, its calls, and their results.
Messages stand once, in order of first appearance: `extra.turn.input` says which of them each prompt
held (half-open ranges of `extra.message.message`), so compacted and rewound prompts are whole.

What ATIF has no field for lies in `extra`, under the names of the schema's columns: times, tool
spans, waits, failed requests, cache writes, the dataset's own counts. `prompt_tokens` includes
cached ones in both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Entry, Record, Row, rest
from traj.exporters.tally import Tally

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from traj.workload.chat import Fronts
    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions

NAME = "atif"
SUMMARY = "ATIF 1.8 documents: text, calls and results, usage, times, sub-agents; an archive"
HARNESS = "atif 1.8"
PROOF = "loaded"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = archive.TAKES
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "tool_definition": "a provider's own tool is no function, and ATIF defines no other",
}
FOLDER = "trajectories"
VERSION = "ATIF-v1.8"
UNKNOWN = "unknown"  # for what ATIF demands
NOTES = (
    "Written by traj. Each message stands once. A step's extra.turn is its request: its input is a "
    "list of half-open ranges of message numbers (extra.message.message), over all lanes."
)
_METRICS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cached_tokens": "cached_tokens",
}
_MORE_METRICS = (
    *("cache_write_tokens", "reasoning_tokens", "usage_source", "counted_input_tokens"),
    *("counted_cached_tokens", "counted_output_tokens", "unseen_input_tokens"),
)
_TURN = (*_METRICS.values(), *_MORE_METRICS, "model", "input", "sampling")
_MESSAGE = ("content", "reasoning", "tool_calls", "role")


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes trajectories/, a document each."""
    import orjson

    tally = Tally()
    folder = out / FOLDER
    folder.mkdir()
    for play in phase:
        archive.count(tally, play)
        writer = _Writer(Record(play), phase.load.fronts, tally)
        document = writer.document()
        (folder / f"{play.name}.json").write_bytes(
            orjson.dumps(document, option=orjson.OPT_APPEND_NEWLINE)
        )
    return tally


class _Writer:
    """Makes one trajectory's document."""

    def __init__(self, record: Record, fronts: Fronts, tally: Tally) -> None:
        self.record, self.fronts, self.tally = record, fronts, tally
        self.below: dict[int, list[int]] = {lane: [] for lane in record.lanes}
        for lane in sorted(record.lanes):
            if lane:
                self.below[self._above(lane)].append(lane)

    def document(self) -> Row:
        record, head = self.record, self.record.head
        used = {turn["tools_id"] for turn in record.turns}
        lost = sum(self.fronts.lost_tools.get(one, 0) for one in used)
        self.tally.lose("tool_definition", lost)
        found = self._lane(0)
        about = rest(head | {"started_at": _iso(head["started_at"])}, ("agent",))
        return found | {"notes": NOTES, "extra": found["extra"] | {"trajectory": about}}

    def _lane(self, lane: int) -> Row:
        """A lane as a trajectory of ATIF, with those below it."""
        head, turns = self.record.head, self.record.lanes[lane]
        steps = _Steps(self, lane).steps
        self.tally.sessions += 1
        about = {"lane": lane, "lane_kind": "main", "lane_name": None}
        if turns:
            about = {name: turns[0][name] for name in about}
        found: Row = {
            "schema_version": VERSION,
            "session_id": head["source"]["session_id"],
            "trajectory_id": self.name(lane),
            "agent": self._agent(turns),
            "steps": steps,
            "final_metrics": _final_metrics(turns, len(steps)),
            "extra": rest(about, ()),
        }
        if self.below[lane]:
            found["subagent_trajectories"] = [self._lane(one) for one in self.below[lane]]
        return found

    def name(self, lane: int) -> str:
        return f"{self.record.trajectory_id}.l{lane}" if lane else self.record.trajectory_id

    def _agent(self, turns: list[Row]) -> Row:
        agent = self.record.head["agent"]
        models = {turn["model"] for turn in turns}
        tools = {turn["tools_id"]: self.fronts.tools.get(turn["tools_id"]) for turn in turns}
        known = {tools_id: found for tools_id, found in tools.items() if found}
        first = next(iter(known), None)
        more = {tools_id: found for tools_id, found in known.items() if tools_id != first}
        extra = {"tools_id": first, "more_tool_definitions": more or None}
        fields = {
            "name": agent["name"],
            "version": agent["version"] or UNKNOWN,
            "model_name": models.pop() if len(models) == 1 else None,
            "tool_definitions": known.get(first),
            "extra": rest(extra, ()) or None,
        }
        return rest(fields, ())

    def _above(self, lane: int) -> int:
        """The lane that a lane's document lies in: the main one where no call started it, or calls
        started each other in a circle."""
        path = [lane]
        while path[-1] in self.record.spawned_by:
            path.append(self.record.spawned_by[path[-1]]["lane"])
            if path[-1] in path[:-1]:
                return 0
        return path[1] if len(path) > 1 else 0


class _Steps:
    """The steps of one lane."""

    def __init__(self, writer: _Writer, lane: int) -> None:
        self.writer, self.record, self.lane = writer, writer.record, lane
        self.steps: list[Row] = []
        self._asked: dict[str, Row] = {}  # step that holds the call, by the call's id
        for entry in self.record.entries(lane):
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        turn, message = entry.turn, entry.message
        if message is not None:
            self.writer.tally.messages += 1
        if entry.system_id is not None:
            text = self.writer.fronts.systems.get(entry.system_id, "")
            self._step("system", text, {"system_id": entry.system_id})
        elif turn is not None:
            self._turn(turn, message)
        elif message is not None and message["role"] == "tool":
            self._result(message)
        elif message is not None:
            self._message(message)

    def _step(self, source: str, text: str | None, extra: Row, time_us: int | None = None) -> Row:
        step: Row = {"step_id": len(self.steps) + 1, "source": source, "message": text or ""}
        timestamp = _iso(self.record.at(time_us))
        if timestamp is not None:
            step["timestamp"] = timestamp
        if extra:
            step["extra"] = extra
        self.steps.append(step)
        return step

    def _message(self, message: Row) -> Row:
        source = "agent" if message["role"] == "assistant" else message["role"]
        extra = {"message": rest(message, _MESSAGE)}
        step = self._step(source, message["content"], extra, message["time_us"])
        if source == "agent":  # an answer whose request is not in this record
            step["is_copied_context"] = True
            self._answer(step, message, [])
        return step

    def _turn(self, turn: Row, message: Row | None) -> None:
        asked = rest(turn, _TURN)
        asked["input"] = archive.ranges(turn)
        sampling = turn["sampling"] or {}
        if rest(sampling, ("reasoning_effort",)):
            asked["sampling"] = rest(sampling, ("reasoning_effort",))
        extra = {"turn": asked}
        if message is not None:
            extra["message"] = rest(message, _MESSAGE)
        said = message["content"] if message else None
        step = self._step("agent", said, extra, turn["start_us"])
        fields = {
            "model_name": turn["model"],
            "reasoning_effort": sampling.get("reasoning_effort"),
            "metrics": _metrics(turn) or None,
            "llm_call_count": 1,
        }
        step |= rest(fields, ())
        if message is not None:
            self._answer(step, message, self.record.calls.get(turn["turn"], []))

    def _answer(self, step: Row, message: Row, calls: list[Row]) -> None:
        if message["reasoning"] is not None:
            step["reasoning_content"] = message["reasoning"]
        rows = {call["tool_call_id"]: call for call in calls}
        asked = message["tool_calls"] or ()
        if asked:
            step["tool_calls"] = [_tool_call(one, rows.get(one["id"])) for one in asked]
        for one in asked:
            self._asked[one["id"]] = step
            lane = (rows.get(one["id"]) or {}).get("spawned_lane")
            if lane in self.writer.below[self.lane]:
                reference = [{"trajectory_id": self.writer.name(lane)}]
                result = {"source_call_id": one["id"], "subagent_trajectory_ref": reference}
                _results(step).append(result)

    def _result(self, message: Row) -> None:
        """Puts a tool's result to the step that asked for it."""
        call_id = message["tool_call_id"]
        step = self._asked.get(call_id)
        if step is None:
            step = self._step("system", None, {}, message["time_us"])
        results = _results(step)
        result = next((one for one in results if _waits(one, call_id)), None)
        if result is None:
            result = {"source_call_id": call_id}
            results.append(result)
        result["content"] = message["content"] or ""
        result["extra"] = {"message": rest(message, (*_MESSAGE, "tool_call_id"))}


def _results(step: Row) -> list[Row]:
    found: list[Row] = step.setdefault("observation", {"results": []})["results"]
    return found


def _waits(result: Row, call_id: str) -> bool:
    """Whether a result so far has a sub-agent's reference alone."""
    return result["source_call_id"] == call_id and "content" not in result


def _tool_call(call: Row, row: Row | None) -> Row:
    """A call; arguments that no object gives back to the letter stand in extra as text."""
    arguments, text = archive.arguments(call["arguments"])
    extra = rest(row or {}, ("tool_call_id", "name", "lane"))
    if text is not None:
        extra["arguments"] = text
    if arguments is None:
        arguments = {"input": text}
    found = {"tool_call_id": call["id"], "function_name": call["name"], "arguments": arguments}
    return found | ({"extra": extra} if extra else {})


def _metrics(turn: Row) -> Row:
    found = {name: turn[column] for name, column in _METRICS.items()}
    found["extra"] = rest({name: turn[name] for name in _MORE_METRICS}, ()) or None
    return rest(found, ())


def _final_metrics(turns: list[Row], steps: int) -> Row:
    """Sums over the steps; unknown where no turn has the figure."""
    found: Row = {}
    for name, column in _METRICS.items():
        known = [turn[column] for turn in turns if turn[column] is not None]
        found[f"total_{name}"] = sum(known) if known else None
    return rest(found, ()) | {"total_steps": steps}


def _iso(time: datetime | None) -> str | None:
    return None if time is None else time.isoformat().replace("+00:00", "Z")
