"""Cline's older format, and Roo's: what was shown to the person in one list, what was sent in
another. The first one has the figures of each request, the second one the messages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from traj.events import Session, Usage
from traj.sources import documents
from traj.sources.about import Meaning
from traj.sources.cline import content, wire
from traj.sources.cline.talk import Talk
from traj.sources.lines import UNDECODABLE

Asked = tuple[wire.Shown, wire.Request]


def read(shown: Path | None, sent: Path | None, session: Session) -> Talk:
    """Reads a task into the first lane."""
    requests: list[Asked] = []
    if shown is not None:
        requests = list(_requests(shown, session))
    talk = Talk(session, 0, len(session.files))
    meaning = _meaning([request for _, request in requests])
    if sent is None:
        session.lose("answer_not_recorded", len(requests))
        for asked in requests:
            talk.fail(asked[0], "cancelled", _usage(asked[1], meaning, whole=False), None)
        return talk
    raws = documents.read_list(sent, session)
    messages = list(documents.items(raws, wire.SAID, session))
    answers = [place for place, (_, said) in enumerate(messages) if said.role == "assistant"]
    pairs = _paired(requests, [(place, messages[place][1]) for place in answers])
    _write(talk, messages, pairs, meaning)
    return talk


def _requests(path: Path, session: Session) -> Iterator[Asked]:
    for _, shown in documents.items(documents.read_list(path, session), wire.SHOWN, session):
        if shown.say == "api_req_started":
            try:
                yield shown, wire.REQUEST.decode((shown.text or "{}").encode())
            except (*UNDECODABLE, UnicodeEncodeError, msgspec.ValidationError):
                session.lose("malformed_usage")
                yield shown, wire.Request()


def _meaning(requests: Sequence[wire.Request]) -> Meaning:
    """Whether the figure of the input holds the cached part. Cline leaves it out, Roo since 2025
    does not: there no input is less than what was cached of it."""
    cached = [r for r in requests if (r.cache_reads or 0) + (r.cache_writes or 0)]
    inside = [(r.tokens_in or 0) >= (r.cache_reads or 0) + (r.cache_writes or 0) for r in cached]
    return content.MEANING if inside and all(inside) else content.BESIDE


def _usage(request: wire.Request, meaning: Meaning, *, whole: bool = True) -> Usage:
    return meaning.usage(
        request.tokens_in,
        request.cache_reads,
        request.tokens_out,
        written_tokens=request.cache_writes,
        whole=whole and request.cancel_reason is None,
    )


def _paired(
    requests: list[Asked], answers: list[tuple[int, wire.Said]]
) -> dict[int, tuple[list[Asked], Asked | None]]:
    """For each answer's place the requests before it that had none, and its own: the last one that
    was sent when the messages before it were there. What is left over stands at -1."""
    found: dict[int, tuple[list[Asked], Asked | None]] = {}
    at = 0
    for number, (place, said) in enumerate(answers):
        stop = at
        while stop < len(requests) and _was_sent(requests[stop][0], place, said):
            stop += 1
            if not _is_told(requests[stop - 1][0], said):
                break
        own = requests[at:stop]
        left = len(requests) - stop
        if not own and left > len(answers) - number - 1 and at < len(requests):
            own, stop = [requests[at]], at + 1
        found[place] = (own[:-1], own[-1] if own else None)
        at = stop
    found[-1] = (requests[at:], None)
    return found


def _is_told(shown: wire.Shown, said: wire.Said) -> bool:
    """Whether the record tells which request an answer belongs to."""
    return shown.index is not None or (shown.ts is not None and said.ts is not None)


def _was_sent(shown: wire.Shown, place: int, said: wire.Said) -> bool:
    """Whether a request was sent before an answer came."""
    if shown.index is not None:
        return shown.index < place
    if shown.ts is not None and said.ts is not None:
        return shown.ts <= said.ts
    return True


def _write(
    talk: Talk,
    messages: list[tuple[int, wire.Said]],
    pairs: dict[int, tuple[list[Asked], Asked | None]],
    meaning: Meaning,
) -> None:
    deleted: list[int] = []
    hidden: list[tuple[int, str | None]] = []  # where a message begins, and what replaced it
    for place, (line, said) in enumerate(messages):
        hidden.append((talk.count, said.condense_parent))
        if said.role != "assistant" or said.is_summary:
            start = talk.count
            talk.say(said, line) if said.role != "assistant" else talk.add(
                content.answer(said, content.microseconds(said.ts), talk.file, line)
            )
            if said.is_summary:
                talk.session.lose("answer_not_recorded")
                talk.rebase("compaction", *_left(hidden, said.condense_id, start, talk.count))
            continue
        failed, own = pairs.get(place, ([], None))
        for shown, request in failed:
            _fail(talk, shown, request, meaning)
        if own is not None and own[0].deleted and own[0].deleted != deleted:
            deleted = own[0].deleted
            _truncate(talk, deleted)
        usage = _usage(own[1], meaning) if own is not None else Usage()
        talk.answer(said, line, usage, own[0] if own is not None else None)
    for shown, request in pairs.get(-1, ([], None))[0]:
        _fail(talk, shown, request, meaning)


def _fail(talk: Talk, shown: wire.Shown, request: wire.Request, meaning: Meaning) -> None:
    reason = request.cancel_reason
    status = "error" if reason in ("streaming_failed", "retries_exhausted") else "cancelled"
    talk.fail(shown, status, _usage(request, meaning, whole=False), reason)


def _truncate(talk: Talk, deleted: list[int]) -> None:
    """Messages of the file from one to another are not sent any more."""
    if len(deleted) == 2 and 0 <= deleted[0] <= deleted[1] < len(talk.places):
        after = deleted[1] + 1
        stop = talk.places[after] if after < len(talk.places) else talk.count
        talk.rebase("compaction", (0, talk.places[deleted[0]]), (stop, talk.count))


def _left(
    hidden: list[tuple[int, str | None]], summary: str | None, start: int, stop: int
) -> list[tuple[int, int]]:
    """What a summary leaves of the messages before it: those that do not name it, or another that
    replaced them, as theirs."""
    kept: list[tuple[int, int]] = []
    ends = [begin for begin, _ in hidden[1:]]
    if summary is not None:
        for (begin, parent), end in zip(hidden, ends, strict=False):
            if parent is None:
                kept.append((begin, end))
    return [*kept, (start, stop)]
