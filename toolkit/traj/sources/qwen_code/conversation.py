"""A Qwen Code session file as the steps of a lane.

Lines name the one before them, so that a rewind is a line that goes on from an earlier one. An
answer is a line, or several with one id; sub-agents write their calls on lines of their own. What
a request cost and when it was sent stands in a telemetry line before its answer, those of
sub-agents in the main file.
"""

from __future__ import annotations

import re

from msgspec import structs

from traj.events import Lane, Message, Rebase, Session, ToolRun, Turn
from traj.sources.chains import Branches, Chain, joined
from traj.sources.lines import epoch_us
from traj.sources.qwen_code import content, wire
from traj.sources.qwen_code.requests import Answer, Figures, Ledger, Told

Key = tuple[str, str | None, str | None, tuple[str, ...]]
_LOST = Chain(None, 0, 0)  # no context
_STATUS = {"success": "ok", "error": "error", "cancelled": "interrupted"}
_NOTICE = re.compile(r"<tool-use-id>([^<]{1,200})</tool-use-id>")
_QUIET = frozenset(
    (
        "at_command",
        "attribution_snapshot",
        "background_task_completed",
        "branch_checkpoint",
        "file_history_snapshot",
        "goal_runtime",
        "goal_state",
        "goal_turn_end",
        "parent_session",
        "rewind",
        "session_artifact_event",
        "session_artifact_snapshot",
        "session_model",
        "session_source",
        "session_sources_snapshot",
        "slash_command",
        "turn_result",
        "user_text_elements",
        "agent_session_ready",
    )
)


class Conversation:
    """The steps of one lane."""

    def __init__(
        self, session: Session, index: int, told: Ledger, sidelined: dict[str, Ledger]
    ) -> None:
        self.session = session
        self.index = index
        self.lane: Lane = session.lanes[index]
        self.told = told  # answered requests that have not been matched with an answer
        self.sidelined = sidelined  # those of sub-agents, by agent
        self.places: dict[str, Chain | None] = {}  # line to the context after it
        self.here: Chain | None = None
        self.last: str | None = None
        self.written: Chain | None = None
        self.reason: str | None = None
        self.count = 0
        self.waiting: dict[Figures, int] = {}  # turns without telemetry
        self.branches = Branches(index)
        self.attempt = 0
        self.known: dict[Key, int] = {}
        self.answer: Answer | None = None
        self.version: str | None = None
        self.branch: str | None = None
        self.file = 0

    def line(self, line: wire.Line, number: int) -> None:
        """One line of the file."""
        self.version = self.version or line.version
        self.branch = self.branch or line.git_branch
        if line.type == "assistant" and self.answer is not None and self.answer.takes(line):
            self.answer.add(line)
        else:
            self.close()
            if line.type == "system":
                self._system(line, number)
            else:
                self._go_to(line)
                self._message(line, number)
        if line.uuid is not None:
            self.last = line.uuid
            self.places[line.uuid] = self.here

    def _go_to(self, line: wire.Line) -> None:
        """Goes on from the line that this one names."""
        parent = line.parent_uuid
        if parent == self.last or (parent is not None and parent not in self.places):
            return
        place = self.places[parent] if parent is not None else None
        if place is not self.here:
            self.here, self.reason, self.attempt = place, "rewind", 0

    def _message(self, line: wire.Line, number: int) -> None:
        parts = line.message.parts if line.message else []
        if line.type == "assistant":
            self.answer = Answer(line, number)
        elif line.type in ("user", "tool_result"):
            time = epoch_us(line.timestamp)
            person = line.type == "user" and line.subtype in (None, "mid_turn_user_message")
            person = person and self.index == 0 and line.provenance in (None, "real_user")
            for message in content.said(
                self.session, parts, time, self.file, number, person=person
            ):
                self._append(self._notice(line, message))
            if line.tool_call_result is not None:
                self._ran(line.tool_call_result, time)
            self.attempt = 0
        else:
            self.session.lose(f"item:{(line.type or '')[:40]}")

    def _notice(self, line: wire.Line, message: Message) -> Message:
        """A sub-agent's report, where a message is the notification that brings it."""
        found = _NOTICE.search(message.content or "") if line.subtype == "notification" else None
        if found is None:
            return message
        return Message(
            message.role,
            message.content,
            time_us=message.time_us,
            brings=f"notification {found.group(1)}",
            file=message.file,
            line=message.line,
        )

    # Steps

    def _append(self, step: Message | Turn) -> None:
        reason, self.reason = self.reason, None
        if self.written is not self.here:
            ranges = self.branches.ranges(self.here)
            if ranges is None:
                self.session.lose("branch_not_followed")
                self.here = self.written
            else:
                self.lane.steps.append(Rebase(reason, ranges))
        message = step.answer if isinstance(step, Turn) else step
        self.lane.steps.append(step)
        if message is not None:
            self.known.setdefault(_key(message), self.count)
            self.here = joined(self.here, self.count)
            self.count += 1
        self.written = self.here

    def close(self) -> None:
        """The answer that is coming in is whole."""
        held, self.answer = self.answer, None
        if held is None:
            return
        end = max(held.times, default=None)
        message = content.answer(self.session, held.parts, end, self.file, held.number)
        figures = content.usage(held.usage)
        event = self.told.take(held, main=self.index == 0)
        if held.usage is None and event is not None:
            figures = content.usage_of(event)
        turn = content.turn(
            message,
            figures,
            event,
            model=held.model,
            name=held.uuid,
            time=min(held.times, default=None),
            line=held.number,
            file=self.file,
        )
        turn = structs.replace(turn, attempt=self.attempt)
        self.attempt = 0
        for call in message.tool_calls:
            run = self.session.tool_runs.setdefault(call.id, ToolRun())
            run.start_us = end if run.start_us is None else run.start_us
        self._append(turn)
        if event is None and held.usage is not None:
            raw = held.usage
            figured = (raw.prompt_token_count, raw.candidates_token_count)
            self.waiting[figured] = len(self.lane.steps) - 1
        if held.uuid is not None:
            self.places[held.uuid] = self.here

    # What is no message

    def _system(self, line: wire.Line, number: int) -> None:
        payload = line.system_payload
        kind = line.subtype or ""
        if kind == "ui_telemetry":
            if payload is not None and payload.ui_event is not None:
                self._telemetry(payload.ui_event, number)
            return
        self._go_to(line)
        if kind == "chat_compression" and payload and payload.compressed_history is not None:
            self._compressed(payload.compressed_history, epoch_us(line.timestamp), number)
        elif kind == "custom_title" and payload is not None:
            self.session.title = payload.custom_title or self.session.title
        elif kind not in _QUIET and kind != "custom_title":
            self.session.lose(f"item:{kind[:40]}")

    def _telemetry(self, event: wire.Event, number: int) -> None:
        kind = (event.name or "").rpartition(".")[2]
        if kind == "tool_call" and event.call_id:
            self._tool(event)
        elif kind == "api_response":
            told = Told(event, number)
            if event.subagent_id:
                self.sidelined.setdefault(event.subagent_id, Ledger()).add(told)
            elif not self._late(event):
                self.told.add(told)
        elif kind == "api_error" and not event.subagent_id:
            turn = content.turn(
                None,
                content.usage_of(event),
                event,
                model=event.model,
                name=None,
                time=epoch_us(event.timestamp),
                line=number,
                file=self.file,
            )
            self._append(structs.replace(turn, attempt=self.attempt))
            self.attempt += 1

    def _late(self, event: wire.Event) -> bool:
        """Telemetry that stands behind its answer."""
        place = self.waiting.pop((event.input_token_count, event.output_token_count), None)
        step = self.lane.steps[place] if place is not None else None
        if place is None or not isinstance(step, Turn):
            return False
        self.lane.steps[place] = content.timed(step, event)
        return True

    def _tool(self, event: wire.Event) -> None:
        run = self.session.tool_runs.setdefault(event.call_id or "", ToolRun())
        end = epoch_us(event.timestamp)
        if end is not None:
            run.end_us, run.clock = end, "derived"
            if event.duration_ms is not None:
                run.start_us, run.clock = end - round(event.duration_ms * 1000), "logged"
        run.status = _STATUS.get(event.status or "", run.status)

    def _ran(self, result: wire.ToolResult, time: int | None) -> None:
        run = self.session.tool_runs.setdefault(result.call_id or "", ToolRun())
        run.status = _STATUS.get(result.status or "", run.status)
        if run.clock == "logged":
            return
        run.end_us = time
        run.clock = "derived" if time is not None else "none"
        if result.duration_ms is not None and time is not None:
            run.start_us, run.clock = time - round(result.duration_ms * 1000), "logged"

    def _compressed(self, history: list[wire.Content], time: int | None, number: int) -> None:
        """The context is this history now; what was there before is pointed at."""
        wanted: list[Message] = []
        for told in history:
            if told.role == "model":
                wanted.append(content.answer(self.session, told.parts, time, self.file, number))
            else:
                wanted += content.said(
                    self.session, told.parts, time, self.file, number, person=False
                )
        context: Chain | None = None
        used: set[int] = set()
        for message in wanted:
            place = self.known.get(_key(message))
            if place is None or place in used:
                self.lane.steps.append(message)
                place = self.known[_key(message)] = self.count
                self.count += 1
            used.add(place)
            context = joined(context, place)
        self.here, self.written = context, _LOST
        self.reason = "compaction"


def _key(message: Message) -> Key:
    calls = tuple(call.id for call in message.tool_calls)
    return message.role, message.content, message.tool_call_id, calls
