"""The messages of a mini-swe-agent trajectory as the steps of its only lane."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Sampling, Session, ToolRun, Turn
from traj.sources import raw_responses
from traj.sources.mini_swe_agent import wire
from traj.sources.requests import Answered
from traj.sources.requests.chat import spoken
from traj.sources.requests.pieces import text_of

if TYPE_CHECKING:
    from msgspec import Raw

# Ways for a run to end that are no failed request.
_ENDS = frozenset(
    (
        *("", "Submitted", "LimitsExceeded", "TimeExceeded", "RepeatedFormatError"),
        *("KeyboardInterrupt", "UserInterruption"),
    )
)
_FENCE = "```bash"  # around the one action of an answer, where version 1 writes no list of them
_NOT_RUN = "action was not executed"
_ENCRYPTED = re.compile(rb'"encrypted_content"\s*:\s*"')
_SECOND = 1_000_000


class Conversation:
    """Takes the messages in order."""

    def __init__(self, session: Session, info: wire.Info) -> None:
        self.session = session
        self.lane = Lane("main")
        session.lanes.append(self.lane)
        model = (info.config.model if info.config else None) or wire.Model()
        self.model = model.model_name
        self.sampling = _sampling(model.model_kwargs)
        self.exit_status = info.exit_status or ""
        self.context: list[tuple[int, int, int]] = []
        self.count = 0  # messages so far, answers that were not kept included
        self.names: dict[str, str] = {}  # of tools, by call id
        self.open: set[str] = set()  # calls without a result
        self.answered_us: int | None = None
        self.timed = False  # whether the agent's own clock has been seen
        self.earlier = "unknown"

    def entry(self, entry: wire.Entry, raw: Raw, number: int) -> None:
        """One message; `number` is its place in the list, from 1."""
        extra = entry.extra or wire.Extra()
        seconds = entry.timestamp if extra.timestamp is None else extra.timestamp
        time = None if seconds is None else round(seconds * _SECOND)
        if entry.role == "exit":
            return
        if entry.object == "response":
            answered = raw_responses.answered(raw)
            self._turn(answered, raw, time, number)
            self._earlier(
                answered.message, kept=True, encrypted=b'"encrypted_content":"' in bytes(raw)
            )
        elif entry.role == "assistant":
            self._answer(entry, extra, time, number)
        else:
            if bytes(extra.response).startswith((b"{", b'"')):
                self._discarded(extra.response, number)
            self._told(entry, extra, time, number)
        self.timed |= time is not None
        if self.session.started_us is None:
            self.session.started_us = time

    def _answer(self, entry: wire.Entry, extra: wire.Extra, time: int | None, number: int) -> None:
        """The message is what later requests hold of the answer; the response may tell more."""
        answered = raw_responses.answered(extra.response)
        message = spoken(entry)
        kept = message.reasoning is not None
        if not kept and answered.message is not None:
            message = replace(message, reasoning=answered.message.reasoning)
        self._turn(replace(answered, message=message), extra.response, time, number)
        if not message.tool_calls:
            acted = len(extra.actions) or (message.content or "").count(_FENCE) == 1
            self.session.lose("text_action", acted)
        hidden = any(one.type == "reasoning.encrypted" for one in entry.reasoning_details or ())
        self._earlier(message, kept=kept, encrypted=hidden)

    def _discarded(self, response: Raw, number: int) -> None:
        """An answer without a right call: it was paid for, and later requests do not hold it."""
        before = tuple(self.context)
        self._turn(raw_responses.answered(response), response, None, number)
        if self.context != list(before):
            self.context = list(before)
            self.lane.steps.append(Rebase(None, before))

    def _turn(self, answered: Answered, raw: Raw, time: int | None, number: int) -> None:
        created = raw_responses.created_us(raw)
        if self.session.started_us is None:
            self.session.started_us = created if time is None else min(created or time, time)
        message = answered.message
        if message is None:
            self.session.lose("answer_not_recorded")
        else:
            message = replace(message, time_us=time, line=number)
        # The provider's clock has whole seconds, and may not go like the agent's.
        answer_us = None if self.timed else created
        turn = Turn(
            message,
            raw_responses.api_of(raw),
            answered.model or self.model or None,
            answered.response_id,
            answered.usage,
            answer_us=answer_us if time is None or answer_us is None else min(answer_us, time),
            end_us=time,
            clock="none" if time is None and created is None else "derived",
            earlier_reasoning=self.earlier,
            stop_reason=answered.stop_reason,
            sampling=self.sampling,
            line=number,
        )
        self.lane.steps.append(turn)
        self.answered_us = time
        if message is not None:
            self._entered()
            for call in message.tool_calls:
                self.names[call.id] = call.name
                self.open.add(call.id)
                self.session.tool_runs[call.id] = ToolRun(start_us=time)

    def _earlier(self, message: Message | None, *, kept: bool, encrypted: bool) -> None:
        """What later requests hold of this answer's reasoning."""
        if encrypted:
            self.earlier = "encrypted"
        elif message is not None and message.reasoning is not None:
            self.earlier = "kept" if kept else "dropped"

    def _told(self, entry: wire.Entry, extra: wire.Extra, time: int | None, number: int) -> None:
        """Instructions, results, and what a person says between them."""
        call = entry.call_id or entry.tool_call_id
        message = spoken(entry)
        role = message.role if message.role in ("system", "tool") else "user"
        message = replace(message, role=role, reasoning=None, tool_calls=())
        if entry.call_id is not None and bytes(entry.output):
            message = replace(message, role="tool", content=text_of(entry.output))
        if message.role == "tool":
            message = replace(message, tool_call_id=call, name=self.names.get(call or ""))
            self._ran(call or "", extra, time)
        typed = (extra.interrupt_type or "").startswith("User")
        if extra.interrupt_type == "UserRejection":
            self._rejected()
        self.lane.steps.append(replace(message, time_us=time, by_person=typed, line=number))
        self._entered()

    def _ran(self, call: str, extra: wire.Extra, time: int | None) -> None:
        """A result. All results of an answer are written when its last call has ended."""
        run = self.session.tool_runs.get(call)
        if run is None:
            return
        self.open.discard(call)
        run.end_us = time
        if time is not None:
            run.clock = "derived"
        told = extra.exception_info or ""
        if told == _NOT_RUN:
            self.open.add(call)
        elif told:
            run.status = "timeout" if "timed out" in told else "error"
        elif extra.returncode is not None:
            run.exit_code = extra.returncode
            run.status = "error" if extra.returncode else "ok"

    def _rejected(self) -> None:
        for call in self.open:
            self.session.tool_runs[call].status = "rejected"
        self.open.clear()

    def _entered(self) -> None:
        """One more message in the lane and its context."""
        if self.context and self.context[-1][2] == self.count:
            self.context[-1] = (0, self.context[-1][1], self.count + 1)
        else:
            self.context.append((0, self.count, self.count + 1))
        self.count += 1

    def finish(self) -> None:
        """A run that ended by an error after a message ended in a request that failed."""
        last = self.lane.steps[-1] if self.lane.steps else None
        if self.exit_status in _ENDS or not isinstance(last, Message):
            return
        self.lane.steps.append(
            Turn(
                None,
                model=self.model or None,
                earlier_reasoning=self.earlier,
                status="error",
                error=self.exit_status[:200],
                sampling=self.sampling,
            )
        )


def _sampling(options: wire.Options | None) -> Sampling | None:
    if options is None:
        return None
    most = options.max_completion_tokens
    return Sampling(
        options.max_tokens if most is None else most,
        options.temperature,
        options.top_p,
        options.reasoning_effort,
    )
