"""What the pictures show, in numbers: histograms, spreads and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from typing import TYPE_CHECKING, Final, NamedTuple

from traj.publish.card.markup import UNKNOWN, plain

if TYPE_CHECKING:
    import polars as pl

OTHER = "other"
_PER_DECADE = 8
_TIMES_US = (1, 10, 100, 1e3, 1e4, 1e5, 1e6, 1e7, 6e7, 6e8, 3.6e9, 3.6e10, 3.6e11)
_SHARES = 20
_LANGUAGES = 12
_LABEL = 24  # characters
_RANK: Final = "equiprobable"  # polars' name for what SQL calls quantile_disc


@dataclass(frozen=True, slots=True)
class Lengths:
    """A histogram over the logarithms of lengths."""

    edges: list[float]  # powers of ten
    counts: list[int]
    known: int
    zero: int  # of the known ones, in no bar
    p5: float | None
    median: float | None
    p95: float | None


@dataclass(frozen=True, slots=True)
class Shares:
    """A histogram of turns over the share of their input that was cached, in steps of 5 %."""

    counts: list[int]
    turns: int
    overall: float | None  # of all tokens
    high: float | None  # of turns, those in the last bar


class Spread(NamedTuple):
    """One category's tool times, in microseconds."""

    category: str
    calls: int  # of known time
    p5: float
    p25: float
    p50: float
    p75: float
    p95: float


def lengths(turns: pl.DataFrame, name: str) -> Lengths:
    import numpy as np

    values = turns[name].drop_nulls()
    positive = values.filter(values > 0).to_numpy()
    low, high = decades([float(positive.min()), float(positive.max())] if len(positive) else [])
    bins = round(high - low) * _PER_DECADE
    counts, edges = np.histogram(np.log10(positive), bins, (low, high))
    cuts = [values.quantile(cut, interpolation=_RANK) for cut in (0.05, 0.5, 0.95)]
    zero = int(values.eq(0).sum())
    return Lengths(
        [float(edge) for edge in edges], [int(one) for one in counts], len(values), zero, *cuts
    )


def cached_shares(turns: pl.DataFrame, prefix: str) -> Shares:
    import polars as pl

    cached, whole = f"{prefix}cached_tokens", f"{prefix}input_tokens"
    rows = turns.select(cached, whole).drop_nulls().filter(pl.col(whole) > 0)
    places = (rows[cached] * _SHARES // rows[whole]).clip(0, _SHARES - 1)
    counts = [0] * _SHARES
    for place, number in places.value_counts().iter_rows():
        counts[int(place)] = number
    overall = float(rows[cached].sum()) / float(rows[whole].sum()) if len(rows) else None
    return Shares(counts, len(rows), overall, counts[-1] / len(rows) if len(rows) else None)


def tool_times(calls: pl.DataFrame) -> list[Spread]:
    """By category, the most called first; those without a known time are absent."""
    import polars as pl

    work = pl.col("end_us") - pl.col("start_us") - pl.col("permission_us").fill_null(0)
    cuts = [0.05, 0.25, 0.5, 0.75, 0.95]
    found = (
        calls.select("category", work=work)
        .drop_nulls("work")
        .group_by("category")
        .agg(
            pl.len().alias("calls"),
            *(pl.col("work").quantile(cut, interpolation=_RANK).alias(str(cut)) for cut in cuts),
        )
        .sort("calls", "category", descending=[True, False])
    )
    return [Spread(plain(name, _LABEL), *rest) for name, *rest in found.iter_rows()]


def languages(trajectories: pl.DataFrame) -> list[tuple[str, int]]:
    """The most frequent, then the sum of the others, then those that are not known."""
    found = (
        trajectories["language"]
        .value_counts()
        .sort(["count", "language"], descending=[True, False])
    )
    named = [
        (plain(name, _LABEL), number) for name, number in found.iter_rows() if name is not None
    ]
    rest = sum(number for _, number in named[_LANGUAGES:])
    unknown = int(trajectories["language"].null_count())
    ends = ((OTHER, rest), (UNKNOWN, unknown))
    return [*named[:_LANGUAGES], *((label, number) for label, number in ends if number)]


def time_ticks(values_us: Sequence[float]) -> list[float]:
    """Where a logarithmic axis of times has its ticks, the outermost around the values."""
    low, high = (min(values_us), max(values_us)) if values_us else (1e3, 1e6)
    first = max((tick for tick in _TIMES_US if tick <= low), default=_TIMES_US[0])
    last = min((tick for tick in _TIMES_US if tick >= high and tick > first), default=10 * high)
    return [*(tick for tick in _TIMES_US if first <= tick < last), last]


def decades(values: Sequence[float]) -> tuple[int, int]:
    """The powers of ten around the values, which are positive: at least one decade."""
    if not values:
        return 0, 1
    low = floor(log10(min(values)))
    return low, max(low + 1, ceil(log10(max(values))))
