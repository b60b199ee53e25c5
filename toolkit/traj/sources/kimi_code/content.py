"""Kimi Code's texts, figures and times, as the schema has them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error

import msgspec

from traj.events import Attachment, Message, Sampling, ToolRun, Usage
from traj.sources.about import Meaning
from traj.sources.kimi_code import wire

MEANING = Meaning(cached="beside", written="beside", reasoning="inside")
APIS = {
    "kimi": "openai_chat",
    "openai": "openai_chat",
    "openai_legacy": "openai_chat",
    "openai_responses": "openai_responses",
    "anthropic": "anthropic_messages",
    "gemini": "gemini",
    "google-genai": "gemini",
    "vertexai": "gemini",
}
STOPS = {
    "tool_use": "tool_use",
    "end_turn": "end_turn",
    "max_tokens": "max_tokens",
    "truncated": "max_tokens",
    "filtered": "refusal",
    "paused": "pause",
}
_TIMED = frozenset(("Agent", "AgentSwarm", "Bash", "FetchURL", "Glob", "Grep", "WebSearch"))
_EXIT = re.compile(r"exit code: (-?\d{1,9})\.?\s*$")


def microseconds(stamp: float | None) -> int | None:
    """Of a time stamp in milliseconds."""
    return None if stamp is None else round(stamp * 1000)


def usage(raw: wire.Figures | None, *, whole: bool = True) -> Usage:
    """The schema's figures. What was thought is in the output, and not told apart."""
    if raw is None:
        return Usage()
    return MEANING.usage(
        raw.input_other,
        raw.input_cache_read,
        raw.output,
        written_tokens=raw.input_cache_creation,
        whole=whole,
    )


def text_of(parts: list[wire.Part] | str | None) -> str | None:
    """The texts among parts; None where there is none."""
    if parts is None or isinstance(parts, str):
        return parts
    texts = [part.text for part in parts if part.text is not None]
    return "\n".join(texts) if texts else None


def attachments(parts: list[wire.Part] | str | None) -> tuple[Attachment, ...]:
    """What is kept of images and documents."""
    if not isinstance(parts, list):
        return ()
    return tuple(_attachment(part) for part in parts if part.type not in ("text", "think", None))


def _attachment(part: wire.Part) -> Attachment:
    url = part.image_url.url if isinstance(part.image_url, wire.Media) else part.image_url
    if url is None or not url.startswith("data:"):
        return Attachment(part.mime_type, None, None)
    kind, _, data = url[5:].partition(";base64,")
    try:
        payload = b64decode(data)
    except (Base64Error, ValueError):
        return Attachment(kind or None, None, None)
    return Attachment(kind or None, hashlib.sha256(payload).hexdigest(), len(payload))


def arguments(raw: msgspec.Raw) -> str:
    """A tool call's arguments as the agent sends them back: without white space."""
    text = bytes(raw)
    try:
        return msgspec.json.format(text, indent=-1).decode() if text else "{}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "{}"


def result_text(name: str, result: wire.Result) -> str | None:
    """A tool's result as it is sent: some tools' say how long they took."""
    text = text_of(result.output)
    is_timed = name in _TIMED or name.startswith("mcp__")
    if is_timed and result.duration_ms is not None:
        head = f"Wall time: {result.duration_ms / 1000:.3f} seconds"
        text = head if text is None else f"{head}\n{text}"
    if result.note:
        text = result.note if text is None else f"{text}\n{result.note}"
    return text


def is_framed(result: wire.Result) -> bool:
    """Whether the agent puts words of its own around a result: those of errors, and of nothing."""
    text = text_of(result.output)
    return result.is_error is True or not (text and text.strip())


def end_run(run: ToolRun, result: wire.Result, time: int | None) -> None:
    """Writes down when and how a tool call ended: its own duration, or its result's line."""
    run.end_us = time
    if time is not None and result.duration_ms is not None:
        run.start_us = time - round(result.duration_ms * 1000)
        run.clock = "logged"
    elif time is not None and run.start_us is not None:
        run.clock = "derived"
    text = text_of(result.output) or ""
    found = _EXIT.search(text[-200:])
    if found and -(2**31) <= int(found[1]) < 2**31:
        run.exit_code = int(found[1])
    run.truncated = result.truncated
    if run.status == "unknown":
        run.status = "error" if result.is_error else "ok"


def sampling(line: wire.Line) -> Sampling | None:
    """What a request asked of the sampler, as far as it is sent as it is logged."""
    if line.temperature is None and line.top_p is None:
        return None
    return Sampling(temperature=line.temperature, top_p=line.top_p)


def earlier_reasoning(line: wire.Line) -> str:
    """Whether a request carried earlier thoughts."""
    if line.thinking_keep == "all":
        return "kept"
    return "dropped" if line.thinking_effort == "off" else "unknown"


def said(line: wire.Said, time: int | None, number: int, file: int, *, is_main: bool) -> Message:
    """A message that joins the context."""
    kind = line.origin.kind if line.origin is not None else None
    role = line.role if line.role in ("system", "user", "assistant", "tool") else "user"
    return Message(
        role,
        text_of(line.content),
        tool_call_id=line.tool_call_id,
        attachments=attachments(line.content),
        time_us=time,
        by_person=is_main and role == "user" and kind in (None, "user"),
        file=file,
        line=number,
    )


class _Background(msgspec.Struct):
    run_in_background: bool | None = None


def is_background(raw: msgspec.Raw) -> bool | None:
    """Whether a call asks to be left running; None where it does not say."""
    try:
        return msgspec.json.decode(raw, type=_Background).run_in_background if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def tools_text(tools: list[msgspec.Raw]) -> str:
    """Tool definitions as a chat-completions request has them."""
    made = ",".join(f'{{"type":"function","function":{arguments(tool)}}}' for tool in tools)
    return f"[{made}]"


def summary_text(raw: msgspec.Raw) -> str | None:
    """A compaction's summary: a text, or a message."""
    try:
        if not bytes(raw):
            return None
        if bytes(raw)[:1] == b"{":
            return text_of(msgspec.json.decode(raw, type=wire.Said).content)
        return msgspec.json.decode(raw, type=str)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
