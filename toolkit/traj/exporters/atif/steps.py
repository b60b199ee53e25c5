"""The steps of an ATIF document: what was said in a lane, what tools were asked and gave back."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters import archive
from traj.exporters.archive import Entry, Record, Row, rest

if TYPE_CHECKING:
    from datetime import datetime

    from traj.exporters.tally import Tally
    from traj.workload.chat import Fronts

METRICS = {
    "prompt_tokens": "input_tokens",
    "completion_tokens": "output_tokens",
    "cached_tokens": "cached_tokens",
}
_MORE_METRICS = (
    *("cache_write_tokens", "reasoning_tokens", "usage_source", "counted_input_tokens"),
    *("counted_cached_tokens", "counted_output_tokens", "unseen_input_tokens"),
)
_TURN = (*METRICS.values(), *_MORE_METRICS, "model", "input", "sampling")
_MESSAGE = ("content", "reasoning", "tool_calls", "role")


class Steps:
    """The steps of one lane; `below` names the documents of the lanes that its calls started."""

    def __init__(
        self, record: Record, lane: int, fronts: Fronts, below: dict[int, str], tally: Tally
    ) -> None:
        self.record, self.fronts, self.below, self.tally = record, fronts, below, tally
        self.steps: list[Row] = []
        self._asked: dict[str, Row] = {}  # step that holds the call, by the call's id
        for entry in self.record.entries(lane):
            self._add(entry)

    def _add(self, entry: Entry) -> None:
        turn, message = entry.turn, entry.message
        if message is not None:
            self.tally.messages += 1
        if entry.system_id is not None:
            text = self.fronts.systems.get(entry.system_id, "")
            self._step("system", text, {"system_id": entry.system_id})
        elif turn is not None:
            self._turn(turn, message)
        elif message is not None and message["role"] == "tool":
            self._result(message)
        elif message is not None:
            self._message(message)

    def _step(self, source: str, text: str | None, extra: Row, time_us: int | None = None) -> Row:
        step: Row = {"step_id": len(self.steps) + 1, "source": source, "message": text or ""}
        timestamp = iso(self.record.at(time_us))
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
            if lane in self.below:
                reference = [{"trajectory_id": self.below[lane]}]
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
    found = {name: turn[column] for name, column in METRICS.items()}
    found["extra"] = rest({name: turn[name] for name in _MORE_METRICS}, ()) or None
    return rest(found, ())


def iso(time: datetime | None) -> str | None:
    """A time as ATIF has it."""
    return None if time is None else time.isoformat().replace("+00:00", "Z")
