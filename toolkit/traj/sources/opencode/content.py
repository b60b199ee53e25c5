"""OpenCode's texts, figures and tool runs, as the schema has them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Sequence

import msgspec

from traj.events import Attachment, Message, Session, ToolCall, ToolRun, Usage
from traj.sources.about import Meaning
from traj.sources.opencode import wire

MEANING = Meaning(cached="beside", written="beside", reasoning="beside")
_BEFORE_1_4 = Meaning(cached="beside", written="beside", reasoning="inside")
APIS = {
    "anthropic": "anthropic_messages",
    "openai": "openai_responses",
    "azure": "openai_responses",
    "google": "gemini",
}
STOPS = {
    "stop": "end_turn",
    "tool-calls": "tool_use",
    "length": "max_tokens",
    "content-filter": "refusal",
}
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})")
_REPORT = re.compile(r'<(?:task|subagent) id="([^"]{1,100})" state="(?:completed|error|cancelled)"')


def microseconds(stamp: float | None) -> int | None:
    """Of a time stamp in milliseconds."""
    return None if stamp is None else round(stamp * 1000)


def usage(raw: wire.Tokens | None, version: str | None, *, whole: bool = True) -> Usage:
    """The schema's figures. Before 1.4 the output held the reasoning too: where there is a total
    it tells which of the two is meant."""
    if raw is None:
        return Usage()
    cache = raw.cache or wire.Cache()
    meaning = MEANING
    if raw.reasoning:
        beside = sum(n or 0 for n in (raw.input, raw.output, cache.read, cache.write))
        if raw.total is not None:
            meaning = _BEFORE_1_4 if raw.total == beside else MEANING
        elif _is_before_1_4(version) and (raw.output or 0) >= raw.reasoning:
            meaning = _BEFORE_1_4
    return meaning.usage(
        raw.input,
        cache.read,
        raw.output,
        written_tokens=cache.write,
        reasoning_tokens=raw.reasoning,
        whole=whole,
    )


def _is_before_1_4(version: str | None) -> bool:
    found = _VERSION.match(version or "")
    return found is not None and (int(found[1]), int(found[2])) < (1, 4)


def arguments(raw: msgspec.Raw) -> str:
    """A tool call's input as the agent sends it back: without white space."""
    text = bytes(raw)
    try:
        return msgspec.json.format(text, indent=-1).decode() if text else "{}"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "{}"


def attachment(file: wire.File | wire.Part | wire.Piece) -> Attachment:
    """What is kept of a file: its kind, its hash and its size."""
    data = file.data if isinstance(file, wire.File) else None
    url = file.uri if isinstance(file, wire.Piece) else file.url
    if data is None and url is not None and url.startswith("data:"):
        data = url.partition(";base64,")[2] or None
    try:
        payload = b64decode(data) if data is not None else None
    except (Base64Error, ValueError):
        payload = None
    if payload is None:
        return Attachment(file.mime, None, None)
    return Attachment(file.mime, hashlib.sha256(payload).hexdigest(), len(payload))


def answer(
    parts: Sequence[wire.Part], time: int | None, file: int, line: int, *, is_whole: bool = False
) -> Message | None:
    """The parts of one answer as a message; None where they say nothing, unless that was all."""
    texts = [p.text for p in parts if p.type == "text" and p.text and not p.ignored]
    thoughts = [p.text for p in parts if p.type == "reasoning" and p.text]
    calls = tuple(
        ToolCall(name, p.tool or p.name or "unknown", arguments(p.state.input))
        for p in parts
        if p.type == "tool" and p.state is not None and (name := p.call_id or p.id)
    )
    if not (texts or thoughts or calls or is_whole):
        return None
    return Message(
        "assistant",
        "".join(texts) or None,
        "".join(thoughts) or None,
        calls,
        time_us=time,
        file=file,
        line=line,
    )


def result(part: wire.Part, time: int | None, file: int, line: int) -> Message | None:
    """A tool's result; None while there is none."""
    state = part.state
    if state is None or state.status not in ("completed", "error"):
        return None
    pieces = state.content or []
    texts = [piece.text for piece in pieces if piece.text is not None]
    if state.output is not None:
        text: str | None = state.output
    elif texts:
        text = "\n".join(texts)
    else:
        text = state.error.message if isinstance(state.error, wire.Error) else state.error
    files: list[wire.File | wire.Piece] = [*(state.attachments or ())]
    files += [piece for piece in pieces if piece.uri is not None]
    return Message(
        "tool",
        text,
        tool_call_id=part.call_id or part.id or "",
        name=part.tool or part.name,
        attachments=tuple(attachment(one) for one in files),
        time_us=time,
        file=file,
        line=line,
    )


def run_of(part: wire.Part, session: Session, *, is_aborted: bool) -> ToolRun | None:
    """How a tool ran, by the agent's own clock: from when it had the whole call."""
    state, name = part.state, part.call_id or part.id
    if state is None or name is None:
        return None
    begun, ended = (
        (part.time.ran, part.time.completed)
        if part.time is not None and state.time is None
        else (state.time.start, state.time.end)
        if state.time is not None
        else (None, None)
    )
    told = state.told
    run = ToolRun(
        microseconds(begun),
        microseconds(ended),
        exit_code=told.exit,
        truncated=told.truncated,
        background=told.background or (True if told.status == "running" else None),
    )
    if run.start_us is not None or run.end_us is not None:
        run.clock = "logged"
    run.status = _status(state, told, is_aborted=is_aborted)
    session.tool_runs[name] = run
    return run


def _status(state: wire.State, told: wire.ToolMetadata, *, is_aborted: bool) -> str:
    if state.status == "completed":
        return "error" if told.exit else "ok"
    if state.status == "error":
        error = state.error
        text = (error.message or "") if isinstance(error, wire.Error) else (error or "")
        if told.interrupted or (is_aborted and "abort" in text.lower()):
            return "interrupted"
        return "rejected" if "rejected permission" in text[:80] else "error"
    return "interrupted" if is_aborted else "unknown"


def reporter(text: str | None) -> str | None:
    """The sub-agent's session whose report a message brings, if it is such a message."""
    found = _REPORT.match(text or "")
    return found[1] if found else None
