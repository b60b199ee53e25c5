"""Phases against an engine: the reference harness, with fresh prefixes in each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from traj.capacity.phase import Phase, assess
from traj.capacity.power import Meter
from traj.capacity.results import Capacity, System
from traj.capacity.search import Search
from traj.errors import UsageError
from traj.replay import replay
from traj.replay.options import ReplayOptions, Steady
from traj.replay.results import measured

if TYPE_CHECKING:
    from traj.capacity.procedure import Procedure
    from traj.capacity.tiers import Tier
    from traj.dataset import Dataset
    from traj.replay import Run
    from traj.replay.run import Progress

Said = Callable[[Phase], None]  # hears of each phase as it ends


def measure(
    dataset: Dataset,
    options: ReplayOptions,
    tiers: Sequence[Tier],
    procedure: Procedure,
    *,
    accelerators: int | None = None,
    power_w: float | None = None,
    processes: int = 1,
    said: Said | None = None,
    progress: Progress | None = None,
) -> Capacity:
    """The agents that an engine carries in each tier.

    `accelerators` and `power_w` are of the whole system, as stated; power is measured where this
    machine has the accelerators (NVML). Raises UsageError for a load without prefixes, which would
    find in the cache what earlier phases left; TrajError where the engine answers nothing.
    """
    if options.load.prefix == "none":
        raise UsageError(
            "phases need prefixes, or caches survive from one to the next: --prefix aa"
        )

    def run(agents: int, number: int) -> Phase:
        with Meter() as meter:
            chosen = _of(options, procedure, agents, number, processes)
            found = replay(dataset, chosen, progress)
        phase = assess_run(found, agents, number, procedure, meter.mean_w)
        if said is not None:
            said(phase)
        if found.interrupted:
            raise KeyboardInterrupt
        return phase

    search = Search(run, tiers, procedure)
    results = search.find()
    watts = [phase.power_w for phase in search.phases if phase.power_w is not None]
    system = System(
        options.url,
        options.model,
        accelerators,
        max(watts) if watts else power_w,
        "measured" if watts else "stated" if power_w is not None else None,
    )
    return Capacity.of(system, results, search.phases, procedure, dataset, options.load)


def _of(
    options: ReplayOptions, procedure: Procedure, agents: int, number: int, processes: int
) -> ReplayOptions:
    steady = Steady(procedure.settle_s, procedure.window_s, procedure.trajectories_of(agents))
    return replace(
        options,
        agents=agents,
        phase=number,
        processes=min(processes, agents),
        trajectories=None,
        duration_s=None,
        steady=steady,
    )


def assess_run(
    run: Run, agents: int, number: int, procedure: Procedure, power_w: float | None = None
) -> Phase:
    """A phase from a run of the harness. One that was not on time says nothing of the engine."""
    import polars as pl

    good = measured(run.requests)
    rows = pl.concat([good, run.requests.filter(pl.col("status") != "ok")], how="diagonal")
    return assess(
        rows,
        agents=agents,
        number=number,
        settle_us=round(procedure.settle_s * 1e6),
        end_us=run.duration_us,
        plays=run.played,
        power_w=power_w,
        trouble=run.reasons,
    )
