"""Who is believed: what is said held against what is known.

A person is believed before a benchmark or tests, these before what was worked out from a checkout,
and a rule last. What the session itself says stays, unless a person insists. The frame `decided` is
`said` with `known`, `known_by` and a `verdict`:

new        nothing was known                    confirmed  the same value, better known now
changed    another value, rightly               same       nothing to do
kept       what is known is better known: what was worked out yields to it
conflict   the same of what a person gave: not written, and listed
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.dataset.labels import LABELS, OWN, RANK
from traj.errors import UsageError
from traj.label.present import source_of
from traj.label.values import completed_languages

if TYPE_CHECKING:
    import polars as pl

TO_WRITE = ("new", "changed", "confirmed")


def decide(said: pl.DataFrame, present: pl.DataFrame, *, overwrite: bool) -> pl.DataFrame:
    """A verdict on every statement. With `overwrite` no value stands against what a person gave.

    Raises UsageError for a changed value that is said to be the session's own.
    """
    import polars as pl

    known = pl.concat(
        present.select(
            "trajectory_id",
            label=pl.lit(label.name),
            known=label.name,
            known_by=source_of(label),
        )
        for label in LABELS
    )
    both = said.join(known, on=["trajectory_id", "label"], how="left", maintain_order="left")
    both = _with_whole_languages(both)
    value, was, source = pl.col("value"), pl.col("known"), pl.col("source")
    same = value.eq_missing(was)
    _refuse_own(both.filter(~same, source.is_in(list(OWN))))
    own = pl.col("known_by").is_in(list(OWN))
    rank = source.replace_strict(RANK, return_dtype=pl.Int8)
    known_rank = pl.col("known_by").fill_null("none").replace_strict(RANK, return_dtype=pl.Int8)
    asserted = pl.col("asserted")
    # A table that people fill in holds the old source beside the new value until somebody
    # changes it too: only a person's word replaces what is known as well.
    as_good = pl.when(asserted).then(source == "user").otherwise(statement=True)
    wins = (rank > known_rank) | ((rank == known_rank) & as_good)
    verdict = (
        pl.when(same & (own | (rank <= known_rank) | value.is_null()))
        .then(pl.lit("same"))
        .when(same)
        .then(pl.lit("confirmed"))
        .when(was.is_null())
        .then(pl.lit("new"))
        .when((wins & ~own) | (asserted & overwrite))
        .then(pl.lit("changed"))
        .when(asserted)
        .then(pl.lit("conflict"))
        .otherwise(pl.lit("kept"))
    )
    return both.with_columns(verdict=verdict)


def _with_whole_languages(both: pl.DataFrame) -> pl.DataFrame:
    """What was said of a main language alone, or of a list alone, made whole."""
    import polars as pl

    chosen = both["label"] == "languages"
    if not chosen.any():
        return both
    values = [
        completed_languages(value, known) if languages and value is not None else value
        for value, known, languages in zip(both["value"], both["known"], chosen, strict=True)
    ]
    return both.with_columns(value=pl.Series(values, dtype=pl.String))


def _refuse_own(foreign: pl.DataFrame) -> None:
    if not foreign.is_empty():
        row = foreign.row(0, named=True)
        raise UsageError(
            f"{row['place']}: {row['label']} is not what the session says, and its source is still "
            f"{row['source']}: write user, or leave the source empty"
        )
