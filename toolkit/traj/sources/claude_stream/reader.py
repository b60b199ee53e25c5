"""The lines of one session's runs to lanes, turns and tool runs."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec
from msgspec import Raw
from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Session, Step, ToolRun, Turn, Usage
from traj.sources.claude_stream import wire
from traj.sources.lines import epoch_us
from traj.sources.requests import anthropic
from traj.sources.requests.pieces import fit, parts, stop
from traj.sources.requests.spoken import ANTHROPIC

_SYNTHETIC = "<synthetic>"
_EXIT = re.compile(r"\A(?:Error: )?Exit code (\d{1,9})")


@dataclass(slots=True)
class _Answer:
    """An answer whose lines are still coming: its place among the steps, and what it is made of."""

    place: int
    model: str | None
    line: tuple[int, int]
    blocks: list[anthropic.Block] = field(default_factory=list)
    usage: anthropic.RawUsage | None = None
    final: bool = False
    stop: str | None = None
    first_us: int | None = None
    last_us: int | None = None
    attempt: int = 0


@dataclass(slots=True)
class _LaneReader:
    """One agent's lines."""

    lane: Lane
    answers: dict[str, _Answer] = field(default_factory=dict)
    failed: int = 0


class Reader:
    """A session while it is read."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self._lanes: dict[str | None, _LaneReader] = {}
        self._names: dict[str, str] = {}
        self._lane(None)

    def begin(self) -> None:
        """The next run begins: what was asked of it is not printed."""
        self.session.lose("prompt_not_recorded")

    def _lane(self, call: str | None) -> _LaneReader:
        found = self._lanes.get(call)
        if found is None:
            kind = "main" if call is None else "subagent"
            lane = Lane(kind, spawned_by=call, joined_by=call)
            self.session.lanes.append(lane)
            found = self._lanes[call] = _LaneReader(lane)
        return found

    def line(self, line: wire.Line, file: int, number: int) -> None:
        """Takes the next line."""
        match line.type:
            case "system":
                self._system(line, file, number)
            case "assistant" if line.message is not None:
                self._answer(line, line.message, file, number)
            case "user" if line.message is not None:
                self._told(line, line.message, file, number)
            case "stream_event" if line.event is not None:
                self._piece(line, line.event)

    def _system(self, line: wire.Line, file: int, number: int) -> None:
        if line.subtype == "init":
            self.session.agent_version = line.claude_code_version or self.session.agent_version
        elif line.subtype == "compact_boundary":
            lane = self._lane(line.parent_tool_use_id)
            lane.lane.steps.append(Rebase("compaction"))
            self.session.lose("usage_not_per_request")  # the compaction's own request is not told
        elif line.subtype == "api_retry":
            lane = self._lane(line.parent_tool_use_id)
            failed = Turn(
                answer=None,
                api=ANTHROPIC,
                status="error",
                error=line.error or "error",
                attempt=lane.failed,
                file=file,
                line=number,
            )
            lane.failed += 1
            lane.lane.steps.append(failed)

    def _answer(self, line: wire.Line, message: wire.Spoken, file: int, number: int) -> None:
        if message.model == _SYNTHETIC:
            self.session.lose("synthetic_message")
            return
        lane = self._lane(line.parent_tool_use_id)
        lane.lane.name = lane.lane.name or line.subagent_type
        name = message.id or line.uuid or str(number)
        answer = lane.answers.get(name)
        time = epoch_us(line.timestamp)
        if answer is None:
            answer = _Answer(len(lane.lane.steps), message.model, (file, number))
            answer.first_us, answer.attempt, lane.failed = time, lane.failed, 0
            lane.answers[name] = answer
            lane.lane.steps.append(Turn(answer=None, response_id=message.id))
        answer.last_us = time if time is not None else answer.last_us
        answer.stop = message.stop_reason or answer.stop
        self._count(answer, message.usage, final=message.stop_reason is not None)
        blocks = parts(message.content, anthropic.Block)
        answer.blocks += blocks
        for call in anthropic.said(blocks).tool_calls:
            self._names[call.id] = call.name
            self.session.tool_runs[call.id] = ToolRun(time, None, "derived")

    def _count(self, answer: _Answer, raw: Raw, *, final: bool) -> None:
        """Usage is repeated on every line of an answer: the largest output is the last."""
        new = fit(raw, anthropic.RawUsage)
        if new is None:
            return
        old = answer.usage or new
        output = max(new.output_tokens or 0, old.output_tokens or 0)
        told = {
            name: getattr(new, name) if getattr(new, name) is not None else getattr(old, name)
            for name in anthropic.RawUsage.__struct_fields__
        }
        answer.usage = anthropic.RawUsage(**told | {"output_tokens": output})
        answer.final |= final

    def _piece(self, line: wire.Line, event: wire.Event) -> None:
        """The end of an answer, in pieces: its final figures."""
        lane = self._lane(line.parent_tool_use_id)
        if event.type == "message_delta" and lane.answers:
            answer = lane.answers[next(reversed(lane.answers))]
            answer.stop = (event.delta.stop_reason if event.delta else None) or answer.stop
            self._count(answer, event.usage, final=True)

    def _told(self, line: wire.Line, message: wire.Spoken, file: int, number: int) -> None:
        lane = self._lane(line.parent_tool_use_id)
        lane.lane.name = lane.lane.name or line.subagent_type
        time = epoch_us(line.timestamp)
        for result in parts(message.content, wire.Result):
            if result.tool_use_id is not None:
                self._ended(result, line, message, (file, number))
        for told in anthropic.spoken("user", message.content, self._names):
            lane.lane.steps.append(replace(told, time_us=time, file=file, line=number))

    def _ended(
        self,
        result: wire.Result,
        line: wire.Line,
        message: wire.Spoken,
        answered: tuple[int, int],
    ) -> None:
        """How a tool call ended, from its result and what is noted beside it."""
        time = epoch_us(line.timestamp)
        run = self.session.tool_runs.setdefault(result.tool_use_id or "", ToolRun())
        details = fit(line.tool_use_result, wire.Details) or wire.Details()
        run.end_us = time
        run.status = "error" if result.is_error else "ok"
        if details.interrupted:
            run.status = "interrupted"
        if details.isAsync or details.backgroundTaskId or details.status == "async_launched":
            run.background = True
            started = self._lanes.get(result.tool_use_id)
            if started is not None:
                started.lane.joined_by = None
        if bytes(details.usage) and result.tool_use_id in self._lanes:
            self._reported(self._lanes[result.tool_use_id], details, time, answered)
        if result.is_error:
            told = anthropic.spoken("user", message.content, {})
            text = next((one.content for one in told if one.tool_call_id == result.tool_use_id), "")
            code = _EXIT.match(text or "")
            run.exit_code = int(code.group(1)) if code else None

    def _reported(
        self, agent: _LaneReader, details: wire.Details, time: int | None, at: tuple[int, int]
    ) -> None:
        """A sub-agent's last answer, which is not printed: its report, and the figures of its
        request, stand in the result of the call that started it."""
        if not agent.lane.steps or isinstance(agent.lane.steps[-1], Turn):
            return
        blocks = parts(details.content, anthropic.Block)[details.harnessNoteCount or 0 :]
        report = replace(anthropic.said(blocks), time_us=time, file=at[0], line=at[1])
        models = [answer.model for answer in agent.answers.values()]
        agent.lane.steps.append(
            Turn(
                answer=report,
                api=ANTHROPIC,
                model=models[-1] if models else None,
                usage=anthropic.usage(details.usage),
                answer_us=time,
                end_us=time,
                clock="none" if time is None else "derived",
                stop_reason="end_turn",
                file=at[0],
                line=at[1],
            )
        )

    def finish(self) -> None:
        """Puts the answers into their places."""
        times: list[int] = []
        for reader in self._lanes.values():
            for answer in reader.answers.values():
                steps = reader.lane.steps
                steps[answer.place] = self._turn(answer, steps[answer.place])
                times += [one for one in (answer.first_us,) if one is not None]
            times += [
                step.time_us
                for step in reader.lane.steps
                if isinstance(step, Message) and step.time_us is not None
            ]
        self.session.started_us = min(times, default=None)

    def _turn(self, answer: _Answer, begun: Step) -> Turn:
        assert isinstance(begun, Turn)
        file, line = answer.line
        usage = Usage()
        if answer.usage is not None:
            raw = msgspec.json.encode(answer.usage)
            usage = anthropic.usage(raw, whole=answer.final)
        made = replace(anthropic.said(answer.blocks), time_us=answer.last_us, file=file, line=line)
        return replace(
            begun,
            answer=made,
            api=ANTHROPIC,
            model=answer.model,
            usage=usage,
            answer_us=answer.first_us,
            end_us=answer.last_us,
            clock="none" if answer.first_us is None else "derived",
            stop_reason=stop(answer.stop),
            attempt=answer.attempt,
            file=file,
            line=line,
        )
