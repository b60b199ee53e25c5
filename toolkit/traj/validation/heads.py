"""Checks of the trajectories' own rows: identity, lists, and what the manifest says of them all."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from traj.dataset.labels import COLUMNS, LABELS
from traj.validation.report import Check, Fault, NotApplicableError, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables


def models_listed(tables: Tables) -> Iterator[Fault]:
    """The models are sorted, without repeats, hold every model that answered, and no other than the
    turns name.
    """
    import polars as pl

    turns = tables.frame("turns", ["trajectory_id", "model", "output"])
    names = turns.group_by("trajectory_id").agg(
        answered=pl.col("model").filter(pl.col("output").is_not_null()).drop_nulls().unique(),
        named=pl.col("model").drop_nulls().unique(),
    )
    rows = tables.frame("trajectories", ["trajectory_id", "models"])
    rows = rows.join(names, on="trajectory_id", how="left", maintain_order="left")
    models = pl.col("models")
    what = "models are not sorted, or one occurs twice"
    yield from faults("trajectories", rows.filter(~_sorted_set(models)), what, show=["models"])
    missing = pl.col("answered").list.set_difference(models).list.len() > 0
    unknown = models.list.set_difference(pl.col("named").fill_null([])).list.len() > 0
    what = "models are not those of the turns"
    yield from faults("trajectories", rows.filter(missing | unknown), what, show=["models"])


def lists_sorted(tables: Tables) -> Iterator[Fault]:
    """The languages and the kinds of losses are sorted, without repeats, and language is one of
    languages.
    """
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "language", "languages", "losses"])
    kinds = pl.col("losses").list.eval(pl.element().struct.field("kind"))
    for name, values in (("languages", pl.col("languages")), ("losses", kinds)):
        what = f"{name} are not sorted, or one occurs twice"
        yield from faults("trajectories", rows.filter(~_sorted_set(values)), what, show=[name])
    language = pl.col("language")
    foreign = rows.filter(language.is_not_null(), ~pl.col("languages").list.contains(language))
    yield from faults("trajectories", foreign, "language is not in languages", show=["language"])


def labels_known_by(tables: Tables) -> Iterator[Fault]:
    """How a label is known is said of none that is unknown; of use_case and outcome, of every one
    that is known (the other sources are younger than their values).
    """
    import polars as pl

    columns = list(dict.fromkeys(["trajectory_id", *COLUMNS]))
    rows = tables.frame("trajectories", columns)
    for label in LABELS:
        if label.source == "repository.known_by":
            continue
        told = [_field(path) for path in label.fields]
        known = pl.any_horizontal(
            (
                value.list.len() > 0
                if path == "languages"
                else value.ne_missing("unknown") & value.is_not_null()
            )
            for path, value in zip(label.fields, told, strict=True)
        )
        source = pl.col(label.source).is_not_null() & (pl.col(label.source) != "none")
        bad = source & ~known
        if label.name in ("use_case", "outcome"):
            bad = source != known
        what = f"{label.source} does not go with {label.name}"
        yield from faults("trajectories", rows.filter(bad), what, show=[label.source])


def _field(path: str) -> pl.Expr:
    import polars as pl

    column, _, field = path.partition(".")
    return pl.col(column).struct.field(field) if field else pl.col(column)


def trajectory_ids(tables: Tables) -> Iterator[Fault]:
    """trajectory_id is the hash of the source's format and session id (in unscrubbed datasets:
    scrubbing may replace the session id).
    """
    import polars as pl

    if tables.dataset.manifest.scrubbed:
        raise NotApplicableError("the dataset is scrubbed, and so may be its session ids")
    rows = tables.frame("trajectories", ["trajectory_id", "source"]).with_columns(
        text=pl.format(
            "{}\0{}",
            pl.col("source").struct.field("format"),
            pl.col("source").struct.field("session_id"),
        )
    )
    ids = [None if text is None else _sha256(text)[:32] for text in rows["text"]]
    bad = rows.filter(pl.col("trajectory_id").ne_missing(pl.Series(ids, dtype=pl.String)))
    yield from faults("trajectories", bad, "trajectory_id does not follow from its source")


def tokenizers(tables: Tables) -> Iterator[Fault]:
    """Every trajectory was counted with the manifest's tokenizer."""
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "tokenizer"])
    manifest = tables.dataset.manifest.tokenizer
    field = pl.col("tokenizer").struct.field
    name = field("name").ne_missing(manifest.get("name"))
    digest = field("sha256").ne_missing(manifest.get("sha256"))
    what = "tokenizer is not the manifest's"
    yield from faults("trajectories", rows.filter(name | digest), what, show=["tokenizer"])


def redactions(tables: Tables) -> Iterator[Fault]:
    """The redactions are counted just where the manifest says that the dataset is scrubbed."""
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "redactions"])
    scrubbed = bool(tables.dataset.manifest.scrubbed)
    bad = rows.filter(pl.col("redactions").is_null() == scrubbed)
    what = "the manifest's `scrubbed` and the trajectory's redactions do not agree"
    yield from faults("trajectories", bad, what, show=["redactions"])


def split_named(tables: Tables) -> Iterator[Fault]:
    """A trajectory's split is the one whose file it lies in, null before a split is made."""
    import polars as pl

    splits = {file.split for file in tables.files("trajectories")}
    rows = tables.frame("trajectories", ["trajectory_id", "split"])
    for split in splits:  # a part lies in one
        bad = rows.filter(pl.col("split").fill_null("unsplit") != split)
        what = f"the trajectory lies in a file of split {split}"
        yield from faults("trajectories", bad, what, show=["split"])


def source_files_known(tables: Tables) -> Iterator[Fault]:
    """source_file is an index into the trajectory's source files."""
    import polars as pl

    heads = tables.frame("trajectories", ["trajectory_id", "source"]).select(
        "trajectory_id", files=pl.col("source").struct.field("files").list.len()
    )
    for table, number in (("turns", "turn"), ("messages", "message")):
        rows = tables.frame(table, ["trajectory_id", number, "source_file"])
        rows = rows.join(heads, on="trajectory_id", maintain_order="left")
        bad = rows.filter(pl.col("source_file") >= pl.col("files"))
        what = "source_file is beyond the trajectory's source files"
        yield from faults(table, bad, what, show=["source_file", "files"])


def _sorted_set(values: pl.Expr) -> pl.Expr:
    return values == values.list.unique().list.sort()


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


CHECKS = (
    Check(models_listed),
    Check(lists_sorted),
    Check(labels_known_by),
    Check(trajectory_ids),
    Check(tokenizers),
    Check(redactions),
    Check(split_named),
    Check(source_files_known),
)
