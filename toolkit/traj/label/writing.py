"""Writes labels into the rows: the shards of `trajectories` that change, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.build.trajectory import forge
from traj.dataset import DataFile, Dataset, Manifest, Span
from traj.dataset.files import DataWriter
from traj.dataset.labels import LABELS, Label
from traj.dataset.write import in_order
from traj.errors import DatasetError, TrajError
from traj.label.values import split_languages

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_EMPTY = {  # what stands where a value is unknown and the column takes no null
    "repository.visibility": "unknown",
    "repository.known_by": "user",
    "outcome": "unknown",
    "outcome_source": "none",
}


def write_labels(dataset: Dataset, decided: pl.DataFrame) -> Manifest:
    """Writes the decided statements (those to be written, and no others) into new files; gives the
    manifest that names them, which is not committed.

    A dataset of an older schema is written anew as a whole. Raises TrajError where that fails.
    """
    changes = {
        label: decided.filter(decided["label"] == label.name)
        for label in LABELS
        if (decided["label"] == label.name).any()
    }
    touched = set(decided["trajectory_id"].unique().to_list())
    older = schema.is_older(dataset.manifest.schema_version)
    files: list[DataFile] = []
    with ThreadPoolExecutor(1, "traj-writer") as thread:
        for file in dataset.manifest.files:
            own = file.table == "trajectories"
            if own or older:
                files.append(_written(dataset, file, changes if own else {}, touched, thread))
            else:
                files.append(file)
    version = schema.VERSION if older else dataset.manifest.schema_version
    return replace(dataset.manifest, schema_version=version, files=in_order(files))


def _written(
    dataset: Dataset,
    file: DataFile,
    changes: dict[Label, pl.DataFrame],
    touched: set[str],
    thread: ThreadPoolExecutor,
) -> DataFile:
    """One file written anew, its row groups as they were; the old one where nothing changes."""
    import pyarrow as pa

    older = schema.is_older(dataset.manifest.schema_version)
    writer: DataWriter | None = None
    try:
        with dataset.parquet(file) as parquet:
            if not older:
                ids = parquet.read(columns=["trajectory_id"]).column(0).to_pylist()
                if touched.isdisjoint(ids):
                    return file
            writer = DataWriter(dataset.path, file.table, file.shard, thread, file.split)
            for group in range(parquet.num_row_groups):
                rows = parquet.read_row_group(group)
                if older:
                    rows = schema.raised(file.table, rows)
                if changes:
                    rows = labelled(rows, changes)
                writer.add("", Span(rows, 0, rows.num_rows))
                writer.flush()
            done, writer = writer.close().result(), None
            return done
    except OSError as error:
        raise TrajError(f"{dataset.path}: cannot write: {error.strerror or error}") from None
    except pa.ArrowException as error:
        raise DatasetError(f"{dataset.path / file.path}: {error}") from None
    finally:
        if writer is not None:
            writer.abandon()


def labelled(rows: pa.Table, changes: dict[Label, pl.DataFrame]) -> pa.Table:
    """Rows of `trajectories` with labels set: value and source by trajectory, for each label."""
    import pyarrow.compute as pc

    columns = _Columns(rows)
    for label, said in changes.items():
        place = pc.index_in(
            rows["trajectory_id"].combine_chunks(), value_set=_arrow(said["trajectory_id"])
        )
        chosen = pc.is_valid(place)
        values = said["value"].to_list()
        for path, of in zip(label.fields, _FIELDS.get(label.name, (str,)), strict=True):
            found = [None if value is None else of(value) for value in values]
            if path == "languages":
                found = [one or [] for one in found]
            columns.put(path, found, place, chosen)
        known = [
            None if value is None else source
            for value, source in zip(values, said["source"].to_list(), strict=True)
        ]
        columns.put(label.source, known, place, chosen)
    return columns.table()


_FIELDS: dict[str, tuple[Callable[[str], Any], ...]] = {
    "repository.url": (
        lambda url: forge(url)[1],
        lambda url: forge(url)[2],
        lambda url: forge(url)[3],
        str,
    ),
    "languages": (lambda value: split_languages(value)[0], lambda value: split_languages(value)[1]),
}


class _Columns:
    """The columns of a table by path, structs taken apart."""

    def __init__(self, rows: pa.Table) -> None:
        self._rows = rows
        self._new: dict[str, pa.Array] = {}
        self._touched: dict[str, pa.Array] = {}  # structs: rows in which they are there now

    def put(self, path: str, values: list[Any], place: pa.Array, chosen: pa.Array) -> None:
        """Puts `values[place]` into the rows that are chosen."""
        import pyarrow as pa
        import pyarrow.compute as pc

        old = self._get(path)
        empty = _EMPTY.get(path)
        said = pa.array([empty if value is None else value for value in values], old.type)
        self._new[path] = pc.if_else(chosen, pc.take(said, place), old)
        name, _, field = path.partition(".")
        if field:
            before = self._touched.get(name, pc.is_valid(self._column(name)))
            self._touched[name] = pc.or_(before, chosen)

    def table(self) -> pa.Table:
        """The rows as they are now."""
        import pyarrow as pa
        import pyarrow.compute as pc

        rows = self._rows
        for name in {path.partition(".")[0] for path in self._new}:
            at = rows.schema.get_field_index(name)
            column = self._new.get(name)
            if column is None:
                kind = rows.schema.field(at).type
                parts = []
                for field in kind:
                    part = self._get(f"{name}.{field.name}")
                    empty = _EMPTY.get(f"{name}.{field.name}")
                    parts.append(part if field.nullable else pc.fill_null(part, empty))
                gone = pc.invert(self._touched[name])
                column = pa.StructArray.from_arrays(parts, fields=list(kind), mask=gone)
            rows = rows.set_column(at, rows.schema.field(at), column)
        return rows

    def _get(self, path: str) -> pa.Array:
        import pyarrow.compute as pc

        if path in self._new:
            return self._new[path]
        name, _, field = path.partition(".")
        column = self._column(name)
        return pc.struct_field(column, field) if field else column

    def _column(self, name: str) -> pa.Array:
        import pyarrow as pa

        column = self._rows[name].combine_chunks()
        return column if isinstance(column, pa.Array) else pa.concat_arrays(column.chunks)


def _arrow(series: pl.Series) -> pa.Array:
    import pyarrow as pa

    return pa.array(series.to_list(), pa.string())
