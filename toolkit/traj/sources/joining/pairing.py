"""Which log is whose: live sessions with the agent's own logs of them, before either is built.

By the agent's own session id where it says one on the wire; else the logs that were kept beside the
run's; else by the ids of answers and of calls, which are looked for in the logs' bytes.
"""

from __future__ import annotations

import mmap
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.json import Decoder

from traj.errors import SourceError
from traj.events import Session, Turn
from traj.sources.joining.answers import own_id
from traj.sources.lines import UNDECODABLE
from traj.sources.live import wire
from traj.sources.located import LIVE

if TYPE_CHECKING:
    from traj.sources import SessionFiles

KEPT = ".own"  # ending of the folder beside a live log in which the agent's own logs are kept
_LOOKED_FOR = 16  # ids of a session, spread over it
_LAST_LINE = 4096  # bytes, more than a run's last line has
_CLOSED = Decoder(wire.Closed)
# Some models number their calls: no id to tell sessions by.
_UNIQUE = re.compile(r"(?=[A-Za-z]*[0-9][A-Za-z]*[0-9])[A-Za-z0-9]{8}")


def pair(sessions: Sequence[SessionFiles], formats: Iterable[str]) -> list[SessionFiles]:
    """The sessions, live ones with the logs that are theirs, which are no sessions of their own
    then. `formats` are all that there are."""
    live = [one for one in sessions if one.format == LIVE]
    logs = [one for one in sessions if one.format != LIVE]
    if not live or not logs:
        return list(sessions)
    by_id: dict[str, list[SessionFiles]] = {}
    kept: dict[Path, list[SessionFiles]] = {}
    for log in logs:
        by_id.setdefault(log.session_id, []).append(log)
        for folder in log.parts[0].path.parents:
            if folder.suffix == KEPT:
                kept.setdefault(folder, []).append(log)
    known = frozenset(formats)
    joined: dict[str, SessionFiles] = {}
    taken: set[tuple[str, str]] = set()
    for one in sorted(live, key=lambda session: "@" not in session.session_id):
        own, named, _ = one.session_id.rpartition("@")
        beside = kept.get(one.parts[0].path.with_suffix(KEPT), [])
        if named:
            found = by_id.get(own, [])
        elif beside:
            found = [log for log in beside if (log.format, log.session_id) not in taken]
        else:
            found = _sharing(one, logs, known)
        if found:
            joined[one.session_id] = replace(one, logs=tuple(found))
            taken.update((log.format, log.session_id) for log in found)
    return [
        joined.get(one.session_id, one) if one.format == LIVE else one
        for one in sessions
        if (one.format, one.session_id) not in taken
    ]


def _sharing(
    live: SessionFiles, logs: Iterable[SessionFiles], formats: frozenset[str]
) -> list[SessionFiles]:
    """The logs that hold ids of a session that names none."""
    try:
        session = live.read()
    except SourceError:
        return []  # the recording will say so
    agent = session.agent_name
    ids = _ids(session)
    held = [(_held(log, ids), log) for log in logs if log.format == agent or agent not in formats]
    held.sort(key=lambda one: -len(one[0]))
    found, seen = [], set[bytes]()
    for own, log in held:  # a fork's copy of what another log holds tells nothing new
        if own - seen:
            found.append(log)
            seen |= own
    return found


def _ids(session: Session) -> list[bytes]:
    turns = [s for lane in session.lanes for s in lane.steps if isinstance(s, Turn)]
    several = (
        [turn.response_id for turn in turns if turn.response_id],
        [own_id(call.id) for turn in turns if turn.answer for call in turn.answer.tool_calls],
    )
    found: list[bytes] = []
    for ids in several:
        unique = [one.encode() for one in ids if _UNIQUE.search(one)]
        found += unique[:: max(1, len(unique) // _LOOKED_FOR)]
    return found


def _held(log: SessionFiles, ids: Iterable[bytes]) -> set[bytes]:
    """Those of the ids that stand in a log's files."""
    found: set[bytes] = set()
    for path in {part.path for part in log.parts}:
        try:
            with (
                path.open("rb") as file,
                mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as text,
            ):
                found.update(one for one in ids if text.find(one) >= 0)
        except (OSError, ValueError):
            continue  # empty, or gone: the recording will say so
    return found


def span(path: Path) -> tuple[int, int] | None:
    """When a run began and ended, in epoch microseconds; None where its log does not say."""
    try:
        with path.open("rb") as file:
            begin = wire.BEGIN.decode(file.readline())
            file.seek(max(0, path.stat().st_size - _LAST_LINE))
            last = file.read().rstrip(b"\n").rpartition(b"\n")[2]
        closed = _CLOSED.decode(last)
    except (OSError, *UNDECODABLE):
        return None
    return begin.wall_us, begin.wall_us + closed.at_us
