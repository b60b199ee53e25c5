"""How far the splits are apart, column by column: what a result on the public split predicts.

The distance is Kolmogorov and Smirnov's: the largest difference between the two empirical
distribution functions, 0 for equal ones, 1 for ones that do not overlap. Turns of one session are
alike, so chance is judged by the number of trajectories and not of rows.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import sqrt
from typing import TYPE_CHECKING

from traj.validation.report import Check, Fault, NotApplicableError
from traj.validation.splits import both_sides

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from traj.validation.tables import Tables

_CHANCE = 1.95  # a distance of this many sqrt((n+m)/nm) comes by chance once in a thousand


@dataclass(frozen=True, slots=True)
class Distance:
    """One column's."""

    column: str
    distance: float
    public: int  # trajectories with a known value
    private: int

    @property
    def chance(self) -> float:
        """The distance that two halves of one population seldom have."""
        return _CHANCE * sqrt((self.public + self.private) / (self.public * self.private))


def distances(tables: Tables) -> list[Distance]:
    """The distances between public and private of each of COLUMNS that both know."""
    import polars as pl

    rows = both_sides(tables).select("trajectory_id", "split")
    found = []
    for name, values in COLUMNS.items():
        own = values(tables).drop_nulls("value").join(rows, on="trajectory_id")
        known = dict(own.group_by("split").agg(pl.col("trajectory_id").n_unique()).iter_rows())
        if len(known) == 2:
            gap = round(_kolmogorov_smirnov(own), 4)
            found.append(Distance(name, gap, known["public"], known["private"]))
    return found


def split_distances(tables: Tables) -> Iterator[Fault]:
    """Public and private have the same distributions of lengths and times, but for chance."""
    for one in tables.once(distances):
        if one.distance > one.chance:
            what = f"public and private differ in {one.column} by more than chance"
            yield Fault("", f"column {one.column}", what, f"distance {one.distance:.3f}")


def published_distances(tables: Tables) -> Iterator[Fault]:
    """The distances that the commitment publishes are those of the rows."""
    commitment = tables.dataset.manifest.commitment
    said = commitment.get("distances") if isinstance(commitment, dict) else None
    if said is None:
        raise NotApplicableError("the manifest publishes no distances")
    if said != {one.column: one.distance for one in tables.once(distances)}:
        what = "the published distances are not those of the rows: run traj split"
        yield Fault("", "commitment", what)


def _kolmogorov_smirnov(rows: pl.DataFrame) -> float:
    import polars as pl

    sizes = [(pl.col("split") == name).sum() for name in ("public", "private")]
    counts = rows.group_by("value").agg(public=sizes[0], private=sizes[1]).sort("value")
    share = [pl.col(name).cum_sum() / pl.col(name).sum() for name in ("public", "private")]
    return float(counts.select((share[0] - share[1]).abs().max()).item())


def _turns(*names: str) -> Callable[[Tables], pl.DataFrame]:
    def values(tables: Tables) -> pl.DataFrame:
        import polars as pl

        rows = tables.frame("turns", ["trajectory_id", *names])
        return rows.select("trajectory_id", value=pl.coalesce(names))

    return values


def _turn_count(tables: Tables) -> pl.DataFrame:
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "totals"])
    return rows.select("trajectory_id", value=pl.col("totals").struct.field("turns"))


def _tool_times(tables: Tables) -> pl.DataFrame:
    import polars as pl

    rows = tables.frame("tool_calls", ["trajectory_id", "start_us", "end_us"])
    return rows.select("trajectory_id", value=pl.col("end_us") - pl.col("start_us"))


def _results(tables: Tables) -> pl.DataFrame:
    rows = tables.frame("tool_calls", ["trajectory_id", "result_tokens"])
    return rows.rename({"result_tokens": "value"})


# Lengths are the provider's where known, else counted, as in the manifest's fingerprint.
COLUMNS: dict[str, Callable[[Tables], pl.DataFrame]] = {
    "turns": _turn_count,
    "input_tokens": _turns("input_tokens", "counted_input_tokens"),
    "cached_tokens": _turns("cached_tokens"),
    "output_tokens": _turns("output_tokens", "counted_output_tokens"),
    "delay_us": _turns("delay_us"),
    "call_us": _tool_times,
    "result_tokens": _results,
}

PROOFS = (Check(split_distances, "finding", scope="dataset"),)
CHECKS = (*PROOFS, Check(published_distances, scope="dataset"))
