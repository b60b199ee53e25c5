"""Recordings of agentperf-local (Artificial Analysis): a line a request with its whole prompt.

Answers stand in the prompts that follow. One user's requests come one after the other, so recorded
durations of model and tools give a timeline from an unknown start.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import msgspec
from msgspec import Raw, Struct

from traj.errors import SourceError
from traj.events import Message, Session, ToolRun, Usage
from traj.sources import lines
from traj.sources.about import About, Meaning
from traj.sources.lines import Count, ExitCode, Head, Milliseconds
from traj.sources.located import Located
from traj.sources.requests import Answered, Asked, Exchange, chain, chat
from traj.sources.requests.pieces import NOTHING, json_text

NAME = "agentperf_local"
ABOUT = About(
    "the tasks of agentperf-local",
    Meaning(cached=None, written=None, reasoning=None),
    lengths="request",
    turn_clock="derived",
    tool_clock="logged",
    seen="real sessions",
    lacks=(
        "each task's last answer (its length is kept)",
        "cached and reasoning tokens",
        "the date",
        "models, failed requests",
    ),
)
_MARKS = ("turn_id", "conversation_id", "messages", "recorded_completion_tokens")


class _Tool(Struct):
    duration_ms: Milliseconds | None = None
    tool_call_id: str | None = None
    recorded_returncode: ExitCode | None = None


class _Row(Struct):
    conversation_id: str | None = None
    turn_id: str | None = None
    messages: Raw = NOTHING
    tools: Raw = NOTHING
    recorded_prompt_tokens: Count | None = None
    recorded_completion_tokens: Count | None = None
    recorded_model_duration_ms: Milliseconds | None = None
    simulated_tool_delay_ms_after: Milliseconds | None = None
    recorded_tool_calls_after: list[_Tool] | None = None


_DECODER = msgspec.json.Decoder(_Row)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a recording by its first line; empty for anything else."""
    first = next(iter(head), None)
    if first is None or not all(mark in first for mark in _MARKS):
        return []
    session = first["conversation_id"]
    return [Located(path, NAME, session)] if isinstance(session, str) and session else []


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one recording. Raises SourceError."""
    session = Session(NAME, session_id, "unknown", is_dated=False)
    path = parts[0].path
    rows: list[tuple[int, _Row, tuple[Message, ...]]] = []
    for number, _, row in lines.read(path, _DECODER, session):
        if row.conversation_id == session_id:
            rows.append((number, row, chat.messages(row.messages)))
        else:
            session.lose("foreign_line")
    if not rows:
        raise SourceError(f"{path}: no request in it")
    timed = all(row.recorded_model_duration_ms is not None for _, row, _ in rows)
    session.started_us = 0 if timed else None
    exchanges: list[Exchange] = []
    now = 0
    for index, (number, row, messages) in enumerate(rows):
        after = rows[index + 1][2] if index + 1 < len(rows) else ()
        end = now + _us(row.recorded_model_duration_ms)
        exchanges.append(_exchange(row, messages, after, number, (now, end) if timed else None))
        if timed:
            _run(session, row, end)
        now = end + _us(row.simulated_tool_delay_ms_after)
    chain(session, exchanges)
    if not timed:
        lost = sum(bool(row.simulated_tool_delay_ms_after) for _, row, _ in rows)
        session.lose("delay_without_clock", lost)
    return session


def _us(milliseconds: float | None) -> int:
    return round((milliseconds or 0) * 1000)


def _exchange(
    row: _Row,
    messages: tuple[Message, ...],
    after: tuple[Message, ...],
    number: int,
    span: tuple[int, int] | None,
) -> Exchange:
    """The request; its answer is what the next prompt has behind this one, or in the place of its
    last message (some agents end each prompt with a note that they take away again)."""
    pairs = zip(messages, after, strict=False)
    same = next((i for i, (one, other) in enumerate(pairs) if one != other), len(messages))
    answer = None
    if same >= len(messages) - 1 and same < len(after) and after[same].role == "assistant":
        answer = after[same]
    figures = (row.recorded_prompt_tokens, row.recorded_completion_tokens)
    known = sum(figure is not None for figure in figures)
    usage = Usage(figures[0], None, None, figures[1], None, ("none", "partial", "reported")[known])
    start, end = span or (None, None)
    return Exchange(
        Asked(messages=messages, tools=json_text(row.tools)),
        Answered(answer, response_id=row.turn_id, usage=usage),
        start,
        None,
        end,
        "none" if span is None else "derived",
        None,
        0,
        number,
    )


def _run(session: Session, row: _Row, start: int) -> None:
    """The tools behind an answer, one after the other."""
    for tool in row.recorded_tool_calls_after or ():
        end = start + _us(tool.duration_ms)
        if tool.tool_call_id is not None:
            code = tool.recorded_returncode
            status = "unknown" if code is None else "error" if code else "ok"
            run = ToolRun(start, end, "logged", status=status, exit_code=code)
            session.tool_runs[tool.tool_call_id] = run
        start = end
