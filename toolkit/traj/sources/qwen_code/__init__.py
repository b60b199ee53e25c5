"""Qwen Code: `~/.qwen/projects/<folder>/chats/<session>.jsonl`.

Those of its sub-agents lie in `../subagents/<session>`; the telemetry of their requests stands in
the session's own file.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from traj.errors import SourceError
from traj.events import Lane, Message, Repository, Session
from traj.sources.about import About
from traj.sources.lines import epoch_us
from traj.sources.lines import read as read_lines
from traj.sources.located import Located
from traj.sources.qwen_code import content, wire
from traj.sources.qwen_code.content import MEANING
from traj.sources.qwen_code.conversation import Conversation
from traj.sources.qwen_code.requests import Ledger

NAME = "qwen_code"
ABOUT = About(
    "Qwen Code",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="real sessions",
    places=(".qwen/projects",),
    lacks=(
        "system prompt, tool definitions and injected reminders",
        "requests for suggestions and titles",
        "retries, whose time stands in the request that succeeded",
        "approval waits, which stand inside tool times",
    ),
)
_LEDGER = {"schemaVersion", "inputTokens", "apiDurationMs"}
_SUMS = {"totalLatencyMs", "models", "startTime"}


def locate(path: Path, head: Iterable[dict[str, Any]]) -> list[Located]:
    """Recognises a session by its first lines: parts as Gemini has them, in Qwen's envelope."""
    for line in head:
        if set(line) >= _LEDGER or set(line) >= _SUMS:
            raise SourceError(f"{path}: Qwen Code's sums over its sessions, none of what was said")
        session = line.get("sessionId")
        if not isinstance(session, str) or "uuid" not in line or "type" not in line:
            return []
        if _is_own(line):
            agent = line.get("agentId") if line.get("isSidechain") is True else None
            return [Located(path, NAME, session, agent if isinstance(agent, str) else None)]
        if "message" in line:  # another's, or damaged
            return []
    return []


def _is_own(line: dict[str, Any]) -> bool:
    message = line.get("message")
    parts = isinstance(message, dict) and isinstance(message.get("parts"), list)
    return parts or (line.get("type") == "system" and isinstance(line.get("systemPayload"), dict))


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: its own file and those of its sub-agents. Raises SourceError."""
    session = Session(NAME, session_id, "Qwen Code")
    session.lanes.append(Lane("main"))
    sidelined: dict[str, Ledger] = {}
    main = Conversation(session, 0, Ledger(), sidelined)
    asides: list[Ledger] = []
    ordered = sorted(parts, key=lambda part: (part.part is not None, part.part or ""))
    if ordered[0].part is not None:
        session.lose("main_lane_missing")
    for part in ordered:
        talk = main
        if part.part is not None:
            session.lanes.append(Lane("subagent"))
            told = sidelined.pop(part.part, Ledger())
            talk = Conversation(session, len(session.lanes) - 1, told, {})
        _read_file(session, talk, part.path)
        if part.part is not None:
            _tie(session, talk.lane, part.part)
            asides.append(talk.told)
        main.version = main.version or talk.version
        main.branch = main.branch or talk.branch
    for told in (main.told, *asides, *sidelined.values()):
        _aside(session, told)
    session.agent_version = main.version
    if main.branch:
        session.repository = Repository(branch=main.branch)
    return session


def _read_file(session: Session, talk: Conversation, path: Path) -> None:
    talk.file = len(session.files)
    for number, _, line in read_lines(path, wire.DECODER, session):
        talk.lane.name = line.agent_name or talk.lane.name
        talk.line(line, number)
        time = epoch_us(line.timestamp)
        if time is not None and (session.started_us is None or time < session.started_us):
            session.started_us = time
    talk.close()


def _tie(session: Session, lane: Lane, agent: str) -> None:
    """A sub-agent's id ends with the id of the call that started it; one in the background
    reports by a notification."""
    for call in session.tool_runs:
        if call and agent.endswith(f"-{call}"):
            notice = f"notification {call}"
            told = any(
                isinstance(step, Message) and step.brings == notice
                for other in session.lanes
                for step in other.steps
            )
            lane.spawned_by, lane.joined_by = call, notice if told else call
            session.tool_runs[call].background = told
            return
    session.lose("subagent_without_call")


def _aside(session: Session, told: Ledger) -> None:
    """Requests that no answer in the record belongs to, such as those of compression."""
    if not told:
        return
    session.lanes.append(Lane("side", told.rest()[0].event.subagent_name))
    for event, line in told.rest():
        text = event.response_text
        end = epoch_us(event.timestamp)
        message = Message("assistant", text, time_us=end, line=line) if text else None
        session.lose("answer_not_recorded", message is None)
        session.lanes[-1].steps.append(
            content.turn(
                message,
                content.usage_of(event),
                event,
                model=event.model,
                name=None,
                time=end,
                line=line,
                file=0,
            )
        )
