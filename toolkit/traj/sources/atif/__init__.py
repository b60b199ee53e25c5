"""ATIF, the Agent Trajectory Interchange Format, 1.0 to 1.8: one JSON document a session.

Sub-agents' trajectories lie in it, or in files that are sessions of their own. A document that traj
exported holds the rows of its tables besides, and is read back from them.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traj.events import Session
from traj.sources import documents
from traj.sources.about import About
from traj.sources.atif import own, plain, spoken, wire
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.settled import settle

NAME = "atif"
ABOUT = About(
    "ATIF documents (Harbor and others)",
    spoken.MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="real sessions",
    lacks=(
        "times of requests and tools (but in documents of traj)",
        "tokens written to the cache, reasoning tokens (where the writer did not add them)",
        "what was compacted (but in documents of traj)",
        "sub-agents that lie in files of their own: those are sessions by themselves",
        "response ids, so copies in other formats cannot be known again (but in traj's)",
    ),
)
_VERSION = re.compile(r"ATIF-v1\.\d+")


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a document by its schema version; empty for anything else."""
    found = head.document
    if not isinstance(found, dict):
        return []
    version = found.get("schema_version")
    if not isinstance(version, str) or not _VERSION.fullmatch(version):
        return []
    return [Located(path, NAME, _session_id(found))]


def _session_id(found: dict[str, Any]) -> str:
    """The trajectory's id, else its run's; a continuation of the same run has another place where
    what is new begins. Before 1.7 there were no ids of trajectories."""
    for name in ("trajectory_id", "session_id"):
        value = found.get(name)
        if isinstance(value, str) and value:
            if name == "trajectory_id":
                return value
            steps = found.get("steps")
            told = (
                [one for one in steps if isinstance(one, dict)] if isinstance(steps, list) else []
            )
            copied = [one for one in told if one.get("is_copied_context") is True]
            return f"{value}+{len(copied)}" if copied else value
    return hashlib.sha256(repr(found.get("steps"))[:20_000].encode("utf-8", "replace")).hexdigest()


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "unknown")
    document = documents.read(parts[0].path, wire.DOCUMENT, session)
    if document.agent is not None:
        session.agent_name = document.agent.name or "unknown"
        version = document.agent.version
        session.agent_version = None if version in (None, "", "unknown") else version
    found = spoken.lanes(document, session)
    if own.is_own(document):
        own.read(session, found)
    else:
        plain.read(session, found)
    settle(session)
    return session
