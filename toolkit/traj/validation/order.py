"""Checks of order and numbering: rows in files, and turns, messages, calls, lanes and contexts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj import schema
from traj.dataset import TRAJECTORY_TABLES
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

LOST_LANE = "subagent_without_turns"
LOST_MAIN = "main_lane_missing"
NO_TEXT = "no_text"


def trajectories_sorted(tables: Tables) -> Iterator[Fault]:
    """In every table and split the rows lie in the order of their trajectory ids."""
    import polars as pl

    runs = tables.once(_runs)
    before = pl.col("trajectory_id").shift().over("table", "split")
    descending = runs.filter(pl.col("trajectory_id") < before)
    for (table,), bad in descending.group_by("table", maintain_order=True):
        what = "the trajectory stands after one with a greater id"
        yield from faults(str(table), bad, what, at=["trajectory_id", "file"])


def trajectories_whole(tables: Tables) -> Iterator[Fault]:
    """No trajectory's rows in a table are spread over two files or row groups."""
    import polars as pl

    runs = tables.once(_runs).unique(["table", "file", "group", "trajectory_id"])
    split = runs.filter(pl.struct("table", "trajectory_id").is_duplicated())
    split = split.sort("table", "trajectory_id", "file", "group")
    split = split.unique(["table", "trajectory_id"], keep="first", maintain_order=True)
    for (table,), bad in split.group_by("table", maintain_order=True):
        what = "the trajectory lies in more than one file or row group"
        yield from faults(str(table), bad, what, at=["trajectory_id", "file"])


def rows_sorted(tables: Tables) -> Iterator[Fault]:
    """A trajectory's rows, and the prompts, lie in the order of their key."""
    import polars as pl

    for table in tables.own:
        if table == "trajectories":
            continue  # trajectories_sorted
        key = list(schema.table(table).key)
        last = pl.col(key[-1])
        before = last.shift().over(key[:-1]) if key[:-1] else last.shift()
        bad = tables.frame(table, key).filter(last < before)
        yield from faults(table, bad, f"the row stands after one with a greater {key[-1]}")


def dense_numbers(tables: Tables) -> Iterator[Fault]:
    """Turns, messages and calls of a trajectory, and the contexts of a lane, are numbered densely
    from 0.
    """
    for table, column in (("turns", "turn"), ("messages", "message"), ("tool_calls", "call")):
        rows = tables.frame(table, ["trajectory_id", column])
        yield from _holes(table, rows, ["trajectory_id"], column)
    rows = tables.frame("turns", ["trajectory_id", "lane", "context"])
    yield from _holes("turns", rows, ["trajectory_id", "lane"], "context")


def dense_lanes(tables: Tables) -> Iterator[Fault]:
    """The lanes of a trajectory's turns are numbered densely from 0, but for a main agent or
    sub-agents that the losses say have no turns.
    """
    rows = tables.frame("turns", ["trajectory_id", "lane"])
    for kind in (LOST_LANE, LOST_MAIN):
        rows = rows.join(lost(tables, kind), on="trajectory_id", how="anti", maintain_order="left")
    yield from _holes("turns", rows, ["trajectory_id"], "lane")


def turns_by_start(tables: Tables) -> Iterator[Fault]:
    """Turns are numbered in the order of their starts."""
    import polars as pl

    rows = tables.frame("turns", ["trajectory_id", "turn", "start_us"])
    rows = rows.drop_nulls("start_us").sort("trajectory_id", "turn")
    later = pl.col("start_us") < pl.col("start_us").shift().over("trajectory_id")
    what = "the turn started before the turn in front of it"
    yield from faults("turns", rows.filter(later), what, show=["start_us"])


def messages_by_lane(tables: Tables) -> Iterator[Fault]:
    """Messages are numbered lane by lane."""
    import polars as pl

    rows = tables.frame("messages", ["trajectory_id", "message", "lane"])
    rows = rows.sort("trajectory_id", "message")
    bad = rows.filter(pl.col("lane") < pl.col("lane").shift().over("trajectory_id"))
    yield from faults("messages", bad, "the message stands after one of a later lane")


def lane_facts(tables: Tables) -> Iterator[Fault]:
    """A lane keeps its kind and name over all its turns, and lane 0 alone is the main agent."""
    import polars as pl

    rows = tables.frame("turns", ["trajectory_id", "turn", "lane", "lane_kind", "lane_name"])
    first = pl.struct("lane_kind", "lane_name").sort_by("turn").first()
    first = first.over("trajectory_id", "lane")
    changed = rows.filter(pl.struct("lane_kind", "lane_name").ne_missing(first))
    yield from faults("turns", changed, "the lane's kind or name is not that of its first turn")
    main = rows.filter((pl.col("lane") == 0) != (pl.col("lane_kind") == "main"))
    yield from faults("turns", main, "lane 0 and no other is main", show=["lane", "lane_kind"])


def context_order(tables: Tables) -> Iterator[Fault]:
    """A lane's contexts follow one another: a turn's context is never less than an earlier's."""
    import polars as pl

    rows = tables.frame("turns", ["trajectory_id", "turn", "lane", "context"])
    rows = rows.sort("trajectory_id", "turn")
    bad = rows.filter(pl.col("context") < pl.col("context").shift().over("trajectory_id", "lane"))
    yield from faults("turns", bad, "the turn goes back to an earlier context", show=["context"])


def context_reasons(tables: Tables) -> Iterator[Fault]:
    """context_reason stands on the first turn of each context and nowhere else, and is `start` for
    context 0 and no other.
    """
    import polars as pl

    columns = ["trajectory_id", "turn", "lane", "context", "context_reason"]
    rows = tables.frame("turns", columns).with_columns(first=first_of_context())
    reason = pl.col("context_reason")
    what = "the first turn of a context gives no reason"
    yield from faults("turns", rows.filter("first", reason.is_null()), what)
    what = "a later turn of a context gives a reason"
    bad = rows.filter(~pl.col("first"), reason.is_not_null())
    yield from faults("turns", bad, what, show=["context_reason"])
    starts = (reason == "start") != (pl.col("context") == 0)
    what = "context_reason start and context 0 do not go together"
    bad = rows.filter("first", starts)
    yield from faults("turns", bad, what, show=["context", "context_reason"])


def first_of_context() -> pl.Expr:
    """On turns: whether the turn is the first of its context."""
    import polars as pl

    return pl.col("turn") == pl.col("turn").min().over("trajectory_id", "lane", "context")


def with_text(tables: Tables, rows: pl.DataFrame) -> pl.DataFrame:
    """Rows but for those of trajectories whose source held lengths and times alone."""
    return rows.join(lost(tables, NO_TEXT), on="trajectory_id", how="anti", maintain_order="left")


def lost(tables: Tables, kind: str) -> pl.DataFrame:
    """The ids of the trajectories that list a loss of this kind."""
    import polars as pl

    kinds = pl.col("losses").list.eval(pl.element().struct.field("kind") == kind).list.any()
    return (
        tables.frame("trajectories", ["trajectory_id", "losses"])
        .filter(kinds)
        .select("trajectory_id")
    )


def _holes(table: str, rows: pl.DataFrame, group: list[str], number: str) -> Iterator[Fault]:
    """Groups whose distinct numbers are not 0 to n - 1."""
    import polars as pl

    counted = rows.group_by(group, maintain_order=True).agg(
        distinct=pl.col(number).n_unique(), least=pl.col(number).min(), most=pl.col(number).max()
    )
    bad = counted.filter((pl.col("least") != 0) | (pl.col("most") + 1 != pl.col("distinct")))
    what = f"{number} is not numbered densely from 0"
    yield from faults(table, bad, what, at=group, show=["distinct", "least", "most"])


def _runs(tables: Tables) -> pl.DataFrame:
    """Runs of equal trajectory ids in file order: table, split, file, group, trajectory_id."""
    import polars as pl

    columns = {"table": pl.String, "split": pl.String, "file": pl.String, "group": pl.Int64}
    found = [pl.DataFrame(schema={**columns, "trajectory_id": pl.String})]
    for table in TRAJECTORY_TABLES:
        for file in tables.files(table):
            batches = tables.file_batches(file, ["trajectory_id"])
            for group, ids in enumerate(batches):
                distinct = pl.col("trajectory_id").rle_id().is_first_distinct()
                place = {"table": table, "split": file.split, "file": file.path}
                constants = [pl.lit(value).alias(name) for name, value in place.items()]
                number = pl.lit(group, dtype=pl.Int64).alias("group")
                found.append(ids.filter(distinct).select(*constants, number, "trajectory_id"))
    return pl.concat(found)


CHECKS = (
    Check(trajectories_sorted, scope="dataset"),
    Check(trajectories_whole, scope="dataset"),
    Check(rows_sorted),
    Check(dense_numbers),
    Check(dense_lanes),
    Check(turns_by_start),
    Check(messages_by_lane),
    Check(lane_facts),
    Check(context_order),
    Check(context_reasons),
)
