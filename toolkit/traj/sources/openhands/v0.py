"""OpenHands' events of version 0 as the steps of lanes.

Each action has the whole response that asked for it, and so has its observation: a response is a
turn when its id comes first. What happens between a delegation and its end is another agent's.
Before 2024-12 nothing was logged of responses, ids and times.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from traj.events import Lane, Message, Sampling, Session, ToolRun, Turn
from traj.sources import raw_responses
from traj.sources.lines import epoch_us
from traj.sources.openhands import wire
from traj.sources.openhands.figures import Figures, Noted
from traj.sources.openhands.talk import Talk, end_run, offset_us, told
from traj.sources.requests.pieces import fit, json_text

_SILENT = frozenset(("null", "agent_state_changed", "recall", "user_rejected"))
# How answers were written before calls were.
_TAGS = {"run": "execute_bash", "run_ipython": "execute_ipython", "browse": "execute_browse"}
_STATES = ("awaiting_user_confirmation", "user_confirmed", "user_rejected")


class _Id(Struct):
    id: str | None = None


class Reader:
    """Takes a session's events in order."""

    def __init__(self, session: Session, row: wire.Row) -> None:
        self.session = session
        session.lanes.append(Lane("main"))
        self.talks = [Talk(session, session.lanes[0], 0)]  # the agents at work, the newest last
        self.lanes = 1
        metadata = fit(row.metadata, wire.Metadata)
        self.llm = (metadata.llm_config if metadata else None) or wire.LlmConfig()
        self.figures = Figures()
        metrics = fit(row.metrics, wire.Metrics)
        if metrics is not None:
            self.figures.add(metrics)
        self.tools: str | None = None
        self.ahead_us = 0
        self.claimed: set[str] = set()
        self.numbers: dict[int, int] = {}  # messages of the main agent's events, by event id
        self.calls: dict[int, str] = {}  # call ids by the action's event id
        self.asked_us: int | None = None  # since when permission is awaited
        self.answered = False

    def read(self, events: Sequence[tuple[int, int, wire.Event]]) -> None:
        """All events, each with its file and its number there."""
        zone = None
        for _, _, event in events:
            call = event.tool_call_metadata
            response = fit(call.model_response, _Id) if call else None
            if call is None or response is None or response.id is None:
                continue
            self.claimed.add(response.id)
            if zone is None and event.action is not None:
                created = raw_responses.created_us(call.model_response)
                zone = offset_us(epoch_us(event.timestamp), created)
        self.ahead_us = zone or 0
        stamped = any(event.timestamp for _, _, event in events)
        self.session.lose("zone_unknown", zone is None and stamped)
        for file, line, event in events:
            self._event(event, file, line)
        for one in self.figures.before(None, self.claimed):
            self._lost(one)

    def _event(self, event: wire.Event, file: int, line: int) -> None:
        time = epoch_us(event.timestamp)
        if time is not None:
            time -= self.ahead_us
            if self.session.started_us is None:
                self.session.started_us = time
        if event.observation is not None:
            self._observation(event, time, file, line)
        elif event.action is not None:
            self._action(event, event.args or event, time, file, line)

    @property
    def talk(self) -> Talk:
        """The lane of the agent at work."""
        return self.talks[-1]

    def _say(self, event: wire.Event, message: Message) -> None:
        number = self.talk.say(message)
        if event.id is not None and len(self.talks) == 1:
            self.numbers[event.id] = number

    # Actions

    def _action(
        self, event: wire.Event, args: wire.Args, time: int | None, file: int, line: int
    ) -> None:
        kind = event.action or ""
        if kind == "system":
            self.tools = json_text(args.tools)
            self.session.agent_version = args.openhands_version or self.session.agent_version
            self._say(event, Message("system", args.content, time_us=time, file=file, line=line))
        elif kind in ("recall", "change_agent_state", "null", "condensation_request"):
            return
        elif kind == "condensation":
            self._condensed(args, time, file, line)
        elif event.source == "user" or (event.source is None and not self.answered):
            text = args.content if kind == "message" else args.command or args.content
            typed = len(self.talks) == 1
            message = Message("user", text, time_us=time, by_person=typed, file=file, line=line)
            self._say(event, message)
            self.answered = True
        elif event.source in (None, "agent"):
            self._asked(event, args, time, file, line)

    def _asked(
        self, event: wire.Event, args: wire.Args, time: int | None, file: int, line: int
    ) -> None:
        call = event.tool_call_metadata
        response = fit(call.model_response, _Id) if call else None
        if call is None or response is None:
            self._spoken(event, args, time, file, line)
        else:
            if response.id is None or response.id not in self.talk.answers:
                self._response(event, call, response.id, time, file, line)
            name = call.tool_call_id or ""
            if event.id is not None:
                self.calls[event.id] = name
            self.session.tool_runs.setdefault(name, ToolRun(start_us=time))
            if event.action == "finish":
                end_run(self.session, name, time, "ok", None)
        if event.action == "delegate":
            self._delegated(call.tool_call_id or "" if call else "")

    def _response(
        self,
        event: wire.Event,
        call: wire.Call,
        response_id: str | None,
        time: int | None,
        file: int,
        line: int,
    ) -> None:
        answered = raw_responses.answered(call.model_response)
        for one in self.figures.before(response_id, self.claimed):
            self._lost(one)
        noted = (self.figures.of(response_id) if response_id else None) or Noted(response_id)
        message = answered.message
        if message is not None:
            message = replace(message, time_us=time, file=file, line=line)
        turn = self._turn(noted, time, file, line)
        turn = replace(
            turn,
            answer=message,
            api=raw_responses.api_of(call.model_response),
            model=answered.model or turn.model,
            usage=answered.usage if answered.usage.source != "none" else noted.usage,
            stop_reason=answered.stop_reason,
        )
        self._answer(event, turn)

    def _spoken(
        self, event: wire.Event, args: wire.Args, time: int | None, file: int, line: int
    ) -> None:
        """An answer of which only what came of it is known."""
        text = args.content if event.action == "message" else args.thought
        tag, told_what = _TAGS.get(event.action or ""), args.command or args.code
        if tag is not None and event.source is None:
            text = f"{text or ''}\n<{tag}>\n{told_what or ''}\n</{tag}>"
            self.session.lose("text_action")
        name = self.figures.next(self.claimed)
        noted = (self.figures.of(name) if name else None) or Noted(name)
        said = Message("assistant", text or None, time_us=time, file=file, line=line)
        turn = replace(self._turn(noted, time, file, line), answer=said)
        self._answer(event, turn)

    def _answer(self, event: wire.Event, turn: Turn) -> None:
        self.answered = True
        number = self.talk.answer(turn)
        if number is not None and event.id is not None and len(self.talks) == 1:
            self.numbers[event.id] = number

    def _turn(self, noted: Noted, time: int | None, file: int, line: int | None) -> Turn:
        llm = self.llm
        sampling = Sampling(llm.max_output_tokens, llm.temperature, llm.top_p, llm.reasoning_effort)
        start = None if time is None or noted.took_us is None else time - noted.took_us
        return Turn(
            None,
            "unknown",
            noted.model or llm.model or None,
            noted.response_id,
            noted.usage,
            start,
            end_us=time,
            clock="logged" if start is not None else "derived" if time is not None else "none",
            tools=self.tools,
            earlier_reasoning="unknown",
            sampling=sampling,
            file=file,
            line=line,
        )

    def _lost(self, response_id: str) -> None:
        """A request of whose answer no event tells: it could not be used, or made a summary."""
        noted = self.figures.of(response_id) or Noted(response_id)
        self.talk.answer(self._turn(noted, None, 0, None))

    def _delegated(self, call: str) -> None:
        lane = Lane("subagent", spawned_by=call or None, joined_by=call or None)
        self.session.lanes.append(lane)
        self.talks.append(Talk(self.session, lane, self.lanes))
        self.lanes += 1

    # Observations

    def _observation(self, event: wire.Event, time: int | None, file: int, line: int) -> None:
        kind, extras = event.observation or "", event.extras or wire.Extras()
        if kind == "agent_state_changed":
            self._state(extras.agent_state, time)
        if kind == "recall":
            known = (extras.repo_instructions, extras.additional_agent_instructions)
            added = any(known) or bool(extras.microagent_knowledge)
            self.session.lose("attachment_not_rendered", added)
        if kind in _SILENT and event.tool_call_metadata is None:
            return
        if kind == "delegate" and len(self.talks) > 1:
            self.talks.pop()
        call = self._call_of(event)
        end = extras.metadata
        text = told(event.content, end) if kind == "run" else event.content
        if kind == "edit":
            text = extras.formatted_output_and_error or text
        codes = (end.exit_code if end else None, extras.exit_code, event.exit_code)
        code = next((one for one in codes if one is not None and one != -1), None)
        if call is None:
            role = "user" if event.source in (None, "agent", "user", "environment") else "system"
            self._say(event, Message(role, text, time_us=time, file=file, line=line))
            return
        failed = kind == "error" or bool(code) or event.success is False
        status = "rejected" if kind == "user_rejected" else "error" if failed else "ok"
        end_run(self.session, call, time, status, code)
        named = event.tool_call_metadata.function_name if event.tool_call_metadata else None
        message = Message(
            "tool", text, tool_call_id=call, name=named, time_us=time, file=file, line=line
        )
        self._say(event, message)

    def _call_of(self, event: wire.Event) -> str | None:
        if event.tool_call_metadata is not None and event.tool_call_metadata.tool_call_id:
            return event.tool_call_metadata.tool_call_id
        return self.calls.get(event.cause) if event.cause is not None else None

    def _state(self, state: str | None, time: int | None) -> None:
        if state == _STATES[0]:
            self.asked_us = time
        elif state in _STATES and self.asked_us is not None and time is not None:
            for run in self.session.tool_runs.values():
                if run.end_us is None and run.status == "unknown":
                    run.permission_us = max(0, time - self.asked_us)
            self.asked_us = None

    def _condensed(self, args: wire.Args, time: int | None, file: int, line: int) -> None:
        ids = set(args.forgotten_event_ids or ())
        first, last = args.forgotten_events_start_id, args.forgotten_events_end_id
        if first is not None and last is not None:
            ids.update(one for one in self.numbers if first <= one <= last)
        gone = {self.numbers[one] for one in ids if one in self.numbers}
        summary = None
        if args.summary:
            summary = Message("user", args.summary, time_us=time, file=file, line=line)
        self.talk.condense(gone, summary, args.summary_offset)
