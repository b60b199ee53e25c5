"""One Parquet file of a dataset: encoded beside the building of rows, named by what is in it."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

from traj import schema
from traj.build.rows import Columns, to_arrow
from traj.dataset import DataFile, Span
from traj.dataset.sealed import SUFFIX, Seal

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq
    from pyarrow.parquet.encryption import FileEncryptionProperties

UNSPLIT = "unsplit"
_CHUNKING = {"min_chunk_size": 256 * 1024, "max_chunk_size": 1024 * 1024, "norm_level": 0}
_TEXTS = ("content", "reasoning", "arguments")

Chunk = Columns | Span


class DataWriter:
    """One Parquet file: written under a scratch name, then named by what is in it.

    Encoding runs on a thread, beside the building of the next rows; one row group at most waits.
    What is to be sealed is encoded in memory, so that no plain text of it comes to the disk;
    encrypted Parquet has none in it.
    """

    def __init__(
        self,
        folder: Path,
        table: str,
        shard: int,
        thread: ThreadPoolExecutor,
        split: str = UNSPLIT,
        seal: Seal | None = None,
    ) -> None:
        import pyarrow as pa

        self._folder, self._thread, self._seal = folder, thread, seal
        self._table, self._shard, self._split = table, shard, split
        home = folder / "data" / table
        home.mkdir(parents=True, exist_ok=True)
        self._scratch = home / f".{split}-{shard:05d}-{os.getpid()}.tmp"
        key = seal.parquet_key if seal else None
        self._memory = pa.BufferOutputStream() if seal and key is None else None
        self._writer = _open(self._memory or self._scratch, table, key)
        self._rows = 0
        self._under_way: Future[None] | None = None
        self.pending: list[tuple[str, Chunk]] = []

    def add(self, trajectory_id: str, rows: Chunk) -> None:
        """Takes a trajectory's rows; those that lay side by side before stay in one piece."""
        last = self.pending[-1][1] if self.pending else None
        if isinstance(rows, Columns):
            if len(rows):
                self.pending.append((trajectory_id, rows))
        elif isinstance(last, Span) and last.table is rows.table and last.stop == rows.start:
            self.pending[-1] = (trajectory_id, last._replace(stop=rows.stop))
        else:
            self.pending.append((trajectory_id, rows))

    def flush(self) -> None:
        """Writes what is pending as one row group."""
        import pyarrow as pa

        pending, self.pending = self.pending, []
        if not pending:
            return
        batches: list[pa.RecordBatch] = []
        for built, chunks in groupby(pending, key=lambda chunk: isinstance(chunk[1], Columns)):
            if built:
                parts = [(name, rows) for name, rows in chunks if isinstance(rows, Columns)]
                batches.append(to_arrow(self._table, parts))
            else:
                spans = [rows for _, rows in chunks if isinstance(rows, Span)]
                batches += [batch for span in spans for batch in span.rows().to_batches()]
        rows = pa.Table.from_batches(batches, schema.arrow(self._table))
        if not rows.num_rows:
            return
        self._rows += rows.num_rows
        self._wait()
        self._under_way = self._thread.submit(self._write, rows)

    def close(self) -> Future[DataFile]:
        """Writes what is pending, and ends the file beside whatever comes next."""
        self.flush()
        return self._thread.submit(self._ended)

    def _ended(self) -> DataFile:
        self._wait()  # for nothing: the thread has written it
        self._writer.close()
        if self._seal and self._memory is not None:
            self._scratch.write_bytes(self._seal.close(self._memory.getvalue().to_pybytes()))
        with self._scratch.open("rb") as handle:
            digest = hashlib.file_digest(handle, "sha256").hexdigest()
            size = os.fstat(handle.fileno()).st_size
            os.fsync(handle.fileno())
        name = f"data/{self._table}/{self._split}-{self._shard:05d}-{digest[:12]}.parquet"
        name += SUFFIX if self._memory is not None else ""
        self._scratch.replace(self._folder / name)
        sync(self._scratch.parent)
        return DataFile(self._table, self._split, self._shard, name, self._rows, size, digest)

    def abandon(self) -> None:
        with suppress(OSError):  # the disk is full: what is left of the file goes away
            self._wait()
        with suppress(OSError):
            self._writer.close()
        self._scratch.unlink(missing_ok=True)

    def _write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows.combine_chunks(), row_group_size=rows.num_rows)

    def _wait(self) -> None:
        under_way, self._under_way = self._under_way, None
        if under_way is not None:
            under_way.result()


def _leaves(columns: Iterable[schema.Column], above: str = "") -> Iterator[str]:
    """The paths of Parquet's own columns."""
    for column in columns:
        path = above + column.name + (".list.element" if column.type.startswith("list") else "")
        if column.fields:
            yield from _leaves(column.fields, f"{path}.")
        else:
            yield path


def _is_kept(path: str) -> bool:
    """Whether a column's smallest and largest value stand in the footer: of texts they would be
    kilobytes a row group, and help nobody."""
    return path.rpartition(".")[2] not in _TEXTS


def _open(
    sink: Path | pa.BufferOutputStream, table: str, key: bytes | None = None
) -> pq.ParquetWriter:
    import pyarrow.parquet as pq

    writer = pq.ParquetWriter(
        sink,
        schema.arrow(table),
        compression="zstd",
        compression_level=3,
        write_page_index=True,
        write_statistics=[path for path in _leaves(schema.table(table).columns) if _is_kept(path)],
        use_content_defined_chunking=_CHUNKING,
        encryption_properties=_encryption(key),
    )
    # The footer key by which the Hub knows such files.
    writer.add_key_value_metadata({"content_defined_chunking": json.dumps(_CHUNKING)})
    return writer


def _encryption(key: bytes | None) -> FileEncryptionProperties | None:
    if key is None:
        return None
    from pyarrow.parquet.encryption import create_encryption_properties

    return create_encryption_properties(key)


def sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
