"""A list of messages as the steps of a lane, in either format."""

from __future__ import annotations

from traj.events import Message, Rebase, Session, ToolRun, Turn, Usage
from traj.sources.cline import content, wire


class Talk:
    """Writes a lane. Messages are numbered as they come; `places` says where each one of the file
    begins."""

    def __init__(self, session: Session, index: int, file: int) -> None:
        self.session = session
        self.index = index
        self.file = file
        self.lane = session.lanes[index]
        self.count = 0
        self.places: list[int] = []
        self.first_us: int | None = None
        self.ended_us: int | None = None
        self.calls: dict[str, int | None] = {}  # of the last answer, with when it had come in

    def say(self, said: wire.Said, line: int) -> None:
        """A message to the model."""
        self.places.append(self.count)
        is_main = self.index == 0
        for message in content.to_model(said, self.file, line, self.session, is_main=is_main):
            if message.role == "tool":
                self._end_run(message)
            self.add(message)

    def add(self, message: Message) -> None:
        """Adds a message to the context."""
        self._saw(message.time_us)
        self.lane.steps.append(message)
        self.count += 1

    def _end_run(self, message: Message) -> None:
        name = message.tool_call_id or ""
        if name not in self.calls:
            return
        start, end = self.calls[name], message.time_us
        if start is not None and end is not None and end < start:
            end = None
        run = ToolRun(start, end, exit_code=content.exit_code(message.content))
        run.clock = "derived" if end is not None or start is not None else "none"
        run.status = "error" if run.exit_code else "ok" if end is not None else "unknown"
        self.session.tool_runs[name] = run

    def answer(
        self, said: wire.Said, line: int, usage: Usage, request: wire.Shown | None = None
    ) -> None:
        """The model's message: a request and its answer. `request` is where the older format says
        when it was sent."""
        self.places.append(self.count)
        end = content.microseconds(said.ts)
        info = said.model_info or (request.model_info if request else None) or wire.ModelInfo()
        provider = info.provider or info.provider_id or ""
        start = content.microseconds(request.ts) if request is not None else None
        if start is not None and any(
            time is not None and not ordered
            for time, ordered in (
                (self.ended_us, self.ended_us is None or start >= self.ended_us),
                (end, end is None or start <= end),
            )
        ):
            self.session.lose("clock_disorder")
            start = None
        known = start is not None or end is not None
        message = content.answer(said, end, self.file, line)
        name = said.id or (None if request is None or start is None else f"at-{start // 1000}")
        api = content.APIS.get(provider, "unknown")
        self._saw(start, end)
        self.lane.steps.append(
            Turn(
                message,
                api,
                info.id or info.model_id or None,
                response_id=name,
                usage=usage,
                start_us=start,
                end_us=end,
                clock="none" if not known else "logged" if start and end else "derived",
                earlier_reasoning="unknown" if api in ("unknown", "gemini") else "kept",
                file=self.file,
                line=line,
            )
        )
        self.count += 1
        self.ended_us = end if end is not None else self.ended_us
        self.calls = {call.id: end for call in message.tool_calls}

    def fail(self, request: wire.Shown, status: str, usage: Usage, error: str | None) -> None:
        """A request without an answer."""
        start = content.microseconds(request.ts)
        self._saw(start)
        self.lane.steps.append(
            Turn(
                None,
                usage=usage,
                response_id=None if start is None else f"at-{start // 1000}",
                answer_us=start,
                clock="derived" if start is not None else "none",
                status=status,
                error=error if status == "error" else None,
                file=self.file,
            )
        )

    def rebase(self, reason: str, *ranges: tuple[int, int]) -> None:
        """Puts another context in the place of this one."""
        kept = tuple((self.index, start, stop) for start, stop in ranges if start < stop)
        self.lane.steps.append(Rebase(reason, kept))

    def _saw(self, *times: int | None) -> None:
        for time in times:
            if time is not None and (self.first_us is None or time < self.first_us):
                self.first_us = time
