"""mini-swe-agent: `<name>.traj.json`, formats mini-swe-agent-1 and mini-swe-agent-1.1.

One document is one session: the messages as the agent sent them, and with each answer the
provider's raw response.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traj.events import Session
from traj.sources import documents
from traj.sources.about import About
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.mini_swe_agent import wire
from traj.sources.mini_swe_agent.conversation import Conversation
from traj.sources.raw_responses import MEANING
from traj.sources.requests.pieces import fit

NAME = "mini_swe_agent"
ABOUT = About(
    "mini-swe-agent",
    MEANING,
    lengths="request",
    turn_clock="derived",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "definitions of tools",
        "the ends of requests and tools before version 1.16",
        "tool calls where actions are text of the answer",
        "each one's time where an answer has several calls",
        "retries",
        "waits for approval (they are part of the tools' time)",
    ),
)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a trajectory by the agent's version, or the format's name, beside messages."""
    found = head.document
    if not isinstance(found, dict) or not isinstance(found.get("messages"), list):
        return []
    info = found.get("info")
    version = info.get("mini_version") if isinstance(info, dict) else None
    form = str(found.get("trajectory_format", ""))
    if not isinstance(version, str) and not form.startswith("mini-swe-agent-"):
        return []
    return [Located(path, NAME, _session_id(found))]


def _session_id(found: dict[str, Any]) -> str:
    """The id of the first response, as the file has none of its own; else a hash of how the
    conversation begins."""
    messages = [one for one in found["messages"] if isinstance(one, dict)]
    for message in messages:
        extra = message.get("extra")
        response = extra.get("response") if isinstance(extra, dict) else None
        if message.get("object") == "response":
            response = message
        if isinstance(response, dict) and isinstance(response.get("id"), str) and response["id"]:
            return str(response["id"])
    beginning = repr((found.get("instance_id"), messages[:3]))
    return hashlib.sha256(beginning.encode("utf-8", "replace")).hexdigest()[:32]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "mini-swe-agent")
    document = documents.read(parts[0].path, wire.DOCUMENT, session)
    info = fit(document.info, wire.Info) or wire.Info()
    session.agent_version = info.mini_version
    session.title = document.instance_id
    conversation = Conversation(session, info)
    for number, entry in documents.items(document.messages, wire.ENTRY, session):
        conversation.entry(entry, document.messages[number - 1], number)
    conversation.finish()
    return session
