"""A session of 1.x: messages of parts become the steps of a lane.

A message can hold several requests, each between a `step-start` and a `step-finish`. Compaction is
a person's message with a `compaction` part, answered by a message called a summary; what stays is
those two and, since 1.4, the messages from `tail_start_id` on.
"""

from __future__ import annotations

from msgspec import Raw

from traj.events import Message, Session, Turn
from traj.sources.opencode import content, wire
from traj.sources.opencode.lenience import decoded
from traj.sources.opencode.talk import Range, Talk

_QUIET = frozenset(("step-start", "snapshot", "patch", "agent"))
_ANSWERS = frozenset(("text", "reasoning", "tool"))


class BundleReader:
    """Takes the messages of one session in order."""

    def __init__(self, session: Session, talk: Talk, kept: wire.KeptSession) -> None:
        self.session = session
        self.talk = talk
        self.file = kept.file
        self.version = kept.header.version
        self.is_main = talk.index == 0
        self.numbers: dict[str, int] = {}  # message id to the lane's number of its beginning
        self.compactions: dict[
            str, tuple[int, str | None]
        ] = {}  # number, and where the tail begins
        self.children: dict[str, tuple[str, bool]] = {}  # session to its call; whether it waited
        self.attempt = 0

    def message(self, kept: wire.Kept, line: int) -> None:
        """One message."""
        info = decoded(kept.head, wire.INFO, self.session)
        if info is None:
            return
        parts = [decoded(part, wire.PART, self.session) for part in kept.parts or ()]
        known = [part for part in parts if part is not None]
        time = content.microseconds(info.time.created if info.time is not None else None)
        self.numbers[kept.id] = self.talk.count
        if info.role == "user":
            self._said(kept.id, known, time, line)
        elif info.role == "assistant":
            self._answered(info, known, line)
        else:
            self.session.lose(f"item:{(info.role or '')[:40]}")

    # Messages to the model

    def _said(self, name: str, parts: list[wire.Part], time: int | None, line: int) -> None:
        self.attempt = 0
        texts: list[str] = []
        by_person = False
        files = []
        for part in parts:
            if part.type == "text" and not part.ignored:
                texts.append(part.text or "")
                by_person |= not part.synthetic
            elif part.type == "file" and part.mime not in ("text/plain", "application/x-directory"):
                files.append(content.attachment(part))
            elif part.type == "compaction":
                self.compactions[name] = (self.talk.count, part.tail_start_id)
                self.session.lose("framing_not_recorded")
            elif part.type == "subtask":
                self.session.lose("framing_not_recorded")
            elif part.type not in ("text", "file", "agent"):
                self.session.lose(f"item:{(part.type or '')[:40]}")
        text = "\n".join(texts) if texts else None
        child = content.reporter(text) if not by_person else None
        self.talk.say(
            Message(
                "user",
                text,
                attachments=tuple(files),
                time_us=time,
                by_person=by_person and self.is_main,
                brings=child,
                file=self.file,
                line=line,
            )
        )

    # Answers

    def _answered(self, info: wire.Info, parts: list[wire.Part], line: int) -> None:
        """One message of the model's: its requests, one after the other."""
        is_summary = info.summary == Raw(b"true")
        steps = _steps(parts)
        asked = steps or [[]]
        if not steps and info.error is None and not _is_counted(info.tokens):
            completed = info.time is not None and info.time.completed is not None
            if completed or not parts:
                self._written_by_agent(info, parts, line)
                return
        retries = [part for part in parts if part.type == "retry"]
        for retry in retries:
            self._failed_before(info, retry, line)
        for number, step in enumerate(asked):
            turn = self._turn(info, step, line, number, len(asked))
            if is_summary:
                self._summary(info, turn)
                continue
            self.talk.clear(turn.start_us or turn.end_us)
            self.talk.answer(turn)
            self._results(info, step, line, is_sent=turn.status != "error")
        for part in parts:
            if part.type not in _QUIET | _ANSWERS and part.type not in ("step-finish", "retry"):
                self.session.lose(f"item:{(part.type or '')[:40]}")
        self.attempt = 0

    def _turn(
        self, info: wire.Info, step: list[wire.Part], line: int, number: int, steps: int
    ) -> Turn:
        """A request: the first of a message starts when the message was made."""
        times = info.time or wire.Times()
        last = number == steps - 1
        finish = next((part for part in step if part.type == "step-finish"), None)
        tokens = finish.tokens if finish is not None else info.tokens if steps == 1 else None
        status = "ok"
        if last and info.error is not None:
            status = "cancelled" if info.error.is_abort else "error"
        elif finish is None and times.completed is None:
            status = "cancelled"
        spoken = [part.time for part in step if part.type in _ANSWERS and part.time is not None]
        begun = [time.start for time in spoken if time.start is not None]
        ended = [time.end for time in spoken if time.end is not None]
        states = [part.state.time for part in step if part.state is not None]
        ended += [time.start for time in states if time is not None and time.start is not None]
        end = max(ended) if ended else times.completed if last else None
        start = times.created if number == 0 else None
        if start is not None and end is not None and start > end:
            self.session.lose("clock_disorder")
            start = None
        reason = (finish.reason if finish is not None else None) or (info.finish if last else None)
        api = content.APIS.get(info.provider_id or "", "unknown")
        answer = content.answer(
            step, content.microseconds(end), self.file, line, is_whole=status == "ok"
        )
        if status == "error" and answer is not None:
            self.session.lose("partial_answer")
            answer = None
        return Turn(
            answer,
            api,
            info.model_id or None,
            response_id=_response(info, number),
            usage=content.usage(tokens, self.version, whole=status == "ok"),
            start_us=content.microseconds(start),
            first_token_us=content.microseconds(min(begun)) if begun and start else None,
            answer_us=content.microseconds(min(begun)) if begun else None,
            end_us=content.microseconds(end),
            clock="logged" if start is not None else "derived" if end is not None else "none",
            earlier_reasoning="encrypted" if api == "openai_responses" else "kept",
            stop_reason=content.STOPS.get(reason, "other") if reason and status == "ok" else None,
            status=status,
            error=info.error.kind if status == "error" and info.error is not None else None,
            attempt=self.attempt if number == 0 else 0,
            file=self.file,
            line=line,
        )

    def _failed_before(self, info: wire.Info, retry: wire.Part, line: int) -> None:
        """A request that was sent again."""
        end = content.microseconds(retry.time.created if retry.time is not None else None)
        self.talk.answer(
            Turn(
                None,
                content.APIS.get(info.provider_id or "", "unknown"),
                info.model_id or None,
                response_id=None if end is None else f"at-{end // 1000}.retry",
                end_us=end,
                clock="derived" if end is not None else "none",
                status="error",
                error=retry.error.kind if retry.error is not None else "error",
                attempt=self.attempt,
                file=self.file,
                line=line,
            )
        )
        self.attempt += 1

    def _summary(self, info: wire.Info, turn: Turn) -> None:
        """The answer to a compaction: the context becomes the question, the answer and the tail."""
        found: list[Range] = self.talk.aside(turn, "compaction")
        asked = self.compactions.get(info.parent_id or "")
        if turn.status != "ok" or asked is None or info.finish is None:
            return
        number, tail_id = asked
        tail = self.numbers.get(tail_id) if tail_id is not None else None
        kept = self.talk.since(tail, number) if tail is not None else []
        index = self.talk.index
        self.talk.rebase("compaction", [(index, number, number + 1), *found, *kept])

    def _written_by_agent(self, info: wire.Info, parts: list[wire.Part], line: int) -> None:
        """What stands in the model's place with no request behind it: a command that the person
        ran, a sub-agent that they started."""
        created = content.microseconds(info.time.created if info.time is not None else None)
        message = content.answer(parts, created, self.file, line)
        if message is not None:
            self.session.lose("synthetic_message")
            self.talk.say(message)
            self._results(info, parts, line)

    # Tools

    def _results(
        self, info: wire.Info, step: list[wire.Part], line: int, *, is_sent: bool = True
    ) -> None:
        is_aborted = info.error is not None and info.error.is_abort
        for part in step:
            if part.type != "tool" or part.state is None:
                continue
            run = content.run_of(part, self.session, is_aborted=is_aborted)
            name, child = part.call_id or part.id or "", part.state.told.child
            if child is not None:
                self.children[child] = (name, not (run is not None and run.background))
            if not is_sent:
                continue
            message = content.result(part, run.end_us if run else None, self.file, line)
            if message is None:
                self.session.lose("framing_not_recorded")  # what a broken-off tool's result says
                continue
            cleared = part.state.time.compacted if part.state.time is not None else None
            self.talk.result(message, content.microseconds(cleared))


def _steps(parts: list[wire.Part]) -> list[list[wire.Part]]:
    """The parts of each request. Before the first mark nothing belongs to one."""
    found: list[list[wire.Part]] = []
    is_open = False
    for part in parts:
        if part.type == "step-start" or (part.type in _ANSWERS and not is_open and found):
            found.append([])
            is_open = True
        if is_open:
            found[-1].append(part)
        is_open = is_open and part.type != "step-finish"
    return found


def _is_counted(tokens: wire.Tokens | None) -> bool:
    return tokens is not None and any((tokens.input, tokens.output, tokens.reasoning))


def _response(info: wire.Info, number: int) -> str | None:
    """A name that a fork's copy shares: it has other ids, but the old times."""
    if info.time is None or info.time.created is None:
        return None
    return f"at-{info.time.created:.0f}.{number}"
