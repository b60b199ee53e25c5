"""GitHub Copilot CLI: `~/.copilot/session-state/<session>/events.jsonl`.

An answer's output tokens stand with it; what was read and cached is told as a sum over the session
alone, when it ends. Sub-agents' events name the call that started them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.events import Lane, Repository, Session
from traj.sources.about import About
from traj.sources.copilot_cli import wire
from traj.sources.copilot_cli.events import EventReader
from traj.sources.copilot_cli.figures import MEANING
from traj.sources.lines import epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "copilot_cli"
ABOUT = About(
    "GitHub Copilot CLI",
    MEANING,
    lengths="session",
    turn_clock="derived",
    tool_clock="logged",
    seen="fixtures",
    places=(".copilot/session-state",),
    lacks=(
        "input and cached tokens per request",
        "all of them where a session did not end in order",
        "tool definitions",
        "what a compaction kept",
    ),
)


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a session by its first event."""
    first = next(iter(head), None) or {}
    data = first.get("data")
    if first.get("type") != "session.start" or not isinstance(data, dict):
        return []
    session = data.get("sessionId")
    own = "copilotVersion" in data or str(data.get("producer", "")).startswith("copilot")
    return [Located(path, NAME, session)] if own and isinstance(session, str) else []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "GitHub Copilot CLI")
    session.lanes.append(Lane("main"))
    reader = EventReader(session)
    for number, _, event in read_lines(parts[0].path, wire.DECODER, session):
        reader.event(event, number)
        time = epoch_us(event.timestamp)
        if time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time
        data = event.data
        if data is not None and event.type in ("session.start", "session.resume"):
            session.agent_version = session.agent_version or data.copilot_version
            context = data.context
            if context is not None and session.repository is None:
                session.repository = Repository(
                    context.repository, context.head_commit, context.branch
                )
    reader.finish()
    return session
