"""One agent's log as the steps of its lane.

A step is a request and its answer: `step.begin`, `llm.request`, parts and tool calls as they come
in, results as they are there, `step.end`. In the context results stand in the order of their calls,
and what is said meanwhile stands behind them.
"""

from __future__ import annotations

from collections.abc import Callable

from msgspec.structs import replace

from traj.events import Message, Session, ToolCall, ToolRun, Turn
from traj.sources.kimi_code import content, wire
from traj.sources.kimi_code.step import Step
from traj.sources.kimi_code.talk import SUMMARY, Talk

INTERRUPTED = wire.Event(finish_reason="interrupted")


class AgentReader:
    """Takes the lines of one agent's log in order."""

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.talk = Talk(session, index)
        self.is_main = index == 0
        self.file = len(session.files)
        self.system: str | None = None
        self.tools: dict[str, str] = {}
        self.step: Step | None = None
        self.compaction: Step | None = None
        self.deferred: list[tuple[Message, wire.Origin | None]] = []
        self.failed: Turn | None = None  # a request whose error the next line names
        self.attempt = 0
        self.first_us: int | None = None
        self.ended_us: int | None = None  # the last request
        self.spawned: dict[str, tuple[str, str | None, bool]] = {}  # agent: call, name, background
        self.tasks: dict[str, str] = {}  # task in the background: agent
        self.names: dict[str, str] = {}  # tool call: tool
        self.others: dict[str, Callable[[wire.Line, int | None, int], None]] = {
            "turn.step.retrying": self._retrying,
            "context.apply_compaction": self._compacted,
            "token_counting.rebased": self._rebased,
            "context.clear": self._cleared,
            "context.undo": self._undone,
            "profile.bind": self._bound,
            "config.update": self._bound,
            "llm.tools_snapshot": self._offered,
            "subagent.spawned": self._spawned,
            "permission.record_approval_result": self._approved,
        }

    def line(self, line: wire.Line, number: int) -> None:
        """One line."""
        time = content.microseconds(line.time)
        if time is not None and (self.first_us is None or time < self.first_us):
            self.first_us = time
        kind = line.type or ""
        if kind == "context.append_loop_event" and line.event is not None:
            self._event(line.event, time, number)
        elif kind == "context.append_message" and line.message is not None:
            self._said(line.message, time, number)
        elif kind == "llm.request":
            self._request(line, time, number)
        elif kind == "usage.record":
            step = self.step or self.compaction
            if step is not None:
                step.recorded = line.usage
                step.answer_us = step.answer_us or time
        elif kind in self.others:
            self.others[kind](line, time, number)

    def finish(self) -> None:
        """The log ends here, perhaps within a step."""
        self._end(INTERRUPTED, None)
        self._close_compaction(INTERRUPTED, None)
        self._flush_failed()

    def _said(self, said: wire.Said, time: int | None, number: int) -> None:
        self._flush_failed()
        message = content.said(said, time, number, self.file, is_main=self.is_main)
        origin = said.origin
        if origin is not None and origin.task_id in self.tasks:
            message = replace(message, brings=self.tasks[origin.task_id])
        if self.step is not None and self.step.is_waiting:
            self.deferred.append((message, origin))
        else:
            self.talk.say(message, origin)

    # Requests

    def _request(self, line: wire.Line, time: int | None, number: int) -> None:
        if line.kind == "compaction":
            self._close_compaction(INTERRUPTED, None)
            self.compaction = Step(time, number)
            self.compaction.send(line, time)
            return
        if self.step is not None and self.step.is_sent:
            self._end(wire.Event(finish_reason="error"), time)
        if self.step is None:
            self.step = Step(time, number)
        self.step.send(line, time)

    def _event(self, event: wire.Event, time: int | None, number: int) -> None:
        kind = event.type
        if kind == "step.begin":
            self._end(INTERRUPTED, None)
            self._flush_failed()
            self.step = Step(time, number)
            return
        step = self.step
        if step is None:
            self.session.lose("unmatched_tool_result", kind == "tool.result")
            return
        if kind == "content.part" and event.part is not None:
            step.texts += [event.part.text] if event.part.text else []
            step.thoughts += [event.part.think] if event.part.think else []
            step.answer_us = step.answer_us or time
        elif kind == "tool.call" and event.tool_call_id:
            self._called(step, event.tool_call_id, event, time)
        elif kind == "tool.result" and event.tool_call_id and event.result is not None:
            self._result(step, event.tool_call_id, event.result, time, number)
        elif kind == "step.end":
            self._end(event, time)

    def _called(self, step: Step, call: str, event: wire.Event, time: int | None) -> None:
        if call in self.names:
            self.session.lose("repeated_line")
            return
        name = self.names[call] = event.name or "unknown"
        step.calls.append(ToolCall(call, name, content.arguments(event.args)))
        step.answer_us = step.answer_us or time
        self.session.tool_runs[call] = ToolRun(
            start_us=time, background=content.is_background(event.args)
        )

    def _result(
        self, step: Step, call: str, result: wire.Result, time: int | None, number: int
    ) -> None:
        if call in step.results or all(call != known.id for known in step.calls):
            self.session.lose("unmatched_tool_result")
            return
        content.end_run(self.session.tool_runs[call], result, time)
        self.session.lose("framing_not_recorded", content.is_framed(result))
        name = self.names[call]
        step.results[call] = Message(
            "tool",
            content.result_text(name, result),
            tool_call_id=call,
            name=name,
            attachments=content.attachments(result.output),
            time_us=time,
            file=self.file,
            line=number,
        )

    def _end(self, event: wire.Event, time: int | None) -> None:
        """A step is over: its request is a turn, its results follow, then what was said."""
        step, self.step = self.step, None
        if step is None:
            return
        turn = self._turn(step, event, time, self.ended_us)
        if turn.end_us is not None:
            self.ended_us = max(turn.end_us, self.ended_us or 0)
        if turn.status == "error":
            self.failed = turn
            return
        self.talk.answer(turn)
        self.attempt = 0
        for call in step.calls:
            if call.id in step.results:
                self.talk.say(step.results[call.id], None)
        deferred, self.deferred = self.deferred, []
        for message, origin in deferred:
            self.talk.say(message, origin)

    def _turn(self, step: Step, event: wire.Event, time: int | None, before_us: int | None) -> Turn:
        turn = step.turn(event, time, before_us, self.file)
        self.session.lose("clock_disorder", step.clashes)
        return replace(
            turn,
            system=step.request.system_prompt or self.system,
            tools=self.tools.get(step.request.tools_hash or ""),
            attempt=self.attempt,
        )

    def _flush_failed(self) -> None:
        """A failed request, with its error if a line has named it."""
        if self.failed is not None:
            self.talk.answer(self.failed)
            self.failed = None
            self.attempt += 1

    def _retrying(self, line: wire.Line, _time: int | None, _number: int) -> None:
        if self.failed is not None:
            status = "" if line.status_code is None else f" {line.status_code}"
            self.failed = replace(self.failed, error=(line.error_name or "error") + status)
        self._flush_failed()

    # What else changes the context

    def _compacted(self, line: wire.Line, time: int | None, number: int) -> None:
        self._end(INTERRUPTED, None)
        self._flush_failed()
        summary = content.summary_text(line.summary)
        self._close_compaction(wire.Event(), summary or line.context_summary, time)
        text = line.context_summary or summary
        message = Message("user", text, time_us=time, file=self.file, line=number)
        self.talk.compact(line, message)

    def _close_compaction(
        self, event: wire.Event, summary: str | None, time: int | None = None
    ) -> None:
        """A compaction's request carries the context, and asks for a summary."""
        step, self.compaction = self.compaction, None
        if step is None:
            return
        step.texts += [summary] if summary else []
        self.session.lose("framing_not_recorded")
        asked = Message("user", time_us=step.start_us, file=self.file, line=step.line)
        turn = self._turn(step, event, time, None)
        self.talk.aside(asked, turn, step.request.dropped_count or 0)

    def _rebased(self, line: wire.Line, time: int | None, number: int) -> None:
        """How long the context is after a compaction tells whether a word to go on was added."""
        known = self.talk.context
        if known and known[-1].kind == SUMMARY and line.length == len(known) + 1:
            self.talk.unsaid(time, self.file, number)

    def _cleared(self, _line: wire.Line, _time: int | None, _number: int) -> None:
        self._end(INTERRUPTED, None)
        self.talk.clear()

    def _undone(self, line: wire.Line, _time: int | None, _number: int) -> None:
        self._end(INTERRUPTED, None)
        self.talk.undo(line.count or 0)

    # What is said of the agent, its tools and others

    def _bound(self, line: wire.Line, _time: int | None, _number: int) -> None:
        self.system = line.system_prompt or self.system
        if not self.is_main and self.talk.lane.name is None:
            self.talk.lane.name = line.profile_name

    def _offered(self, line: wire.Line, _time: int | None, _number: int) -> None:
        if line.hash is not None and line.tools is not None:
            self.tools[line.hash] = content.tools_text(line.tools)

    def _spawned(self, line: wire.Line, _time: int | None, _number: int) -> None:
        if line.subagent_id and line.parent_tool_call_id:
            background = line.run_in_background is True
            told = (line.parent_tool_call_id, line.subagent_name, background)
            self.spawned[line.subagent_id] = told
            if background and line.task_id:
                self.tasks[line.task_id] = line.subagent_id

    def _approved(self, line: wire.Line, time: int | None, _number: int) -> None:
        """How long the person was asked about a tool call: from its line on."""
        run = self.session.tool_runs.get(line.tool_call_id or "")
        if run is None:
            return
        if time is not None and run.start_us is not None and run.end_us is None:
            run.permission_us = max(0, time - run.start_us)
        decision = line.result.decision if line.result is not None else None
        if decision is not None and decision.startswith(("reject", "den")):
            run.status = "rejected"
