"""Runs whose history alone is known: each answer in it was a request with all before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from traj.events import Lane, Rebase, Session, Turn
from traj.sources import documents
from traj.sources.swe_agent import wire
from traj.sources.swe_agent.queries import message

if TYPE_CHECKING:
    from traj.sources.swe_agent.queries import Asking

_SYNTHETIC = ("Exit due to ", "Exiting due to ", "Exited (")  # the agent's, in the model's place


def read(session: Session, runs: Sequence[wire.Run], asking: Asking) -> None:
    """Writes a lane an agent: what one agent says, another is not shown."""
    lanes: dict[str, Lane] = {}
    names: dict[str, str] = {}  # of tools, by call id
    for number, run in enumerate(runs):
        if number:
            for lane in lanes.values():
                lane.steps.append(Rebase("clear"))
        for place, entry in documents.items(run.history, wire.ENTRY, session):
            lane = lanes.setdefault(entry.agent or "", Lane("subagent"))
            _step(session, lane, entry, place, asking, names)
        for _, step in documents.items(run.trajectory, wire.STEP, session):
            session.lose("tool_duration", bool(step.execution_time))
    asked = {
        name: lane
        for name, lane in lanes.items()
        if any(isinstance(step, Turn) for step in lane.steps)
    }
    session.lose("subagent_without_turns", max(0, len(lanes) - max(1, len(asked))))
    for name, lane in list(asked.items())[1:]:
        lane.name = name
        session.lose("subagent_without_call")
    main, *others = list(asked.values()) or list(lanes.values())[:1] or [Lane("main")]
    main.kind = "main"
    session.lanes += [main, *others]


def _step(
    session: Session,
    lane: Lane,
    entry: wire.Entry,
    place: int,
    asking: Asking,
    names: dict[str, str],
) -> None:
    found = replace(message(entry), line=place)
    if found.role == "tool":
        found = replace(found, name=names.get(found.tool_call_id or ""))
    if found.role != "assistant" or entry.is_demo:
        lane.steps.append(found)
        return
    if (found.content or "").startswith(_SYNTHETIC):
        session.lose("synthetic_message")
        return
    names.update((call.id, call.name) for call in found.tool_calls)
    if entry.action and not found.tool_calls:
        session.lose("text_action")
    lane.steps.append(Turn(found, model=asking.model, sampling=asking.sampling, line=place))
