"""Spans in the JSON form of the OpenTelemetry protocol.

As the protocol has it: ids are hexadecimal (where plain protobuf JSON has base64), kinds and codes
are numbers, and integers of 64 bits are strings.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traj.exporters.archive import Row

_INTERNAL, _CLIENT = 1, 3
_ERROR = 2
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def span_id(trace_id: str, kind: str, number: int) -> str:
    """The id of a trace's span: the same for the same dataset."""
    key = f"{trace_id}\0{kind}\0{number}".encode()
    return hashlib.blake2b(key, digest_size=8, person=b"traj span").hexdigest()


@dataclass(slots=True)
class Span:
    """One span; attributes that are None are unknown and left out."""

    trace_id: str
    kind: str
    number: int
    name: str = ""
    client: bool = False
    parent: str | None = None
    start_ns: int = 0
    end_ns: int = 0
    attributes: Row = field(default_factory=dict)
    links: list[str] = field(default_factory=list)
    error: str | None = None

    @property
    def id(self) -> str:
        return span_id(self.trace_id, self.kind, self.number)

    def place(self, origin: datetime | None, start_us: int, end_us: int) -> None:
        """Puts it into time; what has no origin begins in 1970."""
        since_us = (origin - _EPOCH) // timedelta(microseconds=1) if origin is not None else 0
        self.start_ns, self.end_ns = (since_us + start_us) * 1000, (since_us + end_us) * 1000

    def fail(self, error: str) -> None:
        self.error = error
        self.attributes["error.type"] = error

    def to_json(self) -> Row:
        found: Row = {"traceId": self.trace_id, "spanId": self.id}
        if self.parent is not None:
            found["parentSpanId"] = self.parent
        found |= {
            "name": self.name,
            "kind": _CLIENT if self.client else _INTERNAL,
            "startTimeUnixNano": str(self.start_ns),
            "endTimeUnixNano": str(self.end_ns),
            "attributes": _attributes(self.attributes),
        }
        if self.links:
            found["links"] = [{"traceId": self.trace_id, "spanId": one} for one in self.links]
        if self.error is not None:
            found["status"] = {"code": _ERROR, "message": self.error}
        return found


def resource_spans(resource: Row, spans: list[Span]) -> Row:
    """A trace as one message of the protocol."""
    scoped = {"scope": {"name": "traj"}, "spans": [span.to_json() for span in spans]}
    one = {"resource": {"attributes": _attributes(resource)}, "scopeSpans": [scoped]}
    return {"resourceSpans": [one]}


def _attributes(values: Row) -> list[Row]:
    return [
        {"key": key, "value": _value(value)} for key, value in values.items() if value is not None
    ]


def _value(value: Any) -> Row:
    if isinstance(value, str):
        return {"stringValue": value}
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list | tuple):
        return {"arrayValue": {"values": [_value(one) for one in value]}}
    assert isinstance(value, dict), value
    return {"kvlistValue": {"values": _attributes(value)}}
