"""What is read of Cline's and Roo's files: the fields that a session is made of, and no others."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count

NOTHING = Raw(b"")
Stamp = Annotated[float, msgspec.Meta(ge=0, le=4e12)]  # milliseconds since the epoch


class Media(Struct, frozen=True):
    """An image's or a document's bytes."""

    media_type: str | None = None
    data: str | None = None


class Block(Struct, frozen=True):
    """A part of a message."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: Raw = NOTHING
    is_error: bool | None = None
    source: Media | None = None


class ModelInfo(Struct, frozen=True):
    id: str | None = None
    provider: str | None = None
    model_id: str | None = field(name="modelId", default=None)
    provider_id: str | None = field(name="providerId", default=None)


class Metrics(Struct, frozen=True, rename="camel"):
    """Figures of the newer format."""

    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None


class Said(Struct, frozen=True):
    """A message of the conversation, in either format."""

    id: str | None = None
    role: str | None = None
    content: list[Block] | str | None = None
    ts: Stamp | None = None
    model_info: ModelInfo | None = field(name="modelInfo", default=None)
    metrics: Metrics | None = None
    is_summary: bool | None = field(name="isSummary", default=None)
    condense_id: str | None = field(name="condenseId", default=None)
    condense_parent: str | None = field(name="condenseParent", default=None)


class Origin(Struct, frozen=True, rename="camel"):
    parent_thread_id: str | None = None
    version: str | None = None


class Session(Struct, frozen=True):
    """A session of the newer format."""

    session_id: str | None = field(name="sessionId", default=None)
    origin: Origin | None = None
    system_prompt: str | None = None
    messages: list[Raw] = []


class Compacted(Struct, frozen=True):
    """What stands for the first messages of a session since it was compacted."""

    source_message_count: Count | None = None
    messages: list[Raw] = []


class Git(Struct, frozen=True):
    url: str | None = None
    branch: str | None = None


class Metadata(Struct, frozen=True):
    title: str | None = None
    git: Git | None = None


class Manifest(Struct, frozen=True):
    """What the newer format says of a session beside its messages."""

    metadata: Metadata | None = None


class Shown(Struct, frozen=True):
    """What a task of the older format showed to the person."""

    ts: Stamp | None = None
    type: str | None = None
    say: str | None = None
    ask: str | None = None
    text: str | None = None
    model_info: ModelInfo | None = field(name="modelInfo", default=None)
    index: int | None = field(name="conversationHistoryIndex", default=None)
    deleted: list[int] | None = field(name="conversationHistoryDeletedRange", default=None)


class Request(Struct, frozen=True, rename="camel"):
    """The text of an `api_req_started`."""

    tokens_in: Count | None = None
    tokens_out: Count | None = None
    cache_writes: Count | None = None
    cache_reads: Count | None = None
    cancel_reason: str | None = None
    api_protocol: str | None = None


SAID = msgspec.json.Decoder(Said)
SESSION = msgspec.json.Decoder(Session)
COMPACTED = msgspec.json.Decoder(Compacted)
MANIFEST = msgspec.json.Decoder(Manifest)
SHOWN = msgspec.json.Decoder(Shown)
REQUEST = msgspec.json.Decoder(Request)
