"""Checks of what a turn sends and gets: ranges of messages, an answer, the turns it waits for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.validation.order import lost, with_text
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

LOST_ANSWER = "answer_not_recorded"


def input_bounds(tables: Tables) -> Iterator[Fault]:
    """Every range of an input is non-empty and lies within the trajectory's messages."""
    import polars as pl

    rows = tables.once(ranges)
    empty = rows.filter(pl.col("start") >= pl.col("stop"))
    yield from faults("turns", empty, "a range of input is empty", show=["start", "stop"])
    if not tables.dataset.files("messages"):
        return  # a dataset without text: the messages are not there to be counted
    count = tables.frame("messages", ["trajectory_id"]).group_by("trajectory_id").len("messages")
    rows = rows.join(count, on="trajectory_id", how="left", maintain_order="left")
    beyond = rows.filter(pl.col("stop") > pl.col("messages").fill_null(0))
    what = "a range of input ends after the last message"
    yield from faults("turns", beyond, what, show=["start", "stop", "messages"])


def input_ranges(tables: Tables) -> Iterator[Fault]:
    """The ranges of an input do not overlap, and none begins where the one before it ends."""
    import polars as pl

    turn = ["trajectory_id", "turn"]
    rows = tables.once(ranges)
    touching = rows.filter(pl.col("start") == pl.col("stop").shift().over(turn))
    what = "a range of input touches the one before it: they are to be one"
    yield from faults("turns", touching, what, show=["start", "stop"])
    rows = rows.sort(*turn, "start", "stop", maintain_order=True)
    overlapping = rows.filter(pl.col("start") < pl.col("stop").cum_max().shift().over(turn))
    yield from faults("turns", overlapping, "ranges of input overlap", show=["start", "stop"])


def context_extends(tables: Tables) -> Iterator[Fault]:
    """In a context each prompt extends the one before."""
    import polars as pl

    columns = ["trajectory_id", "turn", "lane", "context", "input"]
    context = ["trajectory_id", "lane", "context"]
    rows = (
        tables.frame("turns", columns)
        .sort("trajectory_id", "turn")
        .with_columns(
            starts=pl.col("input").list.eval(pl.element().struct.field("start")),
            stops=pl.col("input").list.eval(pl.element().struct.field("stop")),
        )
    )
    before = {name: pl.col(name).shift().over(context) for name in ("starts", "stops")}
    rows = rows.with_columns(starts_before=before["starts"], stops_before=before["stops"])
    rows = rows.filter(pl.col("starts_before").list.len() > 0)
    # Ranges do not touch, so an earlier prompt is the front of this one just when its ranges are
    # this one's first, of which the last may have grown.
    length = pl.col("starts_before").list.len()
    last = length - 1
    whole = pl.col("stops").list.head(last) == pl.col("stops_before").list.head(last)
    grown = pl.col("stops").list.get(last, null_on_oob=True) >= pl.col("stops_before").list.last()
    extends = (pl.col("starts").list.head(length) == pl.col("starts_before")) & whole & grown
    what = "the prompt does not extend the one before it in its context"
    yield from faults("turns", rows.filter(~extends.fill_null(value=False)), what, show=["input"])


def outputs(tables: Tables) -> Iterator[Fault]:
    """A turn's output is an assistant message, of this turn alone, and not part of its input."""
    import polars as pl

    turn, message = ["trajectory_id", "turn"], ["trajectory_id", "output"]
    rows = tables.frame("turns", [*turn, "output"]).drop_nulls("output")
    twice = rows.filter(~pl.struct(message).is_first_distinct())
    yield from faults("turns", twice, "another turn has the same output", show=["output"])
    own = tables.once(ranges).join(rows, on=turn, how="inner", maintain_order="left")
    sent = own.filter(pl.col("output").is_between("start", "stop", closed="left"))
    yield from faults("turns", sent, "the turn's output is part of its input", show=["output"])
    roles = tables.frame("messages", ["trajectory_id", "message", "role"])
    rows = rows.join(
        roles, left_on=message, right_on=["trajectory_id", "message"], maintain_order="left"
    )
    other = rows.filter(pl.col("role") != "assistant")
    what = "the turn's output is no assistant message"
    yield from faults("turns", other, what, show=["output", "role"])


def status_and_output(tables: Tables) -> Iterator[Fault]:
    """A turn that is ok has an output, unless the trajectory lists a loss of kind
    answer_not_recorded or no_text; one that failed has none, and no other names an error.
    """
    import polars as pl

    rows = tables.frame("turns", ["trajectory_id", "turn", "status", "output", "error"])
    status, output = pl.col("status"), pl.col("output")
    silent = rows.filter(status == "ok", output.is_null())
    told = lost(tables, LOST_ANSWER)
    silent = silent.join(told, on="trajectory_id", how="anti", maintain_order="left")
    silent = with_text(tables, silent)
    yield from faults("turns", silent, "status is ok, but there is no output")
    answered = rows.filter(status == "error", output.is_not_null())
    yield from faults("turns", answered, "the request failed, but there is an output")
    erring = rows.filter(status != "error", pl.col("error").is_not_null())
    what = "error is given for a request that did not fail"
    yield from faults("turns", erring, what, show=["status", "error"])


def prompt_kinds(tables: Tables) -> Iterator[Fault]:
    """system_id refers to a system prompt, and tools_id to a list of tools."""
    import polars as pl

    tables.need_text()
    kinds = tables.frame("prompts", ["prompt_id", "kind"])
    for column, kind in (("system_id", "system"), ("tools_id", "tools")):
        rows = tables.frame("turns", ["trajectory_id", "turn", column])
        rows = rows.join(kinds, left_on=column, right_on="prompt_id", maintain_order="left")
        bad = rows.filter(pl.col("kind") != kind)
        yield from faults("turns", bad, f"{column} refers to a prompt of another kind")


def wait_for_earlier(tables: Tables) -> Iterator[Fault]:
    """wait_for names strictly earlier turns in ascending order, so that waiting has no cycle."""
    import polars as pl

    rows = tables.frame("turns", ["trajectory_id", "turn", "wait_for"])
    waits = pl.col("wait_for")
    late = rows.filter(waits.list.max() >= pl.col("turn"))
    what = "the turn waits for itself or a later one"
    yield from faults("turns", late, what, show=["wait_for"])
    disordered = rows.filter(waits.list.eval(pl.element().diff() <= 0).list.any())
    yield from faults("turns", disordered, "wait_for does not ascend", show=["wait_for"])


def ranges(tables: Tables) -> pl.DataFrame:
    """The ranges of all inputs in prompt order: trajectory_id, turn, start, stop. Turns without
    messages are left out.
    """
    rows = tables.frame("turns", ["trajectory_id", "turn", "input"])
    return rows.explode("input").drop_nulls("input").unnest("input")


CHECKS = (
    Check(input_bounds),
    Check(input_ranges),
    Check(context_extends, "finding"),
    Check(outputs),
    Check(status_and_output),
    Check(prompt_kinds),
    Check(wait_for_earlier),
)
