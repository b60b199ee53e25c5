"""Where a thread's own lines begin: older versions copy the parent's history into forks and
sub-agents, so that a naive count multiplies it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from traj.sources.codex import wire
from traj.sources.lines import epoch_us

_SLACK_US = 1_000_000  # a thread's id may be made a little after its first line's time
_PAUSE_US = 150_000


class Entry(NamedTuple):
    """A line of a rollout, and where it stands."""

    payload: wire.Payload
    kind: str
    time: int | None
    file: int
    number: int
    ordinal: int | None


def first_own_line(lines: Sequence[Entry], meta: wire.Payload, thread_id: str) -> int:
    """Index of the first line that is not a copy of another thread's history.

    Copies keep the ids of their turns (UUIDv7, so the time is in them), or the old time stamps;
    both lie before this thread was made. The second `session_meta` is the parent's own.
    """
    metas = [
        place
        for place, entry in enumerate(lines)
        if entry.kind == "session_meta" and entry.payload.id != meta.id
    ]
    if not metas and not meta.forked_from_id:
        return 0
    start = metas[-1] + 1 if metas else 0
    born = _uuid7_us(thread_id) or epoch_us(meta.timestamp) or 0
    own = start
    for place, entry in enumerate(lines[start:], start):
        begun = _uuid7_us(entry.payload.turn_id)
        if entry.payload.type == "task_started" and (begun or 0) >= born - _SLACK_US:
            return place
        if (begun or entry.time or born) < born - _SLACK_US:
            own = place + 1
    return _past_burst(lines, own) if metas else own


def _past_burst(lines: Sequence[Entry], own: int) -> int:
    """Copies without telling ids are written at one go: the first pause ends them."""
    while 0 < own < len(lines):
        before, here = lines[own - 1].time, lines[own].time
        if before is None or here is None or here - before > _PAUSE_US:
            break
        own += 1
    return own


def _uuid7_us(text: str | None) -> int | None:
    """The time in a UUIDv7, in microseconds since the epoch; None for any other id."""
    if text is None or len(text) != 36 or text[14] != "7":
        return None
    try:
        return int(text[:8] + text[9:13], 16) * 1000
    except ValueError:
        return None
