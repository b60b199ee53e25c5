"""The tables as data: reads schema/v1/*.toml and makes Arrow schemas of them.

The TOML files are the single source of truth. Everything else that speaks of columns (the
validator's structural checks, `traj schema`, the cards and the docs) asks this module.
"""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa

VERSION = "1.1"
TABLES = ("trajectories", "turns", "messages", "tool_calls", "prompts")


@dataclass(frozen=True, slots=True)
class Column:
    """One column, or one field of a struct; `fields` is empty unless the type is a struct."""

    name: str
    type: str
    description: str
    unit: str = ""
    nullable: bool = False
    enum: tuple[str, ...] = ()
    min: int | None = None
    references: str = ""
    since: str = "1.0"  # the version that has it first
    fields: tuple[Column, ...] = ()


@dataclass(frozen=True, slots=True)
class Table:
    """One table: what a row is, what identifies it, and its columns in order."""

    name: str
    row: str
    key: tuple[str, ...]
    columns: tuple[Column, ...]

    def column(self, name: str) -> Column:
        return next(column for column in self.columns if column.name == name)


def folder() -> Path:
    """Where the TOML files are: inside the installed package, or in the checkout's root."""
    package = Path(__file__).parent
    for candidate in (package / "_schema" / "v1", package.parents[1] / "schema" / "v1"):
        if candidate.is_dir():
            return candidate
    raise DatasetError("the schema files are missing: reinstall traj-toolkit")


@cache
def table(name: str) -> Table:
    """The definition of one of TABLES."""
    with (folder() / f"{name}.toml").open("rb") as file:
        data = tomllib.load(file)
    return Table(
        name=data["table"],
        row=data["row"],
        key=tuple(data["key"]),
        columns=tuple(_column(column) for column in data["columns"]),
    )


@cache
def arrow(name: str) -> pa.Schema:
    """The Arrow schema of one of TABLES, without metadata."""
    import pyarrow as pa

    return pa.schema([_field(column) for column in table(name).columns])


@cache
def names(name: str, version: str = VERSION) -> tuple[str, ...]:
    """The columns that a table has in a version, in order."""
    return tuple(c.name for c in table(name).columns if _minor(c.since) <= _minor(version))


def is_older(version: str) -> bool:
    """Whether a version of ours lacks columns that the newest has."""
    return _minor(version) < _minor(VERSION)


def raised(name: str, rows: pa.Table, wanted: Sequence[str] | None = None) -> pa.Table:
    """Rows of an older version as the newest has them: columns that it lacks are null. `wanted` are
    the columns to be there, by default all."""
    import pyarrow as pa

    arrow_schema = arrow(name)
    found = list(wanted or arrow_schema.names)
    for column in table(name).columns:
        field = arrow_schema.field(column.name)
        if column.name in found and column.name not in rows.column_names and column.nullable:
            rows = rows.append_column(field, pa.nulls(rows.num_rows, field.type))
    if "schema_version" in rows.column_names:
        at = rows.schema.get_field_index("schema_version")
        version = pa.repeat(pa.scalar(VERSION), rows.num_rows)
        rows = rows.set_column(at, rows.schema.field(at), version)
    return rows.select([one for one in found if one in rows.column_names])


def check_version(version: str, where: str) -> None:
    """Refuses what a newer major version wrote; a newer minor version only adds columns.

    Raises DatasetError naming `where`.
    """
    try:
        major = int(version.split(".", maxsplit=1)[0])
    except ValueError:
        raise DatasetError(f"{where}: schema version {version!r} is not a version") from None
    if major > int(VERSION.split(".", maxsplit=1)[0]):
        raise DatasetError(
            f"{where}: schema version {version} is newer than this traj knows ({VERSION}): "
            "pip install --upgrade traj-toolkit"
        )


def as_rows() -> list[dict[str, Any]]:
    """Every column of every table as a flat row (struct fields as `parent.field`), for printing."""
    return [
        {
            "table": name,
            "column": path,
            "type": column.type,
            "unit": column.unit,
            "nullable": column.nullable,
            "enum": list(column.enum),
            "min": column.min,
            "references": column.references or None,
            "since": column.since,
            "description": column.description,
        }
        for name in TABLES
        for path, column in walk(table(name).columns)
    ]


def walk(columns: tuple[Column, ...], prefix: str = "") -> list[tuple[str, Column]]:
    """Columns and their struct fields, depth first, each with its dotted path."""
    found = []
    for column in columns:
        path = f"{prefix}{column.name}"
        found.append((path, column))
        found.extend(walk(column.fields, f"{path}."))
    return found


def _column(data: dict[str, Any]) -> Column:
    known = {key: data[key] for key in ("name", "type", "description")}
    for key in ("unit", "nullable", "min", "references", "since"):
        if key in data:
            known[key] = data[key]
    return Column(
        **known,
        enum=tuple(data.get("enum", ())),
        fields=tuple(_column(field) for field in data.get("fields", ())),
    )


def _minor(version: str) -> int:
    minor = version.partition(".")[2]
    return int(minor) if minor.isdecimal() else 0


def _field(column: Column) -> pa.Field:
    import pyarrow as pa

    return pa.field(column.name, _arrow_type(column.type, column.fields), column.nullable)


def _arrow_type(text: str, fields: tuple[Column, ...]) -> pa.DataType:
    import pyarrow as pa

    if text.startswith("list<"):
        # Items are never null, and the item field's name is Arrow's default, so that files written
        # by other Arrow implementations compare equal.
        return pa.list_(pa.field("item", _arrow_type(text[5:-1], fields), nullable=False))
    if text == "struct":
        return pa.struct([_field(field) for field in fields])
    if text == "timestamp[us, UTC]":
        return pa.timestamp("us", tz="UTC")
    return pa.type_for_alias(text)
