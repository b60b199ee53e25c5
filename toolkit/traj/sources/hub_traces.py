"""The Hub's own session traces (STS-Format): a header line, and a line a message.

They hold no figures: an answer is a request. Files that `traj export -f hub-traces` wrote name in
their headers the session that they are a lane of, and the call that started it.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.events import Lane, Message, Session, ToolCall, ToolRun, Turn
from traj.sources import lines
from traj.sources.about import About
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.requests.pieces import NOTHING, arguments, text_of
from traj.sources.requests.spoken import proper

NAME = "hub_traces"
ABOUT = About(
    "any agent whose sessions were put on the Hugging Face Hub in its own format",
    None,
    lengths="none",
    turn_clock="derived",
    tool_clock="derived",
    seen="fixtures",
    lacks=(
        "token figures",
        "tool definitions",
        "failed requests",
        "where contexts were compacted or rewound",
        "how tools ended",
    ),
)
_Milliseconds = Annotated[int, msgspec.Meta(ge=0, le=10**14)]


class _Function(Struct):
    name: str | None = None
    arguments: Raw = NOTHING


class _Call(Struct):
    id: str | None = None
    function: _Function | None = None


class _Spoken(Struct):
    role: str | None = None
    content: Raw = NOTHING
    reasoningContent: str | None = None  # noqa: N815 - the format's own names
    toolCalls: list[_Call] | None = None  # noqa: N815
    toolCallId: str | None = None  # noqa: N815
    timestamp: _Milliseconds | None = None
    model: str | None = None


class _Line(Struct):
    type: str | None = None
    message: _Spoken | None = None
    harness: str | None = None
    name: str | None = None
    lane_kind: str | None = None
    lane_name: str | None = None
    parent_call: str | None = None


_DECODER = msgspec.json.Decoder(_Line)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a trace by its header; empty for anything else."""
    first = next(iter(head), None)
    if first is None or first.get("type") != "session" or not isinstance(first.get("id"), str):
        return []
    if not isinstance(first.get("harness"), str) or not first["id"]:
        return []
    parent = first.get("parent")
    return [Located(path, NAME, first["id"], parent=parent if isinstance(parent, str) else None)]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session from the files of its lanes. Raises SourceError."""
    session = Session(NAME, session_id, "unknown")
    session.lanes.append(Lane("main"))
    own = sorted(parts, key=lambda part: (part.session_id != session_id, part.path.name))
    if own[0].session_id != session_id:
        session.lose("main_lane_missing")
    for part in own:
        lane = session.lanes[0]
        if part.session_id != session_id:
            lane = Lane("side")
            session.lanes.append(lane)
        _read(session, lane, part.path)
    times = [
        step.end_us if isinstance(step, Turn) else step.time_us
        for lane in session.lanes
        for step in lane.steps
        if isinstance(step, Turn | Message)
    ]
    session.started_us = min((time for time in times if time is not None), default=None)
    return session


def _read(session: Session, lane: Lane, path: Path) -> None:
    file = len(session.files)
    names: dict[str, str] = {}
    for number, _, line in lines.read(path, _DECODER, session):
        if line.message is not None:
            _message(session, lane, line.message, names, (file, number))
        elif line.type == "session":
            if lane is session.lanes[0]:
                session.agent_name = line.harness or "unknown"
                session.title = line.name
            else:
                lane.kind = "subagent" if line.lane_kind == "subagent" else "side"
                lane.name = line.lane_name
                lane.spawned_by = lane.joined_by = line.parent_call


def _message(
    session: Session, lane: Lane, spoken: _Spoken, names: dict[str, str], at: tuple[int, int]
) -> None:
    time = None if spoken.timestamp is None else spoken.timestamp * 1000
    calls = tuple(_call(call) for call in spoken.toolCalls or ())
    names.update((call.id, call.name) for call in calls)
    content = text_of(spoken.content)
    tool = spoken.role == "tool"
    message = proper(
        Message(
            spoken.role or "user",
            (content or None) if calls or tool else content,
            spoken.reasoningContent or None,
            calls,
            spoken.toolCallId if tool else None,
            names.get(spoken.toolCallId or "") if tool else None,
            time_us=time,
            file=at[0],
            line=at[1],
        )
    )
    if message.role != "assistant":
        if tool and spoken.toolCallId is not None:
            run = session.tool_runs.get(spoken.toolCallId)
            if run is not None:
                run.end_us = time
        # A person is awaited where the answer before asked for nothing.
        asked = isinstance(lane.steps[-1], Turn) if lane.steps else False
        lane.steps.append(replace(message, by_person=asked and message.role == "user"))
        return
    for call in calls:
        session.tool_runs.setdefault(call.id, ToolRun(time, None, "derived"))
    clock = "none" if time is None else "derived"
    lane.steps.append(
        Turn(
            answer=message,
            model=spoken.model,
            answer_us=time,
            end_us=time,
            clock=clock,
            file=at[0],
            line=at[1],
        )
    )


def _call(call: _Call) -> ToolCall:
    function = call.function or _Function()
    return ToolCall(call.id or "", function.name or "", arguments(function.arguments))
