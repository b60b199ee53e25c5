"""Checks of hashes over text: messages, trajectories, prompts."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from traj.validation.order import with_text
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    from traj.validation.tables import Tables

MESSAGE = ("trajectory_id", "message")
CANONICAL = (
    *("role", "content", "reasoning", "tool_calls"),
    *("tool_call_id", "name", "attachments"),
)


def message_hashes(tables: Tables) -> Iterator[Fault]:
    """Every message's sha256 is that of its canonical form."""
    import polars as pl

    for batch in tables.batches("messages", [*MESSAGE, *CANONICAL, "sha256"]):
        found = [canonical_sha256(row) for row in batch.select(CANONICAL).iter_rows(named=True)]
        bad = batch.filter(pl.col("sha256").ne_missing(pl.Series(found, dtype=pl.String)))
        what = "sha256 is not that of the message's canonical form"
        yield from faults("messages", bad, what)


def content_hashes(tables: Tables) -> Iterator[Fault]:
    """Every trajectory's content_sha256 is that over its messages' sha256."""
    import polars as pl

    tables.need_text()
    lines = (
        tables.frame("messages", [*MESSAGE, "sha256"])
        .sort(MESSAGE)
        .group_by("trajectory_id", maintain_order=True)
        .agg((pl.col("sha256") + "\n").str.join("").alias("lines"))
    )
    rows = with_text(tables, tables.frame("trajectories", ["trajectory_id", "content_sha256"]))
    rows = rows.join(lines, on="trajectory_id", how="left", maintain_order="left")
    found = pl.Series([_sha256(text or "") for text in rows["lines"]], dtype=pl.String)
    bad = rows.filter(pl.col("content_sha256").ne_missing(found))
    yield from faults("trajectories", bad, "content_sha256 is not that of the messages")


def prompt_ids(tables: Tables) -> Iterator[Fault]:
    """Every prompt_id is the hash of the prompt's kind and content."""
    import polars as pl

    if "prompts" not in tables.own:
        return
    for batch in tables.batches("prompts", ["prompt_id", "kind", "content"]):
        texts = batch.select(text=pl.col("kind") + "\0" + pl.col("content"))["text"]
        found = [_sha256(text or "") for text in texts]
        bad = batch.filter(pl.col("prompt_id").ne_missing(pl.Series(found, dtype=pl.String)))
        yield from faults("prompts", bad, "prompt_id is not the hash of kind and content")


def canonical_sha256(message: dict[str, Any]) -> str:
    """The hash of a message, given as the columns of CANONICAL, by the definition in
    schema/v1/messages.toml.
    """
    import orjson

    form = {key: value for key, value in message.items() if value is not None}
    if "attachments" in form:
        names = ("media_type", "sha256", "bytes")
        form["attachments"] = [
            one and {name: one[name] for name in names if one[name] is not None}
            for one in form["attachments"]
        ]
    # orjson writes no white space, UTF-8 as it is, and the short escapes where JSON has them.
    return hashlib.sha256(orjson.dumps(form, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CHECKS = (
    Check(message_hashes),
    Check(content_hashes),
    Check(prompt_ids),
)
