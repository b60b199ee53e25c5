"""A session's texts, scrubbed: every string that a dataset would store."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Repository, Session, Step, Turn
from traj.scrub.detector import Detector
from traj.scrub.redaction import Redaction

_USER_INFO = re.compile(r"\A([A-Za-z][A-Za-z0-9+.-]*://)[^/?#]*@")


@dataclass(frozen=True, slots=True)
class Scrubbed:
    """A session without secrets, and how many pieces of text were replaced in it, by kind."""

    session: Session
    replaced: dict[str, int]
    redaction: Redaction = field(repr=False)  # checks what is made of the session

    @property
    def redactions(self) -> int:
        return sum(self.replaced.values())


def scrub_session(session: Session, detector: Detector) -> Scrubbed:
    """The session with stand-ins for all that is secret or personal. The one given stays as it is.

    Not looked at: ids (they join tables), names of tools and models, times, hashes. Raises
    ScrubError where something cannot be removed.
    """
    redaction = Redaction(detector, f"session {session.session_id}")
    for text in texts(session):
        redaction.learn(text)
    for lane in session.lanes:
        for before, after in _results(lane.steps):
            redaction.learn_seam(before, after)
    scrub = _Scrub(redaction)
    clean = replace(
        session,
        title=scrub.text(session.title, "title"),
        command=scrub.text(session.command, "command"),
        lanes=[scrub.lane(lane) for lane in session.lanes],
        files=[replace(file, name=scrub.kept(file.name, "file name")) for file in session.files],
        repository=scrub.repository(session.repository),
        losses=dict(session.losses),
    )
    return Scrubbed(clean, dict(sorted(redaction.replaced.items())), redaction)


def texts(session: Session) -> Iterator[str]:
    """All texts of a session, in the order of the prompts that they are part of."""
    yield from _given(session.title, session.command)
    for lane in session.lanes:
        yield from _given(lane.name)
        for step in lane.steps:
            if isinstance(step, Turn):
                yield from _given(step.system, step.tools, step.error)
            message = step.answer if isinstance(step, Turn) else step
            if message is not None and not isinstance(message, Rebase):
                yield from _given(message.content, message.reasoning, message.name)
                yield from _given(*(call.arguments for call in message.tool_calls))
    yield from _given(*(file.name for file in session.files))
    if session.repository is not None:
        yield from _given(session.repository.branch)


def _given(*found: str | None) -> Iterator[str]:
    return (text for text in found if text)


def _results(steps: Iterable[Step]) -> Iterator[tuple[str, str]]:
    """The results of tools, each with the next one of its lane: long output comes in pieces."""
    before: str | None = None
    for step in steps:
        if isinstance(step, Message) and step.role == "tool" and step.content:
            if before:
                yield before, step.content
            before = step.content


class _Scrub:
    """Puts clean texts in the place of those that were learned."""

    def __init__(self, redaction: Redaction) -> None:
        self._redaction = redaction

    def text(self, text: str | None, what: str) -> str | None:
        return self._redaction.clean(text, what) if text else text

    def kept(self, text: str, what: str) -> str:
        return self._redaction.clean(text, what) if text else text

    def lane(self, lane: Lane) -> Lane:
        return replace(
            lane, name=self.text(lane.name, "lane name"), steps=[self.step(s) for s in lane.steps]
        )

    def step(self, step: Step) -> Step:
        if isinstance(step, Rebase):
            return step
        if isinstance(step, Message):
            return self.message(step)
        return replace(
            step,
            answer=None if step.answer is None else self.message(step.answer),
            system=self.text(step.system, "system prompt"),
            tools=self.text(step.tools, "tool definitions"),
            error=self.text(step.error, "error"),
        )

    def message(self, message: Message) -> Message:
        return replace(
            message,
            content=self.text(message.content, f"{message.role} message"),
            reasoning=self.text(message.reasoning, "reasoning"),
            name=self.text(message.name, "tool name"),
            tool_calls=tuple(
                replace(call, arguments=self.kept(call.arguments, "tool call arguments"))
                for call in message.tool_calls
            ),
        )

    def repository(self, known: Repository | None) -> Repository | None:
        """Without credentials. The owner's name stays, even if it is the user's: it says where
        the code is from."""
        if known is None:
            return None
        return replace(
            known,
            url=known.url and _without_password(known.url),
            branch=self.text(known.branch, "branch"),
        )


def _without_password(url: str) -> str:
    return _USER_INFO.sub(r"\1", url)
