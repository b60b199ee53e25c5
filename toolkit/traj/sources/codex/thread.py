"""One Codex thread: from lines to steps of a lane.

A request's answer is the run of model items up to the usage that closes it: a `token_usage_record`
or, in older files, a `token_count` whose totals have changed. The outputs of its tool calls may
stand among those items or after them. Where a file holds no usage at all, an answer ends at the
first model item that follows one of its outputs.
"""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Raw

from traj.events import (
    Message,
    Session,
    ToolRun,
)
from traj.sources.codex import content, wire
from traj.sources.codex.conversation import Conversation
from traj.sources.codex.copies import Entry, first_own_line
from traj.sources.codex.tools import finish_run
from traj.sources.lines import epoch_us


class ThreadReader:
    """Takes the lines of one rollout in order; `finish` writes the lane's steps."""

    def __init__(self, session: Session, index: int, thread_id: str) -> None:
        self.session = session
        self.index = index
        self.thread_id = thread_id
        self.meta = wire.Payload()
        self.title: str | None = None
        self.started_us: int | None = None
        self.lines: list[Entry] = []
        self.history: list[Entry] = []  # lines of other threads that this one goes on from
        self.talk = Conversation(session, index)
        self.names: dict[str, str] = {}  # tool call id to tool name
        self.persons: set[str] = set()  # texts that a person wrote
        self.totals: wire.RawUsage | None = None
        self.spawned: dict[str, str] = {}  # thread id to the call that started it
        self.joined: dict[str, str] = {}  # thread id to the call that brought its report
        self.has_records = self.metered = False

    def line(self, line: wire.Line, file: int, number: int) -> None:
        """Takes one line; what it means is worked out in `finish`, when all are known."""
        self.talk.file = file
        time = epoch_us(line.timestamp)
        payload = line.payload
        if payload is not None:
            kind = line.type or ""
        elif line.record_type is not None:
            return
        else:
            payload = line
            kind = "response_item" if line.type else "session_meta"
            time = None if kind == "response_item" else time
        if kind == "session_meta" and self.meta.id is None and not self.lines:
            self.meta = payload
        elif kind == "event_msg":
            self._note(payload)
        self.lines.append(Entry(payload, kind, time, file, number, line.ordinal))

    def precede(self, parent: ThreadReader, end: int) -> None:
        """Puts the lines of another thread, up to the ordinal `end`, in front of this one."""
        kept = [e for e in parent.lines if e.ordinal is None or e.ordinal < end]
        self.history = kept + self.history
        self.persons |= parent.persons

    def _note(self, payload: wire.Payload) -> None:
        """What must be known before the lines are read in order."""
        if payload.type == "user_message":
            if text := wire.text_of(payload.message):
                self.persons.add(text)
        elif payload.type == "item_completed" and payload.item is not None:
            item = payload.item
            if item.type == "UserMessage" and item.content:
                self.persons.update(part.text for part in item.content if part.text)

    def finish(self) -> None:
        """Works out the lane's steps."""
        own = first_own_line(self.lines, self.meta, self.thread_id)
        self._meter()
        base = wire.nested(self.meta.base_instructions, "text")
        self.talk.system = base or self.meta.instructions
        self.talk.copied = True
        for entry in self.history + self.lines[:own]:
            self._line(entry)
        self.talk.close(None, None, "ok")
        self.talk.copied = False
        for entry in self.lines[own:]:
            if entry.time is not None and self.started_us is None:
                self.started_us = entry.time
            self._line(entry)
        self.talk.close(None, None, "cancelled" if self.metered else "ok")
        self.talk.flush_orphan(side=False)
        self.talk.flush_errors()
        self.lines.clear()
        self.history.clear()

    def _meter(self) -> None:
        """How the file says what a request cost, and so where its answer ends."""
        entries = self.history + self.lines
        self.has_records = any(e.kind == "token_usage_record" for e in entries)
        counts = (e.payload for e in entries if e.payload.type == "token_count")
        self.metered = self.has_records or any(payload.info for payload in counts)

    def _line(self, entry: Entry) -> None:
        payload, kind, time, number = entry.payload, entry.kind, entry.time, entry.number
        self.talk.file = entry.file
        if kind == "response_item":
            self._item(payload, time, number)
        elif kind == "event_msg":
            self._event(payload, time, number)
        elif kind == "token_usage_record":
            if payload.usage is not None:
                self._usage(payload.usage, time, number, payload.response_id)
        elif kind == "turn_context":
            self.talk.model = payload.model or self.talk.model
            self.talk.effort = payload.effort or self.talk.effort
        elif kind == "compacted":
            self.talk.compacted(payload, time, number)

    def tie(self, threads: Sequence[ThreadReader]) -> None:
        """Finds the tool call that started this thread, and the one that brought its report."""
        lane = self.session.lanes[self.index]
        if lane.kind != "subagent":
            return
        lane.name = self.meta.agent_nickname
        for other in threads:
            lane.spawned_by = lane.spawned_by or other.spawned.get(self.thread_id)
            lane.joined_by = lane.joined_by or other.joined.get(self.thread_id)
        if lane.spawned_by is None:
            self.session.lose("subagent_without_call")

    # Lines

    def _item(self, item: wire.Payload, time: int | None, number: int) -> None:
        kind = item.type or ""
        if kind == "message" and item.role != "assistant":
            self.talk.close(None, None, "cancelled" if self.metered else "ok")
            self._say(item, time, number)
        elif kind in wire.OUTPUTS:
            self._output(item, time, number)
        elif kind == "message" or kind in wire.MODEL_ITEMS:
            if self.talk.outputs and not self.metered:
                self.talk.close(None, None, "ok")
            self.talk.flush_errors()
            self.talk.items.append((item, number))
            if time is not None:
                self.talk.item_times.append(time)
            self._begin_call(item, time)
        elif kind not in ("compaction", "compaction_summary", "ghost_snapshot"):
            self.session.lose(f"item:{kind[:40]}")

    def _say(self, item: wire.Payload, time: int | None, number: int) -> None:
        self.talk.flush_orphan(side=False)
        text, images = content.content(item)
        role = "user" if item.role == "user" else "system"
        person = self.index == 0 and role == "user" and self._by_person(text)
        reporter = content.reporter(text)
        brings = None
        if reporter is not None:
            brings = f"notification {reporter}"
            self.joined.setdefault(reporter, brings)
        self.talk.append(
            Message(
                role,
                text,
                attachments=images,
                time_us=time,
                by_person=person,
                brings=brings,
                file=self.talk.file,
                line=number,
            )
        )

    def _by_person(self, text: str | None) -> bool:
        if self.persons:
            return text in self.persons
        return bool(text) and not (text or "").startswith(("<", "# AGENTS.md"))

    def _begin_call(self, item: wire.Payload, time: int | None) -> None:
        call = content.call_of(item)
        if call is None:
            if item.type in ("web_search_call", "image_generation_call"):
                self.session.lose("server_tool_call")
            return
        self.names[call.id] = call.name
        if not self.talk.copied:
            run = self.session.tool_runs.setdefault(call.id, ToolRun())
            if run.start_us is None:
                run.start_us = time

    def _output(self, item: wire.Payload, time: int | None, number: int) -> None:
        call = item.call_id or ""
        text = wire.text_of(item.tools if item.type == "tool_search_output" else item.output)
        message = Message(
            "tool",
            text,
            tool_call_id=call,
            name=self.names.get(call),
            time_us=time,
            file=self.talk.file,
            line=number,
        )
        if not self.talk.copied:
            run = self.session.tool_runs.setdefault(call, ToolRun())
            finish_run(run, text or "", time)
            self._agents(call, text or "")
        if self.talk.items:
            self.talk.outputs.append(message)
        else:
            self.talk.append(message)

    def _agents(self, call: str, text: str) -> None:
        """Sub-agents that a call started, or whose report it brought."""
        name = self.names.get(call, "")
        if "agent" not in name and "wait" not in name:
            return
        raw = Raw(text.encode("utf-8", "replace"))
        agent = wire.nested(raw, "agent_id")
        if isinstance(agent, str):
            self.spawned.setdefault(agent, call)
        status = wire.nested(raw, "status")
        for thread, what in status.items() if isinstance(status, dict) else ():
            if isinstance(what, dict) and "completed" in what:
                self.joined.setdefault(thread, call)

    def _event(self, event: wire.Payload, time: int | None, number: int) -> None:
        kind = event.type
        if kind == "token_count":
            self._token_count(event, time, number)
        elif kind in ("item_completed", "exec_command_end", "mcp_tool_call_end"):
            self._completed(event, time)
        elif kind == "turn_aborted":
            self.talk.close(None, None, "cancelled")
        elif kind == "task_complete":
            self.talk.close(None, None, "ok")
        elif kind in ("error", "stream_error"):
            text = wire.text_of(event.message) or kind
            self.talk.errors.append((text[:200], time, number))
        elif kind == "thread_rolled_back":
            self.talk.roll_back(event.num_turns or 0)
        elif kind == "thread_name_updated":
            self.title = event.thread_name or self.title
        elif kind == "turn.completed" and event.usage is not None:
            self.session.lose("usage_not_per_request")

    def _token_count(self, event: wire.Payload, time: int | None, number: int) -> None:
        info = event.info
        if info is None or self.has_records:
            return
        if info.last_token_usage is None:
            self.session.lose("malformed_usage")
            return
        if info.total_token_usage is not None and info.total_token_usage == self.totals:
            return  # repeated: only the rate limits changed
        self.totals = info.total_token_usage
        if not info.last_token_usage.input_tokens and not info.last_token_usage.output_tokens:
            return  # an estimate after a compaction, no request
        self._usage(info.last_token_usage, time, number, None)

    def _usage(
        self, usage: wire.RawUsage, time: int | None, number: int, response_id: str | None
    ) -> None:
        if self.talk.copied:
            self.session.lose("copied_turn")
            self.talk.close(None, None, "ok")
        elif self.talk.items:
            self.talk.close(usage, response_id, "ok")
        else:
            self.talk.flush_orphan(side=False)
            self.talk.orphan = (usage, time, number, self.talk.file, response_id)

    def _completed(self, event: wire.Payload, time: int | None) -> None:
        item = event.item
        if item is not None and item.type not in wire.TOOL_ITEMS:
            if item.type in ("Reasoning", "AgentMessage") and event.started_at_ms:
                self.talk.item_times.append(event.started_at_ms * 1000)
            return
        call = (item.id if item else event.call_id) or ""
        if not call or self.talk.copied:
            return
        run = self.session.tool_runs.setdefault(call, ToolRun())
        code = item.exit_code if item else event.exit_code
        run.exit_code = code if code is not None else run.exit_code
        took = (item.duration if item else None) or event.duration
        if event.completed_at_ms:
            # The tool's own clock starts late (builds of 150 ms say 6 us), so its start stays
            # the line that asked for it.
            run.end_us, run.clock = event.completed_at_ms * 1000, "derived"
        elif took is not None and time is not None:
            run.end_us = time
            run.start_us = time - (took.secs * 1_000_000 + took.nanos // 1000)
            run.clock = "logged"
