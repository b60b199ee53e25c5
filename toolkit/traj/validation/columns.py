"""Checks of single values, generic over the schema: nulls, enums, minima, keys, references."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj import schema
from traj.schema import Column
from traj.validation.report import Check, Fault, faults

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import polars as pl

    from traj.validation.tables import Tables

    Test = Callable[[pl.Expr], pl.Expr]  # a value to whether it is bad
    OnRow = Callable[[Test], pl.Expr]  # a test of a nested value to one of the row it stands in


def nulls(tables: Tables) -> Iterator[Fault]:
    """A column that is not nullable holds no null, nor does such a field of a struct."""
    # Parquet cannot hold a null where a file's own schema forbids it: only columns whose schema in
    # the file is not the expected one are read at all.
    for table in tables.own:
        for name in _admitting_nulls(tables, table):
            for path, column, on_row in nested(schema.table(table).column(name)):
                if not column.nullable:
                    what = f"{path} is null"
                    yield from _streamed(tables, table, name, on_row(lambda v: v.is_null()), what)


def enums(tables: Tables) -> Iterator[Fault]:
    """A column with an enum holds only its values."""
    for table, path, column, on_row in _columns(tables, lambda column: bool(column.enum)):
        bad = on_row(lambda v, known=column.enum: ~v.is_in(list(known)))  # type: ignore[misc]
        yield from _whole(tables, table, path, bad, f"{path} is not one of its enum's values")


def minima(tables: Tables) -> Iterator[Fault]:
    """No number is below its column's minimum."""
    for table, path, column, on_row in _columns(tables, lambda column: column.min is not None):
        bad = on_row(lambda v, least=column.min: v < least)  # type: ignore[misc]
        yield from _whole(tables, table, path, bad, f"{path} is below {column.min}")


def keys_unique(tables: Tables) -> Iterator[Fault]:
    """No two rows of a table have the same key."""
    import polars as pl

    for table in tables.own:
        key = list(schema.table(table).key)
        rows = tables.frame(table, key)
        again = rows.filter(~pl.struct(key).is_first_distinct())
        yield from faults(table, again, "another row has the same key")


def references(tables: Tables) -> Iterator[Fault]:
    """What a column refers to is there: in the same trajectory, where the target belongs to one."""
    for table in tables.own:
        key = schema.table(table).key
        for column in schema.table(table).columns:
            target, _, target_column = column.references.partition(".")
            if not target or (target in ("messages", "prompts") and not _has_text(tables)):
                continue
            within = ["trajectory_id"] if "trajectory_id" in schema.table(target).key else []
            rows = tables.frame(table, list(dict.fromkeys([*key, column.name])))
            if column.type.startswith("list<"):
                rows = rows.explode(column.name)
            known = tables.frame(target, list(dict.fromkeys([*within, target_column]))).unique()
            lost = rows.drop_nulls(column.name).join(
                known,
                how="anti",
                left_on=list(dict.fromkeys([*within, column.name])),
                right_on=list(dict.fromkeys([*within, target_column])),
                maintain_order="left",
            )
            what = f"{column.name} refers to no row of {target}"
            yield from faults(table, lost, what, show=[column.name])


def schema_versions(tables: Tables) -> Iterator[Fault]:
    """Every row names the manifest's schema version."""
    import polars as pl

    version = tables.dataset.manifest.schema_version
    for table in tables.own:
        rows = tables.frame(table, [*schema.table(table).key, "schema_version"])
        other = rows.filter(pl.col("schema_version").ne_missing(version))
        what = f"schema_version is not the manifest's {version}"
        yield from faults(table, other, what, show=["schema_version"])


def nested(column: Column) -> Iterator[tuple[str, Column, OnRow]]:
    """A column and the fields and items inside it: path, definition, and what makes an expression
    on the row of a test on that value.
    """
    import polars as pl

    def top(test: Test) -> pl.Expr:
        return test(pl.col(column.name)).fill_null(value=False)

    yield column.name, column, top
    yield from _inside(column.name, column, top)


def _inside(path: str, column: Column, on_row: OnRow) -> Iterator[tuple[str, Column, OnRow]]:
    listed = column.type.startswith("list<")
    if listed and not column.fields:
        item = Column(column.name, column.type[5:-1], column.description)
        yield f"{path} item", item, lambda test: on_row(_in_list(test))
    for field in column.fields:

        def of_field(test: Test, name: str = field.name) -> pl.Expr:
            def on_struct(value: pl.Expr) -> pl.Expr:
                return value.is_not_null() & test(value.struct.field(name)).fill_null(value=False)

            return on_row(_in_list(on_struct) if listed else on_struct)

        yield f"{path}.{field.name}", field, of_field
        yield from _inside(f"{path}.{field.name}", field, of_field)


def _in_list(test: Test) -> Test:
    import polars as pl

    return lambda value: value.list.eval(test(pl.element()).fill_null(value=False)).list.any()


def _columns(
    tables: Tables, wanted: Callable[[Column], bool]
) -> Iterator[tuple[str, str, Column, OnRow]]:
    for table in tables.own:
        found = [
            (column.name, table, path, inner, on_row)
            for column in schema.table(table).columns
            for path, inner, on_row in nested(column)
            if wanted(inner)
        ]
        names = [one[0] for one in found]
        tables.frame(table, list(dict.fromkeys([*schema.table(table).key, *names])))  # in one read
        yield from (one[1:] for one in found)


def _whole(tables: Tables, table: str, path: str, bad: pl.Expr, what: str) -> Iterator[Fault]:
    name = path.partition(".")[0].removesuffix(" item")
    rows = tables.frame(table, list(dict.fromkeys([*schema.table(table).key, name])))
    yield from faults(table, rows.filter(bad), what, show=[name])


def _streamed(tables: Tables, table: str, name: str, bad: pl.Expr, what: str) -> Iterator[Fault]:
    columns = list(dict.fromkeys([*schema.table(table).key, name]))
    for batch in tables.batches(table, columns):
        yield from faults(table, batch.filter(bad), what)


def _admitting_nulls(tables: Tables, table: str) -> list[str]:
    """Columns that some file of the table could hold a forbidden null in."""
    expected = schema.arrow(table)
    found = []
    for file in tables.files(table):
        with tables.open(file) as parquet:
            present = parquet.schema_arrow
        for field in expected:
            at = present.get_field_index(field.name)
            if at >= 0 and not present.field(at).equals(field):
                found.append(field.name)
    return list(dict.fromkeys(found))


def _has_text(tables: Tables) -> bool:
    return bool(tables.dataset.files("messages"))


CHECKS = (
    Check(nulls),
    Check(enums),
    Check(minima),
    Check(keys_unique),
    Check(references),
    Check(schema_versions),
)
