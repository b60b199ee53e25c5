"""The JSON form of the OpenTelemetry protocol, as far as it is needed.

A file is one export request or a line each, or a list of them. Times are decimal strings of
nanoseconds, 64-bit integers may be strings; older exporters write snake case and plain numbers.
"""

from __future__ import annotations

from typing import Any

from msgspec import Raw, Struct

NOTHING = Raw()


class Value(Struct):
    """A value of an attribute: one of these."""

    stringValue: str | None = None
    boolValue: bool | None = None
    intValue: int | str | None = None
    doubleValue: float | None = None
    arrayValue: Several | None = None
    kvlistValue: Named | None = None


class Several(Struct):
    """A list."""

    values: list[Value] = []


class Attribute(Struct):
    """A name and its value."""

    key: str
    value: Value | None = None


class Named(Struct):
    """An object."""

    values: list[Attribute] = []


class Event(Struct):
    """Something that happened during a span."""

    name: str | None = None
    attributes: list[Attribute] = []


class Status(Struct):
    """How a span ended: code 2 is an error."""

    code: int | str | None = None
    message: str | None = None


class Link(Struct):
    """Another span that a span has to do with."""

    spanId: str | None = None


class Ids(Struct):
    """What a span is found by."""

    traceId: str | None = None
    spanId: str | None = None
    parentSpanId: str | None = None


class RawSpan(Ids):
    """A span."""

    name: str | None = None
    startTimeUnixNano: str | int | None = None
    endTimeUnixNano: str | int | None = None
    attributes: list[Attribute] = []
    events: list[Event] = []
    links: list[Link] = []
    status: Status | None = None


class Scope(Struct):
    """The spans of one instrumentation."""

    spans: list[Raw] = []


class Resource(Struct):
    """What was observed."""

    attributes: list[Attribute] = []


class ResourceSpans(Struct):
    """The spans of one process."""

    resource: Resource | None = None
    scopeSpans: list[Scope] = []


class Request(Struct):
    """An export request."""

    resourceSpans: list[ResourceSpans] = []


def plain(value: Value | None) -> Any:
    """A value as JSON has it."""
    if value is None:
        return None
    if value.stringValue is not None:
        return value.stringValue
    if value.intValue is not None:
        return _integer(value.intValue)
    if value.arrayValue is not None:
        return [plain(one) for one in value.arrayValue.values]
    if value.kvlistValue is not None:
        return attributes(value.kvlistValue.values)
    return value.doubleValue if value.boolValue is None else value.boolValue


def attributes(found: list[Attribute]) -> dict[str, Any]:
    """Attributes by name."""
    return {one.key: plain(one.value) for one in found}


def _integer(value: int | str) -> int | None:
    try:
        return int(value)
    except ValueError:
        return None
