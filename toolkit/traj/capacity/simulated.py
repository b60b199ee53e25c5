"""Phases on a simulated engine in virtual time: the same plays, by their lengths and blocks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING

from traj.capacity.phase import Phase, assess
from traj.capacity.results import Capacity, System
from traj.capacity.search import Search
from traj.engine.forward import Simulated, Trajectory, simulate
from traj.engine.request import Request
from traj.errors import UsageError
from traj.workload.load import Load
from traj.workload.prompt_blocks import PromptBlocks

if TYPE_CHECKING:
    from traj.capacity.live import Said
    from traj.capacity.procedure import Procedure
    from traj.capacity.tiers import Tier
    from traj.dataset import Dataset
    from traj.engine.parameters import Parameters
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

_DOUBLINGS = 12  # of the virtual time, until enough trajectories are played


def plan(
    dataset: Dataset,
    parameters: Parameters,
    load: LoadOptions,
    tiers: Sequence[Tier],
    procedure: Procedure,
    said: Said | None = None,
) -> Capacity:
    """The agents that a simulated engine carries in each tier.

    Every phase begins with an empty cache; prefixes keep the plays of one trajectory apart. Raises
    UsageError where no request of the load fits into the engine.
    """
    fits = min(load.max_context or parameters.max_context, parameters.max_context)
    plays = Trajectories(dataset, replace(load, max_context=fits), parameters.block_tokens)
    if not plays:
        raise UsageError(f"{dataset.path}: holds no answered request that fits into {fits} tokens")

    def run(agents: int, number: int) -> Phase:
        phase = run_phase(parameters, plays, agents, number, procedure)
        if said is not None:
            said(phase)
        return phase

    search = Search(run, tiers, procedure)
    results = search.find()
    known = "stated" if parameters.power_w is not None else None
    accelerators, watts = parameters.accelerators, parameters.power_w
    system = System(f"simulated engine {parameters.name}", "", accelerators, watts, known)
    return Capacity.of(system, results, search.phases, procedure, dataset, load, simulated=True)


class Trajectories:
    """A dataset's plays as requests of a simulated engine, made once a round and kept."""

    def __init__(self, dataset: Dataset, load: LoadOptions, block_tokens: int) -> None:
        self._load = Load(dataset, load, text=False)
        self._block_tokens = block_tokens
        self._rounds: list[list[Trajectory]] = []

    def __len__(self) -> int:
        return len(self._round(0))

    def __iter__(self) -> Iterator[Trajectory]:
        """Around the dataset without end, each round with prefixes of its own."""
        for number in count():
            yield from self._round(number)

    def _round(self, number: int) -> list[Trajectory]:
        while len(self._rounds) <= number:
            plays = self._load.plays(numbers=(len(self._rounds),))
            made = (trajectory(play, self._block_tokens) for play in plays)
            self._rounds.append([one for one in made if one])
        return self._rounds[number]


def trajectory(play: Play, block_tokens: int) -> Trajectory:
    """One play's requests; equal block ids mean equal beginnings in all plays."""
    places = {turn: place for place, turn in enumerate(play.sent)}
    return [
        Request(
            laid.tokens,
            play.output_tokens(laid.turn),
            laid.ids,
            delay_us=play.delay_us(laid.turn),
            waits=tuple(places[wait] for wait in play.schedule.waits(laid.turn)),
        )
        for laid in PromptBlocks(play, block_tokens)
    ]


def run_phase(
    parameters: Parameters,
    plays: Iterator[Trajectory] | Trajectories,
    agents: int,
    number: int,
    procedure: Procedure,
) -> Phase:
    """One phase: until the window has passed and enough was played. Time is free here, so a phase
    that was too short is run again, twice as long."""
    until_us = round((procedure.settle_s + procedure.window_s) * 1e6)
    for _ in range(_DOUBLINGS):
        source = _Shared(plays)
        found = simulate(parameters, [source] * agents, until_us=until_us)
        played = max(0, source.given - agents)
        if played >= procedure.trajectories_of(agents):
            break
        until_us *= 2
    return assess_simulated(found, agents, number, procedure, played)


class _Shared(Iterator[Trajectory]):
    """One queue for all agents, as in the harness."""

    def __init__(self, plays: Iterator[Trajectory] | Trajectories) -> None:
        self._plays = iter(plays)
        self.given = 0

    def __next__(self) -> Trajectory:
        self.given += 1
        return next(self._plays)


def assess_simulated(
    found: Simulated, agents: int, number: int, procedure: Procedure, played: int
) -> Phase:
    import polars as pl

    unknown = [None] * len(found.unanswered)
    over = found.unanswered
    rows = pl.DataFrame(
        {
            "agent": [*found.agent, *(one.agent for one in over)],
            "sent_us": [*found.send_us, *(one.send_us for one in over)],
            "end_us": [*found.last_us, *(found.end_us for _ in over)],
            "status": [
                *("ok" for _ in found.agent),
                *("cancelled" if one.error is None else "refused" for one in over),
            ],
            "ttft_us": [*found.ttft_us(), *unknown],
            "output_tokens_per_s": [*found.speed(), *unknown],
            "output_tokens": [*found.output_tokens, *unknown],
            "input_tokens": [*found.input_tokens, *unknown],
            "cached_tokens": [*found.cached_tokens, *unknown],
        }
    )
    return assess(
        rows,
        agents=agents,
        number=number,
        settle_us=round(procedure.settle_s * 1e6),
        end_us=found.end_us,
        plays=played,
    )
