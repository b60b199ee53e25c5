"""Checks of tool calls: who asked for them, what answered them, and the lanes they started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.validation.order import LOST_LANE, lost
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

LOST_RESULT = "unmatched_tool_result"
ASKED = ("trajectory_id", "message", "tool_call_id", "nth")


def message_fields(tables: Tables) -> Iterator[Fault]:
    """Only assistant messages ask for tool calls and have reasoning, and only tool messages name a
    call that they answer.
    """
    import polars as pl

    names = ["trajectory_id", "message", "role", "tool_call_id", "name", "reasoning_tokens"]
    rows = tables.frame("messages", names)
    asking = tables.once(requested).select("trajectory_id", "message").unique()
    asking = rows.join(asking, on=["trajectory_id", "message"], how="semi", maintain_order="left")
    assistant, tool = pl.col("role") == "assistant", pl.col("role") == "tool"
    what = "a message that is no assistant's asks for tool calls"
    yield from faults("messages", asking.filter(~assistant), what, show=["role"])
    reasoning = rows.filter(~assistant, pl.col("reasoning_tokens") > 0)
    what = "a message that is no assistant's has reasoning"
    yield from faults("messages", reasoning, what, show=["role"])
    answering = pl.any_horizontal(pl.col("tool_call_id", "name").is_not_null())
    what = "a message that is no tool's names a tool or a call"
    yield from faults("messages", rows.filter(~tool, answering), what, show=["role"])


def calls_requested(tables: Tables) -> Iterator[Fault]:
    """Every tool call was asked for by the output of its turn, under this id and name."""
    import polars as pl

    tables.need_text()
    rows = tables.once(_calls).join(
        tables.once(requested), on=ASKED, how="left", suffix="_asked", maintain_order="left"
    )
    lost = rows.filter(pl.col("place").is_null())
    what = "the turn's output did not ask for the call"
    yield from faults("tool_calls", lost, what, show=["turn", "tool_call_id"])
    named = rows.filter(pl.col("name") != pl.col("name_asked"))
    what = "the call has not the name that was asked for"
    yield from faults("tool_calls", named, what, show=["name", "name_asked"])


def requests_recorded(tables: Tables) -> Iterator[Fault]:
    """Every tool call that a turn's output asks for has its row in tool_calls."""
    tables.need_text()
    turns = tables.frame("turns", ["trajectory_id", "turn", "output"]).drop_nulls("output")
    asked = tables.once(requested).join(
        turns.rename({"output": "message"}).unique(["trajectory_id", "message"]),
        on=["trajectory_id", "message"],
        maintain_order="left",
    )
    bad = asked.join(tables.once(_calls), on=ASKED, how="anti", maintain_order="left")
    what = "a tool call that was asked for has no row in tool_calls"
    yield from faults("messages", bad, what, show=["turn", "tool_call_id"])


def calls_in_order(tables: Tables) -> Iterator[Fault]:
    """Calls are numbered by turn, then by their place in the answer."""
    import polars as pl

    rows = tables.once(_calls)
    if tables.dataset.files("messages"):
        places = tables.once(requested).select(*ASKED, "place")
        rows = rows.join(places, on=ASKED, how="left", maintain_order="left")
    else:
        rows = rows.with_columns(place=pl.lit(None, dtype=pl.Int64))
    rows = rows.sort("trajectory_id", "call")
    turn, place = (pl.col(name).shift().over("trajectory_id") for name in ("turn", "place"))
    same = (pl.col("turn") == turn) & (pl.col("place") < place)
    what = "the call stands after one of a later turn, or of a later place in the answer"
    yield from faults("tool_calls", rows.filter((pl.col("turn") < turn) | same), what)


def call_lanes(tables: Tables) -> Iterator[Fault]:
    """A call's lane is that of its turn."""
    import polars as pl

    rows = tables.frame("tool_calls", ["trajectory_id", "call", "turn", "lane"])
    turns = tables.frame("turns", ["trajectory_id", "turn", "lane"])
    turn = ["trajectory_id", "turn"]
    rows = rows.join(turns, on=turn, suffix="_of_turn", maintain_order="left")
    bad = rows.filter(pl.col("lane") != pl.col("lane_of_turn"))
    what = "the call's lane is not its turn's"
    yield from faults("tool_calls", bad, what, show=["lane", "lane_of_turn"])


def results_matched(tables: Tables) -> Iterator[Fault]:
    """Every tool message answers a call that was asked for earlier in the trajectory, or the
    trajectory lists a loss of kind unmatched_tool_result.
    """
    import polars as pl

    tables.need_text()
    call = ["trajectory_id", "tool_call_id"]
    first = tables.once(requested).group_by(call).agg(asked=pl.col("message").min())
    rows = tables.frame("messages", ["trajectory_id", "message", "role", "tool_call_id"])
    rows = rows.filter(pl.col("role") == "tool")
    rows = rows.join(first, on=call, how="left", maintain_order="left")
    bad = rows.filter(~(pl.col("asked") < pl.col("message")).fill_null(value=False))
    bad = bad.join(lost(tables, LOST_RESULT), on="trajectory_id", how="anti", maintain_order="left")
    what = "the tool message answers no earlier call"
    yield from faults("messages", bad, what, show=["tool_call_id"])


def spawned_lanes(tables: Tables) -> Iterator[Fault]:
    """A lane that a call started has turns, or the trajectory lists a loss of kind
    subagent_without_turns.
    """
    rows = tables.frame("tool_calls", ["trajectory_id", "call", "spawned_lane"])
    lanes = tables.frame("turns", ["trajectory_id", "lane"]).unique()
    bad = rows.drop_nulls("spawned_lane").join(
        lanes,
        how="anti",
        left_on=["trajectory_id", "spawned_lane"],
        right_on=["trajectory_id", "lane"],
        maintain_order="left",
    )
    bad = bad.join(lost(tables, LOST_LANE), on="trajectory_id", how="anti", maintain_order="left")
    what = "the lane that the call started has no turns"
    yield from faults("tool_calls", bad, what, show=["spawned_lane"])


def requested(tables: Tables) -> pl.DataFrame:
    """All calls that messages ask for: trajectory_id, message, tool_call_id, name, place (from 0 in
    its message), nth (of the calls of its message with that id, from 0). Arguments are let go.
    """
    import polars as pl

    columns = ["trajectory_id", "message", "tool_calls"]
    found = [_flat(tables.frame("messages", columns[:2]).head(0).with_columns(_no_calls()))]
    found += [_flat(batch) for batch in tables.batches("messages", columns)]
    whole = pl.concat(found)
    nth = pl.int_range(pl.len()).over("trajectory_id", "message", "tool_call_id")
    return whole.with_columns(nth=nth)


def _calls(tables: Tables) -> pl.DataFrame:
    """Rows of tool_calls with `message`, the output of their turn, and `nth` as in `requested`."""
    import polars as pl

    columns = ["trajectory_id", "call", "turn", "tool_call_id", "name"]
    turns = tables.frame("turns", ["trajectory_id", "turn", "output"]).rename({"output": "message"})
    rows = (
        tables.frame("tool_calls", columns)
        .sort("trajectory_id", "call")
        .join(
            turns.unique(["trajectory_id", "turn"]),
            on=["trajectory_id", "turn"],
            how="left",
            maintain_order="left",
        )
    )
    nth = pl.int_range(pl.len()).over("trajectory_id", "turn", "tool_call_id")
    return rows.with_columns(nth=nth)


def _no_calls() -> pl.Expr:
    import polars as pl

    fields = {"id": pl.String, "name": pl.String, "arguments": pl.String}
    return pl.lit(None, dtype=pl.List(pl.Struct(fields))).alias("tool_calls")


def _flat(batch: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    calls = batch.drop_nulls("tool_calls").filter(pl.col("tool_calls").list.len() > 0)
    calls = calls.explode("tool_calls")
    field = pl.col("tool_calls").struct.field
    return calls.select(
        "trajectory_id",
        "message",
        field("id").alias("tool_call_id"),
        field("name"),
        pl.int_range(pl.len(), dtype=pl.Int64).over("trajectory_id", "message").alias("place"),
    )


CHECKS = (
    Check(message_fields),
    Check(calls_requested),
    Check(requests_recorded),
    Check(calls_in_order),
    Check(call_lanes),
    Check(results_matched),
    Check(spawned_lanes),
)
