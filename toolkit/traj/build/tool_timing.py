"""Tool calls to rows, and the part of each delay in which tools ran or a person was awaited."""

from __future__ import annotations

from typing import Any

from traj.build.categories import category
from traj.build.lanes import Request, since
from traj.build.messages import Messages
from traj.build.rows import Columns
from traj.events import Session, ToolRun

Span = tuple[int, int]
_NEVER_RAN = ToolRun()


def tool_calls(session: Session, ordered: list[Request], messages: Messages) -> Columns:
    """The rows of the tool_calls table."""
    rows: list[dict[str, Any]] = []
    base = session.started_us
    alive = {request.lane for request in ordered}
    spawned = {
        lane.spawned_by: index
        for index, lane in enumerate(session.lanes)
        if lane.spawned_by is not None and index in alive
    }
    number = 0
    for request in ordered:
        answer = request.turn.answer
        if answer is None or request.output is None:
            continue
        for place, call in enumerate(answer.tool_calls):
            run = session.tool_runs.get(call.id, _NEVER_RAN)
            start, end = since(run.start_us, base), since(run.end_us, base)
            result = messages.result(call.id, request.output)
            text = messages.all[result].content if result is not None else None
            rows.append(
                {
                    "call": number,
                    "turn": request.number,
                    "lane": request.lane,
                    "tool_call_id": call.id,
                    "name": call.name,
                    "category": category(call.name, call.arguments),
                    "start_us": start,
                    "end_us": end if start is None or end is None else max(start, end),
                    "clock": _clock(run, start, end),
                    "permission_us": run.permission_us,
                    "status": run.status,
                    "exit_code": run.exit_code,
                    "argument_tokens": messages.argument_tokens(request.output, place),
                    "result_tokens": None if result is None else messages.tokens[result],
                    "result_bytes": None if text is None else len(text.encode()),
                    "truncated": run.truncated,
                    "background": run.background,
                    "spawned_lane": spawned.get(call.id),
                }
            )
            number += 1
    return Columns.of_rows("tool_calls", rows)


def _clock(run: ToolRun, start: int | None, end: int | None) -> str:
    if start is None and end is None:
        return "none"
    return "derived" if run.clock == "none" else run.clock


def spans(session: Session, request: Request | None) -> list[Span]:
    """When the tools ran that a request's answer asked for, from the trajectory's start."""
    base = session.started_us
    if request is None or request.turn.answer is None or base is None:
        return []
    found: list[Span] = []
    for call in request.turn.answer.tool_calls:
        run = session.tool_runs.get(call.id, _NEVER_RAN)
        if run.start_us is not None and run.end_us is not None and run.end_us > run.start_us:
            found.append((run.start_us - base, run.end_us - base))
    return found


def split_delay(
    start: int, waited_until: int, tools: list[Span], person_us: int | None
) -> tuple[int, int, int]:
    """Delay, its tool part and its part of waiting for a person, in microseconds.

    The tool part is the union of the spans within the delay. A person is awaited from the start
    of the delay to the time at which they had written, but for the time in which tools ran.
    """
    if start <= waited_until:
        return 0, 0, 0
    if not tools and person_us is None:
        return start - waited_until, 0, 0
    inside = _union([(max(a, waited_until), min(b, start)) for a, b in tools])
    tool = sum(b - a for a, b in inside)
    if person_us is None or person_us <= waited_until:
        return start - waited_until, tool, 0
    until = min(person_us, start)
    busy = sum(max(0, min(b, until) - a) for a, b in inside)
    return start - waited_until, tool, until - waited_until - busy


def _union(found: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for a, b in sorted(found):
        if b <= a:
            continue
        if joined and a <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(b, joined[-1][1]))
        else:
            joined.append((a, b))
    return joined
