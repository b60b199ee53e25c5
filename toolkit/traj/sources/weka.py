"""Length-only traces, the format of kv-cache-tester (Weka): lengths, cache blocks, times; no text.

A file is a trace. Its main agent's requests stand in a list, among them entries of sub-agents with
requests of their own. `in` is the whole prompt; `hash_ids` name its whole blocks, the same id for
the same tokens behind the same tokens, so the blocks that a prompt has in common with an earlier
one are what an ideal cache would hold of it. `t` counts seconds from the trace's start, in the
published traces also within sub-agents' entries, where it counts from the entry's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from traj.errors import SourceError
from traj.events import Lane, Session, Turn, Usage
from traj.sources import documents
from traj.sources.about import About, Meaning
from traj.sources.lines import Count, Head
from traj.sources.located import Located

NAME = "weka"
ABOUT = About(
    "traces of kv-cache-tester, and exports of `traj export -f weka`",
    Meaning(cached=None, written=None, reasoning=None),
    lengths="request",
    turn_clock="logged",
    tool_clock="none",
    seen="real sessions",
    lacks=(
        "all text, and so what tools were called and when",
        "the provider's cached tokens (an ideal cache's follow from the blocks)",
        "the date",
        "failed requests",
    ),
)
Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]
_STOPS = ("end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal")


class _Request(Struct):
    """A request, or a sub-agent's entry."""

    type: str | None = None
    t: Seconds | None = None
    model: str | None = None
    input_tokens: Count | None = msgspec.field(default=None, name="in")
    output_tokens: Count | None = msgspec.field(default=None, name="out")
    hash_ids: list[int] | None = None
    stop: str | None = None
    api_time: Seconds | None = None
    think_time: Seconds | None = None
    ttft: Seconds | None = None
    agent_id: str | None = None
    subagent_type: str | None = None
    requests: list[Raw] | None = None


class _Trace(Struct):
    id: str | None = None
    block_size: Count | None = None
    requests: list[Raw] = []


_TRACE = msgspec.json.Decoder(_Trace)
_REQUEST = msgspec.json.Decoder(_Request)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a trace by its blocks and its requests; empty for anything else."""
    found = head.document or next(iter(head), None)
    if not isinstance(found, dict) or not isinstance(found.get("id"), str) or not found["id"]:
        return []
    requests = found.get("requests")
    if not isinstance(found.get("block_size"), int) or not isinstance(requests, list):
        return []
    first = requests[0] if requests else None
    if not isinstance(first, dict) or not ("hash_ids" in first or "requests" in first):
        return []
    return [Located(path, NAME, found["id"])]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one trace. Raises SourceError."""
    session = Session(NAME, session_id, "unknown", started_us=0, has_text=False)
    path = parts[0].path
    trace = documents.read(path, _TRACE, session)
    reader = _Reader(session, trace.block_size or 0)
    main = Lane("main")
    session.lanes.append(main)
    for number, one in documents.items(trace.requests, _REQUEST, session):
        if one.requests is None:
            main.steps.append(reader.turn(one, 0, number))
        else:
            reader.agent(one, number)
    if not any(lane.steps for lane in session.lanes):
        raise SourceError(f"{path}: a trace without a request")
    reader.order()
    if not main.steps:
        session.lose("main_lane_missing")
    return session


class _Reader:
    """A trace while it is read."""

    def __init__(self, session: Session, block: int) -> None:
        self.session = session
        self._block = block
        self._blocks: dict[int, list[int]] = {}  # by place in the list of turns: their block ids
        self._turns: list[tuple[Lane, int]] = []

    def turn(self, one: _Request, offset_us: int, number: int) -> Turn:
        """A request as a turn."""
        start = None if one.t is None else offset_us + round(one.t * 1e6)
        end = None if start is None or one.api_time is None else start + round(one.api_time * 1e6)
        first = None if start is None or one.ttft is None else start + round(one.ttft * 1e6)
        known = (one.input_tokens, one.output_tokens)
        source = "none" if known == (None, None) else "partial" if None in known else "reported"
        made = Turn(
            answer=None,
            model=one.model,
            usage=Usage(known[0], None, None, known[1], None, source),
            start_us=start,
            first_token_us=first,
            end_us=end,
            clock="none" if start is None else "logged",
            stop_reason=one.stop if one.stop in _STOPS else None,
            line=number,
        )
        self._blocks[id(made)] = one.hash_ids or []
        return made
