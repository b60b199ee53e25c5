"""Cline's and Roo's texts and figures, as the schema has them."""

from __future__ import annotations

import hashlib
import re
from base64 import b64decode
from binascii import Error as Base64Error

import msgspec

from traj.events import Attachment, Message, Session, ToolCall
from traj.sources.about import Meaning
from traj.sources.cline import wire

MEANING = Meaning(cached="inside", written="inside", reasoning="inside")
BESIDE = Meaning(cached="beside", written="beside", reasoning="inside")
APIS = {
    "anthropic": "anthropic_messages",
    "openai": "openai_chat",
    "openai-compatible": "openai_chat",
    "openai-native": "openai_responses",
    "openrouter": "openai_chat",
    "ollama": "openai_chat",
    "lmstudio": "openai_chat",
    "deepseek": "openai_chat",
    "gemini": "gemini",
    "vertex": "gemini",
}
_INPUT = re.compile(r'<user_input mode="[a-z]{1,20}">(.*)</user_input>', re.DOTALL)
_PERSONS = ("<task>", "<feedback>", "<user_message>", "<answer>")
_EXIT = re.compile(r"exited with code (-?\d{1,9})")


def microseconds(stamp: float | None) -> int | None:
    """Of a time stamp in milliseconds."""
    return None if stamp is None else round(stamp * 1000)


def blocks(content: list[wire.Block] | str | None) -> list[wire.Block]:
    """A message's parts, where it is a text too."""
    if isinstance(content, str):
        return [wire.Block("text", content)]
    return content or []


def compact(raw: msgspec.Raw, empty: str) -> str:
    """JSON as the agent sends it: without white space."""
    text = bytes(raw)
    try:
        return msgspec.json.format(text, indent=-1).decode() if text else empty
    except (msgspec.DecodeError, UnicodeDecodeError):
        return empty


def answer(said: wire.Said, time: int | None, file: int, line: int) -> Message:
    """The model's message."""
    texts: list[str] = []
    thoughts: list[str] = []
    calls: list[ToolCall] = []
    for block in blocks(said.content):
        if block.type == "text" and block.text:
            texts.append(block.text)
        elif block.type in ("thinking", "reasoning"):
            thoughts += [text for text in (block.thinking or block.text,) if text]
        elif block.type == "tool_use" and block.id:
            name = block.name or "unknown"
            calls.append(ToolCall(block.id, name, compact(block.input, "{}")))
    return Message(
        "assistant",
        "\n".join(texts) or None,
        "\n".join(thoughts) or None,
        tuple(calls),
        time_us=time,
        file=file,
        line=line,
    )


def to_model(
    said: wire.Said, file: int, line: int, session: Session, *, is_main: bool
) -> list[Message]:
    """A message of the other side: tools' results, then what was said."""
    time = microseconds(said.ts)
    found: list[Message] = []
    texts: list[str] = []
    files: list[Attachment] = []
    for block in blocks(said.content):
        if block.type == "tool_result":
            found.append(_result(block, time, file, line))
        elif block.type == "text":
            texts += [block.text] if block.text else []
        elif block.type == "file":
            session.lose("framing_not_recorded")
            texts.append(_text(block.content) or "")
        elif block.type in ("image", "document"):
            files.append(attachment(block))
        else:
            session.lose(f"item:{(block.type or '')[:40]}")
    if texts or files or not found:
        text = "\n".join(texts)
        wrapped = _INPUT.fullmatch(text)
        by_person = is_main and (wrapped is not None or any(mark in text for mark in _PERSONS))
        found.append(
            Message(
                "user",
                (wrapped[1] if wrapped else text) or None,
                attachments=tuple(files),
                time_us=time,
                by_person=by_person,
                file=file,
                line=line,
            )
        )
    return found


def _result(block: wire.Block, time: int | None, file: int, line: int) -> Message:
    inner = _inner(block.content)
    return Message(
        "tool",
        _text(block.content),
        tool_call_id=block.tool_use_id or "",
        name=block.name,
        attachments=tuple(attachment(one) for one in inner if one.type == "image"),
        time_us=time,
        file=file,
        line=line,
    )


def _inner(raw: msgspec.Raw) -> list[wire.Block]:
    """The parts of a result, where it is made of parts."""
    try:
        found = msgspec.json.decode(raw, type=list[wire.Block]) if bytes(raw) else []
    except (msgspec.DecodeError, UnicodeDecodeError):
        return []
    return found if all(block.type is not None for block in found) else []


def _text(raw: msgspec.Raw) -> str | None:
    """A result's text: its parts' texts, or its JSON as it is sent."""
    inner = _inner(raw)
    if inner:
        texts = [block.text for block in inner if block.text is not None]
        return "\n".join(texts) if texts else None
    try:
        return msgspec.json.decode(raw, type=str) if bytes(raw) else None
    except (msgspec.DecodeError, UnicodeDecodeError):
        return compact(raw, "")


def attachment(block: wire.Block) -> Attachment:
    """What is kept of an image: its kind, its hash and its size."""
    media = block.source or wire.Media()
    if media.data is None:
        return Attachment(media.media_type, None, None)
    try:
        payload = b64decode(media.data)
    except (Base64Error, ValueError):
        return Attachment(media.media_type, None, None)
    return Attachment(media.media_type, hashlib.sha256(payload).hexdigest(), len(payload))


def exit_code(text: str | None) -> int | None:
    """That of a command, which stands in its result's text."""
    found = _EXIT.search((text or "")[:400])
    return int(found[1]) if found and -(2**31) <= int(found[1]) < 2**31 else None
