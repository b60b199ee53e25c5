"""TraceLab: rounds of coding agents in lines, lengths and times without text, many sessions a file.

A line is a round: a request and the tools that its answer asked for. `prefix_tokens` is the part of
the input that the engine read from its cache. A request was sent when the last of its inputs had
come, and its end is the last thing that the model sent. Sub-agents are sessions of their own there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.events import Lane, Session, SourceFile, Turn
from traj.sources import lines
from traj.sources.about import About, Meaning
from traj.sources.lines import Count, Head, epoch_us
from traj.sources.located import Located
from traj.sources.remembered import of_file

NAME = "tracelab"
ABOUT = About(
    "Claude Code and Codex, as TraceLab published them",
    Meaning(cached="inside", written=None, reasoning="inside"),
    lengths="request",
    turn_clock="derived",
    tool_clock="none",
    seen="documentation",
    lacks=(
        "all text, and so whose calls the tools' times are",
        "which session a sub-agent's belongs to",
        "where contexts were compacted",
    ),
)
_MARKS = ("session_id", "round_index", "input_tokens_total", "prefix_tokens", "timing_events")
_INPUTS = ("user_message", "tool_result")


class _Event(Struct):
    event_type: str | None = None
    timestamp: str | None = None


class _Round(Struct):
    session_id: str | None = None
    round_id: str | int | None = None
    round_index: int | None = None
    input_tokens_total: Count | None = None
    prefix_tokens: Count | None = None
    output_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    model: str | None = None
    timing_events: list[_Event] | None = None
    tools: list[Raw] | None = None


class _Of(Struct):
    session_id: str | None = None


_ROUND = msgspec.json.Decoder(_Round)
_OF = msgspec.json.Decoder(_Of)


def locate(path: Path, head: Head) -> list[Located]:
    """The sessions in a file of rounds; empty for anything else."""
    first = next(iter(head), None)
    if first is None or not all(mark in first for mark in _MARKS):
        return []
    shares = _shares(path, Session(NAME, "", ""))
    if len(shares) == 1:
        return [Located(path, NAME, next(iter(shares)))]
    return [
        Located(path, NAME, name, share=sum(len(raw) for _, raw in share))
        for name, share in shares.items()
    ]


_Share = list[tuple[int, bytes]]  # number and text of a line


@of_file
def _shares(path: Path, session: Session) -> dict[str, _Share]:
    """The lines of a file by session."""
    shares: dict[str, _Share] = {}
    for number, raw, one in lines.read(path, _OF, session):
        if one.session_id:
            shares.setdefault(one.session_id, []).append((number, raw))
    return shares


def measure(part: Located) -> SourceFile:
    """What of a file is one session's."""
    session = Session(NAME, "", "")
    share = _shares(part.path, session).get(part.session_id, [])
    return _measured(part, session.files[0], share)


def _measured(part: Located, whole: SourceFile, share: _Share) -> SourceFile:
    if part.share is None:
        return whole
    digest = hashlib.sha256(b"".join(raw for _, raw in share))
    return SourceFile(whole.name, digest.hexdigest(), part.share)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "unknown", has_text=False)
    part = parts[0]
    share = _shares(part.path, session).get(session_id, [])
    session.files = [_measured(part, session.files[0], share)]
    rounds: list[tuple[int, int, Turn]] = []
    seen = set()
    for number, raw in share:
        one = _round(raw, session)
        if one is None:
            continue
        if one.round_id is not None and one.round_id in seen:
            session.lose("repeated_line")
            continue
        seen.add(one.round_id)
        session.lose("tool_run_without_call", len(one.tools or ()))
        place = number if one.round_index is None else one.round_index
        rounds.append((place, number, _turn(one, number)))
    rounds.sort(key=lambda item: item[:2])
    lane = Lane("main")
    end = 0
    for _, _, turn in rounds:
        # Rounds overlap by the clocks of what they waited for: derived times, put in order.
        start = turn.start_us if turn.start_us is None else max(turn.start_us, end)
        stop = None if turn.end_us is None else max(turn.end_us, start or 0)
        lane.steps.append(replace(turn, start_us=start, end_us=stop))
        end = max(end, stop or 0)
    session.lanes.append(lane)
    starts = [turn.start_us for _, _, turn in rounds if turn.start_us is not None]
    session.started_us = min(starts, default=None)
    return session


def _round(raw: bytes, session: Session) -> _Round | None:
    try:
        return _ROUND.decode(raw)
    except lines.UNDECODABLE:
        return lines.lenient(raw, _ROUND, session)


def _turn(one: _Round, number: int) -> Turn:
    ins: list[int] = []
    outs: list[int] = []
    for event in one.timing_events or ():
        time = epoch_us(event.timestamp)
        if time is not None:
            (ins if event.event_type in _INPUTS else outs).append(time)
    start = max(ins) if ins else min(outs, default=None)
    end = max(outs, default=None)
    return Turn(
        answer=None,
        model=one.model,
        usage=ABOUT.meaning.usage(  # type: ignore[union-attr]
            one.input_tokens_total,
            one.prefix_tokens,
            one.output_tokens,
            reasoning_tokens=one.reasoning_output_tokens,
        ),
        start_us=start,
        end_us=None if end is None else max(end, start or end),
        clock="none" if start is None else "derived",
        line=number,
    )
