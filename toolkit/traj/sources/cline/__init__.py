"""Cline and Roo: `*.messages.json` of Cline's newer versions, and tasks of the older ones.

A task is a folder with `ui_messages.json` (what was shown) and `api_conversation_history.json`
(what was sent). A session of the newer format is a document, with those of its sub-agents, a
manifest and perhaps what stands for its beginning since it was compacted beside it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.errors import SourceError
from traj.events import Lane, Message, Session, ToolCall, Turn
from traj.sources.about import About
from traj.sources.cline import sessions, tasks
from traj.sources.cline.content import MEANING
from traj.sources.cline.talk import Talk
from traj.sources.located import Located

if TYPE_CHECKING:
    from traj.sources.lines import Head

NAME = "cline"
ABOUT = About(
    "Cline, Roo",
    MEANING,
    lengths="request",
    turn_clock="derived",
    tool_clock="derived",
    seen="real sessions",
    places=(
        ".cline/data/sessions",
        ".config/Code/User/globalStorage/saoudrizwan.claude-dev/tasks",
        ".config/Code/User/globalStorage/rooveterinaryinc.roo-cline/tasks",
    ),
    lacks=(
        "tool definitions",
        "retries",
        "reasoning tokens",
        "all compactions but the last, and what they asked",
        "tool calls that are XML in the text (of old versions)",
        "old tasks and Roo were read from their published form alone",
    ),
)
MANIFEST, COMPACTED, SENT = "(manifest)", "(compacted)", "(sent)"
_ENDS = {COMPACTED: ".compaction.json", SENT: "api_conversation_history.json"}
_SHOWN = ("say", "ask")


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises the documents of both formats. A task's id is the name of its folder, that of a
    compacted session the name of its file: they do not say it themselves."""
    document = head.document
    if isinstance(document, list):
        return _task(path, document)
    return _session(path, document) if isinstance(document, dict) else []


def _session(path: Path, document: dict[str, Any]) -> list[Located]:
    has_messages = isinstance(document.get("messages"), list)
    name = document.get("sessionId")
    if has_messages and "agent" in document and isinstance(name, str):
        origin = document.get("origin")
        parent = origin.get("parentThreadId") if isinstance(origin, dict) else None
        return [Located(path, NAME, name, parent=parent if isinstance(parent, str) else None)]
    is_count = isinstance(document.get("source_message_count"), int)
    if has_messages and is_count and path.name.endswith(_ENDS[COMPACTED]):
        name = path.name.removesuffix(_ENDS[COMPACTED])
        return [Located(path, NAME, name, part=COMPACTED)]
    name = document.get("session_id")
    if isinstance(name, str) and "messages_path" in document and "workspace_root" in document:
        return [Located(path, NAME, name, part=MANIFEST)]
    return []


def _task(path: Path, items: list[Any]) -> list[Located]:
    first = next((item for item in items if isinstance(item, dict)), {})
    task = path.absolute().parent.name
    is_shown = isinstance(first.get("ts"), int) and first.get("type") in _SHOWN
    if is_shown and first["type"] in first and "role" not in first:
        return [Located(path, NAME, task)]
    if path.name == _ENDS[SENT] and first.get("role") == "user" and "content" in first:
        return [Located(path, NAME, task, part=SENT)]
    return []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session, or one task. Raises SourceError."""
    session = Session(NAME, session_id, "Cline")
    session.lanes.append(Lane("main"))
    beside = {part.part: part.path for part in parts if part.part is not None}
    own = [part for part in parts if part.part is None]
    is_task = any(part.path.name == _ENDS[SENT] for part in parts) or _is_list(own)
    if is_task:
        shown = own[0].path if own else None
        talk = tasks.read(shown, beside.get(SENT), session)
        session.started_us = talk.first_us
        return session
    if not own:
        raise SourceError(f"{parts[0].path}: of a session whose messages are not here")
    if MANIFEST in beside:
        sessions.describe(beside[MANIFEST], session)
    ordered = sorted(own, key=lambda part: (part.session_id != session_id, part.session_id))
    if ordered[0].session_id != session_id:
        session.lose("main_lane_missing")
    talks: list[Talk] = []
    for part in ordered:
        index = 0
        if part.session_id != session_id:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent"))
        compacted = beside.get(COMPACTED) if index == 0 else None
        talks.append(sessions.read(part.path, session, index, compacted))
    starts = [talk.first_us for talk in talks if talk.first_us is not None]
    session.started_us = min(starts) if starts else None
    _tie(session, talks)
    return session


def _is_list(own: Sequence[Located]) -> bool:
    """Whether a session's own file is a list, as that of a task is."""
    try:
        with own[0].path.open("rb") as file:
            return file.read(256).lstrip()[:1] == b"["
    except OSError as error:
        raise SourceError(f"{own[0].path}: {error.strerror or error}") from None
    except IndexError:
        return False


def _tie(session: Session, talks: list[Talk]) -> None:
    """Finds the call that started each sub-agent: it asks for what the sub-agent was told first."""
    calls: dict[str, list[tuple[ToolCall, str | None]]] = {}
    for talk in talks:
        for step in talk.lane.steps:
            if isinstance(step, Turn) and step.answer is not None:
                for call in step.answer.tool_calls:
                    task, system = _asked(call)
                    if task is not None:
                        calls.setdefault(task, []).append((call, system))
    for talk in talks:
        if talk.lane.kind != "subagent":
            continue
        told = next((s.content for s in talk.lane.steps if isinstance(s, Message)), None)
        known = calls.get(told or "")
        if not known:
            session.lose("subagent_without_call")
            continue
        call, system = known.pop(0)
        talk.lane.spawned_by = talk.lane.joined_by = call.id
        sessions.set_system(talk, system)


def _asked(call: ToolCall) -> tuple[str | None, str | None]:
    """What a call tells a sub-agent to do, and to be."""
    if "agent" not in call.name:
        return None, None
    try:
        values = json.loads(call.arguments)
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(values, dict):
        return None, None
    task, system = values.get("task"), values.get("systemPrompt")
    return (
        task if isinstance(task, str) else None,
        system if isinstance(system, str) else None,
    )
