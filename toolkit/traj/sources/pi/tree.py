"""A Pi session's tree of entries as the steps of a lane.

Each entry leaves a `Place`: what the context, the prompt and the model are after it. An entry goes
on from the place of the one that it names; where the conversation as written so far is another,
a Rebase comes before the next message.
"""

from __future__ import annotations

import msgspec
from msgspec import UNSET

from traj.events import Lane, Message, Rebase, Sampling, Session, Turn
from traj.sources.chains import Branches, Chain, joined, replaced
from traj.sources.lines import UNDECODABLE, epoch_us
from traj.sources.pi import content, wire
from traj.sources.pi.place import EMPTY, START, Place

MAIN = 0


class TreeReader:
    """Takes the entries of one session file in order and writes the main lane's steps."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lane = session.lanes[MAIN]
        self.root = START
        self.places: dict[str, Place] = {}
        self.by_line: list[Place] = []  # version 1 counts entries instead of naming them
        self.here = START
        self.written: Chain | None = None  # the context that the steps so far have built
        self.messages: list[Message] = []  # of the lane, answers included
        self.reason: str | None = None
        self.branches = Branches(MAIN)
        self.attempt = 0
        self.sides: dict[str, int] = {}
        self.file = 0

    def begin(self, header: wire.Entry) -> None:
        """The header: version 1 has the model there."""
        self.root = START._replace(model=header.model_id, effort=header.thinking_level)
        self.here = self.root

    def entry(self, entry: wire.Entry, line: int) -> None:
        """One line after the header."""
        place = self._parent(entry)
        if place is not self.here:
            self.reason, self.attempt = "rewind", 0
        self.here = place._replace(parent=place, number=None)
        time = epoch_us(entry.timestamp)
        kind = entry.type or ""
        if kind == "message" and entry.message is not None:
            self._message(entry, entry.message, time, line)
        elif kind == "custom_message":
            self._say(content.text_of(entry.content), time, line, images=entry.content)
        elif kind == "compaction":
            self._compaction(entry, time, line)
        elif kind == "branch_summary":
            self._side("branch summary", entry, time, line)
            if entry.summary:
                self.session.lose("framing_not_recorded")
                self._say(entry.summary, time, line)
        elif kind == "usage":
            self._side(entry.kind or "usage", entry, time, line)
        elif kind == "context_edit":
            self._edit(entry, time, line)
        else:
            self._setting(entry, kind)
        self.by_line.append(self.here)
        if entry.id is not None:
            self.places[entry.id] = self.here

    def _setting(self, entry: wire.Entry, kind: str) -> None:
        """An entry that no request shows."""
        if kind == "model_change":
            self.here = self.here._replace(model=entry.model_id or self.here.model)
        elif kind == "thinking_level_change":
            self.here = self.here._replace(effort=entry.thinking_level)
        elif kind == "session_info":
            self.session.title = entry.name or None
        elif kind not in ("session", "custom", "label"):
            self.session.lose(f"item:{kind[:40]}")

    def _parent(self, entry: wire.Entry) -> Place:
        """Where an entry goes on. OpenClaw names what is no entry (a tool call, the session):
        then it is the line before, as it is in version 1."""
        if entry.id is None or entry.parent_id is UNSET:
            return self.here
        if entry.parent_id is None:
            return self.root if self.places else self.here
        return self.places.get(entry.parent_id, self.here)

    # Messages

    def _write(self, step: Message | Turn) -> int:
        """Adds a step that has a message; gives the message's number."""
        message = step.answer if isinstance(step, Turn) else step
        number = len(self.messages)
        if message is not None:
            self.messages.append(message)
            self.written = joined(self.written, number)
        self.lane.steps.append(step)
        return number

    def _go_there(self) -> None:
        """Makes the context what it is at this place."""
        reason, self.reason = self.reason, None
        if self.written is self.here.context:
            return
        if (ranges := self.branches.ranges(self.here.context)) is None:
            self.session.lose("branch_not_followed")
            self.here = self.here._replace(context=self.written)
        else:
            self.lane.steps.append(Rebase(reason, ranges))
            self.written = self.here.context

    def _append(self, step: Message | Turn) -> None:
        """Adds a step whose message later requests hold."""
        self._go_there()
        number = self._write(step)
        self.here = self.here._replace(context=self.written, number=number)

    def _say(
        self,
        text: str | None,
        time: int | None,
        line: int,
        *,
        images: list[wire.Block] | str | None = None,
        by_person: bool = False,
    ) -> None:
        self.attempt = 0
        self._append(
            Message(
                "user",
                text,
                attachments=content.attachments(images),
                time_us=time,
                by_person=by_person,
                file=self.file,
                line=line,
            )
        )

    def _message(self, entry: wire.Entry, inner: wire.Inner, time: int | None, line: int) -> None:
        role, stamp = inner.role or "", content.milliseconds(inner.timestamp)
        if role == "assistant":
            self._answer(entry, inner, time, line)
        elif role == "toolResult":
            content.end_run(self.session, inner, time)
            self._append(content.tool_message(inner, stamp or time, self.file, line))
            self._subagents(inner)
        elif role == "user":
            text = content.text_of(inner.content)
            self._say(text, stamp or time, line, images=inner.content, by_person=True)
        elif role == "system":
            self.here = self.here._replace(prompt=self.here.prompt.patched(inner))
        elif role == "bashExecution":
            self._shell(inner, time, line)
        elif role in ("custom", "hookMessage"):
            self._say(content.text_of(inner.content), time, line, images=inner.content)
        else:
            self.session.lose(f"item:{role[:40]}")

    def _shell(self, inner: wire.Inner, time: int | None, line: int) -> None:
        """A command that the person ran themselves, and let the model see."""
        if inner.exclude_from_context:
            self.session.lose("transcript_only_message")
            return
        if inner.exit_code or inner.cancelled or inner.truncated:
            self.session.lose("framing_not_recorded")
        told = f"```\n{inner.output}\n```" if inner.output else "(no output)"
        self._say(f"Ran `{inner.command or ''}`\n{told}", time, line, by_person=True)

    def _answer(self, entry: wire.Entry, inner: wire.Inner, time: int | None, line: int) -> None:
        message = content.answer(self.session, inner, time, self.file, line)
        content.begin_runs(self.session, message, time)
        if inner.stop_reason == "error" and message is not None:
            self.session.lose("broken_answer")
            message = None
        effort = self.here.effort
        api = content.APIS.get(inner.api or "", "unknown")
        turn = content.turn(
            inner,
            message,
            time,
            model=inner.model or self.here.model,
            response_id=inner.response_id or entry.id,
            system=self.here.prompt.system,
            tools=self.here.prompt.tools(api, self.session),
            attempt=self.attempt,
            sampling=Sampling(reasoning_effort=effort) if effort not in (None, "off") else None,
            file=self.file,
            line=line,
        )
        self.attempt = self.attempt + 1 if turn.status == "error" else 0
        self.here = self.here._replace(model=turn.model)
        if turn.status == "ok":
            self._append(turn)
        else:
            self._go_there()
            self._write(turn)  # what was broken off is not sent again

    def _subagents(self, inner: wire.Inner) -> None:
        """The runs that the sub-agent extension leaves in the details of its result."""
        if inner.tool_name != "subagent" or not bytes(inner.details):
            return
        try:
            runs = wire.SUBAGENTS.decode(inner.details).results
        except UNDECODABLE:
            self.session.lose("malformed_field")
            return
        call = inner.tool_call_id
        for run in runs:
            steps = content.subagent_steps(run, self.session, self.file)
            self.session.lanes.append(Lane("subagent", run.agent, call, call, steps=steps))

    # What changes the context

    def _compaction(self, entry: wire.Entry, time: int | None, line: int) -> None:
        """The summary, then what stands from the first kept entry on, in place of the context."""
        self._side("compaction", entry, time, line)
        kept = self._kept(entry)
        self.session.lose("framing_not_recorded")
        summary = Message("user", entry.summary or "", time_us=time, file=self.file, line=line)
        context = joined(None, self._write(summary))
        for number in kept:
            context = joined(context, number)
        prompt = self.here.prompt
        if entry.system_message is not None:
            prompt = EMPTY.patched(entry.system_message)
        self.here = self.here._replace(context=context, prompt=prompt)
        self.reason = "compaction"

    def _kept(self, entry: wire.Entry) -> list[int]:
        """Numbers of the messages before a compaction that stay."""
        index = entry.first_kept_entry_index
        if index is not None:
            first = self.by_line[index - 1] if 0 < index <= len(self.by_line) else None
        else:
            first = self.places.get(entry.first_kept_entry_id or "")
        if first is None:
            self.session.lose("compaction_history_unknown", entry.first_kept_entry_id != entry.id)
            return []
        numbers: list[int] = []
        place = self.here.parent
        while place is not None:
            if place.number is not None:
                numbers.append(place.number)
            if place is first:
                return numbers[::-1]
            place = place.parent
        self.session.lose("compaction_history_unknown")
        return []

    def _edit(self, entry: wire.Entry, time: int | None, line: int) -> None:
        """One earlier message is left out from here on, or says something else."""
        target = self.places.get(entry.target_id or "")
        self.session.lose("item:context_edit", target is None)
        if target is None or target.number is None:
            return  # nobody, or a failed answer, which is never sent again
        old = target.number
        new: int | None = None
        if entry.replacement is not None:
            told = entry.replacement.content
            new = self._write(
                msgspec.structs.replace(
                    self.messages[old],
                    content=content.text_of(told),
                    attachments=content.attachments(told),
                    time_us=time,
                    by_person=False,
                    file=self.file,
                    line=line,
                )
            )
        self.here = self.here._replace(context=replaced(self.here.context, old, new))
        self.reason = "edit"

    def _side(self, lane: str, entry: wire.Entry, time: int | None, line: int) -> None:
        """A request outside the conversation, of which the log has the figures alone."""
        if entry.usage is None:
            return
        self.session.lose("answer_not_recorded")
        if lane not in self.sides:
            self.sides[lane] = len(self.session.lanes)
            self.session.lanes.append(Lane("side", lane))
        self.session.lanes[self.sides[lane]].steps.append(
            Turn(
                None,
                model=entry.model or self.here.model,
                response_id=entry.id,
                usage=content.usage(entry.usage),
                end_us=time,
                clock="derived" if time is not None else "none",
                file=self.file,
                line=line,
            )
        )
