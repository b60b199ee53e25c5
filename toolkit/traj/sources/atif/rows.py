"""The rows that traj put into an ATIF document: each lane's messages and turns, by number."""

from __future__ import annotations

from typing import NamedTuple

from msgspec import Raw, Struct, field
from msgspec.structs import replace

from traj.events import Attachment, Message, Session, ToolRun
from traj.sources import documents
from traj.sources.atif import spoken, wire
from traj.sources.requests.pieces import fit, json_text, text_of


class Asked(NamedTuple):
    """A turn: its row, its step, its answer, and its number in the document."""

    turn: wire.OwnTurn
    step: wire.Step
    message: Message | None
    number: int


class Told(Struct):
    """One lane's rows."""

    messages: dict[int, Message] = field(default_factory=dict)
    turns: list[Asked] = field(default_factory=list)
    spawned: dict[str, str] = field(default_factory=dict)  # calls by trajectory


class Rows:
    """Reads lanes' rows, and the prompts that they share. `base` is the trajectory's start."""

    def __init__(self, session: Session, base: int | None) -> None:
        self.session, self.base = session, base
        self.systems: dict[str, str] = {}
        self.tools: dict[str, str] = {}

    def at(self, time_us: int | None) -> int | None:
        """A time from the trajectory's start, on the calendar."""
        return None if time_us is None or self.base is None else self.base + time_us

    def read(self, document: wire.Document) -> Told:
        """The rows of one lane, turns in their order."""
        agent = document.agent or wire.Agent()
        own = fit(agent.extra, wire.OwnAgent) or wire.OwnAgent()
        definitions = dict(own.more_tool_definitions)
        if own.tools_id is not None:
            definitions[own.tools_id] = agent.tool_definitions
        for name, raw in definitions.items():
            text = json_text(raw)
            if text is not None:
                self.tools[name] = text
        rows = Told()
        for number, step in documents.items(document.steps, wire.STEP, self.session):
            self._step(rows, step, number)
        rows.turns.sort(key=lambda asked: asked.turn.turn)
        return rows

    def _step(self, rows: Told, step: wire.Step, number: int) -> None:
        extra = fit(step.extra, wire.OwnExtra) or wire.OwnExtra()
        if extra.system_id is not None:
            self.systems[extra.system_id] = text_of(step.message) or ""
            return
        turn = fit(extra.turn, wire.OwnTurn) if bytes(extra.turn) else None
        if step.source == "agent":
            message, asked = spoken.answer(step, self.session)
            for call, raw in asked:
                self._run(call.id, raw)
            if turn is not None:
                known = self._placed(rows, message, extra.message, number)
                if known is None:
                    turn = replace(turn, output=None)
                rows.turns.append(Asked(turn, step, known, number))
            else:
                self.session.lose("malformed_field", bool(bytes(extra.turn)))
                self._placed(rows, message, extra.message, number)
        else:
            role = "system" if step.source == "system" else "user"
            text = text_of(step.message)
            self._placed(rows, Message(role, text), extra.message, number)
        for result in spoken.results(step, self.session):
            self._result(rows, result, number)

    def _placed(
        self, rows: Told, message: Message, raw: Raw, number: int, call: str | None = None
    ) -> Message | None:
        own = fit(raw, wire.OwnMessage)
        if own is None or own.message in rows.messages:
            return None
        kept = tuple(
            Attachment(one.media_type, one.sha256, one.bytes) for one in own.attachments or ()
        )
        found = replace(
            message,
            name=own.name,
            tool_call_id=call if message.role == "tool" else None,
            attachments=kept,
            time_us=self.at(own.time_us),
            line=number,
        )
        rows.messages[own.message] = found
        return found

    def _result(self, rows: Told, result: wire.Result, number: int) -> None:
        call = result.source_call_id or ""
        for one in spoken.references(result):
            if one.trajectory_id is not None:
                rows.spawned[one.trajectory_id] = call
        extra = fit(result.extra, wire.OwnExtra)
        if extra is not None:
            message = Message("tool", text_of(result.content))
            self._placed(rows, message, extra.message, number, call)

    def _run(self, call: str, raw: Raw) -> None:
        own = fit(raw, wire.OwnCall)
        if own is None:
            return
        self.session.tool_runs[call] = ToolRun(
            self.at(own.start_us),
            self.at(own.end_us),
            own.clock,
            own.permission_us,
            own.status,
            own.exit_code,
            own.truncated,
            own.background,
        )
