"""A dataset on disk: a folder of Parquet files and the manifest that makes them one.

`dataset.json` is the commit point. Data files carry a hash of their bytes in their name and are
never changed in place: a writer adds new ones beside the old, then replaces the manifest in one
rename, then removes what the manifest no longer names. So a reader, or a crash, sees the old
dataset or the new one, whole.

Trajectories lie in the order of their ids. The ids are hashes, so their first bits cut the
dataset into shards of like size, the same ids in the same shard of every table; one added
trajectory rewrites one shard.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from traj import schema
from traj.dataset.sealed import SUFFIX, Opener
from traj.errors import DatasetError

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.parquet.encryption import FileDecryptionProperties

MANIFEST = "dataset.json"
SEALED = MANIFEST + SUFFIX
TRAJECTORY_TABLES = tuple(name for name in schema.TABLES if name != "prompts")


@dataclass(frozen=True, slots=True)
class DataFile:
    """One Parquet file of the dataset, as the manifest names it."""

    table: str
    split: str  # unsplit, public, private
    shard: int
    path: str  # relative to the dataset's folder, with forward slashes
    rows: int
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What dataset.json says."""

    schema_version: str
    tool_version: str
    tokenizer: dict[str, str]
    files: tuple[DataFile, ...]
    name: str | None = None
    version: str | None = None
    scrubbed: str | bool = False  # the version of the rules, or false
    canary: str | None = None
    shards: int = 1
    splits: dict[str, Any] = field(default_factory=dict)  # counts and fingerprint by split
    commitment: dict[str, Any] = field(default_factory=dict)  # to the private split

    def to_json(self) -> bytes:
        return (json.dumps(asdict(self), indent=2, sort_keys=True) + "\n").encode()

    @classmethod
    def from_json(cls, text: bytes, where: str) -> Manifest:
        try:
            data = json.loads(text)
            schema.check_version(str(data["schema_version"]), where)
            known = {key: data[key] for key in cls.__slots__ if key in data}
            files = tuple(DataFile(**file) for file in data["files"])
            return cls(**{**known, "files": files})
        except (ValueError, KeyError, TypeError) as error:
            raise DatasetError(f"{where}: not a dataset manifest ({error!r})") from None


class Span(NamedTuple):
    """Rows `start` to `stop` of a table."""

    table: pa.Table
    start: int
    stop: int

    def rows(self) -> pa.Table:
        return self.table.slice(self.start, self.stop - self.start)


@dataclass(frozen=True, slots=True)
class Rows:
    """One trajectory's rows, a table each; a table that was not asked for is absent."""

    trajectory_id: str
    tables: dict[str, pa.Table]

    def __getattr__(self, name: str) -> pa.Table:
        try:
            return self.tables[name]
        except KeyError:
            raise AttributeError(name) from None


@dataclass(frozen=True, slots=True)
class Dataset:
    """A finished dataset, opened for reading."""

    path: Path
    manifest: Manifest
    opener: Opener | None = None  # where the files are encrypted

    @classmethod
    def open(cls, path: str | Path, identity: str | Path | None = None) -> Dataset:
        """Opens the dataset in a folder; `identity` is the file of keys for an encrypted one, by
        default what the environment variable TRAJ_IDENTITY names.

        Raises DatasetError where there is none, it is unfinished, or it is newer than this traj;
        UsageError where it is encrypted and no key opens it.
        """
        folder = Path(path)
        file = folder / MANIFEST
        if (folder / SEALED).is_file() and not file.exists():
            text, opener = Opener.read(identity, folder).open_manifest(folder / SEALED)
            return cls(folder, Manifest.from_json(text, str(folder / SEALED)), opener)
        try:
            text = file.read_bytes()
        except FileNotFoundError:
            if not folder.is_dir():
                raise DatasetError(f"{folder}: no such dataset folder") from None
            raise DatasetError(
                f"{folder}: no {MANIFEST} in it: not a dataset, or a recording that was cut off "
                "before its first commit (run it again)"
            ) from None
        except (OSError, ValueError) as error:
            raise DatasetError(f"{file}: {error}") from None
        return cls(folder, Manifest.from_json(text, str(file)))

    def files(self, name: str, split: str | None = None) -> list[DataFile]:
        """The files of one table in the order of their rows."""
        found = [
            file
            for file in self.manifest.files
            if file.table == name and split in (None, file.split)
        ]
        return sorted(found, key=lambda file: (file.split, file.shard))

    def parquet(self, file: DataFile) -> pq.ParquetFile:
        """Opens one file, decrypted in memory where need be. Raises TrajError where it cannot be
        decrypted, else what pyarrow raises."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        path = self.path / file.path
        if not file.path.endswith(SUFFIX):
            return pq.ParquetFile(path, decryption_properties=self._decryption())
        if self.opener is None:
            raise DatasetError(f"{path}: encrypted, in a dataset that is not")
        return pq.ParquetFile(pa.BufferReader(self.opener.open(path)))

    def _decryption(self) -> FileDecryptionProperties | None:
        if self.opener is None or self.opener.parquet_key is None:
            return None
        from pyarrow.parquet.encryption import create_decryption_properties

        return create_decryption_properties(self.opener.parquet_key)

    def table(
        self, name: str, columns: Sequence[str] | None = None, split: str | None = None
    ) -> pa.Table:
        """A whole table, or some of its columns, sorted by its key within each split."""
        import pyarrow as pa

        empty = schema.arrow(name).empty_table()
        if columns is not None:
            empty = empty.select(list(columns))
        parts = []
        for file in self.files(name, split):
            try:
                # ParquetFile and not read_table: that one loads the dataset layer, and pandas.
                with self.parquet(file) as parquet:
                    parts.append(self._newest(name, parquet.read(columns=columns), columns))
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{self.path / file.path}: {error}") from None
        return pa.concat_tables(parts or [empty])

    def trajectories(
        self,
        tables: Sequence[str] = TRAJECTORY_TABLES,
        split: str | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[Rows]:
        """Trajectories one after another, in the order of their ids, a row group in memory at a
        time. `columns` narrows tables; `trajectory_id` is always read."""
        for trajectory_id, spans in self.spans(tables, split, columns):
            found = {name: span.rows() for name, span in spans.items()}
            for name in tables:
                if name not in found:
                    empty = schema.arrow(name).empty_table()
                    wanted = (columns or {}).get(name)
                    found[name] = empty.select(list(wanted)) if wanted else empty
            yield Rows(trajectory_id, found)

    def spans(
        self,
        tables: Sequence[str] = TRAJECTORY_TABLES,
        split: str | None = None,
        columns: Mapping[str, Sequence[str]] | None = None,
    ) -> Iterator[tuple[str, dict[str, Span]]]:
        """Where each trajectory's rows lie, in the order of ids; a table without rows of it is
        absent. Cutting a table of forty columns costs as much as a page of text: who passes rows
        on as they are does better with this than with `trajectories`."""
        streams = {
            name: self._by_trajectory(name, split, (columns or {}).get(name))
            for name in tables
            if name != "trajectories"
        }
        waiting = {name: next(stream, None) for name, stream in streams.items()}
        heads = self._by_trajectory("trajectories", split, (columns or {}).get("trajectories"))
        for trajectory_id, head in heads:
            found = {"trajectories": head}
            for name, stream in streams.items():
                item = waiting[name]
                if item is not None and item[0] == trajectory_id:
                    found[name] = item[1]
                    waiting[name] = next(stream, None)
            yield trajectory_id, found

    def _newest(self, name: str, rows: pa.Table, columns: Sequence[str] | None) -> pa.Table:
        """Whatever the dataset's version is, whoever reads it meets the newest."""
        if schema.is_older(self.manifest.schema_version):
            return schema.raised(name, rows, columns)
        return rows

    def _by_trajectory(
        self, name: str, split: str | None, columns: Sequence[str] | None
    ) -> Iterator[tuple[str, Span]]:
        import pyarrow as pa

        wanted = None if columns is None else list(dict.fromkeys(["trajectory_id", *columns]))
        for file in self.files(name, split):
            try:
                with self.parquet(file) as parquet:
                    for group in range(parquet.num_row_groups):
                        rows = parquet.read_row_group(group, columns=wanted)
                        yield from runs(self._newest(name, rows, wanted))
            except (OSError, pa.ArrowException) as error:
                raise DatasetError(f"{self.path / file.path}: {error}") from None


def runs(table: pa.Table) -> Iterator[tuple[str, Span]]:
    """Spans of equal, neighbouring trajectory ids. A trajectory never spans row groups."""
    import pyarrow.compute as pc

    if table.num_rows == 0:
        return
    runs = pc.run_end_encode(table.column("trajectory_id").combine_chunks())
    start = 0
    for end, value in zip(runs.run_ends.to_pylist(), runs.values.to_pylist(), strict=True):
        yield value, Span(table, start, end)
        start = end
