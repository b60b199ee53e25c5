"""The lines of a Codex rollout file, as far as they are needed, in all generations.

Since 2025 a line is {timestamp, type, payload}; before, items stood bare on the line and the file
began with a header {id, timestamp, instructions}. One struct takes both: `Line` holds an item's
fields itself, and a `payload` of the same kind where there is one.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment, Message, ToolCall, ToolRun, Usage
from traj.sources.lines import Count, ExitCode

NOTHING = Raw()


class Part(Struct):
    """A part of a message's content."""

    type: str | None = None
    text: str | None = None
    image_url: str | None = None


class RawUsage(Struct):
    """Here `input_tokens` includes the cached, and `output_tokens` the reasoning."""

    input_tokens: Count | None = None
    cached_input_tokens: Count | None = None
    cache_write_input_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    total_tokens: Count | None = None


class Info(Struct):
    """Of a token_count event."""

    total_token_usage: RawUsage | None = None
    last_token_usage: RawUsage | None = None


class Duration(Struct):
    secs: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0
    nanos: Annotated[int, msgspec.Meta(ge=0, le=10**9)] = 0


class Item(Struct):
    """Of an item_completed event."""

    type: str | None = None
    id: str | None = None
    content: list[Part] | None = None
    exit_code: ExitCode | None = None
    status: str | None = None
    duration: Duration | None = None


class Git(Struct):
    commit_hash: str | None = None
    branch: str | None = None
    repository_url: str | None = None


class HistoryBase(Struct):
    """Where a fork's history ends in its parent's file."""

    thread_id: str | None = None
    end_ordinal_exclusive: Count | None = None


class Payload(Struct):
    """What a line says. Fields of different line types stand side by side."""

    type: str | None = None
    id: str | None = None
    role: str | None = None
    content: list[Part] | str | None = None
    summary: Raw = NOTHING
    name: str | None = None
    namespace: str | None = None
    arguments: Raw = NOTHING
    input: Raw = NOTHING
    call_id: str | None = None
    output: Raw = NOTHING
    tools: Raw = NOTHING
    action: Raw = NOTHING
    status: str | None = None
    message: Raw = NOTHING
    # session_meta
    timestamp: str | None = None
    session_id: str | None = None
    forked_from_id: str | None = None
    history_base: HistoryBase | None = None
    parent_thread_id: str | None = None
    source: Raw = NOTHING
    cli_version: str | None = None
    originator: str | None = None
    instructions: str | None = None
    base_instructions: Raw = NOTHING
    agent_nickname: str | None = None
    git: Git | None = None
    # turn_context, task_started, task_complete, turn_aborted
    turn_id: str | None = None
    model: str | None = None
    effort: str | None = None
    reason: str | None = None
    num_turns: Count | None = None
    # token_count, token_usage_record
    info: Info | None = None
    usage: RawUsage | None = None
    response_id: str | None = None
    # item_completed, exec_command_end, mcp_tool_call_end
    item: Item | None = None
    started_at_ms: Count | None = None
    completed_at_ms: Count | None = None
    duration: Duration | None = None
    exit_code: ExitCode | None = None
    thread_name: str | None = None
    # compacted
    replacement_history: list[Payload] | None = None


class Line(Payload):
    """One line of a rollout: its envelope, or in early files the item itself."""

    payload: Payload | None = None
    ordinal: Count | None = None
    record_type: str | None = None


DECODER = msgspec.json.Decoder(Line)

MODEL_ITEMS = frozenset(
    (
        "reasoning",
        "function_call",
        "custom_tool_call",
        "local_shell_call",
        "tool_search_call",
        "web_search_call",
        "image_generation_call",
    )
)
OUTPUTS = frozenset(
    (
        "function_call_output",
        "custom_tool_call_output",
        "local_shell_call_output",
        "tool_search_output",
    )
)
_CALLS = MODEL_ITEMS - {"reasoning", "web_search_call", "image_generation_call"}


def usage(raw: RawUsage) -> Usage:
    """The schema's figures; the provider's meaning is the schema's already."""
    figures = (raw.input_tokens, raw.cached_input_tokens, raw.output_tokens)
    if not any(figures):
        return Usage()
    return Usage(
        raw.input_tokens,
        raw.cached_input_tokens,
        raw.cache_write_input_tokens,
        raw.output_tokens,
        raw.reasoning_output_tokens,
        "partial" if None in figures else "reported",
    )


def text_of(raw: Raw) -> str | None:
    """A JSON value as text: a string as itself, parts joined, anything else as its JSON."""
    data = bytes(raw)
    if not data or data == b"null":
        return None
    if data.startswith(b'"'):
        return msgspec.json.decode(data, type=str)
    if data.startswith((b"[", b"{")):
        try:
            parts = msgspec.json.decode(
                data if data.startswith(b"[") else b"[" + data + b"]", type=list[Part]
            )
        except msgspec.DecodeError:
            parts = []
        texts = [part.text for part in parts if part.text is not None]
        if texts:
            return "\n".join(texts)
    return data.decode()


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


_EXIT = re.compile(r"^(?:Process exited with code|Exit code:?) (-?\d{1,9})", re.MULTILINE)
_WALL = re.compile(r"^Wall time: ([0-9.]{1,15}) seconds", re.MULTILINE)


Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _OldMetadata(Struct):
    exit_code: ExitCode | None = None
    duration_seconds: Seconds | None = None


class _OldOutput(Struct):
    metadata: _OldMetadata | None = None


def finish_run(run: ToolRun, text: str, time: int | None) -> None:
    """Writes down how a tool call ended, from the text of its result."""
    ended = run.end_us is not None  # an event of the tool's own said so
    if not ended:
        run.end_us = time
    if run.clock == "none" and run.end_us is not None and run.start_us is not None:
        run.clock = "derived"
    head = text[:400]
    code = _EXIT.search(head)
    wall = _WALL.search(head)
    seconds = float(wall.group(1)) if wall and wall.group(1).count(".") <= 1 else None
    if code:
        run.exit_code = int(code.group(1))
    elif text.startswith("{"):
        try:
            old = msgspec.json.decode(text, type=_OldOutput).metadata
        except msgspec.DecodeError:
            old = None
        if old is not None:
            run.exit_code, seconds = old.exit_code, old.duration_seconds
    if seconds is not None and seconds > 0 and not ended and time is not None:
        start = time - round(seconds * 1e6)
        if run.start_us is not None and start >= run.start_us:
            run.start_us, run.clock = start, "logged"
    run.status = _status(head, run.exit_code)


def _status(head: str, exit_code: ExitCode | None) -> str:
    if "rejected by user" in head or "rejected:" in head[:40]:
        return "rejected"
    if head.startswith("aborted") or "aborted by user" in head:
        return "interrupted"
    if "timed out" in head[:80]:
        return "timeout"
    if exit_code:
        return "error"
    return "ok"


def nested(raw: Raw, *keys: str) -> Any:
    """A value deep in a JSON object, None where the path does not lead to one."""
    try:
        value = msgspec.json.decode(raw) if bytes(raw) else None
    except msgspec.DecodeError:
        return None
    for key in keys:
        value = value.get(key) if isinstance(value, dict) else None
    return value


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
