"""The rows that a check sees: columns of one shard's trajectories as polars frames, read once.

Memory is bounded by the shard for numbers and ids, which stay while the shard is checked, and by
the row group for text, which is only ever streamed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, TypeVar, cast

from traj import schema
from traj.dataset import TRAJECTORY_TABLES, DataFile, Dataset
from traj.errors import TrajError
from traj.validation.report import NotApplicableError, UnavailableError

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    import pyarrow.parquet as pq

T = TypeVar("T")
Count = Callable[[Sequence[str]], list[int]]  # texts to their lengths in tokens


class Tables:
    """A part of a dataset: one shard of one split, the prompts of one split, or all of it."""

    def __init__(
        self,
        dataset: Dataset,
        own: Sequence[str] = schema.TABLES,
        split: str | None = None,
        shard: int | None = None,
        counter: Callable[[], Count] | None = None,
    ) -> None:
        self.dataset = dataset
        self.own = tuple(own)  # the tables whose rows this part is responsible for
        self._split = split
        self._shard = shard
        self._counter = counter
        self._columns: dict[tuple[str, str], pl.Series] = {}
        self._made: dict[object, Any] = {}

    def files(self, table: str) -> list[DataFile]:
        """The part's files of one table. Prompts are not sharded by trajectory: all the split's."""
        if table not in self.own and table != "prompts":
            return []
        files = self.dataset.files(table, self._split)
        if table == "prompts":
            return files or self.dataset.files(table)
        return [file for file in files if self._shard in (None, file.shard)]

    def frame(self, table: str, columns: Sequence[str]) -> pl.DataFrame:
        """Columns of all the part's rows, in file order. Never ask for text here: see `batches`."""
        import polars as pl

        missing = [name for name in columns if (table, name) not in self._columns]
        if missing:
            frames = [_empty(table).select(missing)]
            for file in self.files(table):
                with self.open(file) as parquet:
                    frames.append(_read(parquet, file, missing, None))
            whole = pl.concat(frames, rechunk=True)
            self._columns.update({(table, name): whole[name] for name in missing})
        return pl.DataFrame([self._columns[table, name] for name in columns])

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The same a row group at a time: for text."""
        for file in self.files(table):
            yield from self.file_batches(file, columns)

    def file_batches(self, file: DataFile, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        """The row groups of one file."""
        with self.open(file) as parquet:
            for group in range(parquet.num_row_groups):
                yield _read(parquet, file, columns, group)

    def open(self, file: DataFile) -> pq.ParquetFile:
        """Opens a data file. Raises UnavailableError where it is missing or is not Parquet."""
        import pyarrow as pa

        try:
            return self.dataset.parquet(file)
        except (OSError, pa.ArrowException, TrajError) as error:
            raise UnavailableError(f"{file.path} cannot be read: {error}") from None

    def once(self, make: Callable[[Tables], T]) -> T:
        """What `make` makes of this part, made once and shared between checks."""
        if make not in self._made:
            self._made[make] = make(self)
        return cast("T", self._made[make])

    def assume(self, make: Callable[[Tables], T], value: T) -> None:
        """From now on `once(make)` gives this: what is so once the dataset is written, say."""
        self._made[make] = value

    def count(self, texts: list[str]) -> list[int]:
        """Tokens of each text under the dataset's tokenizer.

        Raises UnavailableError where that tokenizer cannot be had here.
        """
        if self._counter is None:
            raise UnavailableError("no tokenizer was given")
        return self._counter()(texts)

    def close(self) -> None:
        """Lets go of all rows."""
        self._columns.clear()
        self._made.clear()

    def need_text(self) -> None:
        """Raises NotApplicableError where the manifest names no messages: a text-free dataset."""
        if not self.dataset.files("messages"):
            raise NotApplicableError("the dataset has no messages: it was released without text")

    @property
    def rows(self) -> dict[str, int]:
        """Rows by table, as the files say; files that cannot be read count as none."""
        found = dict.fromkeys(self.own, 0)
        for table in self.own:
            for file in self.files(table):
                try:
                    with self.open(file) as parquet:
                        found[table] += parquet.metadata.num_rows
                except UnavailableError:
                    continue  # file_schema reports it
        return found


def parts(dataset: Dataset, counter: Callable[[], Count]) -> Iterator[Tables]:
    """The dataset cut into its shards, then the prompts of each split."""
    shards = {
        (file.split, file.shard)
        for file in dataset.manifest.files
        if file.table in TRAJECTORY_TABLES
    }
    for split, shard in sorted(shards):
        yield Tables(dataset, TRAJECTORY_TABLES, split, shard, counter)
    for split in sorted({file.split for file in dataset.files("prompts")}):
        yield Tables(dataset, ("prompts",), split, None, counter)


def _read(
    parquet: pq.ParquetFile, file: DataFile, columns: Sequence[str], group: int | None
) -> pl.DataFrame:
    """Columns of a file or of one row group, in the schema's types: what an older minor version
    lacks is null, what has another type is cast (file_schema reports it).
    """
    import polars as pl
    import pyarrow as pa

    present = set(parquet.schema_arrow.names)
    wanted = [name for name in columns if name in present]
    absent = [name for name in columns if name not in present]
    for name in absent:
        if not schema.table(file.table).column(name).nullable:
            raise UnavailableError(f"{file.path} has no column {name}")
    try:
        if group is None:
            table = parquet.read(columns=wanted)
        else:
            table = parquet.read_row_group(group, columns=wanted)
    except (OSError, pa.ArrowException) as error:
        raise UnavailableError(f"{file.path} cannot be read: {error}") from None
    target = _empty(file.table).select(columns).schema
    if not wanted:
        return pl.DataFrame({name: [None] * table.num_rows for name in columns}, schema=target)
    try:
        frame = cast("pl.DataFrame", pl.from_arrow(_without_metadata(table)))
        nulls = [pl.lit(None).alias(name) for name in absent]
        return frame.with_columns(nulls).select(columns).cast(target)
    except (pl.exceptions.PolarsError, pa.ArrowException) as error:
        raise UnavailableError(f"{file.path} does not follow the schema: {error}") from None


def _without_metadata(table: pa.Table) -> pa.Table:
    """A table without the file's key-value metadata, which polars would try to read."""
    return table.replace_schema_metadata(None)


@cache
def _empty(table: str) -> pl.DataFrame:
    """No rows in the schema's types."""
    import polars as pl

    return cast("pl.DataFrame", pl.from_arrow(schema.arrow(table).empty_table()))
