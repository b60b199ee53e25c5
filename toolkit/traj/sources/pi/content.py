"""Pi's messages, usage and prompts, as the schema has them."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Any

from traj.events import Attachment, Message, Rebase, Session, ToolCall, ToolRun, Turn, Usage
from traj.sources.about import Meaning
from traj.sources.pi import wire

MEANING = Meaning(cached="beside", written="beside", reasoning="inside")
APIS = {
    "openai-completions": "openai_chat",
    "anthropic-messages": "anthropic_messages",
    "openai-responses": "openai_responses",
    "openai-codex-responses": "openai_responses",
    "azure-openai-responses": "openai_responses",
    "google-generative-ai": "gemini",
    "google-gemini-cli": "gemini",
    "google-vertex": "gemini",
}
# How thoughts go back to the model that thought them; to another they go as text.
_EARLIER = {"openai_chat": "kept", "anthropic_messages": "kept", "openai_responses": "encrypted"}
_STOPS = {"stop": "end_turn", "length": "max_tokens", "toolUse": "tool_use"}
_FAILED = {"error": "error", "aborted": "cancelled"}


def usage(raw: wire.RawUsage | None, *, whole: bool = True) -> Usage:
    """The schema's figures. A request that was broken off has those of its beginning."""
    if raw is None:
        return Usage()
    return MEANING.usage(
        raw.input,
        raw.cache_read,
        raw.output,
        written_tokens=raw.cache_write,
        reasoning_tokens=raw.reasoning,
        whole=whole,
    )


def text_of(blocks: list[wire.Block] | str | None, joint: str = "\n") -> str | None:
    """The texts among parts of content; None where there is none."""
    if blocks is None or isinstance(blocks, str):
        return blocks
    texts = [block.text for block in blocks if block.text and block.type != "thinking"]
    return joint.join(texts) if texts else None


def attachments(blocks: list[wire.Block] | str | None) -> tuple[Attachment, ...]:
    """What is kept of images: their kind, hash and size."""
    if not isinstance(blocks, list):
        return ()
    return tuple(_attachment(block) for block in blocks if block.type == "image")


def _attachment(block: wire.Block) -> Attachment:
    try:
        payload = b64decode(block.data or "")
    except (Base64Error, ValueError):
        return Attachment(block.mime_type, None, None)
    return Attachment(block.mime_type, hashlib.sha256(payload).hexdigest(), len(payload))


def milliseconds(stamp: float | None) -> int | None:
    """Microseconds since the epoch of an inner time stamp."""
    return None if stamp is None else round(stamp * 1000)


def answer(
    session: Session, inner: wire.Inner, time: int | None, file: int, line: int | None
) -> Message | None:
    """An assistant's message; None for a failed one that says nothing."""
    blocks = inner.content if isinstance(inner.content, list) else []
    thoughts = [block.thinking for block in blocks if block.thinking]
    calls = tuple(
        ToolCall(block.id, block.name or "unknown", wire.raw_text(block.arguments, session) or "{}")
        for block in blocks
        if block.type == "toolCall" and block.id
    )
    text = text_of(inner.content, "")
    if inner.stop_reason in _FAILED and not (text or thoughts or calls):
        return None
    return Message(
        "assistant", text, "\n".join(thoughts) or None, calls, time_us=time, file=file, line=line
    )


def turn(inner: wire.Inner, message: Message | None, end_us: int | None, **more: Any) -> Turn:
    """A request and its answer. Pi notes when it sent the one and when it had the other."""
    start = milliseconds(inner.timestamp)
    if start is not None and end_us is not None and start > end_us:
        start = None
    api = APIS.get(inner.api or "", "unknown")
    reason = inner.stop_reason
    status = _FAILED.get(reason or "", "ok")
    clock = "logged" if start is not None else "derived" if end_us is not None else "none"
    return Turn(
        message,
        api,
        usage=usage(inner.usage, whole=status == "ok"),
        start_us=start,
        end_us=end_us,
        clock=clock,
        earlier_reasoning=_EARLIER.get(api, "unknown"),
        stop_reason=_STOPS.get(reason, "other") if reason and status == "ok" else None,
        status=status,
        error=(inner.error_message or reason) if status == "error" else None,
        **more,
    )


def tool_message(inner: wire.Inner, time: int | None, file: int, line: int | None) -> Message:
    """A tool's result."""
    return Message(
        "tool",
        text_of(inner.content),
        tool_call_id=inner.tool_call_id or "",
        name=inner.tool_name,
        attachments=attachments(inner.content),
        time_us=time,
        file=file,
        line=line,
    )


def end_run(session: Session, inner: wire.Inner, time: int | None) -> None:
    """Writes down when and how a tool call ended."""
    run = session.tool_runs.setdefault(inner.tool_call_id or "", ToolRun())
    end = milliseconds(inner.timestamp)
    run.end_us = end if end is not None else time
    if run.end_us is not None:
        run.clock = "derived"
    if inner.is_error is not None:
        run.status = "error" if inner.is_error else "ok"


def begin_runs(session: Session, message: Message | None, time: int | None) -> None:
    """The calls of an answer start when it has come in."""
    for call in message.tool_calls if message else ():
        session.tool_runs.setdefault(call.id, ToolRun(start_us=time))


def subagent_steps(
    run: wire.SubagentRun, session: Session, file: int
) -> list[Message | Turn | Rebase]:
    """The conversation of a sub-agent, which its call's result holds as a plain list."""
    steps: list[Message | Turn | Rebase] = []
    for inner in run.messages:
        time = milliseconds(inner.timestamp)
        if inner.role == "assistant":
            message = answer(session, inner, time, file, None)
            steps.append(turn(inner, message, None, model=inner.model or run.model, file=file))
            begin_runs(session, message, None)
        elif inner.role == "toolResult":
            steps.append(tool_message(inner, time, file, None))
            end_run(session, inner, None)
        elif inner.role in ("user", "custom"):
            steps.append(Message("user", text_of(inner.content), time_us=time, file=file))
    return steps
