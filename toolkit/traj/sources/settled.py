"""A session's lanes as the build wants them: each with a request, the main one first."""

from __future__ import annotations

from msgspec.structs import replace

from traj.events import Rebase, Session, Turn


def settle(session: Session) -> None:
    """Leaves out lanes without a request that no other refers to, and numbers the others anew; the
    first is the main one."""
    asked = [any(isinstance(step, Turn) for step in lane.steps) for lane in session.lanes]
    kept = [index for index, asks in enumerate(asked) if asks] or [0]
    session.lose("subagent_without_turns", sum(i not in kept for i in range(1, len(asked))))
    if len(kept) == len(asked):
        return
    places = {index: place for place, index in enumerate(kept)}
    found = [session.lanes[index] for index in kept]
    for lane in found:
        lane.steps = [
            replace(step, ranges=tuple((places[i], a, b) for i, a, b in step.ranges if i in places))
            if isinstance(step, Rebase)
            else step
            for step in lane.steps
        ]
    found[0].kind, found[0].spawned_by, found[0].joined_by = "main", None, None
    session.lanes = found
