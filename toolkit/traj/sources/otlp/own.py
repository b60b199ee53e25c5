"""Traces that `traj export -f otel` wrote: messages once, prompts as ranges of their numbers.

What the conventions have no name for is `traj.` and a column's name. So lanes, contexts, waits and
figures come back as they were; what does not is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, TypeGuard

import orjson
from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Session, Step, ToolRun, Turn
from traj.sources.lines import epoch_us
from traj.sources.otlp import text, words
from traj.sources.otlp.spans import Span
from traj.sources.requests.spoken import proper

Ranges = list[tuple[int, int]]
_API = ("anthropic_messages", "openai_chat", "openai_responses", "gemini")
_LANES = 2**15  # as many as the schema has numbers for
LANE_KINDS = ("main", "subagent", "side")
REASONS = ("start", "compaction", "clear", "rewind", "edit", "model_switch")
STATUSES = ("ok", "error", "cancelled")
RUN_STATUSES = ("ok", "error", "rejected", "timeout", "interrupted", "unknown")
CLOCKS = ("measured", "logged", "derived", "none")
REASONINGS = ("kept", "dropped", "encrypted", "unknown")
STOPS = ("end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause", "other")
_TEXT = ("gen_ai.input.messages", "gen_ai.output.messages", "traj.unsent")


def is_own(spans: Sequence[Span]) -> bool:
    """Whether the session was written by the exporter."""
    return any("traj.input" in span.attributes for span in spans)


def read(session: Session, spans: Sequence[Span], resource: dict[str, Any]) -> None:
    """Gives a session its lanes and the runs of its tools."""
    _Reader(session, spans, resource).read()


class _Reader:
    """One trajectory's spans."""

    def __init__(self, session: Session, spans: Sequence[Span], resource: dict[str, Any]) -> None:
        self.session = session
        started = resource.get("traj.started_at")
        self.base_us = epoch_us(started if isinstance(started, str) else None) or 0
        session.is_dated = self.base_us > 0
        self.fronts: dict[str, str] = {}
        self.messages: dict[int, Message] = {}
        self.lane_of: dict[int, int] = {}
        self.answered: set[int] = set()
        self.chats = sorted(
            (one for one in spans if words.kind(one) == "chat"), key=lambda one: _int(one, "turn")
        )
        self.tools = [one for one in spans if words.kind(one) == "tool"]
        self.agents = [one for one in spans if words.kind(one) == "agent"]
        losses = resource.get("traj.losses")
        for one in losses if isinstance(losses, list) else ():
            if isinstance(one, dict):
                kind, count = one.get("kind"), one.get("count")
                if isinstance(kind, str) and _is_count(count):
                    session.lose(kind, count)

    def read(self) -> None:
        for span in [*self.chats, *self.agents]:
            self._collect(span)
        numbers = sorted(self.messages)
        self.place: dict[int, tuple[int, int]] = {}
        counts: dict[int, int] = {}
        for number in numbers:
            its = self.lane_of[number]
            self.place[number] = its, counts.get(its, 0)
            counts[its] = counts.get(its, 0) + 1
        count = max([0, *self.lane_of.values(), *(_int(one, "lane") for one in self.chats)]) + 1
        lanes = [Lane("main" if index == 0 else "side") for index in range(count)]
        self._join(lanes)
        for index, lane in enumerate(lanes):
            chats = [one for one in self.chats if _int(one, "lane") == index]
            if chats:
                kind = _of(chats[0], "lane_kind", LANE_KINDS, lane.kind)
                lane.kind = kind if index else "main"
                lane.name = _str(chats[0], "lane_name")
            own = [number for number in numbers if self.lane_of[number] == index]
            lane.steps += self._steps(chats, own)
        self.session.lanes += lanes
        for span in self.tools:
            self._run(span)

    def _collect(self, span: Span) -> None:
        """Notes the messages, system prompts and tools that a span holds."""
        for name in _TEXT:
            rows = words.value(span.attributes.get(name))
            for row in rows if isinstance(rows, list) else ():
                about = row.get("traj") if isinstance(row, dict) else None
                if not isinstance(about, dict) or not isinstance(row.get("parts"), list):
                    continue
                number, time_us = about.get("message"), about.get("time_us")
                if not _is_count(number):
                    continue
                made = proper(text.parts(row)[0])
                time = self.base_us + time_us if _is_count(time_us) else None
                self.messages[number] = replace(made, time_us=time, line=span.line)
                lane = about.get("lane")
                self.lane_of[number] = lane if _is_count(lane) and lane < _LANES else 0
        system = text.system(words.value(span.attributes.get("gen_ai.system_instructions")))
        tools = words.value(span.attributes.get("gen_ai.tool.definitions"))
        if system is not None:
            self.fronts[str(span.attributes.get("traj.system_id"))] = system
        if tools:
            self.fronts[str(span.attributes.get("traj.tools_id"))] = orjson.dumps(tools).decode()

    def _join(self, lanes: list[Lane]) -> None:
        """Who started whom, and where reports came back."""
        calls = {one.id: one for one in self.tools}
        last = {}
        for span in self.chats:
            last[_int(span, "lane")] = span.id
        for agent in self.agents:
            lane, call = _int(agent, "lane"), calls.get(agent.parent or "")
            if call is not None and 0 < lane < len(lanes):
                lanes[lane].spawned_by = words.first(call.attributes, words.CALL_ID)
        of_last = {name: lane for lane, name in last.items()}
        for span in self.chats:
            ended = {of_last.get(link, 0) for link in span.links} - {0, _int(span, "lane")}
            for lane in sorted(ended):
                self._bring(lanes[lane], span)

    def _ranges(self, span: Span) -> Ranges:
        """The messages of a prompt; of those that are not there, none."""
        rows = words.value(span.attributes.get("traj.input"))
        beyond = max(self.messages, default=-1) + 1
        return [
            (row[0], min(row[1], beyond))
            for row in (rows if isinstance(rows, list) else ())
            if isinstance(row, list) and len(row) == 2 and all(_is_count(one) for one in row)
        ]

    def _bring(self, lane: Lane, span: Span) -> None:
        """Marks what brought a sub-agent's report: the newest message of the prompt."""
        told = next(self._told(span), None)
        if told is None:
            return
        brought = self.messages[told]
        name = brought.brings or f"report before turn {_int(span, 'turn')}"
        self.messages[told] = replace(brought, brings=name)
        lane.joined_by = name

    def _told(self, span: Span) -> Iterator[int]:
        """What the agent told the model in a prompt, the newest first."""
        for start, stop in reversed(self._ranges(span)):
            for number in range(stop - 1, start - 1, -1):
                mine = self.lane_of.get(number) == _int(span, "lane")
                if mine and self.messages[number].role != "assistant":
                    yield number

    def _steps(self, chats: Sequence[Span], own: Sequence[int]) -> Iterator[Step]:
        """A lane's messages and turns in order."""
        context: Ranges = []
        told = 0
        for span in chats:
            wanted, output = self._ranges(span), span.attributes.get("traj.output")
            stops = [stop for start, stop in wanted if self.lane_of.get(stop - 1) is not None]
            until = output if _is_count(output) else max(stops, default=0)
            answers = {one.attributes.get("traj.output") for one in chats}
            while told < len(own) and own[told] < until:
                number = own[told]
                told += 1
                if number not in answers:
                    yield self._message(number, span)
                    _extend(context, number)
            reason = _of(span, "context_reason", REASONS, "")
            if context != wanted or reason not in ("", "start", "model_switch"):
                places = tuple(self._places(wanted))
                yield Rebase(None if reason in ("", "start") else reason, places)
                context = list(wanted)
            turn = self._turn(span, output if _is_count(output) else None)
            yield turn
            if turn.answer is not None and _is_count(output):
                while told < len(own) and own[told] <= output:
                    told += 1
                _extend(context, output)
        for number in own[told:]:
            yield self.messages[number]

    def _message(self, number: int, span: Span) -> Message:
        message = self.messages[number]
        waited = span.attributes.get("traj.user_us")
        return replace(message, by_person=bool(waited) and message.role == "user")

    def _places(self, wanted: Ranges) -> Iterator[tuple[int, int, int]]:
        """Ranges of numbers over all lanes as ranges within lanes."""
        for start, stop in wanted:
            at = start
            while at < stop:
                lane, first = self.place.get(at, (-1, 0))
                end = at
                while end < stop and self.place.get(end, (-2, 0))[0] == lane:
                    end += 1
                if lane >= 0:
                    yield lane, first, first + end - at
                at = max(end, at + 1)

    def _turn(self, span: Span, output: int | None) -> Turn:
        found = span.attributes
        known = found.get("traj.start") != "unknown", found.get("traj.end") != "unknown"
        status = _of(span, "status", STATUSES, "ok")
        answer = None
        if status != "error" and output is not None and output not in self.answered:
            answer = self.messages.get(output)
        if answer is not None and output is not None:
            self.answered.add(output)
            answer = proper(answer, "assistant")
        elif status == "ok":
            self.session.lose("answer_not_recorded")
        usage = words.usage(found, beside=False)
        source = found.get("traj.usage_source")
        if source in ("reported", "partial"):
            usage = replace(usage, source=source)
        start = span.start_us if known[0] else None
        api = found.get("traj.api")
        return Turn(
            answer=answer,
            api=api if api in _API else "unknown",
            model=words.first(found, words.MODEL),
            response_id=words.first(found, words.RESPONSE_ID),
            usage=usage,
            start_us=start,
            first_token_us=words.first_token_us(span) if start is not None else None,
            end_us=span.end_us if known[1] else None,
            clock=_of(span, "clock", CLOCKS, "none"),
            system=self.fronts.get(_str(span, "system_id") or ""),
            tools=self.fronts.get(_str(span, "tools_id") or ""),
            earlier_reasoning=_of(span, "earlier_reasoning", REASONINGS, "unknown"),
            stop_reason=_of(span, "stop_reason", STOPS, "") or None,
            status=status,
            error=_str(span, "error") if status == "error" else None,
            attempt=_int(span, "attempt"),
            sampling=words.sampling(found),
            line=span.line,
        )

    def _run(self, span: Span) -> None:
        found = span.attributes
        call = words.first(found, words.CALL_ID)
        if call is None:
            return
        flags = [found.get(f"traj.{name}") for name in ("truncated", "background")]
        truncated, background = (one if isinstance(one, bool) else None for one in flags)
        code, waited = found.get("traj.exit_code"), found.get("traj.permission_us")
        is_code = isinstance(code, int) and not isinstance(code, bool) and -(2**31) <= code < 2**31
        self.session.tool_runs[call] = ToolRun(
            span.start_us if found.get("traj.start") != "unknown" else None,
            span.end_us if found.get("traj.end") != "unknown" else None,
            _of(span, "clock", CLOCKS, "none"),
            waited if _is_count(waited) else None,
            _of(span, "status", RUN_STATUSES, "unknown"),
            code if is_code else None,
            truncated,
            background,
        )


def _extend(context: Ranges, number: int) -> None:
    if context and context[-1][1] == number:
        context[-1] = (context[-1][0], number + 1)
    else:
        context.append((number, number + 1))


def _is_count(found: object) -> TypeGuard[int]:
    return isinstance(found, int) and not isinstance(found, bool) and 0 <= found < 2**31


def _int(span: Span, name: str) -> int:
    found = span.attributes.get(f"traj.{name}")
    return found if _is_count(found) and found < _LANES else 0


def _of(span: Span, name: str, known: Collection[str], default: str) -> str:
    """One of the schema's words."""
    found = span.attributes.get(f"traj.{name}")
    return found if isinstance(found, str) and found in known else default


def _str(span: Span, name: str) -> str | None:
    found = span.attributes.get(f"traj.{name}")
    return found if isinstance(found, str) and found else None
