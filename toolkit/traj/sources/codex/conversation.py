"""The conversation of one Codex thread: items become answers, answers become turns.

An answer is gathered item by item and closed by what `thread` takes for its end; its tools' results
follow it. Compaction and rolling back replace the context.
"""

from __future__ import annotations

from traj.events import Lane, Message, Rebase, Sampling, Session, Turn, Usage, numbered
from traj.sources.codex import content, wire

Key = tuple[str, str | None, str | None, tuple[str, ...]]


class Conversation:
    """The steps of one lane, and the answer that is coming in."""

    def __init__(self, session: Session, index: int) -> None:
        self.session = session
        self.index = index
        self.lane = session.lanes[index]
        self.count = 0  # messages of the lane so far
        self.context: list[tuple[int, int, int]] = []  # ranges of (lane, start, stop)
        self.known: dict[Key, tuple[int, int]] = {}  # message to its lane and number
        self.items: list[tuple[wire.Payload, int]] = []  # of the answer that is coming in
        self.item_times: list[int] = []
        self.outputs: list[Message] = []  # results that came before their answer was closed
        self.orphan: tuple[wire.RawUsage, int | None, int, int, str | None] | None = None
        self.errors: list[tuple[str, int | None, int]] = []
        self.attempt = 0
        self.system: str | None = None
        self.model: str | None = None
        self.effort: str | None = None
        self.copied = False  # what comes in is a copy of another thread's
        self.file = 0

    def append(self, message: Message) -> None:
        self.lane.steps.append(message)
        self._enter(message)

    def _enter(self, message: Message) -> None:
        """The message is the next of the lane and of its context."""
        self.known.setdefault(_key(message), (self.index, self.count))
        self.context = _joined(self.context, (self.index, self.count, self.count + 1))
        self.count += 1

    def close(self, usage: wire.RawUsage | None, response_id: str | None, status: str) -> None:
        """Ends the answer that is coming in; its tools' results follow it."""
        if self.items:
            self.flush_orphan(side=False)
            message = content.answer(self.items, max(self.item_times, default=None), self.file)
            if self.copied:
                self.append(message)
            else:
                self.lane.steps.append(self._turn(message, usage, response_id, status))
                self._enter(message)
        self.items, self.item_times = [], []
        outputs, self.outputs = self.outputs, []
        for output in outputs:
            self.append(output)

    def _turn(
        self,
        message: Message | None,
        usage: wire.RawUsage | None,
        response_id: str | None,
        status: str,
    ) -> Turn:
        times = self.item_times
        attempt, self.attempt = self.attempt, 0
        calls = bool(message and message.tool_calls)
        return Turn(
            message,
            "openai_responses",
            self.model,
            response_id,
            content.usage(usage) if usage else Usage(),
            answer_us=min(times, default=None),
            end_us=max(times, default=None),
            clock="derived" if times else "none",
            system=self.system,
            earlier_reasoning="encrypted",
            stop_reason=None if status != "ok" else "tool_use" if calls else "end_turn",
            status=status,
            attempt=attempt,
            sampling=Sampling(reasoning_effort=self.effort) if self.effort else None,
            file=self.file,
            line=message.line if message else None,
        )

    def flush_orphan(self, side: bool) -> None:
        """Usage without an answer in the record: a side request where compaction follows."""
        if self.orphan is None:
            return
        usage, time, number, file, response_id = self.orphan
        self.orphan = None
        turn = Turn(
            None,
            "openai_responses",
            self.model,
            response_id,
            content.usage(usage),
            answer_us=time,
            end_us=time,
            clock="derived" if time is not None else "none",
            earlier_reasoning="encrypted",
            file=file,
            line=number,
        )
        self.session.lose("answer_not_recorded")
        if not side:
            self.lane.steps.append(turn)
            return
        lane = next((x for x in self.session.lanes if x.name == f"compaction {self.index}"), None)
        if lane is None:
            lane = Lane("side", f"compaction {self.index}")
            self.session.lanes.append(lane)
        lane.steps.append(Rebase("edit" if lane.steps else None, tuple(self.context)))
        lane.steps.append(turn)

    def flush_errors(self) -> None:
        """Failed requests that came before what is next."""
        for text, time, number in self.errors:
            self.lane.steps.append(
                Turn(
                    None,
                    "openai_responses",
                    self.model,
                    answer_us=time,
                    end_us=time,
                    clock="derived" if time is not None else "none",
                    status="error",
                    error=text,
                    attempt=self.attempt,
                    earlier_reasoning="encrypted",
                    file=self.file,
                    line=number,
                )
            )
            self.attempt += 1
        self.errors = []

    def compacted(self, payload: wire.Payload, time: int | None, number: int) -> None:
        self.close(None, None, "ok")
        self.flush_orphan(side=True)
        history = payload.replacement_history
        if history is None:
            self._compacted_before_2026(payload, time, number)
            return
        wanted: list[Message] = []
        for item in history:
            if item.type == "message":
                text, images = content.content(item)
                role = {"user": "user", "assistant": "assistant"}.get(item.role or "", "system")
                wanted.append(
                    Message(
                        role, text, attachments=images, time_us=time, file=self.file, line=number
                    )
                )
            elif item.type in wire.OUTPUTS:
                wanted.append(
                    Message(
                        "tool",
                        wire.text_of(item.output),
                        tool_call_id=item.call_id or "",
                        time_us=time,
                        file=self.file,
                        line=number,
                    )
                )
            elif item.type in wire.MODEL_ITEMS:
                wanted.append(content.answer([(item, number)], time, self.file))
            elif item.type == "compaction":
                self.session.lose("encrypted_summary")
            elif item.type != "ghost_snapshot":
                self.session.lose(f"item:{(item.type or '')[:40]}")
        self._replace(wanted)

    def _compacted_before_2026(self, payload: wire.Payload, time: int | None, number: int) -> None:
        """Older files say only the summary: what else was kept is not recorded."""
        self.session.lose("compaction_history_unknown")
        text = wire.text_of(payload.message)
        self._replace([Message("user", text, time_us=time, file=self.file, line=number)])

    def _replace(self, wanted: list[Message]) -> None:
        """The context becomes these messages; those that were there before are pointed at."""
        ranges: list[tuple[int, int, int]] = []
        used: set[tuple[int, int]] = set()
        for message in wanted:
            place = self.known.get(_key(message))
            if place is None or place in used:
                self.lane.steps.append(message)
                place = (self.index, self.count)
                self.known[_key(message)] = place
                self.count += 1
            used.add(place)
            ranges = _joined(ranges, (place[0], place[1], place[1] + 1))
        self.context = ranges
        self.lane.steps.append(Rebase("compaction", tuple(ranges)))

    def roll_back(self, turns: int) -> None:
        """Drops the last prompts of a person and all that came after them."""
        self.close(None, None, "ok")
        prompts = [number for number, message in numbered(self.lane.steps) if message.by_person]
        if not 0 < turns <= len(prompts):
            return
        first = prompts[-turns]
        kept = [
            (lane, start, min(stop, first) if lane == self.index else stop)
            for lane, start, stop in self.context
        ]
        self.context = [part for part in kept if part[1] < part[2]]
        self.lane.steps.append(Rebase("rewind", tuple(self.context)))


def _key(message: Message) -> Key:
    """What makes two messages the same, ids of tool calls included."""
    return (
        message.role,
        message.content,
        message.tool_call_id,
        tuple(call.id for call in message.tool_calls),
    )


def _joined(
    ranges: list[tuple[int, int, int]], more: tuple[int, int, int]
) -> list[tuple[int, int, int]]:
    if ranges and ranges[-1][0] == more[0] and ranges[-1][2] == more[1]:
        ranges[-1] = (more[0], ranges[-1][1], more[2])
    else:
        ranges.append(more)
    return ranges
