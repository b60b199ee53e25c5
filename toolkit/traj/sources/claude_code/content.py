"""Content blocks and usage of the Messages API, as messages and figures of the schema."""

from __future__ import annotations

import base64
import binascii
import hashlib

import msgspec
from msgspec import Struct

from traj.events import Attachment, Message, ToolCall, Usage
from traj.sources.about import Meaning
from traj.sources.claude_code.wire import Block, Content, RawUsage

MEANING = Meaning(cached="beside", written="beside", reasoning="inside")


def usage(raw: RawUsage | None, final: bool) -> Usage:
    """The schema's figures; `final` is whether the answer's last figures are in `raw`."""
    if raw is None:
        return Usage()
    details = raw.output_tokens_details
    return MEANING.usage(
        raw.input_tokens,
        raw.cache_read_input_tokens,
        raw.output_tokens,
        written_tokens=raw.cache_creation_input_tokens,
        reasoning_tokens=details.thinking_tokens if details else None,
        whole=final,
    )


def merged(old: RawUsage | None, new: RawUsage | None) -> RawUsage | None:
    """Usage is repeated on every line of an answer and may grow: the largest figure is the last."""
    if old is None or new is None:
        return new or old
    details = new.output_tokens_details or old.output_tokens_details
    return RawUsage(
        _larger(old.input_tokens, new.input_tokens),
        _larger(old.cache_read_input_tokens, new.cache_read_input_tokens),
        _larger(old.cache_creation_input_tokens, new.cache_creation_input_tokens),
        _larger(old.output_tokens, new.output_tokens),
        details,
    )


def _larger(a: int | None, b: int | None) -> int | None:
    if a is None or b is None:
        return a if b is None else b
    return max(a, b)


def blocks(content: Content) -> list[Block | str]:
    """An answer's content as blocks."""
    return content if isinstance(content, list) else [content or ""]


def assistant(blocks: list[Block | str], time_us: int | None, file: int, line: int) -> Message:
    """An answer's blocks as one message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks:
        if isinstance(block, str):
            texts.append(block)
        elif block.type == "text":
            texts.append(block.text or "")
        elif block.type == "thinking":
            if block.thinking:
                thoughts.append(block.thinking)
        elif block.type in ("tool_use", "server_tool_use", "mcp_tool_use"):
            calls.append(
                ToolCall(block.id or "", block.name or "", bytes(block.input).decode() or "{}")
            )
        elif text := flat(block.content):
            texts.append(text)
    return Message(
        role="assistant",
        content="\n".join(texts) if texts else None,
        reasoning="\n".join(thoughts) if thoughts else None,
        tool_calls=tuple(calls),
        time_us=time_us,
        file=file,
        line=line,
    )


def from_user(
    content: Content,
    names: dict[str, str],
    time_us: int | None,
    by_person: bool,
    file: int,
    line: int,
    role: str = "user",
) -> list[Message]:
    """A user message's blocks as messages: one a tool result, and one for all the rest.

    `names` maps tool call ids to tool names.
    """
    if isinstance(content, str):
        return [Message(role, content, time_us=time_us, by_person=by_person, file=file, line=line)]
    found: list[Message] = []
    texts: list[str] = []
    images: list[Attachment] = []
    for block in content or ():
        if isinstance(block, str):
            texts.append(block)
        elif block.type == "tool_result":
            call = block.tool_use_id or ""
            found.append(
                Message(
                    "tool",
                    flat(block.content),
                    tool_call_id=call,
                    name=names.get(call),
                    attachments=attachments(block.content),
                    time_us=time_us,
                    file=file,
                    line=line,
                )
            )
        elif block.type in ("image", "document"):
            images.append(attachment(block))
        elif block.text is not None:
            texts.append(block.text)
    if texts or images:
        text = "\n".join(texts) if texts else None
        found.append(
            Message(
                role,
                text,
                attachments=tuple(images),
                time_us=time_us,
                by_person=by_person,
                file=file,
                line=line,
            )
        )
    return found


def flat(content: Content) -> str | None:
    """The text of a tool result, its parts joined by line feeds; None where it has no text."""
    if content is None or isinstance(content, str):
        return content
    texts = [
        part if isinstance(part, str) else part.text
        for part in content
        if isinstance(part, str) or part.text is not None
    ]
    return "\n".join(text for text in texts if text is not None) if texts else None


def attachments(content: Content) -> tuple[Attachment, ...]:
    """The images and documents among a tool result's parts."""
    if content is None or isinstance(content, str):
        return ()
    return tuple(
        attachment(part)
        for part in content
        if not isinstance(part, str) and part.type in ("image", "document")
    )


class _Source(Struct):
    type: str | None = None
    media_type: str | None = None
    data: str | None = None


def attachment(block: Block) -> Attachment:
    """What is kept of an image: its kind, its hash and its size."""
    try:
        source = msgspec.json.decode(block.source, type=_Source)
    except msgspec.DecodeError:
        return Attachment(None, None, None)
    if source.type != "base64" or source.data is None:
        return Attachment(source.media_type, None, None)
    try:
        payload = base64.b64decode(source.data)
    except (binascii.Error, ValueError):
        return Attachment(source.media_type, None, None)
    return Attachment(source.media_type, hashlib.sha256(payload).hexdigest(), len(payload))
