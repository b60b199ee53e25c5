"""Live recordings: requests and answers as `traj record --live` and `traj proxy` logged them.

Requests become sessions and lanes by what agents say of themselves in headers (`who`), else by what
their prompts share (`traj.sources.requests`). Times are measured on the wire; tools ran between an
answer and the request that brought their results.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from traj.events import Session, SourceFile
from traj.sources.about import About
from traj.sources.lines import Head
from traj.sources.live import lanes, log
from traj.sources.live.exchanges import exchanges
from traj.sources.located import Located

NAME = "live"
ABOUT = About(
    "any agent under `traj record --live` or `traj proxy`",
    None,  # each API's own: see traj.sources.requests.spoken
    lengths="request",
    turn_clock="measured",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "without the agent's own log: how tools ended, and how long each of several took",
        "waits for approval (they are part of the tools' time)",
        "usage of chat streams of which the agent did not ask for it",
        "the first token's time where an answer came packed with br or zstd",
        "which conversation is whose where an agent says nothing and two share a run",
    ),
)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a log by its first line, and gives the sessions that its requests belong to."""
    first = next(iter(head), None)
    if first is None or not isinstance(first.get("traj_live"), int):
        return []
    found = log.sessions(path)
    if len(found) == 1:
        return [Located(path, NAME, next(iter(found)))]
    return [Located(path, NAME, name, share=share.bytes) for name, share in found.items()]


def measure(part: Located) -> SourceFile:
    """What of a log is one session's."""
    share = None if part.share is None else log.sessions(part.path).get(part.session_id)
    return log.whole(part.path) if share is None else share


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "unknown", recorder="proxy")
    part = parts[0]
    run = log.read(part.path, session, None if part.share is None else session_id)
    if part.share is not None:
        session.files[:] = [measure(part)]
    lanes.fill(session, run, exchanges(run, session))
    return session
