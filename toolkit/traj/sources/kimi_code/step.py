"""A request that is under way: what has come of it, and the turn that it becomes."""

from __future__ import annotations

from traj.events import Message, ToolCall, Turn
from traj.sources.kimi_code import content, wire


class Step:
    """From `step.begin`, or a request outside of steps, to its end."""

    def __init__(self, start_us: int | None, line: int) -> None:
        self.request = wire.Line()
        self.is_sent = False
        self.line = line
        self.start_us = start_us
        self.answer_us: int | None = None  # the first line that belongs to the answer
        self.recorded: wire.Figures | None = None
        self.texts: list[str] = []
        self.thoughts: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: dict[str, Message] = {}
        self.clashes = 0  # times that contradict the order of things

    def send(self, request: wire.Line, start_us: int | None) -> None:
        """The request itself."""
        self.request, self.is_sent = request, True
        self.start_us = start_us if start_us is not None else self.start_us

    @property
    def is_waiting(self) -> bool:
        """Whether tools are still running."""
        return len(self.results) < len(self.calls)

    def turn(
        self, event: wire.Event, time_us: int | None, before_us: int | None, file: int
    ) -> Turn:
        """The turn; system prompt, tools and number of the try are the agent's to add. `before_us`
        is when the request before it had ended."""
        reason = event.finish_reason
        status = {"error": "error", "interrupted": "cancelled"}.get(reason or "", "ok")
        start, first, end = self._times(event, time_us, before_us)
        answer = None
        says = bool(self.texts or self.thoughts or self.calls)
        if status == "error" and says:
            status = "cancelled"  # what had come stays in the context
        if says or status == "ok":
            answer = Message(
                "assistant",
                "".join(self.texts) or None,
                "".join(self.thoughts) or None,
                tuple(self.calls),
                time_us=end,
                file=file,
                line=self.line,
            )
        known, sent = start is not None or end is not None, self.start_us
        return Turn(
            answer,
            content.APIS.get(self.request.provider or "", "unknown"),
            self.request.model or None,
            # Where there is no id, the time tells a fork's copy.
            response_id=event.message_id or (None if sent is None else f"at-{sent // 1000}"),
            usage=content.usage(event.usage or self.recorded, whole=status == "ok"),
            start_us=start,
            first_token_us=first,
            answer_us=self.answer_us,
            end_us=end,
            clock="logged" if start is not None else "derived" if known else "none",
            earlier_reasoning=content.earlier_reasoning(self.request),
            stop_reason=content.STOPS.get(reason, "other") if reason and status == "ok" else None,
            status=status,
            error="error" if status == "error" else None,
            sampling=content.sampling(self.request),
            file=file,
            line=self.line,
        )

    def _times(
        self, event: wire.Event, time_us: int | None, before_us: int | None
    ) -> tuple[int | None, int | None, int | None]:
        """Start, first token and end: the agent notes when it sent a request, and how long the
        answer took to begin and to come in."""
        start, first = self.start_us, None
        latency, stream = event.llm_first_token_latency_ms, event.llm_stream_duration_ms
        known = [time for time in (self.answer_us, time_us) if time is not None]
        end = min(known) if known else None
        if start is not None and latency is not None:
            first = start + round(latency * 1000)
            end = first + round((stream or 0) * 1000)
        is_early = start is not None and before_us is not None and start < before_us
        is_late = start is not None and end is not None and start > end
        if is_early or is_late:
            self.clashes += 1
            start = first = None
        return start, first, end
