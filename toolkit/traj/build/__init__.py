"""Events to rows. Pure: nothing here reads or writes a file, or knows where a session came from.

lanes         what each request carried      messages       text, hashes, token counts
order         what waits for what            turns          times, figures, lengths
tool_timing   calls, delays                  trajectory     one row with the totals
"""

from __future__ import annotations

import hashlib
from collections.abc import Set as AbstractSet
from dataclasses import dataclass

from traj.build.lanes import requests
from traj.build.messages import Messages
from traj.build.order import arrange
from traj.build.rows import Columns
from traj.build.tokens import Counter
from traj.build.tool_timing import tool_calls
from traj.build.trajectory import trajectory, trajectory_id
from traj.build.turns import Prompt, disagrees, turns
from traj.events import Session, Turn

# What tells an answer from all others: the provider's id, and when it ended (epoch microseconds).
# Copies keep both; some gateways and hand-made logs give the same id twice.
AnswerKey = tuple[str, int | None]
NO_TEXT = "no_text"  # the loss that marks trajectories of lengths and times alone


@dataclass(frozen=True, slots=True)
class Built:
    """The rows of one session by table; prompts as id to kind, content, tokens."""

    trajectory_id: str
    tables: dict[str, Columns]
    prompts: dict[str, tuple[str, str, int]]
    answers: tuple[AnswerKey, ...]
    end_us: int  # when its last turn ended; tells an original from its later forks
    losses: dict[str, int]
    disagreements: int = 0  # turns of which the agent's own log gives other figures


def build(
    session: Session,
    counter: Counter,
    recorder_version: str,
    copied: AbstractSet[AnswerKey] = frozenset(),
    redactions: int | None = None,
) -> Built:
    """The rows of a session. `copied` are answers that belong to other trajectories: those turns
    are history here, and are counted there. `redactions` is what was scrubbed from the session;
    None where nothing was looked for."""

    def is_copy(turn: Turn) -> bool:
        return (turn.response_id, turn.end_us) in copied

    if copied:
        found = sum(
            isinstance(step, Turn) and is_copy(step)
            for lane in session.lanes
            for step in lane.steps
        )
        session.lose("copied_turn", found)
    messages = Messages(session)
    messages.count(counter)
    lanes = [
        requests(index, lane, messages.first, is_copy) for index, lane in enumerate(session.lanes)
    ]
    ordered = arrange(session, lanes)
    silent = (
        lane
        for index, lane in enumerate(session.lanes)
        if lane.kind == "subagent" and not lanes[index]
    )
    session.lose("subagent_without_turns", sum(1 for _ in silent))
    session.lose("attachment_payload", sum(len(m.attachments) for m in messages.all))
    session.lose("unmatched_tool_result", messages.unmatched)
    if not session.has_text:
        session.lose(NO_TEXT, len(ordered))
    prompts = prompts_of(session, counter)
    turn_rows = turns(session, ordered, messages, {k: v[:2] for k, v in prompts.items()})
    call_rows = tool_calls(session, ordered, messages)
    head = trajectory(
        session, turn_rows, call_rows, messages, counter.tokenizer, recorder_version, redactions
    )
    name = trajectory_id(session.format, session.session_id)
    return Built(
        trajectory_id=name,
        tables={
            "trajectories": head,
            "turns": turn_rows,
            "messages": messages.columns(session.started_us),
            "tool_calls": call_rows,
        },
        prompts={
            prompt_id: (kind, content, tokens)
            for (kind, content), (prompt_id, tokens) in prompts.items()
        },
        answers=tuple(
            (r.turn.response_id, r.turn.end_us) for r in ordered if r.turn.response_id is not None
        ),
        end_us=max((r.turn.end_us or 0 for r in ordered), default=0),
        losses=dict(sorted(session.losses.items())),
        disagreements=sum(disagrees(request.turn) for request in ordered),
    )


def prompts_of(session: Session, counter: Counter) -> dict[tuple[str, str], Prompt]:
    """Ids and token counts of the distinct system prompts and tool lists, by kind and content."""
    distinct: dict[tuple[str, str], bytes] = {}
    for lane in session.lanes:
        for step in lane.steps:
            if isinstance(step, Turn):
                for kind, content in (("system", step.system), ("tools", step.tools)):
                    if content and (kind, content) not in distinct:
                        digest = hashlib.sha256(f"{kind}\0{content}".encode()).digest()
                        distinct[kind, content] = digest
    keys = list(distinct)
    counts = counter.count(list(distinct.values()), lambda index: [keys[index][1]])
    return {key: (distinct[key].hex(), count) for key, (count,) in zip(keys, counts, strict=True)}
