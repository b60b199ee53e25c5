"""A session of 2.x: one record a message, one request an answer, become the steps of a lane.

Compaction is a record; the context is that record and what follows it.
"""

from __future__ import annotations

import msgspec

from traj.events import Message, Session, Turn
from traj.sources.opencode import content, wire
from traj.sources.opencode.lenience import decoded
from traj.sources.opencode.talk import Talk

_QUIET = frozenset(("agent-switched", "model-switched", "location-switched", "idle"))


class _Output(msgspec.Struct):
    output: str | None = None


class RecordReader:
    """Takes the records of one session in order."""

    def __init__(self, session: Session, talk: Talk, kept: wire.KeptSession) -> None:
        self.session = session
        self.talk = talk
        self.file = kept.file
        self.version = kept.header.version
        self.is_main = talk.index == 0
        self.children: dict[str, tuple[str, bool]] = {}

    def message(self, kept: wire.Kept, line: int) -> None:
        """One record."""
        record = decoded(kept.head, wire.RECORD, self.session)
        if record is None:
            return
        kind = kept.kind or record.type or ""
        time = content.microseconds(record.time.created if record.time is not None else None)
        if kind in ("user", "synthetic", "skill", "system"):
            self._said(record, kind, time, line)
        elif kind == "shell":
            self.session.lose("framing_not_recorded")
            lines = [text for text in (record.command, _output(record.output)) if text]
            self._say("\n\n".join(lines) or None, time, line)
        elif kind == "assistant":
            self._answered(record, line)
        elif kind == "compaction":
            self._compaction(record, time, line)
        elif kind not in _QUIET:
            self.session.lose(f"item:{kind[:40]}")

    def _said(self, record: wire.Record, kind: str, time: int | None, line: int) -> None:
        self.talk.say(
            Message(
                "system" if kind == "system" else "user",
                record.text,
                attachments=tuple(content.attachment(file) for file in record.files or ()),
                time_us=time,
                by_person=kind == "user" and self.is_main,
                brings=content.reporter(record.text) if kind == "synthetic" else None,
                file=self.file,
                line=line,
            )
        )

    def _say(self, text: str | None, time: int | None, line: int) -> int:
        return self.talk.say(Message("user", text, time_us=time, file=self.file, line=line))

    def _answered(self, record: wire.Record, line: int) -> None:
        parts = [decoded(bytes(raw), wire.PART, self.session) for raw in record.content or ()]
        known = [part for part in parts if part is not None]
        times, status = record.time or wire.Times(), "ok"
        if record.error is not None:
            status = "cancelled" if record.error.is_abort else "error"
        elif record.finish is None and times.completed is None:
            status = "cancelled"
        if record.retry is not None:
            self._failed_before(record, record.retry, line)
        self.talk.clear(content.microseconds(times.created))
        self.talk.answer(self._turn(record, known, times, status, line))
        for part in known:
            if part.type == "tool":
                self._result(part, line, is_aborted=status == "cancelled")
            elif part.type not in ("text", "reasoning"):
                self.session.lose(f"item:{(part.type or '')[:40]}")

    def _turn(
        self,
        record: wire.Record,
        parts: list[wire.Part],
        times: wire.Times,
        status: str,
        line: int,
    ) -> Turn:
        spoken = [part.time for part in parts if part.time is not None]
        stamps = [n for time in spoken for n in (time.ran, time.created) if n is not None]
        end = times.streamed
        if end is None:
            end = max(stamps) if stamps else times.completed
        start = times.created
        if start is not None and end is not None and start > end:
            self.session.lose("clock_disorder")
            start = None
        provider = record.model.provider_id if record.model is not None else None
        api = content.APIS.get(provider or "", "unknown")
        reason = record.finish
        own = [part for part in parts if not part.executed]
        whole = status == "ok"
        answer = content.answer(own, content.microseconds(end), self.file, line, is_whole=whole)
        if status == "error" and answer is not None:
            status = "cancelled"  # what had come stays in the context
        return Turn(
            answer,
            api,
            (record.model.id or record.model.model_id or None) if record.model else None,
            response_id=None if times.created is None else f"at-{times.created:.0f}.0",
            usage=content.usage(record.tokens, self.version, whole=whole),
            start_us=content.microseconds(start),
            end_us=content.microseconds(end),
            clock="logged" if start is not None else "derived" if end is not None else "none",
            earlier_reasoning="encrypted" if api == "openai_responses" else "kept",
            stop_reason=content.STOPS.get(reason, "other") if reason and status == "ok" else None,
            status=status,
            error=record.error.kind if status == "error" and record.error is not None else None,
            attempt=(record.retry.attempt or 0) if record.retry is not None else 0,
            file=self.file,
            line=line,
        )

    def _failed_before(self, record: wire.Record, retry: wire.Retry, line: int) -> None:
        """The record names its last retry: the tries before it are known by their number."""
        model = (record.model.id or None) if record.model is not None else None
        end = content.microseconds(retry.at)
        for attempt in range(min(retry.attempt or 1, 100)):
            last = attempt == (retry.attempt or 1) - 1
            self.talk.answer(
                Turn(
                    None,
                    model=model,
                    end_us=end if last else None,
                    clock="derived" if last and end is not None else "none",
                    status="error",
                    error=retry.error.kind if retry.error is not None else "error",
                    attempt=attempt,
                    file=self.file,
                    line=line,
                )
            )

    def _result(self, part: wire.Part, line: int, *, is_aborted: bool) -> None:
        if part.executed:
            self.session.lose("server_tool_call")
            return
        run = content.run_of(part, self.session, is_aborted=is_aborted)
        name, child = part.id or "", part.state.told.child if part.state is not None else None
        if child is not None:
            self.children[child] = (name, not (run is not None and run.background))
        message = content.result(part, run.end_us if run else None, self.file, line)
        if message is not None:
            pruned = part.time.pruned if part.time is not None else None
            self.talk.result(message, content.microseconds(pruned))

    def _compaction(self, record: wire.Record, time: int | None, line: int) -> None:
        """A summary, and the words of what came last, in place of all before."""
        done = record.status in ("completed", None)
        usage = content.usage(record.tokens, self.version, whole=done)
        summary = Message("assistant", record.summary, time_us=time, file=self.file, line=line)
        self.talk.aside(
            Turn(
                summary if done else None,
                model=(record.model.id or None) if record.model is not None else None,
                response_id=None if time is None else f"at-{time // 1000}.0",
                usage=usage,
                answer_us=time,
                clock="derived" if time is not None else "none",
                status="ok" if done else "error" if record.status == "failed" else "cancelled",
                error=record.error.kind if record.error is not None else None,
                file=self.file,
                line=line,
            ),
            "compaction",
        )
        if done:
            self.session.lose("framing_not_recorded")
            texts = [text for text in (record.summary, record.recent) if text]
            number = self._say("\n\n".join(texts) or None, time, line)
            self.talk.rebase("compaction", [(self.talk.index, number, number + 1)])


def _output(raw: msgspec.Raw) -> str | None:
    try:
        return msgspec.json.decode(raw, type=_Output).output if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
