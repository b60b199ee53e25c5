"""Response items and usage, as messages and figures of the schema."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment, Message, ToolCall, Usage
from traj.sources.about import Meaning
from traj.sources.codex.wire import MODEL_ITEMS, NOTHING, Part, Payload, RawUsage, text_of

_CALLS = MODEL_ITEMS - {"reasoning", "web_search_call", "image_generation_call"}


MEANING = Meaning(cached="inside", written="inside", reasoning="inside")


def usage(raw: RawUsage) -> Usage:
    """The schema's figures."""
    return MEANING.usage(
        raw.input_tokens,
        raw.cached_input_tokens,
        raw.output_tokens,
        written_tokens=raw.cache_write_input_tokens,
        reasoning_tokens=raw.reasoning_output_tokens,
    )


def content(payload: Payload) -> tuple[str | None, tuple[Attachment, ...]]:
    """A message's text, its parts joined by line feeds, and its images."""
    if payload.content is None or isinstance(payload.content, str):
        return payload.content, ()
    texts = [part.text for part in payload.content if part.text is not None]
    images = [attachment(part) for part in payload.content if part.image_url]
    return ("\n".join(texts) if texts else None), tuple(images)


def attachment(part: Part) -> Attachment:
    """What is kept of an image: its kind, its hash and its size."""
    url = part.image_url or ""
    if not url.startswith("data:"):
        return Attachment(None, None, None)
    kind, _, data = url[5:].partition(";base64,")
    try:
        payload = b64decode(data)
    except (Base64Error, ValueError):
        return Attachment(kind or None, None, None)
    return Attachment(kind or None, hashlib.sha256(payload).hexdigest(), len(payload))


def call_of(item: Payload) -> ToolCall | None:
    """The tool call that an item is, if the agent (and not the provider) carries it out."""
    if item.type not in _CALLS:
        return None
    name = item.name or {"local_shell_call": "local_shell", "tool_search_call": "tool_search"}.get(
        item.type, "unknown"
    )
    raw = next((raw for raw in (item.arguments, item.input, item.action) if bytes(raw)), NOTHING)
    if not item.call_id and not item.id:
        return None
    return ToolCall(item.call_id or item.id or "", name, text_of(raw) or "{}")


def answer(items: list[tuple[Payload, int]], time_us: int | None, file: int) -> Message:
    """A model's items as one message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for item, _ in items:
        if item.type == "reasoning":
            thoughts += [text for text in _summaries(item) if text]
        elif item.type == "message":
            text, _images = content(item)
            if text is not None:
                texts.append(text)
        elif (call := call_of(item)) is not None:
            calls.append(call)
    return Message(
        "assistant",
        "\n".join(texts) if texts else None,
        "\n".join(thoughts) if thoughts else None,
        tuple(calls),
        time_us=time_us,
        file=file,
        line=items[0][1] if items else None,
    )


def _summaries(item: Payload) -> list[str]:
    text, _ = content(item)
    try:
        parts = msgspec.json.decode(item.summary, type=list[Part]) if bytes(item.summary) else []
    except msgspec.DecodeError:
        parts = []
    return [text] if text else [part.text for part in parts if part.text]


class _Notification(Struct):
    agent_path: str | None = None
    status: dict[str, Raw] | str | None = None


def reporter(text: str | None) -> str | None:
    """The thread whose final report a message brings, if it is such a message."""
    mark = "<subagent_notification>"
    if text is None or not text.startswith(mark):
        return None
    body = text.removeprefix(mark).partition("</")[0]
    try:
        told = msgspec.json.decode(body.encode(), type=_Notification)
    except (msgspec.DecodeError, UnicodeEncodeError):
        return None
    done = isinstance(told.status, dict) and "completed" in told.status
    return told.agent_path if done else None
