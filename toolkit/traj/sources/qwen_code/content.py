"""Qwen Code's messages and figures, as the schema has them."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as Base64Error

from msgspec import structs

from traj.events import Attachment, Message, Session, ToolCall, Turn, Usage
from traj.sources.about import Meaning
from traj.sources.lines import epoch_us
from traj.sources.qwen_code import wire

MEANING = Meaning(cached="inside", written=None, reasoning="inside")
APIS = {"anthropic": "anthropic_messages", "gemini": "gemini", "vertex-ai": "gemini"}


def usage(raw: wire.RawUsage | None) -> Usage:
    """The schema's figures."""
    if raw is None:
        return Usage()
    return _usage(
        raw.prompt_token_count,
        raw.cached_content_token_count,
        raw.candidates_token_count,
        raw.thoughts_token_count,
        raw.total_token_count,
    )


def usage_of(event: wire.Event) -> Usage:
    """The same from telemetry."""
    return _usage(
        event.input_token_count,
        event.cached_content_token_count,
        event.output_token_count,
        event.thoughts_token_count,
        event.total_token_count,
    )


def _usage(
    prompt: int | None,
    cached: int | None,
    output: int | None,
    thoughts: int | None,
    total: int | None,
) -> Usage:
    # With a Gemini model behind it the figures are Gemini's, whose output leaves out the thoughts:
    # the total tells which it is.
    if thoughts and prompt is not None and output is not None:
        output += thoughts if total == prompt + output + thoughts else 0
    return MEANING.usage(prompt, cached, output, reasoning_tokens=thoughts)


def text_of(parts: list[wire.Part]) -> str | None:
    """The texts among the parts, thoughts apart; None where there is none."""
    texts = [part.text for part in parts if part.text and not part.thought]
    return "\n".join(texts) if texts else None


def answer(
    session: Session, parts: list[wire.Part], time: int | None, file: int, line: int | None
) -> Message:
    """A model's message."""
    thoughts = [part.text for part in parts if part.thought and part.text]
    calls = [
        ToolCall(call.id, call.name or "unknown", wire.raw_text(call.args, session) or "{}")
        for part in parts
        if (call := part.function_call) is not None and call.id
    ]
    return Message(
        "assistant",
        text_of(parts),
        "\n".join(thoughts) or None,
        tuple(calls),
        time_us=time,
        file=file,
        line=line,
    )


def said(
    session: Session,
    parts: list[wire.Part],
    time: int | None,
    file: int,
    line: int | None,
    *,
    person: bool,
) -> list[Message]:
    """A message of the user's role: tools' results, one message each, and what else it says."""
    found = [
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
    text = text_of(parts)
    images = tuple(_attachment(part.inline_data) for part in parts if part.inline_data)
    if text is not None or images:
        found.append(
            Message(
                "user",
                text,
                attachments=images,
                time_us=time,
                by_person=person,
                file=file,
                line=line,
            )
        )
    return found


def _attachment(inline: wire.Inline) -> Attachment:
    try:
        payload = b64decode(inline.data or "")
    except (Base64Error, ValueError):
        return Attachment(inline.mime_type, None, None)
    return Attachment(inline.mime_type, hashlib.sha256(payload).hexdigest(), len(payload))


def turn(
    message: Message | None,
    figures: Usage,
    event: wire.Event | None,
    *,
    model: str | None,
    name: str | None,
    time: int | None,
    line: int,
    file: int,
) -> Turn:
    """A request, `time` the first time stamp of its answer. When it was sent, and its response's
    id, stand in Qwen Code's telemetry alone."""
    failed = event is not None and (event.name or "").endswith("api_error")
    api = APIS.get((event.auth_type if event else None) or "", "openai_chat")
    calls = message is not None and message.tool_calls
    made = Turn(
        message,
        api,
        model or (event.model if event else None),
        name,
        figures,
        answer_us=time,
        end_us=time if message is None else message.time_us,
        clock="derived" if time is not None else "none",
        earlier_reasoning="kept" if api == "openai_chat" else "unknown",
        stop_reason=None if failed or message is None else "tool_use" if calls else "end_turn",
        status="error" if failed else "ok",
        error=(event.error_message or event.error or "error")[:200] if failed and event else None,
        file=file,
        line=line,
    )
    return made if event is None else timed(made, event)


def timed(turn: Turn, event: wire.Event) -> Turn:
    """A request with what telemetry says of it."""
    end = epoch_us(event.timestamp)
    response = event.response_id or turn.response_id
    if end is None or event.duration_ms is None:
        return structs.replace(turn, response_id=response)
    start = end - round(event.duration_ms * 1000)
    first = None if event.ttft_ms is None else start + round(event.ttft_ms * 1000)
    return structs.replace(
        turn,
        response_id=response,
        start_us=start,
        first_token_us=None if first is None else min(first, end),
        end_us=end,
        clock="logged",
    )
