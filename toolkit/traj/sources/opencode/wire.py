"""What is read of OpenCode's records: the fields that a session is made of, and no others.

1.x has messages of parts; 2.x has one record a message. Both are kept as JSON, in a database, in
files or in an export.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count, ExitCode

NOTHING = Raw(b"")
Stamp = Annotated[float, msgspec.Meta(ge=0, le=4e12)]  # milliseconds since the epoch


class Times(Struct, frozen=True):
    """Of messages, parts, tools and sessions alike."""

    created: Stamp | None = None
    completed: Stamp | None = None
    start: Stamp | None = None
    end: Stamp | None = None
    ran: Stamp | None = None  # 2.x: when a tool began
    streamed: Stamp | None = None  # 2.x: when an answer had come in
    compacted: Stamp | None = None  # 1.x: when a tool's result was cleared
    pruned: Stamp | None = None  # 2.x: likewise


class Cache(Struct, frozen=True):
    read: Count | None = None
    write: Count | None = None


class Tokens(Struct, frozen=True):
    input: Count | None = None
    output: Count | None = None
    reasoning: Count | None = None
    cache: Cache | None = None
    total: Count | None = None


class ErrorData(Struct, frozen=True):
    status_code: int | None = field(name="statusCode", default=None)


class Error(Struct, frozen=True):
    name: str | None = None  # 1.x
    type: str | None = None  # 2.x
    message: str | None = None
    data: ErrorData | None = None

    @property
    def kind(self) -> str:
        """In one or two words."""
        status = self.data.status_code if self.data is not None else None
        kind = self.name or self.type or "error"
        return kind if status is None else f"{kind} {status}"

    @property
    def is_abort(self) -> bool:
        """Whether the person, or the agent, broke it off."""
        return (self.name or self.type or "").lower().endswith(("abortederror", "aborted"))


class Retry(Struct, frozen=True):
    attempt: Count | None = None
    at: Stamp | None = None
    error: Error | None = None


class Model(Struct, frozen=True):
    id: str | None = None
    provider_id: str | None = field(name="providerID", default=None)
    model_id: str | None = field(name="modelID", default=None)


class File(Struct, frozen=True):
    """An attachment. Its bytes are in `data`, or in a data URL."""

    mime: str | None = None
    url: str | None = None
    uri: str | None = None
    data: str | None = None


class ToolMetadata(Struct, frozen=True):
    exit: ExitCode | None = None
    truncated: bool | None = None
    interrupted: bool | None = None
    background: bool | None = None
    status: str | None = None  # 2.x, of a sub-agent: completed, running
    session_id: str | None = field(name="sessionId", default=None)
    session: str | None = field(name="sessionID", default=None)

    @property
    def child(self) -> str | None:
        """The session of the sub-agent that the tool started."""
        return self.session_id or self.session


class Piece(Struct, frozen=True):
    """A part of a tool's result in 2.x."""

    type: str | None = None
    text: str | None = None
    mime: str | None = None
    uri: str | None = None


class State(Struct, frozen=True):
    """How far a tool call has come."""

    status: str | None = None
    input: Raw = NOTHING
    output: str | None = None
    error: Error | str | None = None
    metadata: ToolMetadata | None = None
    structured: ToolMetadata | None = None
    time: Times | None = None
    attachments: list[File] | None = None
    content: list[Piece] | None = None

    @property
    def told(self) -> ToolMetadata:
        """What the tool says of its run."""
        return self.metadata or self.structured or _UNTOLD


_UNTOLD = ToolMetadata()


class Part(Struct, frozen=True):
    """A part of a message."""

    type: str | None = None
    text: str | None = None
    synthetic: bool | None = None
    ignored: bool | None = None
    time: Times | None = None
    tool: str | None = None  # 1.x
    call_id: str | None = field(name="callID", default=None)
    name: str | None = None  # 2.x
    id: str | None = None
    executed: bool | None = None
    state: State | None = None
    tokens: Tokens | None = None
    reason: str | None = None
    attempt: Count | None = None
    error: Error | None = None
    tail_start_id: str | None = None
    mime: str | None = None
    url: str | None = None


class Info(Struct, frozen=True):
    """A message of 1.x without its parts."""

    id: str | None = None
    role: str | None = None
    parent_id: str | None = field(name="parentID", default=None)
    provider_id: str | None = field(name="providerID", default=None)
    model_id: str | None = field(name="modelID", default=None)
    summary: Raw = NOTHING  # true of a compaction; of a person's message something else
    time: Times | None = None
    tokens: Tokens | None = None
    error: Error | None = None
    finish: str | None = None


class Record(Struct, frozen=True):
    """A message of 2.x."""

    id: str | None = None
    type: str | None = None
    text: str | None = None
    files: list[File] | None = None
    model: Model | None = None
    content: list[Raw] | None = None
    tokens: Tokens | None = None
    error: Error | None = None
    retry: Retry | None = None
    finish: str | None = None
    status: str | None = None
    reason: str | None = None
    summary: str | None = None
    recent: str | None = None
    command: str | None = None
    output: Raw = NOTHING
    time: Times | None = None


class Header(Struct, frozen=True):
    """What a session says of itself, whatever it is kept in."""

    id: str | None = None
    parent_id: str | None = field(name="parentID", default=None)
    title: str | None = None
    version: str | None = None
    agent: str | None = None
    time: Times | None = None


class Exported(Struct, frozen=True):
    """An export: `messages` are Bundles, or Records in 2.x."""

    info: Raw = NOTHING
    messages: list[Raw] = []


class Bundle(Struct, frozen=True):
    info: Raw = NOTHING
    parts: list[Raw] = []


INFO = msgspec.json.Decoder(Info)
PART = msgspec.json.Decoder(Part)
RECORD = msgspec.json.Decoder(Record)
HEADER = msgspec.json.Decoder(Header)
EXPORTED = msgspec.json.Decoder(Exported)
BUNDLE = msgspec.json.Decoder(Bundle)


class Kept(Struct, frozen=True):
    """A message as it is kept: 1.x has a head and parts, 2.x a head alone."""

    id: str
    head: bytes
    parts: list[bytes] | None
    kind: str | None = None  # 2.x keeps it beside the JSON


class KeptSession(Struct):
    """A session as it is kept, whatever in."""

    header: Header
    messages: list[Kept]
    file: int  # index into Session.files
