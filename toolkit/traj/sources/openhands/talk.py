"""A lane while OpenHands' events are followed: its messages, and the context as it stands."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import NamedTuple

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Session, ToolCall, ToolRun, Turn
from traj.sources.openhands import wire

_QUARTER_HOUR = 900_000_000
_FARTHEST = 14 * 4  # quarters of an hour that a zone is away from UTC


class Node(NamedTuple):
    """The last message of a context, and what stands before it."""

    before: Node | None
    number: int


class Talk:
    """Writes one lane's steps."""

    def __init__(self, session: Session, lane: Lane, index: int) -> None:
        self.session, self.lane, self.index = session, lane, index
        self.count = 0
        self.node: Node | None = None
        self.answers: dict[str, int] = {}  # places of turns in the steps, by response id

    def say(self, message: Message) -> int:
        """Adds a message to the lane and its context; gives its number."""
        self.lane.steps.append(message)
        return self._entered()

    def answer(self, turn: Turn) -> int | None:
        """Adds a turn; gives the number of its answer."""
        if turn.response_id is not None:
            self.answers[turn.response_id] = len(self.lane.steps)
        self.lane.steps.append(turn)
        if turn.answer is None:
            self.session.lose("answer_not_recorded", turn.status == "ok")
            return None
        return self._entered()

    def call(self, response_id: str, call: ToolCall) -> None:
        """Adds a call to an answer that is there already."""
        place = self.answers[response_id]
        turn = self.lane.steps[place]
        if isinstance(turn, Turn) and turn.answer is not None:
            answer = replace(turn.answer, tool_calls=(*turn.answer.tool_calls, call))
            self.lane.steps[place] = replace(turn, answer=answer)

    def _entered(self) -> int:
        self.node = Node(self.node, self.count)
        self.count += 1
        return self.count - 1

    def go_back(self, node: Node | None) -> None:
        """Goes on from an earlier place: what came after it is told to the model no more."""
        self.node = node
        self.lane.steps.append(Rebase("rewind", self._ranges(_numbers(node))))

    def condense(
        self, forgotten: Container[int], summary: Message | None, offset: int | None
    ) -> None:
        """Leaves messages out of the context, and puts a summary at an offset of the rest."""
        kept = [number for number in _numbers(self.node) if number not in forgotten]
        behind: list[int] = []
        if summary is not None and offset is not None:
            kept, behind = kept[:offset], kept[offset:]
        self.lane.steps.append(Rebase("compaction", self._ranges(kept)))
        if summary is not None:
            self.lane.steps.append(summary)
            kept.append(self.count)
            self.count += 1
        if behind:
            kept += behind
            self.lane.steps.append(Rebase(None, self._ranges(kept)))
        self.node = None
        for number in kept:
            self.node = Node(self.node, number)

    def _ranges(self, numbers: Sequence[int]) -> tuple[tuple[int, int, int], ...]:
        found: list[tuple[int, int, int]] = []
        for number in numbers:
            if found and found[-1][2] == number:
                found[-1] = (self.index, found[-1][1], number + 1)
            else:
                found.append((self.index, number, number + 1))
        return tuple(found)


def _numbers(node: Node | None) -> list[int]:
    found: list[int] = []
    while node is not None:
        found.append(node.number)
        node = node.before
    return found[::-1]


def offset_us(local_us: int | None, true_us: int | None) -> int | None:
    """How far a clock without a zone is ahead of UTC, told by one moment on both; None where the
    two are too far apart for a zone."""
    if local_us is None or true_us is None:
        return None
    quarters = round((local_us - true_us) / _QUARTER_HOUR)
    return quarters * _QUARTER_HOUR if abs(quarters) <= _FARTHEST else None


def told(text: str | None, end: wire.CommandEnd | None) -> str:
    """A command's output as the model is told it."""
    if end is None:
        return text or ""
    found = f"{end.prefix or ''}{text or ''}{end.suffix or ''}"
    if end.working_dir:
        found += f"\n[Current working directory: {end.working_dir}]"
    if end.py_interpreter_path:
        found += f"\n[Python interpreter: {end.py_interpreter_path}]"
    if end.exit_code not in (None, -1):
        found += f"\n[Command finished with exit code {end.exit_code}]"
    return found


def end_run(
    session: Session, call: str, time: int | None, status: str, exit_code: int | None
) -> None:
    """Writes down when and how a call ended."""
    run = session.tool_runs.setdefault(call, ToolRun())
    if run.end_us is not None or run.status != "unknown":
        return
    run.end_us, run.status, run.exit_code = time, status, exit_code
    if time is not None:
        run.clock = "derived"
