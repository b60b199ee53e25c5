"""Labels from a table that people or programs filled in: CSV or Parquet.

A column names the trajectories: `trajectory_id` (its first digits will do), else `session_id`, else
`repository` (host/owner/name: all its trajectories). Where several of them are there, they must
agree. The others are labels and their sources, named as in the schema. An empty cell says nothing.
"""

from __future__ import annotations

import csv
import difflib
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from traj import schema
from traj.dataset.labels import LABELS, Label
from traj.dataset.repositories import plain_name
from traj.errors import UsageError
from traj.label.present import KEYS, unguarded
from traj.label.said import nothing
from traj.label.values import WRITTEN, BadValueError, checked, checked_source, languages_of, short

if TYPE_CHECKING:
    import polars as pl

_SOURCES = tuple(label.source for label in LABELS)
_SHORTEST = 6  # digits of an id


def read_table(file: Path, present: pl.DataFrame, source: str) -> pl.DataFrame:
    """What a file says, as `said`; values without a source of their own are known by `source`.

    Raises UsageError naming the line for whatever is wrong or not clear.
    """
    import polars as pl

    try:
        rows = _parquet(file) if file.suffix == ".parquet" else _csv(file)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    _check_columns(file, [name for name in rows.columns if name != "place"])
    found = _with_values(_matched(rows, present))
    parts = [_told(found, label, source) for label in LABELS if label.name in found.columns]
    return pl.concat([nothing(), *parts])


def _told(found: pl.DataFrame, label: Label, source: str) -> pl.DataFrame:
    import polars as pl

    told = found.filter(pl.col(f"{label.name} given"))
    known = pl.lit(source)
    if label.source in found.columns:
        given = pl.col(label.source)
        known = pl.when(given.is_null() | (given == "none")).then(known).otherwise(given)
    told = told.with_columns(source=known)
    told = told.with_columns(source=_each(told, "source", partial(checked_source, label.name)))
    return told.select(
        "trajectory_id",
        label=pl.lit(label.name),
        value=label.name,
        source="source",
        place="place",
        asserted=pl.lit(value=True),
    )


def _with_values(found: pl.DataFrame) -> pl.DataFrame:
    """The labels' columns as values, each with whether anything was given."""
    import polars as pl

    names = [name for name in WRITTEN if name in found.columns]
    given = {f"{name} given": pl.col(name).is_not_null() for name in names}
    values = {name: _each(found, name, partial(checked, name)) for name in names}
    found = found.with_columns(**given).with_columns(**values)
    if not {"language", "languages"}.isdisjoint(names):
        none = pl.Series([None] * found.height, dtype=pl.String)
        pair = [found.get_column(x, default=none) for x in ("language", "languages")]
        either = pl.any_horizontal(f"{x} given" for x in ("language", "languages") if x in names)
        joined = [languages_of(*both) for both in zip(*pair, strict=True)]
        found = found.with_columns(
            pl.Series("languages", joined, dtype=pl.String), either.alias("languages given")
        )
    return found


def _each(rows: pl.DataFrame, column: str, check: Callable[[str], str | None]) -> pl.Series:
    """A column's values, each different one looked at once."""
    import polars as pl

    values: dict[str, str | None] = {}
    for text in rows[column].drop_nulls().unique(maintain_order=True):
        try:
            values[text] = check(text)
        except BadValueError as error:
            place = rows.filter(pl.col(column) == text)["place"][0]
            raise UsageError(f"{place}: {error}") from None
    return pl.Series(
        [None if text is None else values[text] for text in rows[column]], dtype=pl.String
    )


def _check_columns(file: Path, names: Sequence[str]) -> None:
    known = (*KEYS, *WRITTEN, *_SOURCES)
    for name in names:
        if name in known:
            continue
        if name in ("repository.host", "repository.owner", "repository.name"):
            raise UsageError(f"{file}: {name} follows from repository.url: give that instead")
        columns = dict(schema.walk(schema.table("trajectories").columns))
        near = difflib.get_close_matches(name, known, 1)
        what = "is no label" if name in columns else "is no column of the schema"
        hint = f": did you mean {near[0]}?" if near else ""
        raise UsageError(f"{file}: {short(name)} {what}{hint}")
    if set(KEYS).isdisjoint(names):
        raise UsageError(f"{file}: names no trajectory: add a column {' or '.join(KEYS)}")
    if set(WRITTEN).isdisjoint(names):
        raise UsageError(f"{file}: there is no label in it, such as {', '.join(WRITTEN[2:5])}")


def _matched(rows: pl.DataFrame, present: pl.DataFrame) -> pl.DataFrame:
    """The rows with the trajectories that they speak of: one for each."""
    import polars as pl

    keys = [name for name in KEYS if name in rows.columns]
    if "repository" in keys:
        names = [None if x is None else plain_name(x) for x in rows["repository"]]
        rows = rows.with_columns(repository=pl.Series(names, dtype=pl.String))
    if keys[0] == "trajectory_id":
        rows = _whole_ids(rows, present["trajectory_id"].to_list())
    key = keys[0]
    silent = rows.filter(pl.col(key).is_null())
    if not silent.is_empty():
        raise UsageError(f"{silent['place'][0]}: names no trajectory: its {key} is empty")
    own = present.select("trajectory_id", *(f for f in KEYS[1:]))
    # Whatever else a line says of its trajectory is held against the dataset's own.
    said = rows.rename({name: f"{name} said" for name in keys})
    own = own.with_columns(pl.col(key).alias(f"{key} said"))
    found = said.join(own, on=f"{key} said", how="left", maintain_order="left")
    lost = found.filter(pl.col("trajectory_id").is_null())
    if not lost.is_empty():
        row = lost.row(0, named=True)
        name = short(row[f"{key} said"])
        raise UsageError(f"{row['place']}: there is no {key} {name} in the dataset")
    for name in keys[1:]:
        other = found.filter(pl.col(f"{name} said") != pl.col(name).fill_null(""))
        if not other.is_empty():
            raise UsageError(f"{other['place'][0]}: {name} is not that of its trajectory")
    twice = found.filter(pl.col("trajectory_id").is_duplicated())
    if not twice.is_empty():
        first = twice["trajectory_id"][0]
        places = twice.filter(pl.col("trajectory_id") == first)["place"].unique(maintain_order=True)
        if len(places) == 1:
            raise UsageError(f"{places[0]}: two trajectories have this {key}: give trajectory_id")
        other = places[1].rpartition(": ")[2]
        raise UsageError(f"{places[0]}: {other} speaks of trajectory {first} too")
    return found


def _whole_ids(rows: pl.DataFrame, ids: list[str]) -> pl.DataFrame:
    """The rows with the ids that their first digits stand for."""
    import polars as pl

    ids = sorted(ids)
    whole = []
    for text, place in zip(rows["trajectory_id"], rows["place"], strict=True):
        at = bisect_left(ids, text) if text else len(ids)
        alike = [one for one in ids[at : at + 2] if one.startswith(text)] if text else []
        if len(alike) == 2 and alike[0] != text and len(text) >= _SHORTEST:
            raise UsageError(
                f"{place}: two trajectories or more begin with {text}: give more of it"
            )
        whole.append(alike[0] if alike and len(text) >= _SHORTEST else text)
    return rows.with_columns(trajectory_id=pl.Series(whole, dtype=pl.String))


def _csv(file: Path) -> pl.DataFrame:
    import polars as pl

    with file.open(encoding="utf-8-sig", newline="") as stream:
        try:
            head = stream.readline()
            stream.seek(0)
            # Spreadsheets of other countries separate by semicolons.
            separator = max(",;\t", key=head.count)
            reader = csv.reader(stream, delimiter=separator, strict=True)
            names = [name.strip() for name in next(reader, [])]
            columns: list[list[str | None]] = [[] for _ in names]
            places = []
            for cells in reader:
                place = f"{file}: line {reader.line_num}"
                if not any(cells):
                    continue
                if len(cells) != len(names):
                    raise UsageError(f"{place}: has {len(cells)} cells, not {len(names)}")
                for column, cell in zip(columns, cells, strict=True):
                    text = unguarded(cell)
                    column.append(text if text.strip() else None)
                places.append(place)
        except (csv.Error, UnicodeDecodeError) as error:
            raise UsageError(f"{file}: not a CSV file ({error})") from None
    _check_once(file, names)
    found = [
        pl.Series(name, column, pl.String) for name, column in zip(names, columns, strict=True)
    ]
    return pl.DataFrame([*found, pl.Series("place", places, pl.String)])


def _parquet(file: Path) -> pl.DataFrame:
    import polars as pl

    try:
        rows = pl.read_parquet(file)
        _check_once(file, rows.columns)
        lists = [name for name, kind in rows.schema.items() if kind == pl.List(pl.String)]
        rows = rows.with_columns(pl.col(name).list.join("; ") for name in lists)
        rows = rows.cast(pl.String)
    except pl.exceptions.PolarsError as error:
        first = str(error).partition("\n")[0]
        raise UsageError(f"{file}: not a table of labels ({first})") from None
    texts = [
        pl.when(pl.col(x).str.strip_chars() != "").then(pl.col(x)).alias(x) for x in rows.columns
    ]
    places = [f"{file}: row {number}" for number in range(1, rows.height + 1)]
    return rows.select(*texts).with_columns(pl.Series("place", places, pl.String))


def _check_once(file: Path, names: Sequence[str]) -> None:
    for name in names:
        if name == "place" or names.count(name) > 1:
            raise UsageError(f"{file}: column {name!r} is no label, or is there twice")
