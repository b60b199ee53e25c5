"""One phase: so many agents for a while. Which of its requests count, and what they say.

A request counts if it was sent and answered, or had failed, within the steady window: from when all
agents had been active for some time to the phase's end.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from math import ceil, floor, sqrt
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import polars as pl

    from traj.capacity.tiers import Tier

SPEED, TTFT = 0.25, 0.95  # the percentiles that are held to a tier
_Z = 1.96  # of a 95 % interval


@dataclass(frozen=True, slots=True)
class Spread:
    """A percentile of a sample, and the interval that holds the true one 95 times of 100: between
    order statistics, whatever the distribution."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Phase:
    """What was seen. Speeds in tokens a second, times in microseconds."""

    agents: int
    number: int  # of the search, from 0: prefixes are fresh in each
    window_us: int
    plays: int  # trajectories played to their ends, in all the phase
    answered: int  # requests that count
    failed: int
    unfinished: int  # sent in the window, under way at its end
    speed: Spread | None  # 25th percentile; None where nothing was answered
    ttft_us: Spread | None  # 95th percentile
    output_tokens_per_s: float  # of all agents together
    cached_share: float | None
    power_w: float | None  # mean over the window, where it was measured
    trouble: tuple[str, ...]  # why nothing can be said of the system: the harness was late, ...

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)

    def misses(self, tier: Tier, failures: float) -> str | None:
        """In what the phase misses the tier; None where it meets it."""
        tried = self.answered + self.failed
        if self.trouble:
            return f"nothing can be said: {self.trouble[0]}"
        if not self.answered or self.speed is None or self.ttft_us is None:
            return "nothing was answered in the window"
        if self.failed > failures * tried:
            return f"{self.failed} of {tried} requests failed"
        if self.speed.value < tier.output_tokens_per_s:
            return f"{self.speed.value:.1f} tokens/s"
        if self.ttft_us.value > tier.ttft_s * 1e6:
            return f"{self.ttft_us.value / 1e6:.2f} s to the first token"
        return None


def assess(
    rows: pl.DataFrame,
    *,
    agents: int,
    number: int,
    settle_us: int,
    end_us: int,
    plays: int,
    power_w: float | None = None,
    trouble: tuple[str, ...] = (),
) -> Phase:
    """A phase from its requests: `agent`, `sent_us`, `end_us`, `status`, `ttft_us`,
    `output_tokens_per_s`, `output_tokens`, `input_tokens`, `cached_tokens`."""
    import polars as pl

    firsts: list[int] = rows.group_by("agent").agg(pl.col("sent_us").min())["sent_us"].to_list()
    if len(firsts) < agents:
        trouble = (*trouble, f"{agents - len(firsts)} of {agents} agents never sent a request")
    start_us = max(firsts, default=0) + settle_us
    window = rows.filter((pl.col("sent_us") >= start_us) & (pl.col("end_us") <= end_us))
    good = window.filter(pl.col("status") == "ok")
    unfinished = rows.filter((pl.col("sent_us") >= start_us) & (pl.col("status") == "cancelled"))
    seconds = max(0, end_us - start_us) / 1e6
    known = good.filter(pl.col("cached_tokens").is_not_null())
    told = int(known["input_tokens"].sum())
    return Phase(
        agents=agents,
        number=number,
        window_us=max(0, end_us - start_us),
        plays=plays,
        answered=good.height,
        failed=window.filter(~pl.col("status").is_in(["ok", "cancelled"])).height,
        unfinished=unfinished.height,
        speed=spread(good["output_tokens_per_s"], SPEED),
        ttft_us=spread(good["ttft_us"], TTFT),
        output_tokens_per_s=int(good["output_tokens"].sum()) / seconds if seconds else 0.0,
        cached_share=int(known["cached_tokens"].sum()) / told if told else None,
        power_w=power_w,
        trouble=trouble,
    )


def spread(values: pl.Series, at: float) -> Spread | None:
    """A percentile, linear between neighbours, with its interval; None of nothing."""
    found = values.drop_nulls().drop_nans() if values.dtype.is_float() else values.drop_nulls()
    count = len(found)
    if not count:
        return None
    ordered = found.sort()
    around = _Z * sqrt(count * at * (1 - at))
    low = min(max(floor(count * at - around), 0), count - 1)
    high = min(max(ceil(count * at + around), 0), count - 1)
    value = found.quantile(at, interpolation="linear")
    assert value is not None
    return Spread(float(value), float(ordered[low]), float(ordered[high]))
