"""Gemini CLI: `~/.gemini/tmp/<project>/chats/session-<time>-<id>.jsonl`, and `.json` before 2026.

One file is one session, those of its sub-agents lie in a folder named after it. What
`--output-format stream-json` prints can be read too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traj.errors import SourceError
from traj.events import Lane, Session
from traj.sources.about import About
from traj.sources.documents import items
from traj.sources.documents import read as read_document
from traj.sources.gemini_cli import wire
from traj.sources.gemini_cli.content import MEANING
from traj.sources.gemini_cli.conversation import Conversation
from traj.sources.gemini_cli.stream import StreamReader
from traj.sources.lines import Head, epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "gemini_cli"
ABOUT = About(
    "Gemini CLI",
    MEANING,
    lengths="request",
    turn_clock="derived",
    tool_clock="derived",
    seen="real sessions",
    places=(".gemini/tmp",),
    lacks=(
        "system prompt and tool definitions",
        "retries and requests that failed",
        "the requests of compression and of routing",
        "figures per request in stream-json output",
    ),
)


def locate(path: Path, beginning: Head) -> list[Located]:
    """Recognises a session by its header, a document by its fields, a stream by its first event."""
    first = next(iter(beginning), None)
    if first is not None and _is_stream(first):
        return [Located(path, NAME, first["session_id"])]
    for found in (first, beginning.document):
        if isinstance(found, dict) and _is_header(found):
            session = found["sessionId"]
            if found.get("kind") == "subagent" and path.parent.name != "chats":
                return [Located(path, NAME, session, parent=path.parent.name)]
            return [Located(path, NAME, session)]
    if _is_prompts(beginning.document):
        raise SourceError(f"{path}: Gemini CLI's list of prompts, without any answers")
    return []


def _is_header(found: dict[str, Any]) -> bool:
    return all(isinstance(found.get(key), str) for key in ("sessionId", "projectHash", "startTime"))


def _is_stream(first: dict[str, Any]) -> bool:
    strings = all(isinstance(first.get(key), str) for key in ("session_id", "timestamp", "model"))
    return first.get("type") == "init" and strings


def _is_prompts(document: object) -> bool:
    first = document[0] if isinstance(document, list) and document else None
    if not isinstance(first, dict):
        return False
    return {"sessionId", "messageId", "message", "timestamp"} <= set(first)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: its own file and those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Gemini CLI")
    session.lanes.append(Lane("main"))
    lanes: list[tuple[str, Conversation]] = []
    for part in sorted(parts, key=lambda part: (part.session_id != session_id, part.path.name)):
        if part.session_id == session_id:
            index = 0
        else:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent"))
        talk = Conversation(session, index)
        _read_part(session, talk, part.path)
        lanes.append((part.session_id, talk))
    if all(talk.index for _, talk in lanes):
        session.lose("main_lane_missing")
    for name, talk in lanes:
        if talk.index:
            calls = [other.agents[name] for _, other in lanes if name in other.agents]
            talk.lane.spawned_by = talk.lane.joined_by = calls[0] if calls else None
            session.lose("subagent_without_call", not calls)
    return session


def _read_part(session: Session, talk: Conversation, path: Path) -> None:
    talk.file = len(session.files)
    beginning = Head(path)
    document = beginning.document
    if isinstance(document, dict) and "messages" in document:
        whole = read_document(path, wire.LINE, session)
        _head(session, whole, talk)
        for number, note in items(whole.messages or (), wire.NOTE, session):
            talk.note(note, number)
    elif _is_stream(next(iter(beginning), {})):
        stream = StreamReader(session)
        for number, _, event in read_lines(path, wire.EVENT, session):
            _date(session, event.timestamp)
            stream.event(event, number)
        stream.finish()
    else:
        for number, _, line in read_lines(path, wire.LINE, session):
            _take(session, talk, line, number)
    talk.finish()


def _take(session: Session, talk: Conversation, line: wire.Line, number: int) -> None:
    """One line of a session file."""
    if line.rewind_to is not None:
        talk.rewind(line.rewind_to)
    elif line.id is not None:
        _date(session, line.timestamp)
        talk.note(line, number)
    elif line.change is not None:
        if talk.index == 0:
            session.title = line.change.summary or session.title
        if line.change.messages is not None:
            talk.replace(line.change.messages, number)
    elif line.session_id is not None:
        _head(session, line, talk)
    else:
        session.lose("foreign_line")


def _head(session: Session, line: wire.Line, talk: Conversation) -> None:
    _date(session, line.start_time)
    if talk.index == 0:
        session.title = line.summary or session.title


def _date(session: Session, stamp: str | None) -> None:
    """A session begins with the earliest of its times."""
    time = epoch_us(stamp)
    if time is not None and (session.started_us is None or time < session.started_us):
        session.started_us = time
