"""The events of the OpenHands SDK (version 1) as the steps of a lane.

An event names the one that it goes on from. What one response asked for are several events, which
share its id; its figures stand beside the events, by that id or as sums.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Sampling, Session, ToolCall, ToolRun, Turn
from traj.sources.lines import epoch_us
from traj.sources.openhands import wire
from traj.sources.openhands.figures import Figures, Noted, moments
from traj.sources.openhands.talk import Node, Talk, end_run, offset_us, told
from traj.sources.requests.chat import spoken
from traj.sources.requests.pieces import fit, joined, parts, text_of

if TYPE_CHECKING:
    from msgspec import Raw

_SUMMARIES = "condenser"
_CLEARED = Rebase("clear")


class SdkReader:
    """Takes one conversation's events in order."""

    def __init__(self, session: Session, lane: Lane, index: int, state: wire.BaseState) -> None:
        self.session = session
        self.talk = Talk(session, lane, index)
        self.side: Talk | None = None
        self.llm = (state.agent.llm if state.agent else None) or wire.LlmConfig()
        self.figures = Figures()
        stats = fit(state.stats, wire.Stats) or wire.Stats()
        for name, metrics in stats.usage_to_metrics.items():
            if not name.startswith("task:"):  # a sub-agent's, which stand with its own events
                self.figures.add(metrics)
        self.costs = moments(stats)
        self.ahead_us: int | None = None  # of UTC, by the agent's clock
        self.first_us: int | None = None
        self.nodes: dict[str, Node | None] = {}  # the context after each event
        self.numbers: dict[str, int] = {}  # messages of events
        self.before: str | None = None
        self.task: str | None = None  # the person's, or the calling agent's, first words
        self.prompts: dict[str, str] = {}  # what calls ask other agents, by call id
        self.names: dict[str, str] = {}
        self.asked_us: int | None = None  # since when permission is awaited
        self.claimed: set[str] = set()
        self.file = 0

    def claim(self, event: wire.SdkEvent) -> None:
        """Learns, before events are taken, whose responses they are and how the clock goes."""
        if event.llm_response_id is not None:
            self.claimed.add(event.llm_response_id)
            true = self.costs.get(event.llm_response_id)
            if self.ahead_us is None and true is not None:
                self.ahead_us = offset_us(epoch_us(event.timestamp), true)

    def event(self, event: wire.SdkEvent, line: int | None) -> None:
        """One event."""
        time = epoch_us(event.timestamp)
        if time is not None:
            time -= self.ahead_us or 0
            self.first_us = time if self.first_us is None else min(time, self.first_us)
        if event.parent_id is not None and event.parent_id != self.before:
            node = self.nodes.get(event.parent_id)
            if event.parent_id in self.nodes and node is not self.talk.node:
                self.talk.go_back(node)
        self._take(event, time, line)
        if event.id is not None:
            self.nodes[event.id] = self.talk.node
            self.before = event.id

    def _take(self, event: wire.SdkEvent, time: int | None, line: int | None) -> None:
        kind = event.kind or ""
        if kind == "SystemPromptEvent":
            texts = [one.text for one in (event.system_prompt, event.dynamic_context) if one]
            self._say(event, Message("system", joined(texts), time_us=time, line=line))
        elif kind == "MessageEvent" and event.source == "agent":
            message = self._message(event.llm_message)
            self._answer(event, message, time, line)
        elif kind == "MessageEvent":
            self._told(event, time, line)
        elif kind == "ActionEvent":
            self._action(event, time, line)
        elif kind in ("ObservationEvent", "UserRejectObservation", "AgentErrorEvent"):
            self._result(event, time, line)
        elif kind == "Condensation":
            self._condensed(event, time, line)
        elif kind == "ConversationErrorEvent":
            error = event.code or "error"
            self.talk.answer(self._turn(None, Noted(), time, line, status="error", error=error))
        elif kind == "ConversationStateUpdateEvent":
            self._state(event, time)

    def _say(self, event: wire.SdkEvent, message: Message) -> None:
        number = self.talk.say(_in_file(message, self.file))
        if event.id is not None:
            self.numbers[event.id] = number

    def _message(self, raw: Raw) -> Message:
        told = fit(raw, wire.LlmMessage) or wire.LlmMessage()
        found = spoken(told)
        thoughts = joined(one.thinking for one in parts(told.thinking_blocks, wire.Thinking))
        return Message(
            found.role if found.role in ("assistant", "system") else "user",
            found.content,
            (found.reasoning or thoughts) if found.role == "assistant" else None,
            attachments=found.attachments,
        )

    def _told(self, event: wire.SdkEvent, time: int | None, line: int | None) -> None:
        found = self._message(event.llm_message)
        text = joined((found.content, text_of(event.extended_content)))
        if self.task is None:
            self.task = found.content
        self._say(
            event,
            Message(
                "user" if found.role == "assistant" else found.role,
                text,
                attachments=found.attachments,
                time_us=time,
                by_person=event.source == "user" and self.talk.index == 0,
                line=line,
            ),
        )

    def _action(self, event: wire.SdkEvent, time: int | None, line: int | None) -> None:
        made = event.tool_call or wire.Tool()
        name = made.name or event.tool_name or ""
        call = ToolCall(event.tool_call_id or made.id or "", name, made.arguments or "{}")
        self.names[call.id] = name
        self.session.tool_runs.setdefault(call.id, ToolRun(start_us=time))
        asked = fit(event.action, wire.Action)
        if asked is not None:
            for text in (asked.prompt, *(asked.tasks or {}).values()):
                if text:
                    self.prompts.setdefault(text, call.id)
        response = event.llm_response_id
        if response is not None and response in self.talk.answers:
            self.talk.call(response, call)
            return
        thoughts = joined(one.thinking for one in parts(event.thinking_blocks, wire.Thinking))
        text = text_of(event.thought) or None
        reasoning = event.reasoning_content or thoughts
        self._answer(event, Message("assistant", text, reasoning, (call,)), time, line)

    def _answer(
        self, event: wire.SdkEvent, message: Message, time: int | None, line: int | None
    ) -> None:
        response = event.llm_response_id
        noted = self.figures.of(response) if response else None
        self._unanswered(response)
        if noted is None:
            found, lost = self.figures.take(condenser=False)
            for one in lost:
                self.talk.answer(self._turn(None, one, None, None))
            noted = found or Noted()
        text = None if not message.content else message.content
        said = Message(
            "assistant", text, message.reasoning, message.tool_calls, time_us=time, line=line
        )
        noted.response_id = response
        turn = self._turn(_in_file(said, self.file), noted, time, line)
        number = self.talk.answer(turn)
        if event.id is not None and number is not None:
            self.numbers[event.id] = number

    def _unanswered(self, response: str | None) -> None:
        """Requests that were answered before, and of whose answers no event tells."""
        for one in self.figures.before(response, self.claimed):
            self.talk.answer(self._turn(None, self.figures.of(one) or Noted(one), None, None))

    def _turn(
        self,
        answer: Message | None,
        noted: Noted,
        time: int | None,
        line: int | None,
        *,
        status: str = "ok",
        error: str | None = None,
    ) -> Turn:
        start = None if time is None or noted.took_us is None else time - noted.took_us
        llm = self.llm
        sampling = Sampling(llm.max_output_tokens, llm.temperature, llm.top_p, llm.reasoning_effort)
        calls = answer is not None and bool(answer.tool_calls)
        return Turn(
            answer,
            "unknown",
            noted.model or llm.model or None,
            noted.response_id,
            noted.usage,
            start,
            end_us=time,
            clock="logged" if start is not None else "derived" if time is not None else "none",
            earlier_reasoning="kept",
            stop_reason=None if answer is None else "tool_use" if calls else "end_turn",
            status=status,
            error=error,
            sampling=sampling,
            file=self.file,
            line=line,
        )

    def _result(self, event: wire.SdkEvent, time: int | None, line: int | None) -> None:
        call = event.tool_call_id or ""
        text, status, code = event.error, "error", None
        if event.kind == "UserRejectObservation":
            text, status = f"Action rejected: {event.rejection_reason or ''}", "rejected"
        elif event.kind == "ObservationEvent":
            seen = fit(event.observation, wire.Observed) or wire.Observed()
            text = told(text_of(seen.content), seen.metadata)
            code = seen.exit_code
            status = "timeout" if seen.timeout else "error" if seen.is_error or code else "ok"
            text = joined((text, text_of(event.extended_content)))
            # An error has a heading, a sub-agent's report a heading of its own.
            framed = seen.is_error or seen.kind == "TaskObservation"
            self.session.lose("framing_not_recorded", bool(framed))
        end_run(self.session, call, time, status, code)
        name = event.tool_name or self.names.get(call)
        self._say(
            event,
            Message("tool", text, tool_call_id=call, name=name, time_us=time, line=line),
        )

    def _condensed(self, event: wire.SdkEvent, time: int | None, line: int | None) -> None:
        response = event.llm_response_id
        noted = self.figures.of(response) if response else None
        self._unanswered(response)
        if noted is None:
            noted, _ = self.figures.take(condenser=True)
        summary = None
        if event.summary:
            summary = Message("user", event.summary, time_us=time, file=self.file, line=line)
        if noted is not None or response:
            self._summarised(event, noted or Noted(response), time, line)
        gone = {self.numbers[one] for one in event.forgotten_event_ids if one in self.numbers}
        self.talk.condense(gone, summary, event.summary_offset)

    def _summarised(
        self, event: wire.SdkEvent, noted: Noted, time: int | None, line: int | None
    ) -> None:
        """The request that made a summary: its prompt retells events, and is in no log."""
        if self.side is None:
            lane = Lane(
                "side", f"{_SUMMARIES} {self.talk.index}" if self.talk.index else _SUMMARIES
            )
            self.side = Talk(self.session, lane, -1)
        noted.response_id = event.llm_response_id
        said = Message("assistant", event.summary, time_us=time, file=self.file, line=line)
        if self.side.count:
            self.side.lane.steps.append(_CLEARED)
        self.side.answer(self._turn(said if event.summary else None, noted, time, line))
        self.session.lose("prompt_not_recorded")

    def _state(self, event: wire.SdkEvent, time: int | None) -> None:
        if event.key in ("stats", "full_state"):
            raw = event.value
            if event.key == "full_state":
                raw = (fit(raw, wire.BaseState) or wire.BaseState()).stats
            stats = fit(raw, wire.Stats)
            if stats is not None:
                self.figures.snapshot(stats.usage_to_metrics)
        elif event.key == "execution_status":
            status = fit(event.value, str)
            if status == "waiting_for_confirmation":
                self.asked_us = time
            elif self.asked_us is not None and time is not None:
                for run in self.session.tool_runs.values():
                    if run.end_us is None and run.status == "unknown":
                        run.permission_us = max(0, time - self.asked_us)
                self.asked_us = None

    def finish(self) -> None:
        """Requests that are left, of which no event tells."""
        self.session.lose("zone_unknown", self.ahead_us is None and self.first_us is not None)
        self._unanswered(None)
        for one in self.figures.pending:
            self.talk.answer(self._turn(None, one, None, None))
        self.figures.pending = []


def _in_file(message: Message, file: int) -> Message:
    return replace(message, file=file) if file else message
