"""Rows as they are built, and how they become Arrow: many trajectories at once.

Arrow arrays are made a row group at a time, not a trajectory at a time: an array costs as much as
a hundred of the values in it, and a trajectory has eighty.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any

from traj import schema

if TYPE_CHECKING:
    import pyarrow as pa

_IMPLIED = ("schema_version", "trajectory_id")


class Columns:
    """The rows of one table of one trajectory: a sequence of values a column, in schema order,
    without the columns that are the same on every row."""

    def __init__(self, table: str, values: Iterable[Sequence[Any]] = ()) -> None:
        self.table = table
        self.names = tuple(c.name for c in schema.table(table).columns if c.name not in _IMPLIED)
        self.values: tuple[Sequence[Any], ...] = tuple(values) or ((),) * len(self.names)

    @classmethod
    def of(cls, table: str, columns: dict[str, Sequence[Any]]) -> Columns:
        """From columns by name."""
        made = cls(table)
        made.values = tuple(columns[name] for name in made.names)
        return made

    @classmethod
    def of_rows(cls, table: str, rows: Sequence[dict[str, Any]]) -> Columns:
        """From rows by name; every row must name the columns in schema order."""
        made = cls(table)
        if rows:
            assert tuple(rows[0]) == made.names
            made.values = tuple(zip(*(row.values() for row in rows), strict=True))
        return made

    def __getitem__(self, name: str) -> Sequence[Any]:
        return self.values[self.names.index(name)]

    def __len__(self) -> int:
        return len(self.values[0])


def to_arrow(table: str, parts: Sequence[tuple[str, Columns]]) -> pa.RecordBatch:
    """The rows of several trajectories, each with its id, in the table's Arrow schema."""
    import pyarrow as pa

    arrow = schema.arrow(table)
    lengths = [len(columns) for _, columns in parts]
    known = {
        "schema_version": [schema.VERSION] * sum(lengths),
        "trajectory_id": list(
            chain.from_iterable([name] * n for (name, _), n in zip(parts, lengths, strict=True))
        ),
    }
    arrays = []
    place = 0
    for field in arrow:
        if field.name in known:
            values = known[field.name]
        else:
            values = list(chain.from_iterable(columns.values[place] for _, columns in parts))
            place += 1
        arrays.append(_array(values, field.type))
    return pa.record_batch(arrays, schema=arrow)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    """Lists of structs come as lists of tuples, and are built column by column: several times
    faster than from dicts."""
    import pyarrow as pa

    if not (pa.types.is_list(kind) and pa.types.is_struct(kind.value_type)):
        return pa.array(values, kind)
    offsets: list[int] = [0]
    flat: list[tuple[Any, ...]] = []
    for value in values:
        if value is not None:
            flat.extend(value)
        offsets.append(len(flat))
    fields = list(kind.value_type)
    columns = [list(column) for column in zip(*flat, strict=True)] or [[] for _ in fields]
    struct = pa.StructArray.from_arrays(
        [pa.array(column, field.type) for column, field in zip(columns, fields, strict=True)],
        fields=fields,
    )
    mask = pa.array([value is None for value in values], pa.bool_()) if None in values else None
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), struct, type=kind, mask=mask)
