"""What is to be in the repositories: every file with its bytes and hash, before anything is sent.

The public repository is made of the public manifest alone, so no other file can come into it. The
private companion is the folder that `traj split --private-out` wrote, encrypted or not, or the
private files of a dataset that holds both splits.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from traj.dataset import MANIFEST, SEALED, Dataset, Manifest
from traj.errors import DatasetError
from traj.publish.card.names import Names
from traj.release import public_manifest
from traj.schema import TABLES

PUBLIC, PRIVATE, TRACES = "public", "private", "traces"
CARD = "README.md"


@dataclass(frozen=True, slots=True)
class PlannedFile:
    """One file of a repository; `source` is where its bytes are, or the bytes."""

    path: str
    size: int  # bytes
    sha256: str
    source: Path | bytes = field(repr=False)

    def read(self) -> bytes:
        """The file's bytes. Raises DatasetError where they cannot be read."""
        if isinstance(self.source, bytes):
            return self.source
        try:
            return self.source.read_bytes()
        except OSError as error:
            raise DatasetError(f"{self.source}: {error.strerror}") from None

    @property
    def git_oid(self) -> str:
        """The name that git gives these bytes."""
        data = self.read()
        return hashlib.sha1(b"blob %d\0" % len(data) + data, usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class RepositoryPlan:
    """One repository as it is to be. `dataset` has the local files and the published manifest."""

    names: Names
    private: bool
    dataset: Dataset
    files: tuple[PlannedFile, ...]

    @property
    def repo_id(self) -> str:
        return self.names.repo_id

    @property
    def tag(self) -> str:
        return self.names.version

    @property
    def sealed(self) -> bool:
        return self.dataset.opener is not None

    @property
    def pages(self) -> tuple[PlannedFile, ...]:
        """What was made for publishing: the card and what belongs to it, and the manifest."""
        return tuple(file for file in self.files if isinstance(file.source, bytes))


def public_part(home: Dataset, version: str) -> Dataset:
    """The dataset with its public files alone, and what may be said of the rest."""
    return replace(home, manifest=replace(public_manifest(home.manifest), version=version))


def private_part(home: Dataset, apart: Dataset | None, version: str) -> Dataset | None:
    """The private split: a folder of its own, or files beside the public ones; None where there
    is neither."""
    if apart is not None:
        # A sealed manifest stays as it is: sealed anew, it would be another file every time.
        sealed = apart.opener is not None
        return (
            apart if sealed else replace(apart, manifest=replace(apart.manifest, version=version))
        )
    manifest = home.manifest
    files = tuple(file for file in manifest.files if file.split == PRIVATE)
    if not files:
        return None
    facts = {name: known for name, known in manifest.splits.items() if name == PRIVATE}
    canary = facts.get(PRIVATE, {}).get("canary")
    only = replace(manifest, files=files, splits=facts, canary=canary, version=version)
    return replace(home, manifest=only)


def plan_repository(
    dataset: Dataset, repo_id: str, private_repo_id: str | None, version: str, traces: Path | None
) -> RepositoryPlan:
    """One repository's files. `traces` is a folder of trace-viewer files; `private_repo_id` the
    companion's name, for a public repository that has one."""
    split = PUBLIC if traces else None
    viewed = dict(_trace_files(traces)) if traces else {}
    configs = _configs(dataset.manifest, dataset.opener is not None)
    if viewed and split:
        configs[TRACES] = {split: sorted(viewed)}
    names = Names(repo_id, private_repo_id, version, bool(viewed), configs)
    files = [
        PlannedFile(one.path, one.bytes, one.sha256, dataset.path / one.path)
        for one in dataset.manifest.files
    ]
    files += [_of_path(name, path) for name, path in viewed.items()]
    made: dict[str, bytes] = {}
    if dataset.opener is None:
        from traj.publish.card import pages

        made = {**pages(dataset, names), MANIFEST: dataset.manifest.to_json()}
    else:
        files.append(_of_path(SEALED, dataset.path / SEALED))
        made[CARD] = _sealed_card(names)
    files += [_of_bytes(name, data) for name, data in made.items()]
    private = any(file.split == PRIVATE for file in dataset.manifest.files)
    ordered = tuple(sorted(files, key=lambda file: file.path))
    return RepositoryPlan(names, private, dataset, ordered)


def write_traces(public: Dataset, folder: Path) -> Path:
    """Writes the trace viewer's files of the public split; gives the folder that they are in."""
    from traj.exporters import export
    from traj.exporters.hub_traces import FOLDER
    from traj.workload.options import LoadOptions

    export(public, "hub-traces", folder / "export", LoadOptions(split=PUBLIC))
    return folder / "export" / FOLDER


def _configs(manifest: Manifest, sealed: bool) -> dict[str, dict[str, list[str]]]:
    """Paths by table and split; nothing of a sealed dataset, which only traj can open, and no
    table without rows: `datasets` cannot load an empty split (some logs hold no prompts)."""
    found: dict[str, dict[str, list[str]]] = {}
    if sealed:
        return found
    held = {(file.table, file.split) for file in manifest.files if file.rows}
    for table in TABLES:
        for file in manifest.files:
            if file.table == table and (file.table, file.split) in held:
                found.setdefault(table, {}).setdefault(file.split, []).append(file.path)
    return found


def _trace_files(folder: Path) -> Iterator[tuple[str, Path]]:
    for path in sorted(folder.iterdir()):
        yield f"{TRACES}/{path.name}", path


def _of_path(name: str, path: Path) -> PlannedFile:
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        return PlannedFile(name, path.stat().st_size, digest, path)
    except OSError as error:
        raise DatasetError(f"{path}: {error.strerror}") from None


def _of_bytes(name: str, data: bytes) -> PlannedFile:
    return PlannedFile(name, len(data), hashlib.sha256(data).hexdigest(), data)


def _sealed_card(names: Names) -> bytes:
    """The card of an encrypted repository: nothing about what is in it."""
    front: Mapping[str, object] = {"viewer": False, "pretty_name": names.name}
    lines = ["---", *(f"{name}: {json.dumps(value)}" for name, value in front.items()), "---"]
    text = f"""\
# {names.name}

Version {names.version} of the private split of a dataset of coding-agent sessions. Every file is
encrypted, with [age](https://age-encryption.org) or, where its name ends in `.parquet`, as Parquet.
With an age key that it was encrypted to, and access to this repository:

    export TRAJ_IDENTITY=key.txt
    python -c 'import traj; print(traj.load("{names.repo_id}", revision="{names.version}").path)'
"""
    return ("\n".join(lines) + "\n\n" + text).encode()
