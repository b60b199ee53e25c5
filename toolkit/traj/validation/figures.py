"""Checks of the providers' figures, and of the totals."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj import schema
from traj.validation.report import Check, Fault, Severity, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

TURN = ("trajectory_id", "turn")
USAGE = (
    *("input_tokens", "cached_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens"),
)
NOT_ON_THE_WIRE = "not_on_the_wire"
SAME_END_US = 1_000_000  # two records of one answer differ by less; runs in turn by more
COUNTED = ("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens")


def cached_within_input(tables: Tables) -> Iterator[Fault]:
    """Tokens read from and written to the provider's cache are no more than the input; partial
    figures that are at odds are a finding, not an error.
    """
    names = ("input_tokens", "cached_tokens", "cache_write_tokens")
    yield from _within(tables, names, "cached and written tokens exceed input_tokens")


def reasoning_within_output(tables: Tables) -> Iterator[Fault]:
    """Reasoning tokens are no more than the output; partial figures that are at odds are a
    finding, not an error.
    """
    names = ("output_tokens", "reasoning_tokens")
    yield from _within(tables, names, "reasoning_tokens exceed output_tokens")


def usage_none(tables: Tables) -> Iterator[Fault]:
    """usage_source is none just where all five of the provider's figures are null."""
    import polars as pl

    rows = tables.frame("turns", [*TURN, "usage_source", *USAGE])
    none = pl.col("usage_source") == "none"
    known = pl.any_horizontal(pl.col(*USAGE).is_not_null())
    what = "usage_source is none, but there are figures"
    yield from faults("turns", rows.filter(none & known), what, show=USAGE)
    what = "usage_source claims figures, but there are none"
    yield from faults("turns", rows.filter(~none & ~known), what, show=["usage_source"])


def counted_cached_within_input(tables: Tables) -> Iterator[Fault]:
    """counted_cached_tokens is no more than counted_input_tokens."""
    import polars as pl

    names = ["counted_input_tokens", "counted_cached_tokens"]
    rows = tables.frame("turns", [*TURN, *names])
    bad = rows.filter(pl.col(names[1]) > pl.col(names[0]))
    yield from faults(
        "turns", bad, "counted_cached_tokens exceeds counted_input_tokens", show=names
    )


def totals(tables: Tables) -> Iterator[Fault]:
    """A trajectory's totals are the sums over its rows in the other tables; a sum skips unknown
    figures and is null where no turn has one.
    """
    import polars as pl

    heads = tables.frame("trajectories", ["trajectory_id", "totals"]).unnest("totals")
    sums = _sums(tables)
    rows = heads.join(sums, on="trajectory_id", how="left", suffix="_found", maintain_order="left")
    for field in schema.table("trajectories").column("totals").fields:
        if field.name == "messages" and not tables.dataset.files("messages"):
            continue  # a dataset without text still says how many there were
        found = pl.col(f"{field.name}_found")
        found = found if field.nullable else found.fill_null(0)
        bad = rows.filter(pl.col(field.name).ne_missing(found))
        what = f"totals.{field.name} is not what the rows give"
        show = [field.name, f"{field.name}_found"]
        yield from faults("trajectories", bad, what, show=show)


def logged_usage_agrees(tables: Tables) -> Iterator[Fault]:
    """The figures of the agent's own log are those on the wire, where both are known."""
    import polars as pl

    rows = tables.frame("turns", [*TURN, *USAGE, "logged_usage"])
    logged = rows.select(
        pl.col("logged_usage").struct.rename_fields([_logged(name) for name in USAGE])
    )
    rows = rows.drop("logged_usage").hstack(logged.unnest("logged_usage"))
    for name in USAGE:
        what = f"{name} on the wire is not what the agent's own log says"
        show = [name, _logged(name)]
        bad = rows.filter(pl.col(name) != pl.col(_logged(name)))
        yield from faults("turns", bad, what, show=show)


def all_on_the_wire(tables: Tables) -> Iterator[Fault]:
    """No answer of the agent's own log, of the time of a live recording, is missing on the wire."""
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "losses"]).explode("losses")
    lost = pl.col("losses").struct.field("kind") == NOT_ON_THE_WIRE
    rows = rows.filter(lost).with_columns(answers=pl.col("losses").struct.field("count"))
    what = "the agent's own log has answers that are not on the wire"
    yield from faults("trajectories", rows, what, show=["answers"])


def answers_counted_once(tables: Tables) -> Iterator[Fault]:
    """No answer is counted in two trajectories, as two records of one run would have it: with the
    same id and input, and ends that lie within a second or are not known.
    """
    import polars as pl

    # Ids are read twice, and hashes of them held: those of a whole dataset are many.
    ids = tables.batches("turns", ["trajectory_id", "response_id"])
    hashes = [one.drop_nulls().unique()["response_id"].hash() for one in ids]
    seen = pl.concat([pl.Series([], dtype=pl.UInt64), *hashes])
    several = seen.filter(seen.is_duplicated()).unique()
    if several.is_empty():
        return
    alike = ["response_id", "input_tokens"]  # output is partial in some records
    turns = tables.batches("turns", [*TURN, "end_us", *alike])
    rows = pl.concat(
        one.filter(one["response_id"].hash().is_in(several.implode())) for one in turns
    )
    heads = tables.frame("trajectories", ["trajectory_id", "started_at"])
    starts = heads.select("trajectory_id", start=pl.col("started_at").dt.epoch("us"))
    rows = rows.drop_nulls("response_id").join(starts, on="trajectory_id")
    rows = rows.with_columns(end=pl.col("start") + pl.col("end_us"))
    # Each beside the one before it, not all pairs: where models number their answers, an id is in
    # every trajectory.
    rows = rows.sort(*alike, "end", *TURN, nulls_last=True).with_columns(
        other=pl.col("trajectory_id").shift().over(alike),
        after_us=pl.col("end").diff().over(alike),
    )
    near = pl.col("after_us").fill_null(0) <= SAME_END_US
    bad = rows.filter(pl.col("other") != pl.col("trajectory_id"), near).sort(TURN)
    what = "the answer is counted in another trajectory too; if both record one run, keep one"
    yield from faults("turns", bad, what, show=["other", "response_id"])


def _logged(name: str) -> str:
    return f"logged_{name}"


def _within(tables: Tables, names: tuple[str, ...], what: str) -> Iterator[Fault]:
    """Turns whose first figure is less than the sum of the others; unknown ones count as 0."""
    import polars as pl

    rows = tables.frame("turns", [*TURN, "usage_source", *names])
    bad = rows.filter(pl.sum_horizontal(names[1:]) > pl.col(names[0]))
    partial = pl.col("usage_source") == "partial"
    kinds: tuple[tuple[pl.Expr, Severity, str], ...] = (
        (~partial, "error", what),
        (partial, "finding", f"{what}, by partial figures"),
    )
    for which, severity, text in kinds:
        yield from faults("turns", bad.filter(which), text, show=names, severity=severity)


def _sums(tables: Tables) -> pl.DataFrame:
    """What the totals of each trajectory must be, by the names of the totals' fields."""
    import polars as pl

    figures = [*USAGE, *COUNTED]
    turns = tables.frame("turns", ["trajectory_id", "lane", "context", *figures])
    known = [
        pl.when(pl.col(name).is_not_null().any()).then(pl.col(name).sum()).alias(name)
        for name in figures
    ]
    sums = turns.group_by("trajectory_id").agg(
        *known,
        turns=pl.len(),
        lanes=pl.col("lane").n_unique(),
        contexts=pl.struct("lane", "context").n_unique(),
    )
    for table in ("messages", "tool_calls"):
        count = tables.frame(table, ["trajectory_id"]).group_by("trajectory_id").len(table)
        sums = sums.join(count, on="trajectory_id", how="full", coalesce=True)
    return sums


CHECKS = (
    Check(cached_within_input),
    Check(reasoning_within_output),
    Check(usage_none),
    Check(counted_cached_within_input),
    Check(totals),
    Check(logged_usage_agrees, "finding"),
    Check(all_on_the_wire, "finding"),
    Check(answers_counted_once, "finding", scope="dataset"),
)
