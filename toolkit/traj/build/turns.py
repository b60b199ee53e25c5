"""Requests to rows of the turns table: times, provider's figures, counted lengths."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from traj.build.cached_length import PrefixTree
from traj.build.lanes import Request, since
from traj.build.messages import Messages
from traj.build.rows import Columns
from traj.build.tool_timing import spans, split_delay
from traj.events import Sampling, Session, Turn, Usage

Prompt = tuple[str, int]  # prompt_id and tokens
Key = tuple[int, int]  # lane, order in it
FIGURES = (
    *("input_tokens", "cached_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)

_UNSAID = Sampling()


class Lengths:
    """Counted lengths of requests, each in time proportional to what is new in it."""

    def __init__(self, messages: Messages) -> None:
        self.messages = messages
        stripped = [
            whole - thought
            for whole, thought in zip(messages.tokens, messages.reasoning_tokens, strict=True)
        ]
        # Sums up to each message, with and without the reasoning of answers.
        self.sums = {
            True: list(accumulate(messages.tokens, initial=0)),
            False: list(accumulate(stripped, initial=0)),
        }
        # What an engine sees of each message: an answer without its reasoning is another text.
        self.parts: dict[bool, list[object]] = {
            True: list(messages.digests),
            False: [
                (digest, None) if thought else digest
                for digest, thought in zip(messages.digests, messages.reasoning_tokens, strict=True)
            ],
        }
        self.tree = PrefixTree()

    def of(self, request: Request, prompts: list[Prompt]) -> tuple[int, int, int]:
        """Input, ideally cached part of it, and output, in tokens. `prompts` come first."""
        kept = request.turn.earlier_reasoning == "kept"
        sums = self.sums[kept]
        front = sum(tokens for _, tokens in prompts)
        counted = front + sum(sums[stop] - sums[start] for start, stop in request.input)
        fronts, cached = self.tree.add(
            request.lane, [name for name, _ in prompts], request.input, self.parts[kept]
        )
        cached_tokens = sum(tokens for _, tokens in prompts[:fronts])
        for start, stop in request.input:
            taken = min(cached, stop - start)
            cached_tokens += sums[start + taken] - sums[start]
            cached -= taken
        output = 0
        if request.output is not None:
            self.tree.answer(request.lane, self.parts[True][request.output])
            output = self.messages.tokens[request.output]
        return counted, cached_tokens, output


def turns(
    session: Session,
    ordered: list[Request],
    messages: Messages,
    prompts: dict[tuple[str, str], Prompt],
) -> Columns:
    """The rows of the turns table. `prompts` maps kind and content to id and tokens."""
    rows: list[dict[str, Any]] = []
    lengths = Lengths(messages)
    base = session.started_us
    by_key = {request.key: request for request in ordered}
    times = {request.key: _times(request, base) for request in ordered}
    for request in ordered:
        turn, usage = request.turn, request.turn.usage
        described = session.lanes[request.lane]
        system = prompts.get(("system", turn.system or ""))
        tools = prompts.get(("tools", turn.tools or ""))
        front = [prompt for prompt in (tools, system) if prompt is not None]
        counted: int | None
        cached: int | None
        output: int | None
        if session.has_text:
            counted, cached, output = lengths.of(request, front)
        else:  # nothing to count: what an ideal cache would hold of the input the source says
            cached, output = turn.ideal_cached_tokens, None
            counted = None if cached is None else usage.input_tokens
        start, end = times[request.key]
        first = since(turn.first_token_us, base)
        if first is not None and (start is None or end is None or not start <= first <= end):
            first = None
        delay, tool, user = _delay(session, request, by_key, times)
        unseen = None
        reported = usage.input_tokens
        if request.reason is not None and reported is not None and counted is not None:
            unseen = reported - counted
        sampling = None if turn.sampling == _UNSAID else turn.sampling
        rows.append(
            {
                "turn": request.number,
                "lane": request.lane,
                "lane_kind": described.kind,
                "lane_name": described.name,
                "context": request.context,
                "context_reason": request.reason,
                "wait_for": sorted({by_key[key].number for key in request.waits}),
                "start_us": start,
                "first_token_us": first,
                "end_us": end,
                "delay_us": delay,
                "tool_us": tool,
                "user_us": user,
                "clock": request.clock,
                "api": turn.api,
                "model": turn.model or None,
                "response_id": turn.response_id,
                "system_id": system[0] if system else None,
                "tools_id": tools[0] if tools else None,
                "input": request.input,
                "earlier_reasoning": turn.earlier_reasoning,
                "output": request.output,
                "input_tokens": usage.input_tokens,
                "cached_tokens": usage.cached_tokens,
                "cache_write_tokens": usage.cache_write_tokens,
                "output_tokens": usage.output_tokens,
                "reasoning_tokens": usage.reasoning_tokens,
                "usage_source": usage.source,
                "logged_usage": _logged(turn.logged_usage),
                "counted_input_tokens": counted,
                "counted_cached_tokens": cached,
                "counted_output_tokens": output,
                "unseen_input_tokens": unseen,
                "stop_reason": turn.stop_reason,
                "status": turn.status,
                "error": turn.error,
                "attempt": turn.attempt,
                "sampling": None
                if sampling is None
                else {
                    "max_tokens": sampling.max_tokens,
                    "temperature": sampling.temperature,
                    "top_p": sampling.top_p,
                    "reasoning_effort": sampling.reasoning_effort,
                    "stream": sampling.stream,
                },
                "source_file": None if turn.line is None else turn.file,
                "source_line": turn.line,
            }
        )
    return Columns.of_rows("turns", rows)


def disagrees(turn: Turn) -> bool:
    """Whether the agent's own log gives a figure that is another than the one on the wire."""
    if turn.logged_usage is None:
        return False
    pairs = ((getattr(turn.usage, name), getattr(turn.logged_usage, name)) for name in FIGURES)
    return any(None not in pair and pair[0] != pair[1] for pair in pairs)


def _logged(usage: Usage | None) -> dict[str, int | None] | None:
    if usage is None or usage.source == "none":
        return None
    return {name: getattr(usage, name) for name in FIGURES}


def _times(request: Request, base: int | None) -> tuple[int | None, int | None]:
    """Start and end from the trajectory's start; the end never before the start."""
    start, end = since(request.start_us, base), since(request.turn.end_us, base)
    return start, end if start is None or end is None else max(start, end)


def _delay(
    session: Session,
    request: Request,
    by_key: dict[Key, Request],
    times: dict[Key, tuple[int | None, int | None]],
) -> tuple[int | None, int | None, int | None]:
    """Delay, tool part and person's part; all null where a time that they need is unknown."""
    start, base = times[request.key][0], session.started_us
    if start is None or base is None:
        return None, None, None
    ends = [times[key][1] for key in request.waits]
    if any(end is None for end in ends):
        return None, None, None
    waited_until = max((end for end in ends if end is not None), default=0)
    if not session.has_text:
        return max(0, start - waited_until), None, None  # whose time it was is not known
    before = by_key.get((request.lane, request.order - 1))
    person = None if request.person_us is None else request.person_us - base
    return split_delay(start, waited_until, spans(session, before), person)
