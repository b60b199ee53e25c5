"""A Gemini CLI session's records as the steps of a lane.

A message is written again whenever it has grown, under the same id; a `$set` gives the whole list
of messages as it is from then on (after compression, or when a request was taken back), and
`$rewindTo` cuts the list. Answers are held until another message comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from traj.events import Lane, Message, Rebase, Session, Turn
from traj.sources.documents import items
from traj.sources.gemini_cli import content, wire
from traj.sources.lines import epoch_us

if TYPE_CHECKING:
    from msgspec import Raw

MODEL = ("gemini", "model")
FOLLOWED = 5_000_000  # beyond this a log goes back and forth more often than any person does


class Held(NamedTuple):
    """A message of the session, as the numbers of the lane's messages that it became."""

    id: str | None
    text: str | None
    numbers: tuple[int, ...]


class Conversation:
    """The steps of one lane."""

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.index = index
        self.lane: Lane = session.lanes[index]
        self.count = 0  # messages of the lane
        self.written: list[int] = []  # the context that the steps so far have built
        self.sent = 0  # messages of the lane that a request has held, or answered
        self.changed = False  # the conversation is no longer the context and what came since
        self.followed = 0  # messages of the conversations that were gone to
        self.summarised = False  # what came since has a message in the model's place
        self.now: list[Held] = []  # the conversation
        self.known: dict[str, Held] = {}
        self.answer: tuple[wire.Note, int] | None = None  # that may still grow, and its line
        self.asked: list[wire.ToolCall] = []  # calls whose results no message has brought yet
        self.agents: dict[str, str] = {}  # sub-agent's session to the call that ran it
        self.file = 0

    def note(self, note: wire.Note, line: int) -> None:
        """A message, new or grown."""
        pending = self.answer[0] if self.answer else None
        if pending is not None and note.id is not None and note.id == pending.id:
            self.answer = (note, line)
            return
        self.close()
        if note.id is not None and note.id in self.known:
            self.session.lose("repeated_line")
            return
        if note.type in MODEL:
            self._flush_results()
            if _is_synthetic(note):
                told = content.answer(self.session, note, epoch_us(note.timestamp), self.file, line)
                self.summarised = True
                self._add(note.id, [told])
            else:
                self.answer = (note, line)
        elif note.type == "user":
            self._user(note, line)
        elif (
            note.type == "info" and (parts := wire.parts_of(note.content)) and parts[0].text is None
        ):
            images = content.attachments(parts)
            time = epoch_us(note.timestamp)
            self._add(
                note.id,
                [Message("user", attachments=images, time_us=time, file=self.file, line=line)],
            )
        elif note.type in ("info", "warning", "error"):
            self.session.lose("transcript_only_message")
        else:
            self.session.lose(f"item:{(note.type or '')[:40]}")

    def close(self) -> None:
        """The answer that came in last is whole."""
        if self.answer is None:
            return
        (note, line), self.answer = self.answer, None
        time = epoch_us(note.timestamp)
        message = content.answer(self.session, note, time, self.file, line)
        calls = note.tool_calls or []
        self._go_there()
        self.lane.steps.append(
            Turn(
                message,
                "gemini",
                note.model,
                note.id,
                content.usage(note.tokens),
                answer_us=content.begun_us(note, time),
                end_us=time,
                clock="derived" if time is not None else "none",
                earlier_reasoning="encrypted",
                stop_reason="tool_use" if message.tool_calls else "end_turn",
                file=self.file,
                line=line,
            )
        )
        self._hold(note.id, message.content, 1)
        self.sent = self.count
        for call in calls:
            if call.id:
                self.session.tool_runs.setdefault(call.id, content.run(call, time))
            if call.id and call.agent_id:
                self.agents.setdefault(call.agent_id, call.id)
        self.asked = calls

    def finish(self) -> None:
        """No more records come."""
        self.close()
        self._flush_results()

    def _flush_results(self) -> None:
        """Results that stand with their calls alone."""
        asked, self.asked = self.asked, []
        for call in asked:
            self._add(None, content.result_of(self.session, call, self.file, None))

    def _user(self, note: wire.Note, line: int) -> None:
        parts = wire.parts_of(note.content if bytes(note.content) else note.parts)
        time = epoch_us(note.timestamp)
        messages = content.results(self.session, parts, time, self.file, line)
        if messages:
            brought = {message.tool_call_id for message in messages}
            self.asked = [call for call in self.asked if call.id not in brought]
        self._flush_results()
        text = content.text_of(parts)
        images = content.attachments(parts)
        if text is not None or images or not messages:
            context = (text or "").lstrip().startswith("<session_context>")
            messages.append(
                Message(
                    "user",
                    text,
                    attachments=images,
                    time_us=time,
                    by_person=self.index == 0 and not messages and not context,
                    file=self.file,
                    line=line,
                )
            )
        self._add(note.id, messages)

    def _add(self, name: str | None, messages: list[Message]) -> None:
        self.lane.steps += messages
        texts = [message.content or "" for message in messages]
        self._hold(name, "\n".join(texts), len(messages))

    def _hold(self, name: str | None, text: str | None, count: int) -> None:
        held = Held(name, text, tuple(range(self.count, self.count + count)))
        self.count += count
        self.written += held.numbers
        self.now.append(held)
        if name is not None:
            self.known[name] = held

    # What changes the conversation

    def rewind(self, name: str) -> None:
        """The message of that id and all after it are taken back."""
        self.finish()
        places = range(len(self.now) - 1, -1, -1)
        place = next((at for at in places if self.now[at].id == name), 0)
        self.now = self.now[:place]
        self.changed = True

    def replace(self, messages: list[Raw], line: int) -> None:
        """The conversation is now this list of messages, some of them new or changed."""
        self.finish()
        before = self.now
        places = {id(held): place for place, held in enumerate(before)}
        self.now = []
        for _, note in items(messages, wire.NOTE, self.session):
            old = self.known.get(note.id or "")
            if old is None or _says_else(self.session, note, old):
                self.known.pop(note.id or "", None)
                self.note(note, line)
                self.finish()
            else:
                self.now.append(old)
                self.now += _results_of(before, places.get(id(old)))
        self.changed = True

    def _go_there(self) -> None:
        """Before a request: makes the context what the conversation is. A session that is resumed
        writes its messages anew, which changes nothing."""
        if self.changed:
            self.followed += len(self.now)
        if self.followed > FOLLOWED:
            self.session.lose("branch_not_followed", self.changed)
        elif self.changed:
            wanted = [number for held in self.now for number in held.numbers]
            if wanted != self.written:
                self.lane.steps.append(Rebase(self._reason(wanted), self._ranges(wanted)))
                self.written = wanted
        self.changed = self.summarised = False

    def _reason(self, wanted: list[int]) -> str:
        if self.summarised:
            return "compaction"
        held = [number for number in self.written if number < self.sent]
        common = 0
        for old, new in zip(held, wanted, strict=False):
            if old != new:
                break
            common += 1
        moved = set(held[common:]) & set(wanted)
        return "edit" if moved or not common else "rewind"

    def _ranges(self, numbers: list[int]) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for number in numbers:
            if found and found[-1][2] == number:
                found[-1] = (self.index, found[-1][1], number + 1)
            else:
                found.append((self.index, number, number + 1))
        return tuple(found)


def _is_synthetic(note: wire.Note) -> bool:
    """A message in the model's name that no request was made for: Gemini CLI puts it into the
    conversation as parts, and names no model."""
    return note.tokens is None and note.model is None and bytes(note.content).startswith(b"[")


def _says_else(session: Session, note: wire.Note, held: Held) -> bool:
    """Whether a message says something else than when it was written last."""
    parts = wire.parts_of(note.content if bytes(note.content) else note.parts)
    if note.type in MODEL:
        return (content.text_of(parts) or "").strip() != (held.text or "").strip()
    told = content.results(session, parts, None, 0, None)
    texts = [message.content or "" for message in told]
    text = content.text_of(parts)
    if text is not None or not told:
        texts.append(text or "")
    return "\n".join(texts) != (held.text or "")


def _results_of(conversation: list[Held], answer: int | None) -> list[Held]:
    """The nameless results that follow an answer, in files that have no message for them."""
    found: list[Held] = []
    place = len(conversation) if answer is None else answer + 1
    while place < len(conversation) and conversation[place].id is None:
        found.append(conversation[place])
        place += 1
    return found
