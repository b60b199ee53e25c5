"""How well the harness kept its own time, and whether it was itself what was measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from traj.replay.results import Client, percentiles

if TYPE_CHECKING:
    import polars as pl

    from traj.replay.part import Part

MAX_LATE_US = 10_000  # at the 99th percentile; later, and it was the client that was measured
MAX_CPU_SHARE = 0.95  # of one core, of the busiest process


def health(rows: pl.DataFrame, parts: Sequence[Part]) -> Client:
    """What the rows and the processes say of the harness."""
    import polars as pl

    # What went twice was late for the engine's sake.
    late = rows.filter(pl.col("retries") == 0)
    lags = pl.Series([lag for part in parts for lag in part.lags_us], dtype=pl.Int64)
    clocks = [part.clock_error_us for part in parts if part.clock_error_us is not None]
    return Client(
        schedule_error_us=percentiles(late["sent_us"] - late["due_us"]),
        loop_lag_us=percentiles(lags),
        cpu_share=round(max(part.cpu_share for part in parts), 3),
        processes=len(parts),
        clock_error_us=max(clocks, default=None),
    )


def reasons(client: Client) -> list[str]:
    """Why the harness itself may have been what was measured."""
    found = []
    for name, spread in (
        ("requests were sent", client.schedule_error_us),
        ("the event loop woke", client.loop_lag_us),
    ):
        late_us = spread["p99"]
        if late_us is not None and late_us > MAX_LATE_US:
            found.append(f"{name} {late_us / 1e3:.1f} ms late at the 99th percentile")
    if client.cpu_share > MAX_CPU_SHARE:
        found.append(f"a client process used {client.cpu_share:.0%} of a core: add --processes")
    return found
