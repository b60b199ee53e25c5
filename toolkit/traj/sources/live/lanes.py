"""Exchanges of a live log into a session: its lanes in order, and what is known of the run."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence

from traj.events import Lane, Rebase, Repository, Session, Turn
from traj.sources import requests
from traj.sources.live.log import Asked, Run
from traj.sources.live.who import agent_of
from traj.sources.requests import Exchange


def fill(session: Session, run: Run, found: Sequence[tuple[Asked, Exchange]]) -> None:
    """Gives a session its lanes and tells who ran it, where."""
    known = run.begin.checkout
    if known is not None:
        session.repository = Repository(
            known.url,
            known.commit,
            known.branch,
            known.license,
            known.license_source,
            known.clean,
        )
    session.command = shlex.join(run.begin.command) if run.begin.command else None
    if not found:
        return
    agents = Counter(agent_of(one.ask.headers, run.begin.command) for one, _ in found)
    (session.agent_name, session.agent_version), _ = agents.most_common(1)[0]
    session.started_us = min(e.start_us for _, e in found if e.start_us is not None)
    session.lose("masked_credential", sum(one.ask.masked for one, _ in found))
    threads = requests.chain(session, [exchange for _, exchange in found])
    helpers = {one.who.agent for one, _ in found if one.who.helper}
    _part(session)
    _name(session, threads, helpers)


def _part(session: Session) -> None:
    """A call whose result came before its sub-agent had ended did not wait for it."""
    for lane in session.lanes:
        result = session.tool_runs.get(lane.joined_by or "")
        ends = (step.end_us for step in lane.steps if isinstance(step, Turn))
        last = max((end for end in ends if end is not None), default=None)
        if result and result.end_us and last and result.end_us < last:
            lane.joined_by = None


def _name(session: Session, threads: Sequence[str | None], helpers: set[str | None]) -> None:
    """Lanes of agents that say they are sub-agents' are; the largest of the others is the main
    one, and comes first."""
    sizes = [len(lane.steps) for lane in session.lanes]
    largest: dict[str | None, int] = {}
    for index, thread in enumerate(threads):
        if thread not in largest or sizes[index] > sizes[largest[thread]]:
            largest[thread] = index
    free = [index for index, thread in enumerate(threads) if thread not in helpers]
    main = 0 if not free or 0 in free else max(free, key=lambda index: (sizes[index], -index))
    for index, lane in enumerate(session.lanes):
        if index == main:
            lane.kind, lane.spawned_by, lane.joined_by = "main", None, None
        elif threads[index] in helpers and largest[threads[index]] == index:
            lane.kind = "subagent"
        elif lane.kind == "main":
            lane.kind = "side"
    if main:
        _put_first(session, main)


def _put_first(session: Session, main: int) -> None:
    order = [main, *(index for index in range(len(session.lanes)) if index != main)]
    number = {old: new for new, old in enumerate(order)}
    session.lanes = [_renumbered(session.lanes[index], number) for index in order]


def _renumbered(lane: Lane, number: dict[int, int]) -> Lane:
    lane.steps = [
        Rebase(step.reason, tuple((number[a], b, c) for a, b, c in step.ranges))
        if isinstance(step, Rebase)
        else step
        for step in lane.steps
    ]
    return lane
