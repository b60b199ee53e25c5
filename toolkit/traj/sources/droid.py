"""Factory Droid: `~/.factory/sessions/<folder>/<session>.jsonl`, and its stream-json output.

A session's file holds what was said, called and given back, with times; a stream ends with the
run's figures as a sum.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Raw, Struct

from traj.events import Lane, Session, ToolCall
from traj.sources.about import About, Meaning
from traj.sources.dialogue import Dialogue, blocks_of, json_text
from traj.sources.lines import Count, epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "droid"
MEANING = Meaning(cached="beside", written="beside", reasoning="inside")
ABOUT = About(
    "Factory Droid",
    MEANING,
    lengths="session",
    turn_clock="derived",
    tool_clock="derived",
    seen="fixtures",
    places=(".factory/sessions",),
    lacks=(
        "figures per request; in session files all figures",
        "system prompt and tool definitions",
        "the model, in session files",
    ),
)
NOTHING = Raw()
EpochMilliseconds = Annotated[int, msgspec.Meta(ge=0, le=2**53)]


class Inner(Struct):
    role: str | None = None
    content: Raw = NOTHING


class Spent(Struct):
    input_tokens: Count | None = None
    output_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


class Line(Struct):
    """A line of a session, or an event of a stream (whose times are epoch milliseconds)."""

    type: str | None = None
    id: str | None = None
    timestamp: str | EpochMilliseconds | None = None
    message: Inner | str | None = None
    title: str | None = None
    version: Raw = NOTHING
    role: str | None = None
    text: str | None = None
    model: str | None = None
    toolName: str | None = None  # noqa: N815 - the log's own name
    parameters: Raw = NOTHING
    value: Raw = NOTHING
    isError: bool | None = None  # noqa: N815
    finalText: str | None = None  # noqa: N815
    usage: Spent | None = None


DECODER = msgspec.json.Decoder(Line)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a session by its first line, a stream by its first event."""
    first = next(iter(head), None) or {}
    name = first.get("id")
    if first.get("type") == "session_start" and isinstance(name, str) and "cwd" in first:
        return [Located(path, NAME, name)]
    name = first.get("sessionId")
    stream = first.get("type") == "system" and first.get("subtype") == "init"
    if stream and isinstance(name, str) and isinstance(first.get("timestamp"), int):
        return [Located(path, NAME, name)]
    return []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "Factory Droid")
    session.lanes.append(Lane("main"))
    reader = _Reader(session)
    for number, _, line in read_lines(parts[0].path, DECODER, session):
        time = _time(line.timestamp)
        if time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time
        reader.line(line, time, number)
    reader.flush()
    reader.talk.finish()
    return session


def _time(stamp: str | int | None) -> int | None:
    return stamp * 1000 if isinstance(stamp, int) else epoch_us(stamp)


class _Reader:
    """Takes the lines in order. A stream's answer is the run of texts and calls up to the first
    that follows a result."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.talk = Dialogue(session)
        self.texts: list[str] = []
        self.calls: list[ToolCall] = []
        self.begun: tuple[int | None, int] = (None, 0)

    def line(self, line: Line, time: int | None, number: int) -> None:
        """One line."""
        kind = line.type or ""
        if kind == "session_start":
            self.session.title = line.title or None
            self.session.agent_version = _version(line.version)
        elif kind == "message":
            self._message(line, time, number)
        elif kind == "tool_call":
            self._begin(time, number)
            name = line.id or f"line {number}, call 1"
            arguments = json_text(line.parameters, self.session) or "{}"
            self.calls.append(ToolCall(name, line.toolName or "unknown", arguments))
        elif kind == "tool_result":
            self.flush()
            found = blocks_of(line.value, self.session)
            text = "\n".join(block.text for block in found if block.text is not None)
            self.talk.result(line.id, text, time, number, failed=line.isError)
        elif kind == "completion":
            self._completion(line, time, number)
        elif kind == "system":
            self.talk.model = line.model or self.talk.model
        elif kind == "error":
            self.session.lose("transcript_only_message")
        else:
            self.session.lose(f"item:{kind[:40]}")

    def _message(self, line: Line, time: int | None, number: int) -> None:
        if isinstance(line.message, Inner):
            blocks = blocks_of(line.message.content, self.session)
            if line.message.role == "assistant":
                self.talk.answer(blocks, time, number, response_id=line.id)
            else:
                self.talk.user(blocks, time, number)
        elif line.role == "assistant":
            self._begin(time, number)
            self.texts.append(line.text or "")
        else:
            self.flush()
            text = msgspec.json.encode(line.text or "")
            self.talk.user(blocks_of(Raw(text), self.session), time, number)

    def _begin(self, time: int | None, number: int) -> None:
        if not self.texts and not self.calls:
            self.begun = (time, number)

    def flush(self) -> None:
        """The answer that is coming in is whole."""
        if self.texts or self.calls:
            text = "\n".join(self.texts) or None
            self.talk.said(text, None, self.calls, *self.begun)
        self.texts, self.calls = [], []

    def _completion(self, line: Line, time: int | None, number: int) -> None:
        if line.finalText and self.texts[-1:] != [line.finalText]:
            self.flush()
            self._begin(time, number)
            self.texts.append(line.finalText)
        self.flush()
        spent = line.usage
        if spent is not None:
            self.session.lose("usage_not_per_request")
            self.session.usage = MEANING.usage(
                spent.input_tokens,
                spent.cache_read_input_tokens,
                spent.output_tokens,
                written_tokens=spent.cache_creation_input_tokens,
            )


def _version(raw: Raw) -> str | None:
    data = bytes(raw)
    return data.decode("utf-8", "replace").strip('"') if data.startswith(b'"') else None
