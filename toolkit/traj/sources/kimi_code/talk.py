"""One lane's steps as they are written, and the context that the next request would carry."""

from __future__ import annotations

from typing import NamedTuple

from traj.events import Lane, Message, Rebase, Session, Turn
from traj.sources.kimi_code import wire

_BY_SLASH = ("skill_activation", "plugin_command")
SUMMARY = "compaction_summary"
INJECTION = "injection"


class Entry(NamedTuple):
    """A message of the context: its number in the lane, and what the agent takes it for."""

    number: int
    kind: str | None = None  # of its origin; None for answers and results
    is_kept: bool = False  # by compaction: what the person said
    is_anchor: bool = False  # where undoing stops


class Talk:
    """Writes a lane."""

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.index = index
        self.lane = session.lanes[index]
        self.context: list[Entry] = []
        self.count = 0  # messages in the lane
        self.is_natural = True  # whether the context is what the steps alone would make it
        self.reason: str | None = None
        self.side: int | None = None  # the lane of compactions

    def say(self, message: Message, origin: wire.Origin | None, kind: str | None = None) -> None:
        """Adds a message to the context."""
        self._go_there()
        self.lane.steps.append(message)
        if message.role != "user" or kind is not None:
            self._counted(Entry(self.count, kind))
            return
        own = origin.kind or "user" if origin is not None else "user"
        by_slash = own in _BY_SLASH and origin is not None and origin.trigger == "user-slash"
        is_kept = own == "user" or by_slash
        is_anchor = is_kept and not (origin is not None and origin.in_turn is True)
        self._counted(Entry(self.count, own, is_kept, is_anchor))

    def unsaid(self, time_us: int | None, file: int, line: int) -> None:
        """Adds a message whose words are the agent's own and not in the log."""
        self.session.lose("framing_not_recorded")
        self.say(Message("user", time_us=time_us, file=file, line=line), None, INJECTION)

    def answer(self, turn: Turn) -> None:
        """Adds a request, and its answer if it has one."""
        self._go_there()
        self.lane.steps.append(turn)
        if turn.answer is not None:
            self._counted(Entry(self.count))

    def _counted(self, entry: Entry) -> None:
        self.count += 1
        self.context.append(entry)

    def _go_there(self) -> None:
        """Writes down that the context is another than what came before."""
        if not self.is_natural:
            self.is_natural = True
            self.lane.steps.append(Rebase(self.reason, self._ranges(self.context)))
            self.reason = None

    def _ranges(self, context: list[Entry]) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for entry in context:
            if found and found[-1][2] == entry.number:
                found[-1] = (self.index, found[-1][1], entry.number + 1)
            else:
                found.append((self.index, entry.number, entry.number + 1))
        return tuple(found)

    def aside(self, asked: Message, turn: Turn, dropped: int) -> None:
        """A request that carries the context, but for its first messages, and asks something of
        its own behind it."""
        if self.side is None:
            self.side = len(self.session.lanes)
            self.session.lanes.append(Lane("side", name="compaction"))
        lane = self.session.lanes[self.side]
        carried = self._ranges(self.context[dropped:])
        lane.steps += [Rebase("edit" if lane.steps else None, carried), asked, turn]

    def clear(self) -> None:
        """The context is emptied."""
        self.context, self.is_natural, self.reason = [], False, "clear"

    def undo(self, count: int) -> None:
        """The last prompts of the person go, and all that came of them."""
        kept: list[Entry] = []
        while count > 0 and self.context:
            entry = self.context.pop()
            if entry.kind == INJECTION:
                kept.append(entry)
            elif entry.kind == SUMMARY:
                self.context.append(entry)
                break
            count -= entry.is_anchor
        self.context += reversed(kept)
        self.is_natural, self.reason = False, "rewind"

    def compact(self, line: wire.Line, summary: Message) -> None:
        """The context becomes what the person said and a summary; in old logs the summary and what
        came last."""
        kept, head = line.kept_user_message_count, line.kept_head_user_message_count
        old = self.context
        after: list[Entry] = []
        self.context, self.is_natural, self.reason = [], False, "compaction"
        if kept is None:
            after = old[line.compacted_count or 0 :]
        else:
            persons = [entry for entry in old if entry.is_kept]
            self.context = persons[: min(head or 0, kept)]
            if head is not None:  # something stands for the part that was left out
                self.unsaid(summary.time_us, summary.file, summary.line or 0)
            tail = min(kept - (head or 0), len(persons))
            if tail > 0:
                self.context += persons[len(persons) - tail :]
                self.is_natural = False
        self.say(summary, None, SUMMARY)
        if after:
            self.context += after
            self.is_natural = False
