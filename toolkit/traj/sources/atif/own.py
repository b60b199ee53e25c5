"""ATIF documents that traj wrote: the rows of its tables, read back from `extra`.

Messages are numbered over all lanes, lane by lane; a turn's input are ranges of them. So a lane's
messages stand in the order of their numbers, and where a prompt is not all that came before, the
context is put in its place.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from msgspec.structs import replace

from traj.events import Lane, Message, Rebase, Repository, Sampling, Session, Turn
from traj.sources.atif import spoken, wire
from traj.sources.atif.rows import Asked, Rows, Told
from traj.sources.lines import epoch_us
from traj.sources.requests.pieces import fit

Range = tuple[int, int, int]
_COUNTED_ANEW = ("attachment_payload", "unmatched_tool_result", "broken_dependency")
_REASONS = ("compaction", "clear", "rewind", "edit")


def is_own(document: wire.Document) -> bool:
    """Whether traj wrote this document."""
    extra = fit(document.extra, wire.OwnDocument)
    return extra is not None and extra.lane is not None and bool(bytes(extra.trajectory))


def read(session: Session, found: Sequence[spoken.Lane]) -> None:
    """Writes the lanes."""
    _Reader(session, found).read()


class _Reader:
    def __init__(self, session: Session, found: Sequence[spoken.Lane]) -> None:
        extras = [fit(one.document.extra, wire.OwnDocument) for one in found]
        own = [extra or wire.OwnDocument() for extra in extras]
        lanes = [len(found) if one.lane is None else one.lane for one in own]
        order = sorted(range(len(found)), key=lambda i: (i > 0, lanes[i]))
        self.session = session
        self.documents = [found[i].document for i in order]
        self.extras = [own[i] for i in order]
        head = fit(self.extras[0].trajectory, wire.OwnHead) or wire.OwnHead()
        self.base = epoch_us(head.started_at)
        self.unanswered = 0
        self.places: dict[int, tuple[int, int]] = {}  # lane and place in it, by message number
        self._describe(head)
        self.rows = Rows(session, self.base)

    def _describe(self, head: wire.OwnHead) -> None:
        session = self.session
        if self.base is None and head.duration_us is not None:
            session.is_dated, self.base = False, 0
        session.started_us = self.base
        session.title = head.task.title if head.task else None
        if head.repository is not None:
            known = head.repository
            session.repository = Repository(known.url, known.commit, known.branch)
        for loss in head.losses:
            if loss.kind not in _COUNTED_ANEW:
                session.lose(loss.kind, loss.count)

    def read(self) -> None:
        told = [self.rows.read(one) for one in self.documents]
        asked = any(rows.turns for rows in told)
        self.session.has_text = not asked or any(rows.messages for rows in told)
        for index, rows in enumerate(told):
            for place, number in enumerate(sorted(rows.messages)):
                self.places[number] = index, place
        spawned = {name: call for rows in told for name, call in rows.spawned.items()}
        for document, extra, rows in zip(self.documents, self.extras, told, strict=True):
            first = rows.turns[0].turn if rows.turns else None
            kind = (first.lane_kind if first else None) or extra.lane_kind or "subagent"
            name = first.lane_name if first else extra.lane_name
            lane = Lane(kind if self.session.lanes else "main", name)
            if lane.kind == "subagent":
                lane.spawned_by = spawned.get(document.trajectory_id or "")
            self.session.lanes.append(lane)
        joins = self._joins(told)
        for index, rows in enumerate(told):
            self._steps(index, rows, joins)
        known = self.session.losses.get("answer_not_recorded", 0)
        self.session.lose("answer_not_recorded", max(0, self.unanswered - known))

    def _joins(self, told: Sequence[Told]) -> dict[int, list[int]]:
        """Sub-agents' lanes by the turn that their last one had to be waited for."""
        lasts = {rows.turns[-1].turn.turn: lane for lane, rows in enumerate(told) if rows.turns}
        calls = {
            call.id: lane
            for lane, rows in enumerate(told)
            for asked in rows.turns
            for call in (asked.message.tool_calls if asked.message else ())
        }
        joins: dict[int, list[int]] = {}
        for lane, rows in enumerate(told):
            starter = calls.get(self.session.lanes[lane].spawned_by or "")
            for asked in rows.turns:
                for turn in asked.turn.wait_for:
                    other = lasts.get(turn)
                    if other not in (None, lane, starter, 0):
                        joins.setdefault(asked.turn.turn, []).append(other or 0)
        return joins

    def _steps(self, index: int, rows: Told, joins: dict[int, list[int]]) -> None:
        steps = self.session.lanes[index].steps
        numbers = sorted(rows.messages)
        context: list[Range] = []
        told = 0
        for asked in rows.turns:
            turn = asked.turn
            until = turn.output
            if until is None:
                until = max((stop for _, stop in turn.input), default=0)
            begin = len(steps)
            while told < len(numbers) and numbers[told] < until:
                message = rows.messages[numbers[told]]
                typed = bool(turn.user_us) and message.role == "user"
                steps.append(replace(message, by_person=True) if typed else message)
                context = _joined(context, (index, told, told + 1))
                told += 1
            self._join(steps, begin, joins.get(turn.turn, ()))
            context = self._rebased(steps, index, told, turn, context)
            answer = None
            if turn.output is not None and told < len(numbers) and numbers[told] == turn.output:
                answer = rows.messages[numbers[told]]
            self.unanswered += answer is None and turn.status == "ok"
            steps.append(self._turn(asked, answer))
            if answer is not None:
                context = _joined(context, (index, told, told + 1))
                told += 1
        steps += [rows.messages[number] for number in numbers[told:]]

    def _join(self, steps: list[Message | Turn | Rebase], begin: int, lanes: Sequence[int]) -> None:
        """Says with which new message a sub-agent's report came."""
        for lane in lanes:
            described = self.session.lanes[lane]
            new = [step for step in steps[begin:] if isinstance(step, Message)]
            calls = [one.tool_call_id for one in new if one.role == "tool"]
            if described.spawned_by in calls:
                described.joined_by = described.spawned_by
            elif new and isinstance(last := steps[-1], Message):
                name = last.brings or f"report {lane}"
                steps[-1] = replace(last, brings=name)
                described.joined_by = name

    def _rebased(
        self,
        steps: list[Message | Turn | Rebase],
        index: int,
        told: int,
        turn: wire.OwnTurn,
        context: list[Range],
    ) -> list[Range]:
        asked = self._ranges(index, told, turn.input)
        if asked is None:
            self.session.lose("malformed_field")
            return context
        reason = turn.context_reason if turn.context_reason in _REASONS else None
        if asked == context and reason is None:
            return context
        steps.append(Rebase(reason, tuple(asked)))
        return asked

    def _ranges(
        self, index: int, told: int, spans: Sequence[tuple[int, int]]
    ) -> list[Range] | None:
        """A prompt's messages as ranges of lanes; None where they cannot be."""
        found: list[Range] = []
        if any(start >= stop for start, stop in spans):
            return None
        if sum(stop - start for start, stop in spans) > len(self.places):
            return None
        for start, stop in spans:
            for number in range(start, stop):
                place = self.places.get(number)
                if place is None or (place[0] == index and place[1] >= told):
                    return None
                found = _joined(found, (*place, place[1] + 1))
        ordered = sorted(found)
        if any(a[0] == b[0] and a[2] > b[1] for a, b in pairwise(ordered)):
            return None
        return found

    def _turn(self, asked: Asked, answer: Message | None) -> Turn:
        turn, step = asked.turn, asked.step
        sampling = turn.sampling or wire.Sampling()
        effort = None if step.reasoning_effort is None else str(step.reasoning_effort)
        options = Sampling(
            sampling.max_tokens, sampling.temperature, sampling.top_p, effort, sampling.stream
        )
        return Turn(
            answer,
            turn.api,
            step.model_name or None,
            turn.response_id,
            spoken.usage(step),
            start_us=self.rows.at(turn.start_us),
            first_token_us=self.rows.at(turn.first_token_us),
            end_us=self.rows.at(turn.end_us),
            # Without a start the build would work one out.
            clock=turn.clock if turn.start_us is not None else "none",
            system=self.rows.systems.get(turn.system_id or ""),
            tools=self.rows.tools.get(turn.tools_id or ""),
            earlier_reasoning=turn.earlier_reasoning,
            stop_reason=turn.stop_reason,
            status=turn.status,
            error=turn.error,
            attempt=turn.attempt,
            sampling=options,
            line=asked.number,
        )


def _joined(found: list[Range], new: Range) -> list[Range]:
    """Ranges with one more at their end. The last of the list given may be changed."""
    if found and found[-1][0] == new[0] and found[-1][2] == new[1]:
        found[-1] = (new[0], found[-1][1], new[2])
    else:
        found.append(new)
    return found
