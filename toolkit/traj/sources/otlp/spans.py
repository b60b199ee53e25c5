"""The spans of a file by session: read once, since a file may hold many sessions."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from traj.errors import SourceError
from traj.events import Session, SourceFile
from traj.sources.lines import LINES, UNDECODABLE
from traj.sources.otlp import wire
from traj.sources.remembered import of_file

_REQUEST = msgspec.json.Decoder(wire.Request)
_SPAN = msgspec.json.Decoder(wire.RawSpan)
_IDS = msgspec.json.Decoder(wire.Ids)
_LARGEST = 2**62  # nanoseconds: the year 2116
# What a span of a model, an agent or a tool has among its attributes.
_MARKS = (b"gen_ai.", b"openinference.span.kind", b"llm.request.type", b"llm.token_count")
_NAMES = ("gen_ai.conversation.id", "session.id", "langfuse.session.id", "traceloop.association")
_NAMED = tuple(name.encode() for name in _NAMES)


class Span(Struct):
    """A span, its attributes by name, its times in microseconds."""

    trace: str
    id: str
    parent: str | None
    name: str
    start_us: int | None
    end_us: int | None
    attributes: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]]
    links: list[str]
    failed: bool
    said: str | None  # the status' message
    line: int


class Share(Struct):
    """One session's part of a file: its spans as they stand there, with their lines."""

    spans: list[tuple[int, Raw]]
    resource: list[wire.Attribute]

    @property
    def bytes(self) -> int:
        return sum(len(bytes(raw)) for _, raw in self.spans)

    def measured(self, name: str) -> SourceFile:
        digest = hashlib.sha256()
        for _, raw in self.spans:
            digest.update(bytes(raw))
        return SourceFile(name, digest.hexdigest(), self.bytes)


class Content(NamedTuple):
    """What a file holds: sessions, and how much of it could not be read."""

    shares: dict[str, Share]
    malformed: int
    truncated: int
    others: int  # spans that have nothing to do with models
    data_bytes: int
    sha256: str


def content(path: Path) -> Content:
    """The sessions in a file. Raises SourceError."""
    return _content(path, Session("", "", ""))


@of_file
def _content(path: Path, _session: Session) -> Content:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    found: list[tuple[int, Raw, wire.Ids]] = []
    resources: dict[str, list[wire.Attribute]] = {}
    malformed = truncated = 0
    for line, raw in _requests(path, data):
        try:
            request = _REQUEST.decode(raw)
        except UNDECODABLE:
            if raw is not data and data.endswith(raw) and not data.endswith(b"\n"):
                truncated += 1
            else:
                malformed += 1
            continue
        for group in request.resourceSpans:
            about = group.resource.attributes if group.resource else []
            for scope in group.scopeSpans:
                for one in scope.spans:
                    ids = _ids(one)
                    if ids is None:
                        malformed += 1
                        continue
                    found.append((line, one, ids))
                    resources.setdefault(ids.traceId or "", about)
    shares, others = _by_session(found, resources)
    digest = hashlib.sha256(data).hexdigest()
    return Content(shares, malformed, truncated, others, len(data), digest)


def _requests(path: Path, data: bytes) -> Iterator[tuple[int, bytes]]:
    """The export requests of a file with their lines."""
    start = data.lstrip()[:1]
    if start == b"[":
        try:
            listed = msgspec.json.decode(data, type=list[Raw])
        except UNDECODABLE:
            yield 1, data
        else:
            yield from ((number, bytes(one)) for number, one in enumerate(listed, 1))
    elif not path.name.endswith(LINES) and b"\n" in data.strip() and _is_whole(data):
        yield 1, data
    else:
        for number, one in enumerate(data.split(b"\n"), 1):
            if one.strip():
                yield number, one


def _is_whole(data: bytes) -> bool:
    """Whether the file is one value, spread over lines."""
    first = data.lstrip().split(b"\n", 1)[0]
    try:
        msgspec.json.decode(first, type=Raw)
    except UNDECODABLE:
        return True
    return False


def _ids(raw: Raw) -> wire.Ids | None:
    try:
        found = _IDS.decode(raw)
    except UNDECODABLE:
        return None
    return found if found.traceId and found.spanId else None


def _by_session(
    found: list[tuple[int, Raw, wire.Ids]], resources: dict[str, list[wire.Attribute]]
) -> tuple[dict[str, Share], int]:
    """Spans by the conversation that they, or spans above them, name; else by their trace."""
    parents = {(ids.traceId, ids.spanId): ids.parentSpanId for _, _, ids in found}
    named: dict[tuple[str | None, str | None], str] = {}
    of_trace: dict[str | None, str] = {}
    relevant: set[str | None] = set()
    for _, raw, ids in found:
        text = bytes(raw)
        if any(mark in text for mark in _MARKS):
            relevant.add(ids.traceId)
        if any(name in text for name in _NAMED) and (session := _session(raw)):
            named[ids.traceId, ids.spanId] = session
            of_trace.setdefault(ids.traceId, session)
    shares: dict[str, Share] = {}
    seen: set[tuple[str | None, str | None]] = set()
    others = 0
    for line, raw, ids in found:
        key = ids.traceId, ids.spanId
        if ids.traceId not in relevant:
            others += 1
        elif key not in seen:
            seen.add(key)
            above: str | None = ids.spanId
            climbed: set[str | None] = set()
            while above and (ids.traceId, above) not in named and above not in climbed:
                climbed.add(above)
                above = parents.get((ids.traceId, above))
            session = named.get((ids.traceId, above)) or of_trace.get(ids.traceId)
            name = session or ids.traceId or ""
            about = resources.get(ids.traceId or "", [])
            shares.setdefault(name, Share([], about)).spans.append((line, raw))
    return shares, others


def _session(raw: Raw) -> str | None:
    try:
        found = wire.attributes(_SPAN.decode(raw).attributes)
    except UNDECODABLE:
        return None
    values = (found.get(name) for name in _NAMES)
    return next((value for value in values if isinstance(value, str) and value), None)


def span(line: int, raw: Raw) -> Span | None:
    """A span decoded; None for what is none."""
    try:
        found = _SPAN.decode(raw)
    except UNDECODABLE:
        return None
    status = found.status or wire.Status()
    return Span(
        found.traceId or "",
        found.spanId or "",
        found.parentSpanId or None,
        found.name or "",
        _microseconds(found.startTimeUnixNano),
        _microseconds(found.endTimeUnixNano),
        wire.attributes(found.attributes),
        [(event.name or "", wire.attributes(event.attributes)) for event in found.events],
        [link.spanId for link in found.links if link.spanId],
        str(status.code) in ("2", "STATUS_CODE_ERROR"),
        status.message or None,
        line,
    )


def _microseconds(nanoseconds: str | int | None) -> int | None:
    try:
        found = int(nanoseconds or "")
    except ValueError:
        return None
    return found // 1000 if 0 < found <= _LARGEST else None
