"""Copilot CLI's events as the steps of lanes."""

from __future__ import annotations

from msgspec import structs

from traj.events import Lane, Message, Rebase, Sampling, Session, ToolCall, ToolRun, Turn
from traj.sources.copilot_cli import wire
from traj.sources.copilot_cli.figures import MEANING, usage, whole_session
from traj.sources.copilot_cli.talk import Talk
from traj.sources.lines import epoch_us

_QUIET = frozenset(
    (
        "abort",
        "assistant.turn_end",
        "hook.end",
        "hook.start",
        "session.auto_mode_resolved",
        "session.compaction_start",
        "session.context_changed",
        "session.idle",
        "session.info",
        "session.mode_changed",
        "session.plan_changed",
        "session.usage_checkpoint",
        "session.usage_info",
        "session.warning",
        "subagent.completed",
        "subagent.selected",
        "tool.execution_partial_result",
        "tool.execution_progress",
        "tool.user_requested",
    )
)


class EventReader:
    """Takes the events of one session in order."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.talks: dict[str | None, Talk] = {None: Talk(session.lanes[0], 0)}
        self.model: str | None = None
        self.effort: str | None = None
        self.system: str | None = None
        self.names: dict[str, str] = {}  # tool call to tool
        self.agents: dict[str, str] = {}  # sub-agent to the call that started it
        self.asked: dict[str, tuple[str, int]] = {}  # permission to call and time
        self.calls: dict[str, tuple[Talk, int]] = {}  # API call to its turn
        self.shutdowns = 0

    def event(self, event: wire.Event, line: int) -> None:
        """One line."""
        kind, data = event.type or "", event.data
        if data is None:
            self.session.lose("foreign_line")
            return
        time = epoch_us(event.timestamp)
        talk = self._talk(data.parent_tool_call_id or self.agents.get(event.agent_id or ""))
        if kind == "user.message":
            self._say(talk, data, time, line)
        elif kind == "assistant.message":
            self._answer(talk, event, data, time, line)
        elif kind == "assistant.reasoning":
            talk.thought = data.content
        elif kind.startswith("tool."):
            self._tool(talk, kind, data, time, line)
        elif kind in ("session.compaction_complete", "session.truncation"):
            self._shortened(talk, data, time, line)
        elif kind == "session.error":
            self._failed(talk, data, time, line)
        elif kind == "subagent.started" and data.tool_call_id:
            self.agents[event.agent_id or data.tool_call_id] = data.tool_call_id
            self._talk(data.tool_call_id).lane.name = data.agent_name
        elif kind == "system.notification":
            self._append(talk, Message("user", data.content, time_us=time, line=line))
        else:
            self._about(kind, data, time)

    def _talk(self, call: str | None) -> Talk:
        if call not in self.talks:
            lane = Lane("subagent", spawned_by=call, joined_by=call)
            self.talks[call] = Talk(lane, len(self.session.lanes))
            self.session.lanes.append(lane)
        return self.talks[call]

    def _about(self, kind: str, data: wire.Data, time: int | None) -> None:
        """An event that is no message."""
        if kind in ("session.start", "session.resume"):
            self.model = data.selected_model or self.model
        elif kind == "session.model_change":
            self.model, self.effort = data.new_model, data.reasoning_effort
        elif kind == "system.message":
            self.system = data.content or self.system
        elif kind == "assistant.turn_start":
            self.model = data.model or self.model
        elif kind == "assistant.usage":
            self._usage(data)
        elif kind == "session.shutdown":
            self._sums(data)
        elif kind == "session.title_changed":
            self.session.title = data.title
        elif kind.startswith("permission."):
            self._permission(kind, data, time)
        elif kind not in _QUIET:
            self.session.lose(f"item:{kind[:40]}")

    # Messages

    def _append(self, talk: Talk, step: Message | Turn) -> None:
        talk.lane.steps.append(step)
        if isinstance(step, Message) or step.answer is not None:
            talk.count += 1

    def _say(self, talk: Talk, data: wire.Data, time: int | None, line: int) -> None:
        self.session.lose("attachment_not_rendered", len(data.attachments or ()))
        talk.attempt = 0
        text = data.transformed_content or data.content
        by_person = talk.index == 0
        self._append(talk, Message("user", text, time_us=time, by_person=by_person, line=line))

    def _answer(
        self, talk: Talk, event: wire.Event, data: wire.Data, time: int | None, line: int
    ) -> None:
        calls = tuple(
            ToolCall(
                request.tool_call_id,
                request.name or "unknown",
                wire.text_of(request.arguments, self.session) or "{}",
            )
            for request in data.tool_requests or ()
            if request.tool_call_id
        )
        for call in calls:
            self.names[call.id] = call.name
        thought, talk.thought = data.reasoning_text or talk.thought, None
        message = Message(
            "assistant", data.content or None, thought, calls, time_us=time, line=line
        )
        if data.chunk_index and data.message_id and data.message_id == talk.message_id:
            talk.grow(message, data.output_tokens)
            return
        talk.message_id = data.message_id
        talk.last = len(talk.lane.steps)
        if data.api_call_id:
            self.calls[data.api_call_id] = (talk, talk.last)
        effort = self.effort
        turn = Turn(
            message,
            model=data.model or self.model,
            response_id=data.api_call_id or data.message_id or event.id,
            usage=MEANING.usage(None, None, data.output_tokens),
            answer_us=time,
            end_us=time,
            clock="derived" if time is not None else "none",
            system=self.system if talk.index == 0 else None,
            stop_reason="tool_use" if calls else "end_turn",
            attempt=talk.attempt,
            sampling=Sampling(reasoning_effort=effort) if effort else None,
            line=line,
        )
        talk.attempt = 0
        self._append(talk, turn)

    def _failed(self, talk: Talk, data: wire.Data, time: int | None, line: int) -> None:
        """An error of the model's API; other errors concern no request."""
        if data.status_code is None and data.error_type != "query":
            return
        self._append(
            talk,
            Turn(
                None,
                model=self.model,
                answer_us=time,
                end_us=time,
                clock="derived" if time is not None else "none",
                status="error",
                error=(data.message or data.error_type or "error")[:200],
                attempt=talk.attempt,
                line=line,
            ),
        )
        talk.attempt += 1

    # Tools

    def _tool(self, talk: Talk, kind: str, data: wire.Data, time: int | None, line: int) -> None:
        call = data.tool_call_id or ""
        run = self.session.tool_runs.setdefault(call, ToolRun())
        if kind == "tool.execution_start":
            if run.permission_us is None:
                run.start_us = time
            self.names.setdefault(call, data.tool_name or "unknown")
        elif kind == "tool.execution_complete":
            run.end_us = time
            run.clock = "logged" if None not in (run.start_us, time) else "derived"
            run.status = "unknown" if data.success is None else "ok" if data.success else "error"
            result = data.result
            text = result.content if isinstance(result, wire.Result) else result
            text = text if text is not None else wire.text_of(data.error, self.session)
            message = Message(
                "tool",
                text,
                tool_call_id=call,
                name=self.names.get(call),
                time_us=time,
                line=line,
            )
            self._append(talk, message)

    def _permission(self, kind: str, data: wire.Data, time: int | None) -> None:
        """How long a person took to allow a call, which is part of the call's time."""
        name = data.request_id or ""
        asked = data.permission_request
        if kind == "permission.requested" and asked and asked.tool_call_id and time is not None:
            self.asked[name] = (asked.tool_call_id, time)
        elif kind == "permission.completed" and name in self.asked and time is not None:
            call, since = self.asked.pop(name)
            run = self.session.tool_runs.setdefault(call, ToolRun())
            run.permission_us = max(0, time - since)
            run.start_us = since if run.start_us is None else min(run.start_us, since)

    # What changes the context

    def _shortened(self, talk: Talk, data: wire.Data, time: int | None, line: int) -> None:
        """Compaction puts a summary in the context's place; truncation drops its beginning."""
        spent = data.compaction_tokens_used
        if spent is not None:
            self.session.lose("answer_not_recorded")
            self._aside(Turn(None, model=self.model, usage=usage(spent), end_us=time, line=line))
        removed = data.messages_removed_during_truncation
        if data.summary_content:
            self.session.lose("compaction_history_unknown")
            self._append(talk, Message("user", data.summary_content, time_us=time, line=line))
            talk.start = talk.count - 1
        elif removed:
            talk.start = min(talk.start + removed, talk.count)
        else:
            return
        kept = ((talk.index, talk.start, talk.count),) if talk.start < talk.count else ()
        talk.lane.steps.append(Rebase("compaction" if data.summary_content else "edit", kept))

    def _aside(self, turn: Turn) -> None:
        lane = next((one for one in self.session.lanes if one.kind == "side"), None)
        if lane is None:
            lane = Lane("side", "compaction")
            self.session.lanes.append(lane)
        clock = "derived" if turn.end_us is not None else "none"
        lane.steps.append(structs.replace(turn, clock=clock))

    # Figures

    def _usage(self, data: wire.Data) -> None:
        """A request's own figures, which Copilot CLI tells its listeners and seldom writes down."""
        talk, place = self.calls.get(data.api_call_id or "", (self.talks[None], None))
        place = talk.last if place is None else place
        step = talk.lane.steps[place] if place is not None else None
        if place is not None and isinstance(step, Turn):
            talk.lane.steps[place] = structs.replace(step, usage=usage(data))

    def _sums(self, data: wire.Data) -> None:
        """The session's figures. Where it was resumed, those of its last run may be a part."""
        self.shutdowns += 1
        found = whole_session(data.model_metrics or {}, whole=self.shutdowns == 1)
        self.session.usage = found or self.session.usage

    def finish(self) -> None:
        """No more events come."""
        turns = [s for talk in self.talks.values() for s in talk.lane.steps if isinstance(s, Turn)]
        if any(turn.usage.source != "reported" for turn in turns if turn.status == "ok"):
            self.session.lose("usage_not_per_request")
