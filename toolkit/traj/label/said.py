"""What is said of trajectories, in one form whoever says it.

The frame `said` has a row a statement: `trajectory_id`, `label`, `value` (null: it is taken back),
`source`, `place` (a file's line, a rule, an option), and `asserted`: true where a person gave this
very value, so that a contradiction is theirs to settle; false where it was worked out.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from traj.errors import UsageError

if TYPE_CHECKING:
    import polars as pl


def said(
    ids: Iterable[str], label: str, value: str | None, source: str, place: str, *, asserted: bool
) -> pl.DataFrame:
    """The same statement of each of some trajectories."""
    import polars as pl

    return pl.DataFrame({"trajectory_id": pl.Series(list(ids), dtype=pl.String)}).with_columns(
        label=pl.lit(label),
        value=pl.lit(value, pl.String),
        source=pl.lit(source),
        place=pl.lit(place),
        asserted=pl.lit(asserted),
    )


def nothing() -> pl.DataFrame:
    """No statement."""
    return said([], "", None, "", "", asserted=False)


def best(parts: Iterable[pl.DataFrame], ranks: dict[str, int]) -> pl.DataFrame:
    """One statement of each label of a trajectory, the best known.

    Raises UsageError where two that are known equally well contradict each other.
    """
    import polars as pl

    key = ["trajectory_id", "label"]
    rank = pl.col("source").replace_strict(ranks, return_dtype=pl.Int8)
    every = pl.concat([nothing(), *parts]).with_columns(rank=rank)
    top = every.filter(pl.col("rank") == pl.col("rank").max().over(key))
    apart = top.filter(pl.struct("value").n_unique().over(key) > 1)
    if not apart.is_empty():
        first = apart.row(0, named=True)
        same = [pl.col(name) == first[name] for name in key]
        other = apart.filter(*same, pl.col("value").ne_missing(first["value"]))
        raise UsageError(
            f"{first['place']} and {other['place'][0]} say different things of {first['label']} of "
            f"trajectory {first['trajectory_id']}"
        )
    return top.unique(key, keep="first", maintain_order=True).drop("rank")
