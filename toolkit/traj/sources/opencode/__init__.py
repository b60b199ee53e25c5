"""OpenCode: `~/.local/share/opencode/opencode.db`, the older `storage/` tree, `opencode export`.

A database holds many sessions, of 1.x (messages of parts) and of 2.x (one record a message) side
by side. Sub-agents are sessions with a parent; forks are copies under other ids.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from traj.errors import SourceError
from traj.events import Lane, Session, SourceFile
from traj.sources.about import About
from traj.sources.located import Located
from traj.sources.opencode import content, database, files, wire
from traj.sources.opencode.bundles import BundleReader
from traj.sources.opencode.content import MEANING
from traj.sources.opencode.records import RecordReader
from traj.sources.opencode.talk import Talk

if TYPE_CHECKING:
    from traj.sources.lines import Head

NAME = "opencode"
ABOUT = About(
    "OpenCode",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="real sessions",
    places=(".local/share/opencode",),
    lacks=(
        "system prompt and tool definitions",
        "requests for titles",
        "what a compaction asked (its answer and figures are there)",
        "retries since 1.3",
        "messages that were undone (deleted by the agent)",
        "approval waits (inside tool time)",
        "the provider's ids of answers",
        "2.x was read from its published schema alone, not from a real session",
    ),
)
_STREAM = ("step_start", "text", "tool_use", "step_finish", "reasoning")


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a database, a session's file in the old tree, and an export. Raises SourceError
    for a file of the agent's that is read with another, or not at all."""
    if head.is_sqlite:
        if not database.is_known(path):
            return []
        found = database.sessions(path)
        if not found:
            raise SourceError(f"{path}: a database of OpenCode's without sessions")
        return [
            Located(path, NAME, one.session_id, parent=one.parent, share=one.share) for one in found
        ]
    first = next(iter(head), {})
    if first.get("type") in _STREAM and isinstance(first.get("part"), dict):
        if "sessionID" in first:
            raise SourceError(f"{path}: what opencode run printed; its session is in opencode.db")
        return []
    return files.locate(path, NAME, head.document)


def measure(part: Located) -> SourceFile:
    """What `read` puts into the session's files for this part. Raises SourceError."""
    if _is_database(part.path):
        return database.session(part.path, part.session_id, 0)[1]
    if part.share is not None:
        return files.measured(part.path)
    session = Session(NAME, "", "")
    files.export(part.path, session)
    return session.files[0]


def _is_database(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session with those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "OpenCode")
    session.lanes.append(Lane("main"))
    readers: dict[str, tuple[int, BundleReader | RecordReader]] = {}
    ordered = sorted(parts, key=lambda part: (part.session_id != session_id, part.session_id))
    if ordered[0].session_id != session_id:
        session.lose("main_lane_missing")
    for part in ordered:
        kept = _kept(part, session)
        index = 0
        if part.session_id != session_id:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent", name=kept.header.agent))
        reader = _follow(session, index, kept)
        readers[part.session_id] = index, reader
        _describe(session, kept, reader.talk.first_us, is_main=index == 0)
    _tie(session, readers)
    return session


def _kept(part: Located, session: Session) -> wire.KeptSession:
    if _is_database(part.path):
        kept, file = database.session(part.path, part.session_id, len(session.files))
        session.files.append(file)
        return kept
    if part.share is not None:
        return files.tree(part.path, session)
    return files.export(part.path, session)


def _follow(session: Session, index: int, kept: wire.KeptSession) -> BundleReader | RecordReader:
    """Reads one session's messages into its lane."""
    talk = Talk(session, index)
    is_second = bool(kept.messages) and kept.messages[0].parts is None
    make = RecordReader if is_second else BundleReader
    reader = make(session, talk, kept)
    for line, message in enumerate(kept.messages, start=1):
        reader.message(message, line)
    return reader


def _describe(
    session: Session, kept: wire.KeptSession, first_us: int | None, *, is_main: bool
) -> None:
    header = kept.header
    if is_main or session.agent_version is None:
        session.agent_version = header.version
    if is_main:
        session.title = header.title
    created = content.microseconds(header.time.created if header.time is not None else None)
    times = [time for time in (created, first_us, session.started_us) if time is not None]
    session.started_us = min(times) if times else None


def _tie(session: Session, readers: dict[str, tuple[int, BundleReader | RecordReader]]) -> None:
    """Finds the call that started each sub-agent, and what brought its report."""
    calls: dict[str, tuple[str, bool]] = {}
    for _, reader in readers.values():
        calls |= reader.children
    for name, (index, _) in readers.items():
        if index == 0:
            continue
        lane = session.lanes[index]
        if name not in calls:
            session.lose("subagent_without_call")
            continue
        call, waited = calls[name]
        lane.spawned_by = call
        lane.joined_by = call if waited else name
