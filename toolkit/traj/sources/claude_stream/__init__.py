"""What Claude Code prints with `--output-format stream-json`: one run, as seen by its caller.

A line a block of an answer or a result, those of sub-agents marked with the call that started them;
the prompt itself is not printed. Runs that resume a session have its id: their files are parts of
one session. Figures on a line are those that the answer began with, so output is a placeholder
unless the run was asked for `--include-partial-messages`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from traj.events import Session
from traj.sources import lines
from traj.sources.about import About
from traj.sources.claude_stream import wire
from traj.sources.claude_stream.reader import Reader
from traj.sources.lines import Head, epoch_us
from traj.sources.located import Located
from traj.sources.requests import MEANINGS

NAME = "claude_stream"
ABOUT = About(
    "Claude Code, run by a program",
    MEANINGS["anthropic_messages"],
    lengths="request",
    turn_clock="derived",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "the prompt of the person, the system prompt and the tools",
        "output tokens, without --include-partial-messages",
        "times, in old versions",
        "ids of sub-agents' last answers; reminders that are put behind results",
        "the repository",
    ),
)
_TYPES = ("system", "user", "assistant", "stream_event")


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a run by the line that introduces it; empty for anything else."""
    for line in head:
        session = line.get("session_id")
        if line.get("type") not in _TYPES or "sessionId" in line:  # as the session's own log has it
            return []
        if line.get("subtype") != "init":
            continue
        claude = "claude_code_version" in line or "apiKeySource" in line
        if isinstance(session, str) and session and claude and "mcp_servers" in line:
            run = line.get("uuid")  # a session that is resumed has a run in each file
            return [Located(path, NAME, session, run if isinstance(run, str) else path.name)]
        return []
    return []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session from the output of its runs. Raises SourceError."""
    session = Session(NAME, session_id, "Claude Code")
    runs = []
    for part in parts:
        found: list[tuple[int, int, wire.Line]] = []
        file = len(session.files)
        for number, _, line in lines.read(part.path, wire.DECODER, session):
            found.append((file, number, line))
        times = (epoch_us(line.timestamp) for _, _, line in found)
        runs.append((min((time for time in times if time is not None), default=0), file, found))
    reader = Reader(session)
    for _, _, found in sorted(runs, key=lambda run: run[:2]):
        reader.begin()
        for file, number, line in found:
            reader.line(line, file, number)
    reader.finish()
    return session
