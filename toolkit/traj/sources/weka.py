"""Length-only traces, the format of kv-cache-tester (Weka): lengths, cache blocks, times; no text.

A file is a trace. Its main agent's requests stand in a list, among them entries of sub-agents with
requests of their own. `in` is the whole prompt; `hash_ids` name its whole blocks, the same id for
the same tokens behind the same tokens, so the blocks that a prompt has in common with an earlier
one are what an ideal cache would hold of it. `t` counts seconds from the trace's start, in the
published traces also within sub-agents' entries, where it counts from the entry's.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.errors import SourceError
from traj.events import Lane, Sampling, Session, Step, Turn, Usage
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
_SOURCES = ("none", "partial", "reported")  # by how many of the two figures are told
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
    session = Session(NAME, session_id, "unknown", started_us=0, is_dated=False, has_text=False)
    path = parts[0].path
    trace = documents.read(path, _TRACE, session)
    reader = _Reader(session)
    for number, one in documents.items(trace.requests, _REQUEST, session):
        reader.add(one, number)
    if not reader.prompts:
        raise SourceError(f"{path}: a trace without a request")
    reader.finish(trace.block_size or 0)
    return session


@dataclass(slots=True)
class _Prompt:
    """A request in its place: lane, number in it, and the ids of its blocks."""

    lane: int
    number: int
    start_us: int | None
    ids: list[int]


class _Reader:
    """A trace while it is read."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.prompts: list[_Prompt] = []
        self._thought: dict[int, list[int | None]] = {0: []}  # think times by lane
        session.lanes.append(Lane("main"))

    def add(self, one: _Request, number: int) -> None:
        """An item of the list: a request of the main agent, or a sub-agent."""
        if one.requests is None:
            self._turn(0, one, 0, number)
            return
        index = len(self.session.lanes)
        before = len(self.session.lanes[0].steps) - 1
        lane = Lane("subagent", one.subagent_type)
        lane.spawned_at = (0, before) if before >= 0 else None
        self.session.lanes.append(lane)
        inner = [made for _, made in documents.items(one.requests, _REQUEST, self.session)]
        since = one.t or 0.0
        # Published traces count from the entry's start; others, as `traj` does, from the trace's.
        first = next((made.t for made in inner if made.t is not None), since)
        offset_us = round(since * 1e6) if first < since else 0
        for made in inner:
            self._turn(index, made, offset_us, number)

    def _turn(self, lane: int, one: _Request, offset_us: int, number: int) -> None:
        start = None if one.t is None else offset_us + round(one.t * 1e6)
        end = None if start is None or one.api_time is None else start + round(one.api_time * 1e6)
        first = None if start is None or one.ttft is None else start + round(one.ttft * 1e6)
        figures = (one.input_tokens, one.output_tokens)
        known = sum(figure is not None for figure in figures)
        steps = self.session.lanes[lane].steps
        self.prompts.append(_Prompt(lane, len(steps), start, one.hash_ids or []))
        thought = None if one.think_time is None else round(one.think_time * 1e6)
        self._thought.setdefault(lane, []).append(thought)
        steps.append(
            Turn(
                answer=None,
                model=one.model,
                usage=Usage(figures[0], None, None, figures[1], None, _SOURCES[known]),
                start_us=start,
                first_token_us=first,
                end_us=end,
                clock="none" if start is None else "logged",
                stop_reason=one.stop if one.stop in _STOPS else None,
                sampling=Sampling(stream=True) if one.type == "s" else None,
                line=number,
            )
        )

    def finish(self, block: int) -> None:
        """What follows from the trace as a whole: ends, joins, and what an ideal cache holds."""
        for index, lane in enumerate(self.session.lanes):
            steps = list(_ended(lane.steps, self._thought.get(index, [])))
            lane.steps = list(_in_order(steps, self.session))
        main = self.session.lanes[0].steps
        for lane in self.session.lanes[1:]:
            lane.joined_at = _joined(main, lane)
        if not main:
            self.session.lose("main_lane_missing")
        if block:
            self._cache(block)

    def _cache(self, block: int) -> None:
        """An id stands for a block and all that lies before it: a prompt is cached as far as its
        ids are known. An answer's blocks are known once a prompt has repeated it."""
        seen: set[int] = set()
        for prompt in sorted(self.prompts, key=lambda one: (one.start_us or 0, one.lane)):
            held = next((i for i, one in enumerate(prompt.ids) if one not in seen), len(prompt.ids))
            seen.update(prompt.ids[held:])
            steps = self.session.lanes[prompt.lane].steps
            turn = steps[prompt.number]
            assert isinstance(turn, Turn)
            most = turn.usage.input_tokens
            if prompt.ids and most is not None:
                cached = min(held * block, most)
                steps[prompt.number] = replace(turn, ideal_cached_tokens=cached)


def _ended(steps: Sequence[Step], thought: Sequence[int | None]) -> Iterator[Step]:
    """Turns with their ends: where one is not told, the next request's think time tells it."""
    for turn, after, pause in zip_longest(steps, steps[1:], thought[1:]):
        assert isinstance(turn, Turn)
        later = after.start_us if isinstance(after, Turn) else None
        start, known = turn.start_us, turn.end_us is not None
        if known or start is None or later is None or pause is None:
            yield turn
        else:
            yield replace(turn, end_us=max(start, later - pause), clock="derived")


def _in_order(steps: Sequence[Step], session: Session) -> Iterator[Step]:
    """Starts are whole seconds in published traces, and may lie before the end before them."""
    end = 0
    for turn in steps:
        assert isinstance(turn, Turn)
        early = turn.start_us is not None and turn.start_us < end and turn.clock == "logged"
        session.lose("clock_disorder", int(early))
        yield replace(turn, clock="derived") if early else turn
        end = max(end, turn.end_us or 0)


def _joined(main: Sequence[Step], lane: Lane) -> tuple[int, int] | None:
    """The main agent's first request after a sub-agent has ended, as replays take it."""
    ends = [turn.end_us for turn in lane.steps if isinstance(turn, Turn)]
    if not ends or None in ends or lane.spawned_at is None:
        return None
    end = max(time for time in ends if time is not None)
    for number, turn in enumerate(main[lane.spawned_at[1] + 1 :], lane.spawned_at[1] + 1):
        if isinstance(turn, Turn) and turn.start_us is not None and turn.start_us >= end:
            return 0, number
    return None
