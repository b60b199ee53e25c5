"""Checks of the folder: what the manifest says of its files, and what these themselves say."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from traj import schema
from traj.validation.report import Check, Fault, NotApplicableError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from traj.dataset import DataFile
    from traj.validation.tables import Tables


def files_present(tables: Tables) -> Iterator[Fault]:
    """Every file that the manifest names is there, inside the dataset's folder, named once."""
    # By their names: a published dataset's files are links into the Hub's cache.
    root = Path(os.path.abspath(tables.dataset.path))  # noqa: PTH100 - resolve() follows links
    named: set[str] = set()
    for file in tables.dataset.manifest.files:
        path = Path(os.path.normpath(root / file.path))
        if file.path in named:
            yield Fault(file.table, file.path, "the manifest names a file twice")
        elif not path.is_relative_to(root):
            yield Fault(file.table, file.path, "a file lies outside the dataset's folder")
        elif not path.is_file():
            yield Fault(file.table, file.path, "a file of the manifest is missing")
        named.add(file.path)


def file_bytes(tables: Tables) -> Iterator[Fault]:
    """Every file has as many bytes as the manifest says."""
    for file, path in _present(tables):
        size = path.stat().st_size
        if size != file.bytes:
            seen = f"{size}, not {file.bytes}"
            yield Fault(file.table, file.path, "a file's length is not the manifest's", seen)


def file_sha256(tables: Tables) -> Iterator[Fault]:
    """Every file has the SHA-256 that the manifest says."""
    for file, path in _present(tables):
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        if digest != file.sha256:
            seen = f"{digest}, not {file.sha256}"
            yield Fault(file.table, file.path, "a file's SHA-256 is not the manifest's", seen)


def file_rows(tables: Tables) -> Iterator[Fault]:
    """Every file has as many rows as the manifest says."""
    for file, _ in _present(tables):
        with tables.open(file) as parquet:
            rows = parquet.metadata.num_rows
        if rows != file.rows:
            seen = f"{rows}, not {file.rows}"
            yield Fault(file.table, file.path, "a file's rows are not the manifest's", seen)


def stray_files(tables: Tables) -> Iterator[Fault]:
    """No data file lies in the folder that the manifest does not name."""
    root = tables.dataset.path
    named = {file.path for file in tables.dataset.manifest.files}
    stray = []
    for path in sorted(root.rglob("*")):
        inside = path.relative_to(root)
        hidden = any(part.startswith(".") for part in inside.parts)
        data = inside.parts[0] == "data" or path.suffix == ".parquet"
        if data and not hidden and path.is_file() and inside.as_posix() not in named:
            stray.append(inside.as_posix())
    if stray:
        what = "the manifest does not name a data file: left over from a writer that was stopped?"
        yield Fault("", stray[0], what, count=len(stray))


def file_schema(tables: Tables) -> Iterator[Fault]:
    """Every file has the columns, types and nullability of its schema version."""
    for file, _ in _present(tables):
        if file.table not in schema.TABLES:
            yield Fault(file.table, file.path, "the schema has no such table")
            continue
        try:
            with tables.open(file) as parquet:
                found = parquet.schema_arrow
        except UnavailableError as error:
            yield Fault(file.table, file.path, "a file is not readable as Parquet", str(error))
            continue
        version = tables.dataset.manifest.schema_version
        for problem in differences(found, schema.arrow(file.table), version):
            yield Fault(file.table, file.path, problem)


def differences(
    found: pa.Schema, expected: pa.Schema, version: str, known: str = schema.VERSION
) -> Iterator[str]:
    """How a file's schema departs from the known one, in words. An older minor version may lack
    nullable columns; a newer one may have more of them, at any place.
    """
    older = _minor(version) < _minor(known)
    newer = _minor(version) > _minor(known)
    for field in expected:
        at = found.get_field_index(field.name)
        if at < 0:
            if not (older and field.nullable):
                yield f"column {field.name} is missing"
        elif found.field(at).type != field.type:
            yield f"column {field.name} is {found.field(at).type}, not {field.type}"
        elif found.field(at).nullable != field.nullable:
            yield f"column {field.name} is {'' if field.nullable else 'not '}to be nullable"
    common = [name for name in found.names if name in expected.names]
    for name in found.names:
        if name not in expected.names and not (newer and found.field(name).nullable):
            yield f"column {name} is not in schema {version}"
    if common != [name for name in expected.names if name in common]:
        yield "the columns are not in the schema's order, or one occurs twice"


def manifest_splits(tables: Tables) -> Iterator[Fault]:
    """The rows by split that the manifest counts are those of its files."""
    splits = {split: _counts(facts) for split, facts in tables.dataset.manifest.splits.items()}
    if not any(table in counts for counts in splits.values() for table in schema.TABLES):
        raise NotApplicableError("the manifest counts no rows by split")
    for split, counts in splits.items():
        for table in schema.TABLES:
            rows = sum(file.rows for file in tables.dataset.files(table, split))
            if table in counts and counts[table] != rows:
                seen = f"{counts[table]}, not {rows}"
                what = "a split's count is not that of its rows"
                yield Fault(table, f"split {split}", what, seen)


def _present(tables: Tables) -> Iterator[tuple[DataFile, Path]]:
    for file in tables.dataset.manifest.files:
        path = tables.dataset.path / file.path
        if path.is_file():
            yield file, path


def _counts(facts: object) -> dict[str, object]:
    """The rows by table that the manifest gives for a split: under `rows`, or beside its other
    facts.
    """
    if not isinstance(facts, dict):
        return {}
    rows = facts.get("rows")
    return rows if isinstance(rows, dict) else facts


def _minor(version: str) -> int:
    minor = version.partition(".")[2]
    return int(minor) if minor.isdecimal() else 0


CHECKS = (
    Check(files_present, scope="dataset"),
    Check(file_bytes, scope="dataset"),
    Check(file_sha256, scope="dataset"),
    Check(file_schema, scope="dataset"),
    Check(file_rows, scope="dataset"),
    Check(stray_files, "finding", scope="dataset"),
    Check(manifest_splits, scope="dataset"),
)
