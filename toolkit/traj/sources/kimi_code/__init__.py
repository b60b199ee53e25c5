"""Kimi Code: `~/.kimi-code/sessions/<folder>/session_<id>/agents/<agent>/wire.jsonl`.

One file is one agent; a session is its main agent with the sub-agents in the folders beside it. A
fork begins with a copy of all their files.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.errors import SourceError
from traj.events import Lane, Session
from traj.sources.about import About
from traj.sources.kimi_code import wire
from traj.sources.kimi_code.agent import AgentReader
from traj.sources.kimi_code.content import MEANING
from traj.sources.lines import read as read_lines
from traj.sources.located import Located

NAME = "kimi_code"
ABOUT = About(
    "Kimi Code",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="real sessions",
    places=(".kimi-code/sessions",),
    lacks=(
        "reasoning tokens",
        "the agent's version",
        "the agent's words around errors and empty results, and in compactions",
        "requests for titles",
    ),
)
MAIN = "main"


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises an agent's log by its first line and the agent that the next ones name. The
    session is the folder's name: no line has it. Raises SourceError for a log of kimi-cli."""
    lines = iter(head)
    first = next(lines, {})
    version = first.get("protocol_version")
    if first.get("type") != "metadata" or not isinstance(version, str):
        return []
    for line in lines:
        agent, kind = line.get("agentId"), line.get("type")
        if isinstance(agent, str) and isinstance(kind, str) and "time" in line:
            session = _session(path, first, agent)
            return [Located(path, NAME, session, part=None if agent == MAIN else agent)]
        if isinstance(line.get("message"), dict) and "timestamp" in line:
            raise SourceError(f"{path}: a log of kimi-cli, the agent before Kimi Code")
    return []


def _session(path: Path, first: dict[str, Any], agent: str) -> str:
    folders = path.absolute().parents
    if len(folders) > 2 and folders[1].name == "agents" and folders[0].name == agent:
        return folders[2].name
    return f"{agent}-{first.get('created_at')}"


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: the main agent's log and those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Kimi Code")
    session.lanes.append(Lane("main"))
    readers: dict[str, AgentReader] = {}
    ordered = sorted(parts, key=lambda part: (part.part is not None, part.part or ""))
    if ordered[0].part is not None:
        session.lose("main_lane_missing")
    for part in ordered:
        index = 0
        if part.part is not None:
            index = len(session.lanes)
            session.lanes.append(Lane("subagent"))
        readers[part.part or MAIN] = _follow(session, index, part.path)
    starts = [r.first_us for r in readers.values() if r.first_us is not None]
    session.started_us = min(starts) if starts else None
    _tie(session, readers)
    return session


def _follow(session: Session, index: int, path: Path) -> AgentReader:
    reader = AgentReader(session, index)
    for number, _, line in read_lines(path, wire.DECODER, session):
        reader.line(line, number)
    reader.finish()
    return reader


def _tie(session: Session, readers: dict[str, AgentReader]) -> None:
    """Finds the call that started each sub-agent, and what brought its report."""
    spawned: dict[str, tuple[str, str | None, bool]] = {}
    for reader in readers.values():
        spawned |= reader.spawned
    for agent, reader in readers.items():
        lane = reader.talk.lane
        if lane.kind != "subagent":
            continue
        if agent not in spawned:
            session.lose("subagent_without_call")
            continue
        call, name, background = spawned[agent]
        lane.name = lane.name or name
        lane.spawned_by = call
        lane.joined_by = agent if background else call
