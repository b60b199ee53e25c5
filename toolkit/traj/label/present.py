"""The labels that a dataset has: as columns to work with, as a file to fill in, as counts.

The frame `present` has a row a trajectory: `trajectory_id`, `session_id`, `repository`
(host/owner/name), `split`, and for each label its value and, in `<label> source`, how it is known;
both null where it is unknown.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from traj.dataset import Dataset
from traj.dataset.labels import COLUMNS, LABELS, Label
from traj.dataset.repositories import repository_name
from traj.errors import TrajError, UsageError
from traj.label.values import split_languages

if TYPE_CHECKING:
    import polars as pl

KEYS = ("trajectory_id", "session_id", "repository")
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")  # what a spreadsheet takes a cell for


@dataclass(frozen=True, slots=True)
class Coverage:
    """How many trajectories have each label, by how it is known."""

    trajectories: int
    known: dict[str, dict[str, int]]  # label, source

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)


def source_of(label: Label) -> str:
    """The frame's column that says how a label is known."""
    return f"{label.name} source"


def present(dataset: Dataset) -> pl.DataFrame:
    """The labels of all trajectories, in the order of the dataset's rows."""
    import polars as pl

    wanted = ["trajectory_id", "source", "split", *COLUMNS]
    heads = cast("pl.DataFrame", pl.from_arrow(dataset.table("trajectories", wanted)))
    names = [repository_name(one) for one in heads["repository"].to_list()]
    return heads.select(
        "trajectory_id",
        session_id=pl.col("source").struct.field("session_id"),
        repository=pl.Series(names, dtype=pl.String),
        split="split",
        **dict(_columns()),
    )


def coverage(frame: pl.DataFrame) -> Coverage:
    """Counts of the labels of `present`."""
    known = {}
    for label in LABELS:
        counts = frame[source_of(label)].drop_nulls().value_counts().iter_rows()
        known[label.name] = dict(sorted(counts))
    return Coverage(frame.height, known)


def export(frame: pl.DataFrame, out: Path) -> None:
    """Writes the labels of `present` to a CSV or Parquet file, by the file's name, with the columns
    that an import takes.

    Raises UsageError for another kind of file, TrajError where it cannot be written.
    """
    table = _written(frame)
    if out.suffix == ".parquet":
        buffer = io.BytesIO()
        table.write_parquet(buffer)
        data = buffer.getvalue()
    elif out.suffix == ".csv":
        text = io.StringIO(newline="")
        rows = csv.writer(text)
        rows.writerow(table.columns)
        rows.writerows([_guarded(cell) for cell in row] for row in table.iter_rows())
        data = text.getvalue().encode()
    else:
        raise UsageError(f"{out}: labels are written to .csv or .parquet")
    scratch = out.with_name(f".{out.name}.{os.getpid()}.tmp")
    try:
        scratch.write_bytes(data)
        scratch.replace(out)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise TrajError(f"{out}: cannot write: {error.strerror}") from None


def unguarded(cell: str) -> str:
    """A cell as it was before `export` guarded it."""
    return cell[1:] if cell[:1] == "'" and cell[1:2] in _FORMULA else cell


def _guarded(cell: str | None) -> str:
    """A cell that no spreadsheet runs: a session's own title may look like a formula."""
    text = cell or ""
    return f"'{text}" if text.startswith(_FORMULA) else text


def _columns() -> Iterator[tuple[str, pl.Expr]]:
    import polars as pl

    for label in LABELS:
        if label.name == "languages":
            listed = pl.col("languages").list.join("; ")
            either = pl.col("language").is_not_null() | (pl.col("languages").list.len() > 0)
            value = pl.when(either).then(
                pl.concat_str(pl.col("language").fill_null(""), pl.lit("|"), listed)
            )
        else:
            known = _at(label.name)
            value = pl.when(known != "unknown").then(known)
        own = "tools" if label.name == "languages" else "log"
        yield label.name, value
        # Rows of schema 1.0 name no source for what their session said.
        yield source_of(label), pl.when(value.is_not_null()).then(_at(label.source).fill_null(own))


def _at(path: str) -> pl.Expr:
    import polars as pl

    name, _, field = path.partition(".")
    return pl.col(name).struct.field(field) if field else pl.col(name)


def _written(frame: pl.DataFrame) -> pl.DataFrame:
    import polars as pl

    columns = [frame[name] for name in KEYS]
    for label in LABELS:
        if label.name == "languages":
            both = [split_languages(value) for value in frame[label.name]]
            columns.append(pl.Series("language", [main for main, _ in both], pl.String))
            listed = ["; ".join(found) or None for _, found in both]
            columns.append(pl.Series("languages", listed, pl.String))
        else:
            columns.append(frame[label.name])
        columns.append(frame[source_of(label)].alias(label.source))
    return pl.DataFrame(columns)
