"""Gemini CLI's messages and figures, as the schema has them."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error

from msgspec import structs

from traj.events import Attachment, Message, Session, ToolCall, ToolRun, Usage
from traj.sources.about import Meaning
from traj.sources.gemini_cli import wire
from traj.sources.lines import epoch_us

MEANING = Meaning(cached="inside", written=None, reasoning="beside")
_STATUS = {"success": "ok", "error": "error", "cancelled": "interrupted"}


def usage(tokens: wire.Tokens | None) -> Usage:
    """The schema's figures. What built-in tools put into the prompt is counted apart from it."""
    if tokens is None:
        return Usage()
    prompt = tokens.input
    if prompt is not None and tokens.tool:
        prompt += tokens.tool
    return MEANING.usage(prompt, tokens.cached, tokens.output, reasoning_tokens=tokens.thoughts)


def text_of(parts: list[wire.Part]) -> str | None:
    """The texts among the parts, thoughts apart; None where there is none."""
    texts = [part.text for part in parts if part.text and not part.thought]
    return "\n".join(texts) if texts else None


def attachments(parts: list[wire.Part]) -> tuple[Attachment, ...]:
    """What is kept of images and documents: their kind, hash and size."""
    return tuple(_attachment(part.inline_data) for part in parts if part.inline_data)


def _attachment(inline: wire.Inline) -> Attachment:
    try:
        payload = b64decode(inline.data or "")
    except (Base64Error, ValueError):
        return Attachment(inline.mime_type, None, None)
    return Attachment(inline.mime_type, hashlib.sha256(payload).hexdigest(), len(payload))


def answer(
    session: Session, note: wire.Note, time: int | None, file: int, line: int | None
) -> Message:
    """A model's message with its thoughts and calls."""
    parts = wire.parts_of(note.content if bytes(note.content) else note.parts)
    thoughts = [_thought(thought) for thought in note.thoughts or ()]
    thoughts += [part.text for part in parts if part.thought and part.text]
    calls = [
        ToolCall(call.id, call.name or "unknown", wire.raw_text(call.args, session) or "{}")
        for call in note.tool_calls or ()
        if call.id
    ]
    if not calls:
        calls = [
            ToolCall(
                part.function_call.id,
                part.function_call.name or "unknown",
                wire.raw_text(part.function_call.args, session) or "{}",
            )
            for part in parts
            if part.function_call and part.function_call.id
        ]
    return Message(
        "assistant",
        text_of(parts),
        "\n".join(text for text in thoughts if text) or None,
        tuple(calls),
        time_us=time,
        file=file,
        line=line,
    )


def _thought(thought: wire.Thought) -> str:
    return "\n".join(text for text in (thought.subject, thought.description) if text)


def begun_us(note: wire.Note, time: int | None) -> int | None:
    """The first time stamp of an answer: older versions dated its thoughts as they came."""
    stamps = [epoch_us(thought.timestamp) for thought in note.thoughts or ()]
    known = [stamp for stamp in (*stamps, time) if stamp is not None]
    return min(known, default=None)


def results(
    session: Session, parts: list[wire.Part], time: int | None, file: int, line: int | None
) -> list[Message]:
    """The tools' results among the parts of a message, one message each."""
    return [
        Message(
            "tool",
            wire.text_of(part.function_response.response, session),
            tool_call_id=part.function_response.id or "",
            name=part.function_response.name,
            time_us=time,
            file=file,
            line=line,
        )
        for part in parts
        if part.function_response
    ]


def result_of(session: Session, call: wire.ToolCall, file: int, line: int | None) -> list[Message]:
    """The result that stands with its call, for files that have no message for it."""
    time = epoch_us(call.timestamp)
    parts = wire.parts_of(call.result)
    found = results(session, parts, time, file, line)
    if not found and (text := text_of(parts)) is not None:
        found = [Message("tool", text, time_us=time, file=file, line=line)]
    return [structs.replace(one, tool_call_id=call.id or "", name=call.name) for one in found]


def run(call: wire.ToolCall, start: int | None) -> ToolRun:
    """What is known of a call's execution. It is dated when all calls of its answer are done."""
    end = epoch_us(call.timestamp)
    return ToolRun(
        start,
        end,
        "derived" if end is not None else "none",
        status=_STATUS.get(call.status or "", "unknown"),
    )
