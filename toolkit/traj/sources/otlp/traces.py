"""Traces of instrumented agents: whole prompts in their chat spans, or none at all.

A chat span belongs to the agent span nearest above it; an agent below a tool's span was started by
that call. Within an agent requests are put into lanes by what their prompts share. Where no span
holds any text the session has lengths and times alone.
"""

from __future__ import annotations

from collections.abc import Sequence

from traj.events import Lane, Session, ToolRun, Turn
from traj.sources.otlp import words
from traj.sources.otlp.spans import Span
from traj.sources.otlp.text import Spoken, text
from traj.sources.requests import Answered, Asked, Exchange, chain


class Trace:
    """The spans of a session, and who stands above whom."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self.spans = {(span.trace, span.id): span for span in spans}
        self.kinds = {key: words.kind(span) for key, span in self.spans.items()}
        self.chats = self._requests()

    def of(self, kind: str) -> list[Span]:
        return [span for key, span in self.spans.items() if self.kinds[key] == kind]

    def above(self, span: Span, *kinds: str) -> Span | None:
        """The nearest span above one that is of some kind."""
        seen = set()
        key = (span.trace, span.parent or "")
        while key in self.spans and key not in seen:
            seen.add(key)
            if self.kinds[key] in kinds:
                return self.spans[key]
            key = (span.trace, self.spans[key].parent or "")
        return None

    def _requests(self) -> list[Span]:
        """The chat spans: of those that lie in each other (a framework's and its client's) the
        innermost, which is the request."""
        chats = self.of("chat")
        outer = {
            (one.trace, one.id) for span in chats if (one := self.above(span, "chat")) is not None
        }
        found = [span for span in chats if (span.trace, span.id) not in outer]
        return sorted(found, key=lambda span: (span.start_us or 0, span.end_us or 0))


def read(session: Session, spans: Sequence[Span]) -> None:
    """Gives a session its lanes and the runs of its tools."""
    trace = Trace(spans)
    beside = any(words.is_beside(span.attributes) for span in trace.chats)
    session.lose("cached_beside_input", int(beside))
    agents = {_key(span): span for span in trace.of("agent")}
    exchanges = [_exchange(trace, span, beside=beside) for span in trace.chats]
    session.has_text = any(
        one.asked.messages or one.answered.message is not None for one in exchanges
    )
    threads = (chain if session.has_text else _without_text)(session, exchanges)
    _name(session, trace, threads, agents)
    _tools(session, trace)


def _key(span: Span) -> str:
    return f"{span.trace} {span.id}"


def _exchange(trace: Trace, span: Span, *, beside: bool) -> Exchange:
    attributes = span.attributes
    spoken = Spoken(span)
    reasons = attributes.get("gen_ai.response.finish_reasons")
    reason = reasons[0] if isinstance(reasons, list) and reasons else None
    reason = reason or attributes.get("llm.finish_reason")
    error = words.first(attributes, ("error.type",)) or span.said or "error"
    agent = trace.above(span, "agent")
    model = words.first(attributes, words.MODEL)
    return Exchange(
        Asked(
            words.api(attributes),
            model,
            tuple(spoken.prompt),
            spoken.system,
            spoken.tools,
            words.sampling(attributes),
        ),
        Answered(
            spoken.answers[0] if spoken.answers else None,
            model,
            words.response_id(attributes),
            words.usage(attributes, beside=beside),
            words.stop(reason),
            error if span.failed else None,
        ),
        span.start_us,
        words.first_token_us(span),
        span.end_us,
        "logged" if span.start_us is not None else "none",
        _key(agent) if agent is not None else span.trace,
        0,
        span.line,
    )


def _without_text(session: Session, exchanges: Sequence[Exchange]) -> list[str | None]:
    """A lane for each agent, its requests one after the other."""
    lanes: dict[str | None, Lane] = {}
    for one in exchanges:
        lane = lanes.setdefault(one.thread, Lane("main" if not lanes else "side"))
        answered = one.answered
        lane.steps.append(
            Turn(
                answer=None,
                api=one.asked.api,
                model=answered.model,
                response_id=answered.response_id,
                usage=answered.usage,
                start_us=one.start_us,
                first_token_us=one.first_token_us,
                end_us=one.end_us,
                clock=one.clock,
                stop_reason=answered.stop_reason,
                status="error" if answered.error else "ok",
                error=answered.error,
                sampling=one.asked.sampling,
                file=one.file,
                line=one.line,
            )
        )
    session.lanes += lanes.values()
    return list(lanes)


def _name(
    session: Session, trace: Trace, threads: Sequence[str | None], agents: dict[str, Span]
) -> None:
    """Names lanes after their agents. An agent's lane is that of its requests which has most."""
    own: dict[str | None, int] = {}
    for index, thread in enumerate(threads):
        turns = len(session.lanes[index].steps)
        if thread not in own or turns > len(session.lanes[own[thread]].steps):
            own[thread] = index
    if threads:
        own[threads[0]] = 0
    for thread, index in own.items():
        agent, lane = agents.get(thread or ""), session.lanes[index]
        if agent is None:
            continue
        lane.name = words.first(agent.attributes, words.AGENT) if index else None
        if index:
            lane.kind = "subagent"
            call = trace.above(agent, "tool")
            if call is not None:
                name = words.first(call.attributes, words.CALL_ID)
                lane.spawned_by, lane.joined_by = name, name


def _tools(session: Session, trace: Trace) -> None:
    """The spans of tools are the calls' own times."""
    asked = {
        call.id
        for lane in session.lanes
        for step in lane.steps
        if isinstance(step, Turn) and step.answer is not None
        for call in step.answer.tool_calls
    }
    unknown = 0
    for span in trace.of("tool"):
        call = words.first(span.attributes, words.CALL_ID)
        if call is None:
            call = _by_text(session, span, asked)
        if call not in asked or call is None:
            unknown += 1
            continue
        status = "error" if span.failed else "ok"
        session.tool_runs[call] = ToolRun(span.start_us, span.end_us, "logged", status=status)
    session.lose("tool_run_without_call", unknown)


def _by_text(session: Session, span: Span, asked: set[str]) -> str | None:
    """The call that a span without an id is of: the same name and arguments, not run yet."""
    name = words.first(span.attributes, words.TOOL)
    said = text(words.value(span.attributes.get("input.value")))
    for lane in session.lanes:
        for step in lane.steps:
            if isinstance(step, Turn) and step.answer is not None:
                for call in step.answer.tool_calls:
                    run = session.tool_runs.get(call.id)
                    free = run is None or run.clock == "derived"
                    alike = said is None or text(words.value(call.arguments)) == said
                    if call.id in asked and free and call.name == name and alike:
                        return call.id
    return None
