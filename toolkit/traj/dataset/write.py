"""Writes datasets: new files beside the old, then one rename of the manifest.

update   merges recorded trajectories into what is there, shard by shard; commits nothing
commit   replaces the manifest, then removes what it no longer names
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from traj import schema
from traj.build import Built
from traj.dataset import MANIFEST, TRAJECTORY_TABLES, DataFile, Dataset, Manifest, Span
from traj.dataset.files import UNSPLIT, Chunk, DataWriter, sync
from traj.errors import DatasetError, TrajError, UsageError

_PER_SHARD = 512  # trajectories

Prompts = dict[str, tuple[str, str, int]]  # prompt_id to kind, content, tokens


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Makes the folder if need be and holds it against other writers.

    Raises UsageError for a folder that holds something else, TrajError where it is being written.
    """
    import fcntl

    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = os.open(folder, os.O_RDONLY)
    except OSError as error:
        raise UsageError(f"{folder}: {error.strerror}") from None
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise TrajError(f"{folder}: another traj is writing to it; try again later") from None
        strange = [path.name for path in folder.iterdir() if path.name not in (MANIFEST, "data")]
        if strange and not (folder / MANIFEST).exists():
            raise UsageError(f"{folder}: not a dataset, and not empty (it holds {strange[0]!r})")
        yield
    finally:
        os.close(handle)


def shard_of(trajectory_id: str, shards: int) -> int:
    """The shard that a trajectory lies in: ids are hashes, so their first bits spread them."""
    return int(trajectory_id[:3], 16) * shards >> 12


def shards_for(count: int) -> int:
    """How many shards a dataset of `count` trajectories has: a power of two."""
    shards = 1
    while shards * _PER_SHARD < count and shards < 4096:
        shards *= 2
    return shards


def update(
    folder: Path, old: Manifest, shards: int, fresh: Iterable[Built], touched: set[str]
) -> Manifest:
    """The dataset with `fresh` merged in, in the order of their ids; `touched` are their ids, or
    ids of which there turned out to be nothing to write. Files are written, but not committed.
    """
    same = shards == old.shards
    dirty = {shard_of(name, shards) for name in touched} if same else set(range(shards))
    kept = [file for file in old.files if same and file.table != "prompts"]
    kept = [file for file in kept if file.shard not in dirty]
    rest = replace(old, files=tuple(file for file in old.files if file not in kept))
    before = Dataset(folder, rest).spans(split=UNSPLIT)
    rows = _merged((row for row in before if row[0] not in touched), fresh)
    prompts: Prompts = {}
    writer: _Shard | None = None
    files: list[DataFile] = list(kept)
    thread = ThreadPoolExecutor(1, "traj-writer")
    try:
        for name, tables, its_prompts in rows:
            shard = shard_of(name, shards)
            if writer is not None and writer.number != shard:
                files += writer.close()
                writer = None
            if writer is None:
                writer = _Shard(folder, shard, thread)
            writer.add(name, tables)
            prompts.update(its_prompts)
        if writer is not None:
            files += writer.close()
            writer = None
    except OSError as error:
        raise TrajError(f"{folder}: cannot write: {error.strerror or error}") from None
    finally:
        if writer is not None:
            writer.abandon()
        thread.shutdown()
    order = {name: place for place, name in enumerate(schema.TABLES)}
    merged = replace(old, shards=shards, files=tuple(files))
    files += _write_prompts(folder, merged, old, prompts)
    files.sort(key=lambda file: (order[file.table], file.split, file.shard))
    return replace(merged, files=tuple(files))


def commit(folder: Path, manifest: Manifest) -> None:
    """Makes the manifest the dataset's, durably, and removes files that it does not name."""
    data = manifest.to_json()
    file = folder / MANIFEST
    try:
        if not file.exists() or file.read_bytes() != data:
            scratch = folder / f".{MANIFEST}.tmp"
            with scratch.open("wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            scratch.replace(file)
            sync(folder)
    except OSError as error:
        raise TrajError(f"{folder}: cannot write: {error.strerror or error}") from None
    sweep(folder, manifest)


def sweep(folder: Path, manifest: Manifest | None) -> None:
    """Removes data files that the manifest does not name: what killed runs left behind."""
    named = {file.path for file in manifest.files} if manifest else set()
    for path in (folder / "data").glob("*/*"):
        if path.relative_to(folder).as_posix() not in named:
            path.unlink(missing_ok=True)


def _merged(
    before: Iterable[tuple[str, dict[str, Span]]], fresh: Iterable[Built]
) -> Iterator[tuple[str, Mapping[str, Chunk], Prompts]]:
    old, new = iter(before), iter(fresh)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right.trajectory_id):
            assert left is not None
            yield *left, {}
            left = next(old, None)
        else:
            yield right.trajectory_id, right.tables, right.prompts
            right = next(new, None)


class _Shard:
    """One shard's files, of all tables but prompts."""

    def __init__(self, folder: Path, number: int, thread: ThreadPoolExecutor) -> None:
        self.number = number
        self._files = {name: DataWriter(folder, name, number, thread) for name in TRAJECTORY_TABLES}

    def add(self, trajectory_id: str, tables: Mapping[str, Chunk]) -> None:
        # Where a row group of messages begins is a matter of the id alone: a changed trajectory
        # leaves the other row groups' bytes as they were. The other tables are small: one group.
        if trajectory_id.endswith("0"):
            self._files["messages"].flush()
        for name, rows in tables.items():
            self._files[name].add(trajectory_id, rows)

    def close(self) -> list[DataFile]:
        return [file.close() for file in self._files.values()]

    def abandon(self) -> None:
        for file in self._files.values():
            file.abandon()


def _write_prompts(folder: Path, merged: Manifest, old: Manifest, fresh: Prompts) -> list[DataFile]:
    """The prompts that some turn refers to, in the order of their ids."""
    import pyarrow as pa

    dataset = Dataset(folder, merged)
    used = dataset.table("turns", ["system_id", "tools_id"])
    wanted = {name for column in used.columns for name in column.unique().to_pylist() if name}
    known = dict(fresh)
    if any(name not in known for name in wanted):
        for row in Dataset(folder, old).table("prompts").to_pylist():
            known.setdefault(row["prompt_id"], (row["kind"], row["content"], row["tokens"]))
    missing = sorted(wanted - known.keys())
    if missing:
        raise DatasetError(f"{folder}: prompt {missing[0]} is missing; run traj validate")
    names = sorted(wanted)
    batch = pa.record_batch(
        [
            pa.array([schema.VERSION] * len(names), pa.string()),
            pa.array(names, pa.string()),
            pa.array([known[name][0] for name in names], pa.string()),
            pa.array([known[name][1] for name in names], pa.string()),
            pa.array([known[name][2] for name in names], pa.int32()),
        ],
        schema=schema.arrow("prompts"),
    )
    with ThreadPoolExecutor(1) as thread:
        file = DataWriter(folder, "prompts", 0, thread)
        try:
            table = pa.Table.from_batches([batch])
            file.add("", Span(table, 0, table.num_rows))
            return [file.close()]
        except OSError as error:
            file.abandon()
            raise TrajError(f"{folder}: cannot write: {error.strerror or error}") from None
