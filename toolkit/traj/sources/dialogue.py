"""Transcripts without figures: messages of content blocks, each answer one request.

Shared by the sources whose logs hold what was said and little else. Where calls have no ids they
are named after their line, and results without a known id belong to the oldest open call.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment, Message, Session, ToolCall, ToolRun, Turn
from traj.sources.lines import UNDECODABLE

NOTHING = Raw()
_CALLS = ("tool_use", "tool_call")
_RESULTS = ("tool_result", "tool-result")
_IMAGES = ("image", "document")
_UUID = re.compile(r"^[0-9a-fA-F-]{32,36}$")


class Block(Struct):
    """A part of a message's content."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    input: Raw = NOTHING
    tool_use_id: str | None = None
    content: Raw = NOTHING
    is_error: bool | None = None


_BLOCKS = msgspec.json.Decoder(list[Block])


def blocks_of(raw: Raw, session: Session) -> list[Block]:
    """The blocks of a content, which may be a plain text."""
    data = bytes(raw)
    if not data or data == b"null":
        return []
    try:
        if data.startswith(b'"'):
            return [Block("text", msgspec.json.decode(data, type=str))]
        return _BLOCKS.decode(data)
    except UNDECODABLE:
        session.lose("malformed_field")
        return []


def json_text(raw: Raw, session: Session) -> str:
    """A JSON value as its own text; bytes that are no UTF-8 are replaced, and counted."""
    data = bytes(raw)
    try:
        return data.decode()
    except UnicodeDecodeError:
        session.lose("invalid_utf8")
        return data.decode("utf-8", "replace")


def named(path: Path, first: Any) -> str:
    """A session's id where its log has none: the file's name, with the beginning of what it says
    where that name is not unique by itself."""
    if _UUID.match(path.stem):
        return path.stem
    told = json.dumps(first, sort_keys=True).encode("utf-8", "surrogatepass")
    return f"{path.stem}-{hashlib.sha256(told).hexdigest()[:12]}"


class Dialogue:
    """The steps of one lane."""

    def __init__(self, session: Session, index: int = 0, api: str = "unknown") -> None:
        self.session = session
        self.index = index
        self.lane = session.lanes[index]
        self.api = api
        self.model: str | None = None
        self.system: str | None = None
        self.tools: str | None = None
        self.open: dict[str, str] = {}  # calls without a result yet, and their tools
        self.file = 0

    def user(
        self, blocks: Iterable[Block], time: int | None, line: int, *, by_person: bool = True
    ) -> None:
        """A message of the user's role: tools' results, and what else it says."""
        texts: list[str] = []
        images = 0
        results = 0
        for block in blocks:
            if block.type in _RESULTS:
                results += 1
                found = blocks_of(block.content, self.session)
                text = "\n".join(part.text for part in found if part.text is not None)
                self.result(block.tool_use_id, text, time, line, failed=block.is_error)
            elif block.type in _IMAGES:
                images += 1
            elif block.text is not None:
                texts.append(block.text)
        if texts or images or not results:
            self.lane.steps.append(
                Message(
                    "user",
                    "\n".join(texts) if texts else None,
                    attachments=(Attachment(None, None, None),) * images,
                    time_us=time,
                    by_person=by_person and self.index == 0 and not results,
                    file=self.file,
                    line=line,
                )
            )

    def result(
        self,
        call: str | None,
        text: str | None,
        time: int | None,
        line: int,
        *,
        failed: bool | None,
    ) -> None:
        """A tool's result."""
        if call not in self.open and self.open and call not in self.session.tool_runs:
            call = next(iter(self.open))
        name = self.open.pop(call or "", None)
        run = self.session.tool_runs.setdefault(call or "", ToolRun())
        run.end_us = time
        run.clock = "derived" if time is not None else "none"
        if failed is not None:
            run.status = "error" if failed else "ok"
        self.lane.steps.append(
            Message(
                "tool",
                text,
                tool_call_id=call or "",
                name=name,
                time_us=time,
                file=self.file,
                line=line,
            )
        )

    def answer(self, blocks: Iterable[Block], time: int | None, line: int, **more: Any) -> None:
        """A model's message, and so a request; `more` are fields of the turn."""
        texts: list[str] = []
        thoughts: list[str] = []
        calls: list[ToolCall] = []
        for block in blocks:
            if block.type in _CALLS:
                name = block.id or f"line {line}, call {len(calls) + 1}"
                arguments = json_text(block.input, self.session) or "{}"
                calls.append(ToolCall(name, block.name or "unknown", arguments))
            elif block.thinking is not None:
                thoughts.append(block.thinking)
            elif block.text is not None:
                texts.append(block.text)
        self.said("\n".join(texts) or None, "\n".join(thoughts) or None, calls, time, line, **more)

    def said(
        self,
        text: str | None,
        thought: str | None,
        calls: Iterable[ToolCall],
        time: int | None,
        line: int,
        **more: Any,
    ) -> None:
        """The same from its parts."""
        asked = tuple(calls)
        for call in asked:
            self.open[call.id] = call.name
            self.session.tool_runs.setdefault(call.id, ToolRun(start_us=time))
        message = Message(
            "assistant", text, thought, asked, time_us=time, file=self.file, line=line
        )
        told = {"model": self.model, "system": self.system, "tools": self.tools, **more}
        self.lane.steps.append(
            Turn(
                message,
                self.api,
                end_us=time,
                answer_us=time,
                clock="derived" if time is not None else "none",
                stop_reason="tool_use" if asked else "end_turn",
                file=self.file,
                line=line,
                **told,
            )
        )

    def finish(self) -> None:
        """Counts the calls whose results the log leaves out."""
        self.session.lose("tool_result_not_recorded", len(self.open))
