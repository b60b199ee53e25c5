"""One lane of a Claude Code session: from lines to steps.

The lines of a session form a tree by `parentUuid`. The conversation that a request carried is the
path from the root to the answer, with two exceptions that make a naive walk wrong: an answer is
spread over several lines, one a content block, and the results of parallel calls hang on different
lines of it. So the lane keeps the current path as a stack; a line extends it, or, where its parent
lies before the last answer, cuts it back (a rewind).

Newer versions also log each request; `requests.py` then tells the conversation from those, and
this module lends it the answers and the time stamps.
"""

from __future__ import annotations

from msgspec import Struct, field

from traj.events import Lane, Message, Rebase, Sampling, Session, Turn
from traj.sources.claude_code import content, wire


class Answer(Struct):
    """An answer whose lines are still coming in; becomes a Turn when the file is read."""

    id: str
    file: int
    line: int
    first_us: int | None
    last_us: int | None = None
    blocks: list[wire.Block | str] = field(default_factory=list)
    usage: wire.RawUsage | None = None
    model: str | None = None
    stop_reason: str | None = None
    aborted: bool = False
    effort: str | None = None
    ref: str | None = None  # the api-request line that it answers
    attempt: int = 0
    error: str | None = None  # the request failed
    number: int | None = None  # of the answer's message in the lane


class Entry(Struct):
    """A node of the current path, and the messages it stands for."""

    uuid: str
    start: int
    stop: int
    is_answer: bool = False
    by_person: bool = False


class LaneReader:
    """Takes the lines of one lane in file order; `finish` gives the lane."""

    def __init__(self, lane: Lane, index: int, session: Session, names: dict[str, str]) -> None:
        self.lane = lane
        self.index = index
        self.session = session
        self.names = names  # tool call id to tool name, for the whole session
        self.steps: list[Message | Answer | Rebase] = []
        self.answers: dict[str, Answer] = {}
        self.count = 0  # messages of this lane so far
        self.path: list[Entry] = []
        self.at: dict[str, int] = {}  # uuid to its place on the path, perhaps stale
        self.nodes: dict[str, tuple[str | None, Entry]] = {}  # every uuid: parent, entry
        self.attempt = 0
        self.compacted = False
        self.rooted = False  # some line named a parent: the file holds a tree
        self.errors: list[Answer] = []  # failed attempts
        self.unrendered = 0  # reminders of which the transcript does not say how they read

    # Lines

    def user(self, line: wire.Line, time: int | None, file: int, number: int) -> None:
        """A prompt, tool results, or text that the agent wrote in the user's name."""
        message = line.message
        if message is None:
            return
        by_person = self.index == 0 and not line.isMeta and not line.isCompactSummary
        found = content.from_user(message.content, self.names, time, by_person, file, number)
        if line.isVisibleInTranscriptOnly and not line.isCompactSummary:
            self.session.lose("transcript_only_message", len(found))
            found = []
        self._place(line, found)

    def attachment(self, line: wire.Line, time: int | None, file: int, number: int) -> None:
        """A reminder that the agent put into the conversation, where the log says how it read."""
        found: list[Message] = []
        if line.rendered:
            role = "system" if line.renderedRole == "system" else "user"
            for part in line.rendered:
                found += content.from_user(
                    part.content, self.names, time, False, file, number, role
                )
        elif line.attachment and line.attachment.type == "queued_command":
            person = self.index == 0
            prompt = line.attachment.prompt
            found = content.from_user(prompt, self.names, time, person, file, number)
        elif line.attachment and line.attachment.type != "prompt_snapshot":
            self.unrendered += 1
        self._place(line, found)

    def assistant(self, line: wire.Line, time: int | None, file: int, number: int) -> None:
        """One line of an answer: usually one content block, and the usage so far."""
        message = line.message
        if message is None:
            return
        blocks = content.blocks(message.content)
        if message.model == "<synthetic>" or line.isApiErrorMessage:
            self.session.lose("synthetic_message")
            self._alias(line)
            return
        key = message.id or line.requestId or line.uuid or f"{file}:{number}"
        answer = self.answers.get(key)
        if answer is None:
            answer = self._begin(key, line, file, number, time)
        elif line.uuid is not None and line.uuid in self.nodes:
            self.session.lose("repeated_line")
            return
        self._extend(answer, blocks)
        answer.usage = content.merged(answer.usage, message.usage)
        answer.stop_reason = message.stop_reason or answer.stop_reason
        answer.model = message.model or answer.model
        answer.aborted |= bool(line.isAbortedMidStream)
        answer.effort = line.effort or answer.effort
        if time is not None:
            answer.last_us = max(time, answer.last_us or time)
        self._alias(line)

    def api_error(self, line: wire.Line, time: int | None, file: int, number: int) -> None:
        """A failed attempt: a request of its own."""
        self._alias(line)
        error = bytes(line.error).decode("utf-8", "replace")[:200] or "api_error"
        key = line.uuid or f"{file}:{number}"
        failed = Answer(key, file, number, time, time, error=error, attempt=self.attempt)
        self.attempt = max(self.attempt + 1, line.retryAttempt or 0)
        self.steps.append(failed)
        self.errors.append(failed)

    def boundary(self, line: wire.Line) -> None:
        """Compaction: what follows is a new conversation."""
        self.compacted = True
        self._cut(0, "compaction")
        if line.uuid:
            self.nodes[line.uuid] = (None, Entry(line.uuid, self.count, self.count))
            self.at[line.uuid] = -1

    def other(self, line: wire.Line) -> None:
        """A line that is no message but may stand between messages."""
        self._alias(line)

    def finish(self) -> None:
        """Writes the lane's steps, as the transcript alone tells them."""
        self.lane.steps = [turn(step) if isinstance(step, Answer) else step for step in self.steps]

    # The path

    def _place(self, line: wire.Line, found: list[Message]) -> None:
        """Puts a line's messages where its parent says."""
        uuid = line.uuid or ""
        if uuid and uuid in self.nodes:
            self.session.lose("repeated_line")
            return
        results = bool(found) and found[0].role == "tool"
        self._go_to(line, results)
        start = self.count
        for message in found:
            self.append(message)
        person = any(message.by_person for message in found)
        entry = Entry(uuid, start, self.count, by_person=person)
        self._push(entry, line.parentUuid)

    def append(self, message: Message) -> None:
        self.steps.append(message)
        self.count += 1

    def _push(self, entry: Entry, parent: str | None) -> None:
        self.path.append(entry)
        if entry.uuid:
            self.nodes[entry.uuid] = (parent, entry)
            self.at[entry.uuid] = len(self.path) - 1

    def _go_to(self, line: wire.Line, results: bool) -> None:
        """Makes the line's parent the end of the path, unless it hangs on the last answer."""
        parent = line.parentUuid
        if parent is None:
            # Early versions and hand-made logs name no parents at all: those lines just follow.
            if self.rooted and self.path and not results:
                self._cut(0, "compaction" if self.compacted else "rewind")
            return
        self.rooted = True
        if parent not in self.nodes:
            return  # a parent in another file, or cut off: the line just follows
        place = self._place_of(parent)
        if place is None:
            self._jump(parent)
        elif place < len(self.path) - 1 and not self._belongs_to_last_answer(place, results):
            self._cut(place + 1, "rewind")

    def _place_of(self, uuid: str) -> int | None:
        """The index of a node on the current path, None where it lies on another branch."""
        place = self.at[uuid]
        if place == -1:
            return -1 if not self.path or self.path[0].start >= self.nodes[uuid][1].start else None
        if place < len(self.path) and self.path[place] is self.nodes[uuid][1]:
            return place
        return None

    def _belongs_to_last_answer(self, place: int, results: bool) -> bool:
        tail = self.path[place + 1 :]
        if results and not any(entry.is_answer for entry in tail):
            return True
        return not any(entry.is_answer or entry.by_person for entry in tail)

    def _cut(self, length: int, reason: str) -> None:
        """Shortens the path; what was on it stays in the lane."""
        if all(entry.start == entry.stop for entry in self.path[length:]):
            del self.path[length:]
            return
        del self.path[length:]
        self._rebase(reason)

    def _jump(self, uuid: str) -> None:
        """Goes over to a branch that was left before."""
        entries: list[Entry] = []
        step: str | None = uuid
        seen: set[str] = set()  # damaged parents may lead in a circle
        while step is not None and step in self.nodes and step not in seen:
            seen.add(step)
            place = self._place_of(step)
            if place is not None:
                del self.path[place + 1 :]
                break
            parent, entry = self.nodes[step]
            if not entries or entries[-1] is not entry:
                entries.append(entry)
            step = parent
        else:
            self.path.clear()
        on_path = {id(entry) for entry in self.path}
        for entry in reversed(entries):
            if id(entry) not in on_path:
                on_path.add(id(entry))
                self.path.append(entry)
                self.at[entry.uuid] = len(self.path) - 1
        self._rebase("rewind")

    def _rebase(self, reason: str) -> None:
        ranges: list[tuple[int, int, int]] = []
        for entry in self.path:
            if entry.start == entry.stop:
                continue
            if ranges and ranges[-1][2] == entry.start:
                ranges[-1] = (self.index, ranges[-1][1], entry.stop)
            else:
                ranges.append((self.index, entry.start, entry.stop))
        self.steps.append(Rebase(reason, tuple(ranges)))

    def _alias(self, line: wire.Line) -> None:
        """A line without messages of its own stands for the end of the path."""
        if not line.uuid or line.uuid in self.nodes:
            return
        parent = line.parentUuid
        if parent in self.nodes and line.type != "assistant":
            place = self._place_of(parent)
            entry = self.nodes[parent][1]
            self.nodes[line.uuid] = (parent, entry)
            self.at[line.uuid] = self.at[parent] if place is None else place
        elif self.path:
            self.nodes[line.uuid] = (parent, self.path[-1])
            self.at[line.uuid] = len(self.path) - 1

    # Answers

    def _begin(self, key: str, line: wire.Line, file: int, number: int, time: int | None) -> Answer:
        answer = Answer(key, file, number, time)
        self.answers[key] = answer
        self._go_to(line, False)
        answer.ref = line.requestRef
        answer.attempt, self.attempt = self.attempt, 0
        answer.number = self.count
        self.steps.append(answer)
        self.count += 1
        entry = Entry(line.uuid or key, answer.number, self.count, is_answer=True)
        self._push(entry, line.parentUuid)
        self.compacted = False
        return answer

    def _extend(self, answer: Answer, blocks: list[wire.Block | str]) -> None:
        have = answer.blocks
        if len(blocks) >= len(have) and blocks[: len(have)] == have:
            have[:] = blocks  # a copy, perhaps grown
        else:
            have += [block for block in blocks if not have or block != have[-1]]
        for block in blocks:
            if not isinstance(block, str) and block.type == "tool_use":
                self.names[block.id or ""] = block.name or ""


STOP_REASONS = {
    "end_turn": "end_turn",
    "tool_use": "tool_use",
    "max_tokens": "max_tokens",
    "model_context_window_exceeded": "max_tokens",
    "stop_sequence": "stop_sequence",
    "refusal": "refusal",
    "pause_turn": "pause",
}


def turn(answer: Answer) -> Turn:
    """An answer as the transcript knows it: its request's time is for the build to work out."""
    failed = answer.error is not None
    message = (
        None
        if failed or answer.number is None
        else content.assistant(answer.blocks, answer.last_us, answer.file, answer.line)
    )
    reason = answer.stop_reason
    return Turn(
        answer=message,
        api="anthropic_messages",
        model=answer.model,
        response_id=None if message is None else answer.id,
        usage=content.usage(answer.usage, reason is not None),
        answer_us=answer.first_us,
        end_us=answer.last_us or answer.first_us,
        clock="derived" if answer.first_us is not None else "none",
        stop_reason=STOP_REASONS.get(reason, "other") if reason else None,
        status="error" if failed else "cancelled" if answer.aborted else "ok",
        error=answer.error,
        attempt=answer.attempt,
        sampling=Sampling(reasoning_effort=answer.effort) if answer.effort else None,
        file=answer.file,
        line=answer.line,
    )
