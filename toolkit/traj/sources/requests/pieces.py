"""Small pieces that bodies of all APIs are read with: tolerant decoding, texts, payloads."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable
from typing import Any, TypeVar

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment
from traj.sources.lines import UNDECODABLE

T = TypeVar("T")
NOTHING = Raw()
_STOPS = {
    "end_turn": ("end_turn", "stop", "STOP"),
    "tool_use": ("tool_use", "tool_calls", "tool_call", "function_call"),
    "max_tokens": (
        *("max_tokens", "length", "MAX_TOKENS", "max_output_tokens"),
        "model_context_window_exceeded",
    ),
    "stop_sequence": ("stop_sequence",),
    "refusal": (
        *("refusal", "content_filter", "SAFETY", "RECITATION", "PROHIBITED_CONTENT"),
        "BLOCKLIST",
    ),
    "pause": ("pause_turn",),
}
STOPS = {said: name for name, all_said in _STOPS.items() for said in all_said}


class Text(Struct):
    """The commonest part of a content list; other parts leave `text` None."""

    type: str | None = None
    text: str | None = None


class _Effort(Struct):
    effort: str | None = None


def fit(raw: Raw | bytes, kind: type[T]) -> T | None:
    """The value, or None where it is absent, null, or of another shape."""
    if not bytes(raw):
        return None
    try:
        return msgspec.json.decode(raw, type=kind)
    except UNDECODABLE:
        return None


def parts(raw: Raw | bytes, kind: type[T]) -> list[T]:
    """The items of a list that are of a kind; a single one for what is no list."""
    found = fit(raw, list[Raw])
    several = [raw] if found is None else found
    fitting = (fit(one, kind) for one in several)
    return [one for one in fitting if one is not None]


def text_of(raw: Raw | bytes) -> str | None:
    """The text of a content that is a string or a list of parts; None where it has none."""
    whole = fit(raw, str)
    if whole is not None:
        return whole
    return joined(part.text for part in parts(raw, Text))


def joined(texts: Iterable[str | None]) -> str | None:
    """Texts on lines of their own; None where there is none."""
    found = [text for text in texts if text is not None]
    return "\n".join(found) if found else None


def arguments(raw: Raw | bytes) -> str:
    """A call's arguments as the model's own text: a string as it is, else its JSON."""
    whole = fit(raw, str)
    return whole if whole is not None else bytes(raw).decode("utf-8", "replace") or "{}"


def json_text(raw: Raw | bytes) -> str | None:
    """JSON text of a list or object that is not empty."""
    text = bytes(raw).decode("utf-8", "replace").strip()
    return None if text in ("", "null", "[]", "{}") else text


def effort_of(raw: Raw | bytes) -> str | None:
    """How hard a model is told to think, of an object that says so."""
    found = fit(raw, _Effort)
    return found.effort if found is not None else None


def stop(reason: str | None) -> str | None:
    """The schema's word for why an answer ended."""
    return None if reason is None else STOPS.get(reason, "other")


def payload(data: Any, media_type: str | None) -> Attachment:
    """What is kept of an image or document: its kind, its hash and its size."""
    if not isinstance(data, str):
        return Attachment(media_type, None, None)
    if data.startswith("data:"):
        kind, _, data = data[5:].partition(";base64,")
        media_type = kind or media_type
    elif "://" in data[:16]:
        return Attachment(media_type, None, None)
    try:
        content = base64.b64decode(data)
    except (binascii.Error, ValueError):
        return Attachment(media_type, None, None)
    if not content:
        return Attachment(media_type, None, None)
    return Attachment(media_type, hashlib.sha256(content).hexdigest(), len(content))
