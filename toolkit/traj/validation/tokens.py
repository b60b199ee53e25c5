"""Checks of counted lengths: every text is counted again, and what follows from lengths is too."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.validation.inputs import ranges
from traj.validation.order import first_of_context, with_text
from traj.validation.report import Check, Fault, faults
from traj.validation.tools import ASKED, requested

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

MESSAGE = ("trajectory_id", "message")
TURN = ("trajectory_id", "turn")


def message_tokens(tables: Tables) -> Iterator[Fault]:
    """The tokens and reasoning_tokens of messages are what the tokenizer counts."""
    import polars as pl

    tables.need_text()
    tokens, reasoning = pl.col("tokens"), pl.col("kind") == "reasoning"
    found = (
        tables.once(_recount)
        .group_by(MESSAGE)
        .agg(tokens_found=tokens.sum(), reasoning_tokens_found=tokens.filter(reasoning).sum())
    )
    names = ["tokens", "reasoning_tokens"]
    rows = tables.frame("messages", [*MESSAGE, *names])
    rows = rows.join(found, on=MESSAGE, how="left", maintain_order="left")
    for name in names:
        bad = rows.filter(pl.col(name).ne_missing(pl.col(f"{name}_found").fill_null(0)))
        what = f"{name} is not what the tokenizer counts"
        yield from faults("messages", bad, what, show=[name, f"{name}_found"])


def prompt_tokens(tables: Tables) -> Iterator[Fault]:
    """The tokens of prompts are what the tokenizer counts."""
    import polars as pl

    if "prompts" not in tables.own:
        return
    for batch in tables.batches("prompts", ["prompt_id", "content", "tokens"]):
        counts = pl.Series(tables.count(batch["content"].fill_null("").to_list()), dtype=pl.Int64)
        rows = batch.with_columns(found=counts)
        bad = rows.filter(pl.col("tokens").ne_missing(pl.col("found")))
        what = "tokens is not what the tokenizer counts"
        yield from faults("prompts", bad, what, show=["tokens", "found"])


def argument_tokens(tables: Tables) -> Iterator[Fault]:
    """The argument_tokens of calls are what the tokenizer counts of the arguments asked for."""
    import polars as pl

    tables.need_text()
    counts = tables.once(_recount).filter(pl.col("kind") == "arguments")
    found = tables.once(requested).join(counts, on=[*MESSAGE, "place"], maintain_order="left")
    rows = _calls_with_message(tables, ["argument_tokens"])
    rows = rows.join(found, on=ASKED, maintain_order="left")
    bad = rows.filter(pl.col("argument_tokens").ne_missing(pl.col("tokens")))
    what = "argument_tokens is not what the tokenizer counts"
    yield from faults("tool_calls", bad, what, show=["argument_tokens", "tokens"])


def results(tables: Tables) -> Iterator[Fault]:
    """The result_tokens and result_bytes of calls are those of the tool message that answers, null
    where there is none.
    """
    import polars as pl

    tables.need_text()
    contents = tables.once(_recount).filter(pl.col("kind") == "content")
    answers = (
        tables.frame("messages", [*MESSAGE, "role", "tool_call_id"])
        .filter(pl.col("role") == "tool")
        .drop_nulls("tool_call_id")
        .join(contents, on=MESSAGE, how="left")  # one without text answers its call all the same
    )
    rows = _calls_with_message(tables, ["result_tokens", "result_bytes"])
    # Some providers use an id again: a call is answered by the first result after it.
    rows = (
        rows.drop_nulls("message")
        .sort("message")
        .join_asof(
            answers.select("trajectory_id", "tool_call_id", "message", "tokens", "bytes").sort(
                "message"
            ),
            on="message",
            by=["trajectory_id", "tool_call_id"],
            strategy="forward",
            allow_exact_matches=False,
            check_sortedness=False,
        )
    )
    rows = rows.sort("trajectory_id", "call")
    for name, found in (("result_tokens", "tokens"), ("result_bytes", "bytes")):
        # A result without text (an image alone) has no text to count: null and 0 are both right.
        bad = rows.filter(
            pl.col(name).ne_missing(pl.col(found))
            & ~((pl.col(name) == 0) & pl.col(found).is_null()).fill_null(value=False)
        )
        what = f"{name} is not that of the message that answers the call"
        yield from faults("tool_calls", bad, what, show=[name, found])


def counted_input(tables: Tables) -> Iterator[Fault]:
    """counted_input_tokens is the sum over the prompts and the messages of input, without the
    reasoning of earlier answers unless it was kept.
    """
    import polars as pl

    tables.need_text()
    rows = with_text(tables, tables.once(_counted_input))
    bad = rows.filter(
        pl.col("found").is_not_null(), pl.col("counted_input_tokens").ne_missing(pl.col("found"))
    )
    what = "counted_input_tokens is not the sum over the prompt's parts"
    yield from faults("turns", bad, what, show=["counted_input_tokens", "found"])


def counted_output(tables: Tables) -> Iterator[Fault]:
    """counted_output_tokens is the tokens of the output, 0 where there is none."""
    import polars as pl

    tables.need_text()
    rows = with_text(tables, tables.frame("turns", [*TURN, "output", "counted_output_tokens"]))
    lengths = tables.frame("messages", [*MESSAGE, "tokens"]).rename({"message": "output"})
    rows = rows.join(lengths, on=["trajectory_id", "output"], how="left", maintain_order="left")
    expected = pl.when(pl.col("output").is_null()).then(0).otherwise("tokens")
    bad = rows.filter(pl.col("counted_output_tokens").ne_missing(expected))
    what = "counted_output_tokens is not the length of the output"
    yield from faults("turns", bad, what, show=["counted_output_tokens", "tokens"])


def unseen_input(tables: Tables) -> Iterator[Fault]:
    """unseen_input_tokens is input_tokens less counted_input_tokens at the first turn of a context,
    else null.
    """
    import polars as pl

    names = ["input_tokens", "counted_input_tokens", "unseen_input_tokens"]
    rows = tables.frame("turns", [*TURN, "lane", "context", *names])
    rows = rows.with_columns(
        expected=pl.when(first_of_context()).then(pl.col(names[0]) - pl.col(names[1]))
    )
    bad = rows.filter(pl.col("unseen_input_tokens").ne_missing(pl.col("expected")))
    what = "unseen_input_tokens is not what input_tokens leaves over"
    yield from faults("turns", bad, what, show=["unseen_input_tokens", "expected"])


def _counted_input(tables: Tables) -> pl.DataFrame:
    """Turns with `found`, the recomputed counted_input_tokens; null where a part of the prompt is
    missing (other checks report that).

    A range's length is a difference of running sums, so the cost does not grow with the prompts.
    """
    import polars as pl

    kept = pl.col("earlier_reasoning") == "kept"
    lengths = tables.frame("messages", [*MESSAGE, "tokens", "reasoning_tokens"]).sort(MESSAGE)
    lengths = lengths.with_columns(pl.col("tokens", "reasoning_tokens").cast(pl.Int64))
    sums = lengths.select(
        *MESSAGE,
        whole=pl.col("tokens").cum_sum(),
        plain=(pl.col("tokens") - pl.col("reasoning_tokens")).cum_sum(),
    )
    before = lengths.select(
        *MESSAGE,
        whole=sums["whole"] - lengths["tokens"],
        plain=sums["plain"] - lengths["tokens"] + lengths["reasoning_tokens"],
    )
    names = ["earlier_reasoning", "system_id", "tools_id", "counted_input_tokens"]
    turns = tables.frame("turns", [*TURN, *names])
    spans = tables.once(ranges).with_columns(last=pl.col("stop") - 1)
    for column, of in (("start", before), ("last", sums)):
        on = ["trajectory_id", column]
        spans = spans.join(of.rename({"message": column}), on=on, how="left", suffix="_last")
    spans = spans.group_by(TURN).agg(
        whole=(pl.col("whole_last") - pl.col("whole")).sum(),
        plain=(pl.col("plain_last") - pl.col("plain")).sum(),
        holes=(pl.col("whole_last") - pl.col("whole")).null_count(),
    )
    turns = turns.join(spans, on=TURN, how="left", maintain_order="left")
    found = pl.when(kept).then("whole").otherwise("plain").fill_null(0)
    fronts = tables.frame("prompts", ["prompt_id", "tokens"]).unique("prompt_id")
    for column in ("tools_id", "system_id"):
        one = fronts.rename({"prompt_id": column, "tokens": f"{column}_tokens"})
        turns = turns.join(one, on=column, how="left", maintain_order="left")
        none = pl.col(column).is_null()
        found = found + pl.when(none).then(0).otherwise(f"{column}_tokens")
    return turns.with_columns(found=pl.when(pl.col("holes").fill_null(0) == 0).then(found))


def _recount(tables: Tables) -> pl.DataFrame:
    """The length of every text of every message: trajectory_id, message, place (of the call in the
    message, null for its other texts), kind (content, reasoning, name, arguments), tokens, bytes.

    A row group at a time; in it each distinct text is tokenised once.
    """
    import polars as pl

    columns = ["content", "reasoning", "tool_calls"]
    types = {"place": pl.Int64, "kind": pl.String, "tokens": pl.Int64, "bytes": pl.Int64}
    found = [
        tables.frame("messages", MESSAGE)
        .head(0)
        .with_columns(pl.lit(None, dtype=type_).alias(name) for name, type_ in types.items())
    ]
    for batch in tables.batches("messages", [*MESSAGE, *columns]):
        texts = _texts(batch)
        distinct = texts["text"].unique()
        counts = pl.Series(tables.count(distinct.to_list()), dtype=pl.Int64)
        lengths = pl.DataFrame({"text": distinct, "tokens": counts})
        counted = texts.join(lengths, on="text", how="left", maintain_order="left")
        size = pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes")
        found.append(counted.select(*MESSAGE, "place", "kind", "tokens", size))
    return pl.concat(found)


def _texts(batch: pl.DataFrame) -> pl.DataFrame:
    """All texts of messages in one column: trajectory_id, message, place, kind, text."""
    import polars as pl

    none = pl.lit(None, dtype=pl.Int64).alias("place")
    calls = batch.filter(pl.col("tool_calls").list.len() > 0).explode("tool_calls")
    place = pl.int_range(pl.len(), dtype=pl.Int64).over(MESSAGE).alias("place")
    whole = [
        batch.select(*MESSAGE, none, kind=pl.lit(name), text=pl.col(name))
        for name in ("content", "reasoning")
    ]
    whole += [
        calls.select(
            *MESSAGE, place, kind=pl.lit(name), text=pl.col("tool_calls").struct.field(name)
        )
        for name in ("name", "arguments")
    ]
    return pl.concat(whole).drop_nulls("text")


def _calls_with_message(tables: Tables, columns: list[str]) -> pl.DataFrame:
    """Rows of tool_calls with some more columns, the message that asked, and `nth` as in
    `requested`.
    """
    import polars as pl

    names = ["trajectory_id", "call", "turn", "tool_call_id", *columns]
    outputs = tables.frame("turns", [*TURN, "output"]).unique(TURN).rename({"output": "message"})
    rows = tables.frame("tool_calls", names).sort("trajectory_id", "call")
    rows = rows.join(outputs, on=TURN, how="left", maintain_order="left")
    nth = pl.int_range(pl.len()).over("trajectory_id", "turn", "tool_call_id")
    return rows.with_columns(nth=nth)


CHECKS = (
    Check(message_tokens),
    Check(prompt_tokens),
    Check(argument_tokens),
    Check(results),
    Check(counted_input),
    Check(counted_output),
    Check(unseen_input),
)
