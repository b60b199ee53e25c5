"""The programs that people load a published dataset with: each gives a table's rows in batches.

polars and DuckDB's own Hub paths know huggingface.co alone. So polars is given the URLs that the
Hub resolves, or, where a token is needed, files that `HfFileSystem` opens. DuckDB reads through
`HfFileSystem`: its own reader is an extension that it downloads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

if TYPE_CHECKING:
    import pyarrow as pa

_BATCH = 4096  # rows


@dataclass(frozen=True, slots=True)
class Part:
    """What is to be read: one split of one config, at a commit; `paths` in the repository."""

    repo_id: str
    commit: str
    config: str
    split: str
    paths: Sequence[str]
    token: str | None  # None: anyone may read it, and no token is sent
    scratch: Path


def by_datasets(part: Part) -> Iterator[pa.Table]:
    """`datasets.load_dataset`, downloaded and converted."""
    return _datasets(part, streaming=False)


def by_datasets_streaming(part: Part) -> Iterator[pa.Table]:
    """`datasets.load_dataset(streaming=True)`."""
    return _datasets(part, streaming=True)


def by_polars(part: Part) -> Iterator[pa.Table]:
    """`polars.scan_parquet`, a file at a time."""
    import polars as pl
    from huggingface_hub import constants

    base = f"{constants.ENDPOINT}/datasets/{part.repo_id}/resolve/{part.commit}"
    for path in part.paths:
        if part.token is None:
            frame = pl.scan_parquet(f"{base}/{quote(path)}").collect()
        else:
            with _files(part).open(_hub_path(part, path), "rb") as file:
                frame = pl.read_parquet(file.read())
        yield frame.to_arrow(compat_level=pl.CompatLevel.oldest())


def by_duckdb(part: Part) -> Iterator[pa.Table]:
    """DuckDB's `read_parquet`, through the Hub's file system."""
    import duckdb
    import pyarrow as pa

    with duckdb.connect() as connection:
        connection.execute("set timezone = 'UTC'")
        connection.register_filesystem(_files(part))
        paths = [_hub_path(part, path) for path in part.paths]
        reader: Any = connection.read_parquet(paths).to_arrow_reader(_BATCH)
        for batch in reader:
            yield pa.Table.from_batches([batch])


Client = Callable[[Part], "Iterator[pa.Table]"]
CLIENTS: dict[str, Client] = {
    "datasets": by_datasets,
    "datasets, streaming": by_datasets_streaming,
    "polars": by_polars,
    "duckdb": by_duckdb,
}


def failures() -> tuple[type[Exception], ...]:
    """What these programs raise where they cannot read something."""
    import httpx2
    import polars as pl
    import pyarrow as pa

    found: list[type[Exception]] = [OSError, ValueError, RuntimeError, TypeError, LookupError]
    found += [httpx2.HTTPError, pa.ArrowException, pl.exceptions.PolarsError]
    for module, name in (("datasets.exceptions", "DatasetsError"), ("duckdb", "Error")):
        try:
            library = __import__(module, fromlist=[name])
        except ImportError:
            continue
        found.append(getattr(library, name))
    return tuple(found)


def _datasets(part: Part, *, streaming: bool) -> Iterator[pa.Table]:
    import datasets

    bars = datasets.are_progress_bars_disabled()
    datasets.disable_progress_bars()
    try:
        found: Any = datasets.load_dataset(
            part.repo_id,
            part.config,
            split=part.split,
            revision=part.commit,
            streaming=streaming,
            token=part.token or False,
            cache_dir=str(part.scratch / "datasets"),
        )
        rows: Iterator[pa.Table] = found.with_format("arrow").iter(batch_size=_BATCH)
        yield from rows
    finally:
        if not bars:
            datasets.enable_progress_bars()


def _files(part: Part) -> Any:
    """The Hub as a file system, with the times of files that DuckDB asks for."""
    from huggingface_hub import HfFileSystem

    class Files(HfFileSystem):
        def modified(self, path: str, **kwargs: Any) -> datetime:  # noqa: ARG002
            # All files are of one commit, and none of them ever changes.
            return datetime(2000, 1, 1, tzinfo=UTC)

    return Files(token=part.token or False, skip_instance_cache=True)


def _hub_path(part: Part, path: str) -> str:
    return f"hf://datasets/{part.repo_id}@{part.commit}/{path}"
