"""Writes datasets: new files beside the old, then one rename of the manifest.

update   merges recorded trajectories into what is there, shard by shard; commits nothing
commit   replaces the manifest, then removes what it no longer names
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from traj import schema
from traj.build import Built
from traj.dataset import MANIFEST, SEALED, TRAJECTORY_TABLES, DataFile, Dataset, Manifest, Span
from traj.dataset.files import UNSPLIT, Chunk, DataWriter, sync
from traj.dataset.labels import Kept
from traj.dataset.sealed import Seal
from traj.errors import DatasetError, TrajError, UsageError

_PER_SHARD = 64  # trajectories: one more rewrites, and uploads, one shard

Prompts = dict[str, tuple[str, str, int]]  # prompt_id to kind, content, tokens


@contextmanager
def locked(folder: Path, *, sealed: bool = False) -> Iterator[None]:
    """Makes the folder if need be and holds it against other writers. `sealed`: an encrypted
    dataset is no strange thing to find in it.

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
        known = (MANIFEST, "data", *([SEALED] if sealed else []))
        strange = [path.name for path in folder.iterdir() if path.name not in known]
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

    In a dataset that is split the others stay where they are; `fresh` is unsplit, until the next
    `traj split` puts each where its family is. Labels stay with their trajectories.
    """
    same = shards == old.shards and not schema.is_older(old.schema_version)
    dirty = {shard_of(name, shards) for name in touched} if same else set(range(shards))
    kept = [file for file in old.files if same and file.table != "prompts"]
    kept = [file for file in kept if file.shard not in dirty]
    rest = Dataset(folder, replace(old, files=tuple(f for f in old.files if f not in kept)))
    prompts: Prompts = {}
    labels = Kept.of(rest, touched)
    files: list[DataFile] = list(kept)
    for split in [*sorted({file.split for file in old.files} - {UNSPLIT}), UNSPLIT]:
        before = (row for row in rest.spans(split=split) if row[0] not in touched)
        rows = _merged(before, fresh if split == UNSPLIT else (), prompts, labels)
        files += write_shards(folder, shards, split, rows)
    now = replace(old, schema_version=schema.VERSION, shards=shards, files=tuple(files))
    merged = Dataset(folder, now)
    for split in sorted({file.split for file in files} or {UNSPLIT}):
        wanted = prompts_used(merged, split)
        known = _known(wanted, prompts, Dataset(folder, old))
        files.append(write_prompts(folder, split, known))
    return replace(merged.manifest, files=in_order(files))


def write_shards(
    folder: Path,
    shards: int,
    split: str,
    rows: Iterable[tuple[str, Mapping[str, Chunk]]],
    seal: Seal | None = None,
) -> list[DataFile]:
    """Writes trajectories, given in the order of their ids, into one split's shards."""
    under_way: list[_Shard] = []  # the last of them takes rows, the one before is being closed
    files: list[DataFile] = []
    thread = ThreadPoolExecutor(1, "traj-writer")
    try:
        for name, tables in rows:
            number = shard_of(name, shards)
            if not under_way or under_way[-1].number != number:
                if under_way:
                    under_way[-1].close()
                while len(under_way) > 1:
                    files += under_way[0].files()
                    del under_way[0]
                under_way.append(_Shard(folder, number, thread, split, seal))
            under_way[-1].add(name, tables)
        if under_way:
            under_way[-1].close()
        while under_way:
            files += under_way[0].files()
            del under_way[0]
    except OSError as error:
        raise TrajError(f"{folder}: cannot write: {error.strerror or error}") from None
    finally:
        for shard in under_way:
            shard.abandon()
        thread.shutdown()
    return files


def in_order(files: Iterable[DataFile]) -> tuple[DataFile, ...]:
    """As a manifest lists them."""
    order = {name: place for place, name in enumerate(schema.TABLES)}
    return tuple(sorted(files, key=lambda file: (order[file.table], file.split, file.shard)))


def commit(folder: Path, manifest: Manifest, seal: Seal | None = None) -> None:
    """Makes the manifest the dataset's, durably, and removes files that it does not name."""
    data = seal.close_manifest(manifest.to_json()) if seal else manifest.to_json()
    file = folder / (SEALED if seal else MANIFEST)
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
    before: Iterable[tuple[str, dict[str, Span]]],
    fresh: Iterable[Built],
    prompts: Prompts,
    labels: Kept,
) -> Iterator[tuple[str, Mapping[str, Chunk]]]:
    """Both in the order of their ids; the prompts of what is fresh are collected on the way."""
    old, new = iter(before), iter(fresh)
    left, right = next(old, None), next(new, None)
    while left is not None or right is not None:
        if right is None or (left is not None and left[0] < right.trajectory_id):
            assert left is not None
            yield left
            left = next(old, None)
        else:
            prompts.update(right.prompts)
            yield right.trajectory_id, labels.onto(right.trajectory_id, right.tables)
            right = next(new, None)


class _Shard:
    """One shard's files, of all tables but prompts."""

    def __init__(
        self, folder: Path, number: int, thread: ThreadPoolExecutor, split: str, seal: Seal | None
    ) -> None:
        self.number = number
        self._closing: list[Future[DataFile]] = []
        self._files = {
            name: DataWriter(folder, name, number, thread, split, seal)
            for name in TRAJECTORY_TABLES
        }

    def add(self, trajectory_id: str, tables: Mapping[str, Chunk]) -> None:
        # Where a row group of messages begins is a matter of the id alone: a changed trajectory
        # leaves the other row groups' bytes as they were. The other tables are small: one group.
        if trajectory_id.endswith("0"):
            self._files["messages"].flush()
        for name, rows in tables.items():
            self._files[name].add(trajectory_id, rows)

    def close(self) -> None:
        for file in self._files.values():
            self._closing.append(file.close())

    def files(self) -> list[DataFile]:
        """Those of a shard that is closed, when they are whole."""
        return [file.result() for file in self._closing]

    def abandon(self) -> None:
        wait(self._closing)
        for file in self._files.values():
            file.abandon()


def prompts_used(dataset: Dataset, split: str) -> set[str]:
    """The prompts that some turn of the split refers to."""
    used = dataset.table("turns", ["system_id", "tools_id"], split)
    return {name for column in used.columns for name in column.unique().to_pylist() if name}


def prompts_of(dataset: Dataset) -> Prompts:
    """All prompts that the dataset holds, of whatever split."""
    rows = dataset.table("prompts").to_pylist()
    return {row["prompt_id"]: (row["kind"], row["content"], row["tokens"]) for row in rows}


def _known(wanted: set[str], fresh: Prompts, old: Dataset) -> Prompts:
    known = fresh if wanted <= fresh.keys() else prompts_of(old) | fresh
    missing = sorted(wanted - known.keys())
    if missing:
        raise DatasetError(f"{old.path}: prompt {missing[0]} is missing; run traj validate")
    return {name: known[name] for name in wanted}


def write_prompts(folder: Path, split: str, prompts: Prompts, seal: Seal | None = None) -> DataFile:
    """Writes one split's prompts, in the order of their ids."""
    import pyarrow as pa

    names = sorted(prompts)
    batch = pa.record_batch(
        [
            pa.array([schema.VERSION] * len(names), pa.string()),
            pa.array(names, pa.string()),
            pa.array([prompts[name][0] for name in names], pa.string()),
            pa.array([prompts[name][1] for name in names], pa.string()),
            pa.array([prompts[name][2] for name in names], pa.int32()),
        ],
        schema=schema.arrow("prompts"),
    )
    with ThreadPoolExecutor(1) as thread:
        file = DataWriter(folder, "prompts", 0, thread, split, seal)
        try:
            table = pa.Table.from_batches([batch])
            file.add("", Span(table, 0, table.num_rows))
            return file.close().result()
        except OSError as error:
            file.abandon()
            raise TrajError(f"{folder}: cannot write: {error.strerror or error}") from None
