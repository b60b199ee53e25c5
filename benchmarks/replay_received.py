"""What an engine received of a load, request by request: whole, in order, in time.

The measure is the load itself (`traj.workload`): what `traj replay` sends and what an export holds
are both made of it, and here it is asked once more, without either.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

from benchmarks import engine_model
from benchmarks.real_engine import Cache
from benchmarks.replay_engine import Exchange
from traj.dataset import Dataset
from traj.exporters.whole_prompts import WholePrompts
from traj.workload.load import Load
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

EARLY_S = 0.002  # timers may ring early


@dataclass(slots=True)
class Planned:
    """One request of the load: what it asks, waits for (places in the play), and its delay."""

    asked: bytes  # its messages and tools
    tokens: int  # of its answer
    waits: list[int]
    delay_s: float
    joins: bool  # it waits for another lane


@dataclass(slots=True)
class Received:
    """What one run sent, as the engine saw it."""

    requests: int = 0
    not_planned: int = 0
    not_sent: int = 0
    other_length: int = 0
    answer_tokens: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    before_waits: int = 0
    early: int = 0
    early_joins: int = 0
    late_ms: list[float] = field(default_factory=list)


def planned(dataset: Dataset, load: LoadOptions) -> list[list[Planned]]:
    """The requests of each play, as `traj.workload` has them: neither harness made this."""
    found = []
    for play in Load(dataset, load, text=True).plays():
        assert play.prompts is not None
        whole, places = WholePrompts(play), {turn: place for place, turn in enumerate(play.sent)}
        lanes = play.turns["lane"]
        requests = []
        for turn in play.sent:
            messages = [play.prompts.message(one) for one in whole.of(turn)]
            waits = play.schedule.waits(turn)
            requests.append(
                Planned(
                    _asked(messages, play.prompts.tools(turn)),
                    play.output_tokens(turn),
                    [places[wait] for wait in waits],
                    play.delay_us(turn) / 1e6,
                    any(lanes[wait] != lanes[turn] for wait in waits),
                )
            )
        found.append(requests)
    return found


def _asked(messages: Any, tools: Any) -> bytes:
    return orjson.dumps([messages, tools or None], option=orjson.OPT_SORT_KEYS)


def judge(
    plan: Sequence[Sequence[Planned]], log: Sequence[Exchange], tokenizer: Tokenizer
) -> Received:
    """What the engine received, beside what was to be sent."""
    waiting: dict[bytes, list[Exchange]] = defaultdict(list)
    found, cache = Received(requests=len(log)), Cache()
    for one in sorted(log, key=lambda one: one.arrived_s):
        body = orjson.loads(one.body)
        tokens = tokenizer.encode(engine_model.render(body), add_special_tokens=False).ids
        found.prompt_tokens += len(tokens)
        found.cached_tokens += cache.find(tokens)
        waiting[_asked(body["messages"], body.get("tools"))].append(one)
    for requests in plan:
        taken: list[Exchange | None] = []
        for planned_one in requests:
            same = waiting[planned_one.asked]
            entry = same.pop(0) if same else None  # the first to come in
            taken.append(entry)
            if entry is None:
                found.not_sent += 1
                continue
            found.other_length += entry.tokens != planned_one.tokens
            found.answer_tokens += entry.tokens
            _times(planned_one, entry, [taken[wait] for wait in planned_one.waits], found)
    found.not_planned = sum(map(len, waiting.values()))
    return found


def _times(
    one: Planned, entry: Exchange, waits: Sequence[Exchange | None], found: Received
) -> None:
    ends = [wait.last_s for wait in waits if wait is not None]
    if not ends:
        return
    late_s = entry.arrived_s - max(ends) - one.delay_s
    found.before_waits += entry.arrived_s < max(ends)
    if late_s < -EARLY_S:
        found.early += not one.joins
        found.early_joins += one.joins
    elif not one.joins:
        found.late_ms.append(late_s * 1e3)
