"""`gemini --output-format stream-json`: what happened as events, with the run's sums at its end.

A request's own figures are not told, nor where one answer ends and the next begins: an answer is
the run of texts and calls up to the first text or call that follows a result.
"""

from __future__ import annotations

from traj.events import Lane, Message, Session, ToolCall, ToolRun, Turn
from traj.sources.gemini_cli import content, wire
from traj.sources.lines import epoch_us

_STATUS = {"success": "ok", "error": "error"}


class StreamReader:
    """Takes the events of one run in order."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.lane: Lane = session.lanes[0]
        self.model: str | None = None
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.times: list[int] = []
        self.results: list[Message] = []
        self.names: dict[str, str | None] = {}
        self.first: int | None = None

    def event(self, event: wire.Event, line: int) -> None:
        """One line."""
        time = epoch_us(event.timestamp)
        kind = event.type or ""
        if kind == "init":
            self.model = event.model or self.model
        elif kind == "message" and event.role == "user":
            self.finish()
            self.lane.steps.append(
                Message("user", event.content, time_us=time, by_person=True, line=line)
            )
        elif kind in ("message", "tool_use"):
            self._answer(event, time, line)
        elif kind == "tool_result":
            self._result(event, time, line)
        elif kind == "result":
            self.finish()
            self._sums(event.stats)
        elif kind == "error":
            self.session.lose("transcript_only_message")
        else:
            self.session.lose(f"item:{kind[:40]}")

    def _answer(self, event: wire.Event, time: int | None, line: int) -> None:
        if self.results:
            self.finish()
        self.first = self.first or line
        if time is not None:
            self.times.append(time)
        if event.type == "message":
            self.texts.append(event.content or "")
            return
        call = event.tool_id or ""
        self.names[call] = event.tool_name
        arguments = wire.raw_text(event.parameters, self.session) or "{}"
        self.calls.append(ToolCall(call, event.tool_name or "unknown", arguments))
        self.session.tool_runs.setdefault(call, ToolRun(start_us=time))

    def _result(self, event: wire.Event, time: int | None, line: int) -> None:
        call = event.tool_id or ""
        run = self.session.tool_runs.setdefault(call, ToolRun())
        run.end_us, run.clock = time, "derived" if time is not None else "none"
        run.status = _STATUS.get(event.status or "", "unknown")
        text = event.output or wire.text_of(event.error, self.session)
        self.results.append(
            Message(
                "tool",
                text,
                tool_call_id=call,
                name=self.names.get(call),
                time_us=time,
                line=line,
            )
        )

    def finish(self) -> None:
        """The answer that is coming in is whole; its tools' results follow it."""
        if self.texts or self.calls:
            end = max(self.times, default=None)
            answer = Message(
                "assistant",
                "".join(self.texts) or None,
                tool_calls=tuple(self.calls),
                time_us=end,
                line=self.first,
            )
            self.lane.steps.append(
                Turn(
                    answer,
                    "gemini",
                    self.model,
                    answer_us=min(self.times, default=None),
                    end_us=end,
                    clock="derived" if self.times else "none",
                    stop_reason="tool_use" if self.calls else "end_turn",
                    line=self.first,
                )
            )
        self.lane.steps += self.results
        self.texts, self.calls, self.times, self.results = [], [], [], []
        self.first = None

    def _sums(self, stats: wire.Stats | None) -> None:
        if stats is None:
            return
        self.session.lose("usage_not_per_request")
        # Its output figure leaves out the thoughts.
        self.session.usage = content.MEANING.usage(
            stats.input_tokens, stats.cached, stats.output_tokens, whole=False
        )
