"""The spans of one trajectory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.exporters.archive import Record, Row, ranges, rest
from traj.exporters.otel import messages
from traj.exporters.otel.otlp import Span, span_id
from traj.workload.turns import added

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traj.exporters.tally import Tally
    from traj.workload.chat import Fronts
    from traj.workload.turns import Ranges

PROVIDERS = {
    "anthropic_messages": "anthropic",
    "openai_chat": "openai",
    "openai_responses": "openai",
    "gemini": "gcp.gemini",
}
FINISH = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "tool_use": "tool_call",
    "max_tokens": "length",
    "refusal": "content_filter",
}
_CHAT = {
    "gen_ai.response.id": "response_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
}
_SAMPLING = ("max_tokens", "temperature", "top_p", "stream")
_TURN = (
    *(*_CHAT.values(), "model", "sampling", "input", "wait_for"),
    *("start_us", "end_us", "first_token_us"),
)


class Trace:
    """The spans of one trajectory."""

    def __init__(self, record: Record, fronts: Fronts, tally: Tally) -> None:
        self.record, self.fronts, self.tally = record, fronts, tally
        self.sub_agents = {
            lane: turns[0]["lane_name"]
            for lane, turns in record.lanes.items()
            if turns and turns[0]["lane_kind"] == "subagent"
        }
        self._told = bytearray(len(record.messages))
        self._fronts_told: set[str | None] = {None}
        self._before: dict[int, Ranges] = {}  # by lane
        self._now_us: dict[int, int] = {}  # by lane: where what has no clock is put
        self._spread_us: dict[int, tuple[int, int]] = {}  # by lane: from its start to its end

    def spans(self) -> Iterator[Span]:
        for turn in self.record.turns:
            chat = self._chat(turn)
            yield chat
            for call in self.record.calls.get(turn["turn"], ()):
                yield self._tool(call, chat)
        for lane in [0, *sorted(self.sub_agents)]:
            yield self._agent(lane)

    def _span(self, kind: str, number: int) -> Span:
        found = Span(self.record.trajectory_id, kind, number)
        found.attributes["gen_ai.operation.name"] = kind
        return found

    def _time(self, span: Span, lane: int, start_us: int | None, end_us: int | None) -> None:
        """Puts a span where it was; a time that is unknown is called so at the span."""
        for edge, time_us in (("start", start_us), ("end", end_us)):
            if time_us is None:
                span.attributes[f"traj.{edge}"] = "unknown"
        self.tally.lose("no_clock", start_us is None or end_us is None)
        start = self._now_us.get(lane, 0) if start_us is None else start_us
        end = start if end_us is None else max(start, end_us)
        self._place(span, start, end)
        first, last = self._spread_us.get(lane, (start, end))
        self._spread_us[lane] = min(first, start), max(last, end)
        self._now_us[lane] = max(end, self._now_us.get(lane, 0))

    def _place(self, span: Span, start_us: int, end_us: int) -> None:
        start = self.record.head["started_at"]
        span.place(start, start_us, end_us)

    def _agent_of(self, lane: int) -> int:
        """The lane whose agent a lane belongs to: side lanes are the main one's."""
        return lane if lane in self.sub_agents else 0

    def _below(self, lane: int) -> str:
        """The id of the span of a lane's agent."""
        return span_id(self.record.trajectory_id, "invoke_agent", self._agent_of(lane))

    def _agent(self, lane: int) -> Span:
        agent = self.record.head["agent"]
        name = (self.sub_agents[lane] if lane else None) or agent["name"]
        span = self._span("invoke_agent", lane)
        span.name = f"invoke_agent {name}"
        span.attributes |= {
            "gen_ai.agent.name": name,
            "gen_ai.agent.version": agent["version"],
            "gen_ai.conversation.id": self.record.head["source"]["session_id"],
            "traj.lane": lane,
        }
        unsent = [
            messages.message(one)
            for one in self.record.messages
            if not self._told[one["message"]] and self._agent_of(one["lane"]) == lane
        ]
        if unsent:
            span.attributes["traj.unsent"] = messages.as_json(unsent)
            self.tally.messages += len(unsent)
        start, end = self._spread_us.get(lane, (0, 0))
        if lane:
            call = self.record.spawned_by.get(lane)
            number = ("execute_tool", call["call"]) if call else ("invoke_agent", 0)
            span.parent = span_id(self.record.trajectory_id, *number)
        else:
            ends = [last for _, last in self._spread_us.values()]
            start, end = 0, max([self.record.head["duration_us"] or 0, *ends])
        self._place(span, start, end)
        return span

    def _chat(self, turn: Row) -> Span:
        span = self._span("chat", turn["turn"])
        span.client = True
        span.name = f"chat {turn['model']}" if turn["model"] else "chat"
        span.parent = self._below(turn["lane"])
        self._time(span, turn["lane"], turn["start_us"], turn["end_us"])
        for wait in turn["wait_for"]:
            span.links.append(span_id(self.record.trajectory_id, "chat", wait))
        answered = turn["output"] is not None
        sampling = turn["sampling"] or {}
        said = turn["stop_reason"]
        span.attributes |= {
            "gen_ai.provider.name": PROVIDERS.get(turn["api"]),
            "gen_ai.conversation.id": self.record.head["source"]["session_id"],
            f"gen_ai.{'response' if answered else 'request'}.model": turn["model"],
            "gen_ai.response.finish_reasons": [FINISH.get(said, said)] if said else None,
            **{f"gen_ai.request.{name}": sampling.get(name) for name in _SAMPLING},
            **{name: turn[column] for name, column in _CHAT.items()},
            **{f"traj.{name}": value for name, value in rest(turn, _TURN).items()},
            "traj.reasoning_effort": sampling.get("reasoning_effort"),
            "traj.input": messages.as_json(ranges(turn)),
        }
        if turn["first_token_us"] is not None and turn["start_us"] is not None:
            seconds = (turn["first_token_us"] - turn["start_us"]) / 1e6
            span.attributes["gen_ai.response.time_to_first_chunk"] = seconds
        if turn["status"] != "ok":
            span.fail(turn["error"] or turn["status"])
        span.attributes |= self._text(turn)
        return span

    def _text(self, turn: Row) -> Row:
        """What of the prompt no earlier span holds, and the answer."""
        found: Row = {}
        system, tools = turn["system_id"], turn["tools_id"]
        if system not in self._fronts_told:
            content = self.fronts.systems.get(system, "")
            part = [{"type": "text", "content": content}]
            found["gen_ai.system_instructions"] = messages.as_json(part)
        if tools not in self._fronts_told:
            functions = [one["function"] for one in self.fronts.tools.get(tools, ())]
            definitions = [{"type": "function", **function} for function in functions]
            found["gen_ai.tool.definitions"] = messages.as_json(definitions)
        self._fronts_told |= {system, tools}
        new = self._tell(turn)
        if new:
            found["gen_ai.input.messages"] = messages.as_json(list(map(messages.message, new)))
        if turn["output"] is not None:
            self._told[turn["output"]] = 1
            answer = messages.message(self.record.messages[turn["output"]])
            found["gen_ai.output.messages"] = messages.as_json([answer])
        self.tally.messages += len(new) + (turn["output"] is not None)
        return found

    def _tell(self, turn: Row) -> list[Row]:
        """The messages of the prompt that no earlier span holds."""
        whole, before = ranges(turn), self._before.get(turn["lane"])
        more = added(before, whole) if before is not None else whole
        self._before[turn["lane"]] = whole
        found = []
        for start, stop in whole if more is None else more:
            for number in range(start, stop):
                if not self._told[number]:
                    self._told[number] = 1
                    found.append(self.record.messages[number])
        return found

    def _tool(self, call: Row, chat: Span) -> Span:
        span = self._span("execute_tool", call["call"])
        span.name = f"execute_tool {call['name']}"
        span.parent = self._below(call["lane"])
        span.links.append(chat.id)
        self._time(span, call["lane"], call["start_us"], call["end_us"])
        output = self.record.turns[call["turn"]]["output"]
        asked = self.record.messages[output]["tool_calls"] if output is not None else None
        texts = {one["id"]: one["arguments"] for one in asked or ()}
        result = self.record.result(call)
        used = ("tool_call_id", "name", "start_us", "end_us")
        span.attributes |= {
            "gen_ai.tool.name": call["name"],
            "gen_ai.tool.type": "function",
            "gen_ai.tool.call.id": call["tool_call_id"],
            "gen_ai.tool.call.arguments": texts.get(call["tool_call_id"]),
            "gen_ai.tool.call.result": result and result["content"],
            **{f"traj.{name}": value for name, value in rest(call, used).items()},
        }
        if call["status"] not in ("ok", "unknown"):
            span.fail(call["status"])
        return span
