"""Checks of times: spans, delays, and what the clocks claim. All in microseconds from the start."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.validation.report import Check, Fault, Severity, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

TURN = ("trajectory_id", "turn")


def times_ordered(tables: Tables) -> Iterator[Fault]:
    """A turn's start, first token and end are in this order, and so are a tool call's start and
    end.
    """
    import polars as pl

    pairs = (
        ("turns", "turn", "start_us", "first_token_us"),
        ("turns", "turn", "first_token_us", "end_us"),
        ("turns", "turn", "start_us", "end_us"),
        ("tool_calls", "call", "start_us", "end_us"),
    )
    for table, number, first, second in pairs:
        rows = tables.frame(table, ["trajectory_id", number, first, second])
        bad = rows.filter(pl.col(first) > pl.col(second))
        yield from faults(table, bad, f"{first} is after {second}", show=[first, second])


def clock_none(tables: Tables) -> Iterator[Fault]:
    """The clock is none just where neither start nor end is known."""
    import polars as pl

    for table, number in (("turns", "turn"), ("tool_calls", "call")):
        more = ["first_token_us"] if table == "turns" else ["permission_us"]
        times = ["start_us", "end_us"]
        rows = tables.frame(table, ["trajectory_id", number, "clock", *times, *more])
        none = pl.col("clock") == "none"
        known = pl.any_horizontal(pl.col(*times, *more).is_not_null())
        bad = rows.filter(none, known)
        yield from faults(table, bad, "a time is known, but its clock is none", show=times)
        bad = rows.filter(~none, pl.all_horizontal(pl.col(*times).is_null()))
        yield from faults(table, bad, "the clock is known, but no time is", show=["clock"])


def starts_after_wait_for(tables: Tables) -> Iterator[Fault]:
    """A turn never starts before what it waits for has ended; where either clock is derived, or
    the other is of another lane, starting early is a finding, not an error.

    Agents run tools while the answer that asks for them is still coming in: a sub-agent may then
    start before the turn that started it has ended.
    """
    import polars as pl

    early = tables.once(_waits).filter(pl.col("start_us") < pl.col("other_end_us"))
    derived = (pl.col("clock") == "derived") | (pl.col("other_clock") == "derived")
    apart = pl.col("lane") != pl.col("other_lane")
    what = "the turn starts before a turn that it waits for has ended"
    show = ["start_us", "other", "other_end_us"]
    kinds: tuple[tuple[pl.Expr, Severity, str], ...] = (
        (~derived & ~apart, "error", what),
        (derived & ~apart, "finding", f"{what}, by derived clocks"),
        (apart, "finding", f"{what}, which is of another lane"),
    )
    for which, severity, text in kinds:
        bad = early.filter(which).unique(TURN, keep="first", maintain_order=True)
        yield from faults("turns", bad, text, show=show, severity=severity)


def delays(tables: Tables) -> Iterator[Fault]:
    """delay_us is the time from the end of the last turn waited for (the trajectory's start where
    there is none) to start_us, 0 where these overlap, null where they are unknown.
    """
    import polars as pl

    ended = (
        tables.once(_waits)
        .group_by(TURN)
        .agg(
            pl.col("other_end_us").max().alias("ready_us"),
            pl.col("other_end_us").null_count().alias("unknown"),
        )
    )
    rows = tables.frame("turns", [*TURN, "start_us", "delay_us"])
    rows = rows.join(ended, on=TURN, how="left", maintain_order="left").with_columns(
        # A turn that waits for nothing is ready at the trajectory's start.
        ready_us=pl.when(pl.col("unknown").is_null()).then(0).otherwise("ready_us"),
    )
    rows = rows.with_columns(expected=(pl.col("start_us") - pl.col("ready_us")).clip(lower_bound=0))
    wrong = pl.col("delay_us").ne_missing(pl.col("expected"))
    # The schema does not say what the delay is where only some of the ends are known: null will do.
    excused = (pl.col("unknown").fill_null(0) > 0) & pl.col("delay_us").is_null()
    what = "delay_us is not start_us less the end of the last turn waited for"
    show = ["delay_us", "expected"]
    yield from faults("turns", rows.filter(wrong & ~excused), what, show=show)


def delay_parts(tables: Tables) -> Iterator[Fault]:
    """tool_us and user_us are parts of delay_us: together no longer, and null where it is null."""
    import polars as pl

    rows = tables.frame("turns", [*TURN, "delay_us", "tool_us", "user_us"])
    delay = pl.col("delay_us")
    parts = pl.sum_horizontal("tool_us", "user_us")
    what = "tool_us and user_us are longer than delay_us"
    show = ["delay_us", "tool_us", "user_us"]
    yield from faults("turns", rows.filter(parts > delay), what, show=show)
    known = pl.any_horizontal(pl.col("tool_us", "user_us").is_not_null())
    what = "a part of delay_us is known, but delay_us is null"
    yield from faults("turns", rows.filter(delay.is_null(), known), what, show=show)


def permission_within_span(tables: Tables) -> Iterator[Fault]:
    """The wait for permission is no longer than the tool call's span."""
    import polars as pl

    columns = ["trajectory_id", "call", "start_us", "end_us", "permission_us"]
    rows = tables.frame("tool_calls", columns)
    bad = rows.filter(pl.col("permission_us") > pl.col("end_us") - pl.col("start_us"))
    yield from faults("tool_calls", bad, "permission_us is longer than the call", show=columns[2:])


def duration_covers(tables: Tables) -> Iterator[Fault]:
    """A trajectory's duration_us reaches the last time of its turns, tool calls and messages, and
    is known where one of them is.
    """
    import polars as pl

    columns = {
        "turns": ["start_us", "first_token_us", "end_us"],
        "tool_calls": ["start_us", "end_us"],
        "messages": ["time_us"],
    }
    found = []
    for table, names in columns.items():
        rows = tables.frame(table, ["trajectory_id", *names])
        last = rows.select("trajectory_id", last=pl.max_horizontal(*names))
        found.append(last.group_by("trajectory_id").agg(pl.col("last").max()))
    latest = pl.concat(found).group_by("trajectory_id").agg(pl.col("last").max())
    rows = tables.frame("trajectories", ["trajectory_id", "duration_us"])
    rows = rows.join(latest, on="trajectory_id", maintain_order="left")
    bad = rows.filter(pl.col("last") > pl.col("duration_us").fill_null(-1))
    what = "duration_us does not reach the last known time"
    yield from faults("trajectories", bad, what, show=["duration_us", "last"])


def _waits(tables: Tables) -> pl.DataFrame:
    """Each turn with each turn that it waits for: trajectory_id, turn, clock, start_us, and the
    other's number, end_us and clock. What wait_for names and is not there has a null end.
    """
    rows = tables.frame("turns", [*TURN, "lane", "wait_for", "clock", "start_us"])
    waits = rows.explode("wait_for").rename({"wait_for": "other"}).drop_nulls("other")
    ended = tables.frame("turns", [*TURN, "lane", "end_us", "clock"]).unique(TURN, keep="first")
    names = {"lane": "other_lane", "end_us": "other_end_us", "clock": "other_clock"}
    ended = ended.rename({"turn": "other", **names})
    return waits.join(ended, on=["trajectory_id", "other"], how="left", maintain_order="left")


CHECKS = (
    Check(times_ordered),
    Check(clock_none),
    Check(starts_after_wait_for),
    Check(delays),
    Check(delay_parts),
    Check(permission_within_span),
    Check(duration_covers),
)
