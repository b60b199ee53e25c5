"""Runs whose steps hold their requests: each step a request, in the lanes that prompts make."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.events import Message, Sampling, Session
from traj.sources import documents
from traj.sources.requests import Answered, Asked, Exchange, chain
from traj.sources.requests.chat import spoken
from traj.sources.requests.pieces import fit, joined, parts
from traj.sources.swe_agent import wire

# Ways for a run to end that are a failed request.
_FAILED = {"exit_context": "context window exceeded", "exit_api": "request failed"}


class Asking(Struct, frozen=True):
    """What all requests of a session ask alike."""

    model: str | None
    sampling: Sampling | None

    def request(self, messages: Sequence[Message]) -> Asked:
        """A request with these messages."""
        return Asked("unknown", self.model, tuple(messages), sampling=self.sampling)


def read(session: Session, runs: Sequence[wire.Run], asking: Asking) -> bool:
    """Writes the lanes; False, and nothing written, where steps do not hold their requests."""
    exchanges: list[Exchange] = []
    for run in runs:
        steps = list(documents.items(run.trajectory, wire.STEP, session))
        if not any(_is_request(step) for _, step in steps):
            return False
        exchanges += _exchanges(session, run, steps, asking)
    chain(session, exchanges)
    for lane in session.lanes:  # results are user messages here, and no person types any
        lane.steps = [
            replace(step, by_person=False) if isinstance(step, Message) else step
            for step in lane.steps
        ]
    return True


def _is_request(step: wire.Step) -> bool:
    return bool(step.query) and bytes(step.query[0]) != b"{}"


def _exchanges(
    session: Session, run: wire.Run, steps: Sequence[tuple[int, wire.Step]], asking: Asking
) -> Iterator[Exchange]:
    told = _entries(session, run.history)
    answers = iter([entry for entry in told if entry.role == "assistant" and not entry.is_demo])
    answer = next(answers, None)
    for number, step in steps:
        kept = answer is not None and (message(answer).content or "") == (step.response or "")
        found = message(answer) if answer is not None and kept else _alone(step)
        if kept:
            answer = next(answers, None)
        if not _is_request(step):
            continue
        if step.reasoning_content is not None:
            found = replace(found, reasoning=step.reasoning_content)
        if step.action and not found.tool_calls:
            session.lose("text_action")
        session.lose("tool_duration", bool(step.execution_time))
        asked = [message(entry) for entry in _entries(session, step.query)]
        yield Exchange(asking.request(asked), Answered(found), line=number)
    exit_status = (fit(run.info, wire.Info) or wire.Info()).exit_status or ""
    why = next((why for name, why in _FAILED.items() if name in exit_status), None)
    if why is not None:
        # The agent wrote its own words behind the prompt that failed.
        last = max((n for n, entry in enumerate(told) if entry.role == "assistant"), default=0)
        asked = [message(entry) for entry in told[:last]]
        yield Exchange(asking.request(asked), Answered(error=why), line=len(steps))


def _alone(step: wire.Step) -> Message:
    """An answer that the history does not hold: the agent could not use it."""
    return Message("assistant", step.response or None)


def _entries(session: Session, raw: Sequence[Raw]) -> list[wire.Entry]:
    return [entry for _, entry in documents.items(raw, wire.ENTRY, session)]


def message(entry: wire.Entry) -> Message:
    """A message of the history, or of a request."""
    found = spoken(entry)
    thoughts = (part.thinking for part in parts(entry.thinking_blocks, wire.Thinking))
    if found.role == "assistant":
        return replace(found, reasoning=found.reasoning or joined(thoughts))
    role = found.role if found.role in ("system", "tool") else "user"
    call = next(iter(entry.tool_call_ids or ()), entry.tool_call_id)
    found = replace(found, role=role, reasoning=None, tool_calls=())
    return replace(found, tool_call_id=call or "") if role == "tool" else found
