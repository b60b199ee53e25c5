"""The folders and the key of a split: what is there, what fits together, and locks on it."""

from __future__ import annotations

from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path

from traj.dataset import MANIFEST, SEALED, Dataset
from traj.dataset.sealed import Seal
from traj.dataset.write import locked
from traj.errors import DatasetError, UsageError
from traj.release.assign import PRIVATE
from traj.release.disclosure import check_key
from traj.release.keys import SplitKey, make_key, read_key


@dataclass(frozen=True, slots=True)
class Apart:
    """The private folder: what it holds, and how it is encrypted."""

    folder: Path
    dataset: Dataset | None
    seal: Seal | None
    seal_changed: bool = False  # other recipients, or another form


def hold(path: Path) -> AbstractContextManager[None]:
    """The dataset's lock. Raises DatasetError where there is none: splitting makes no folder."""
    if not path.is_dir():
        raise DatasetError(f"{path}: no such dataset folder")
    return locked(path)


def hold_private(path: Path, private: Path) -> AbstractContextManager[None]:
    """The private folder's lock; the folder is made where it is not there, for its owner alone."""
    home, apart = path.resolve(), private.resolve()
    if apart.is_relative_to(home) or home.is_relative_to(apart):
        raise UsageError(f"{private}: the private split must lie outside of {path}")
    try:
        private.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            private.mkdir(mode=0o700)
    except OSError as error:
        raise UsageError(f"{private}: {error.strerror}") from None
    return locked(private, sealed=True)


def get_key(home: Dataset, file: Path, private: Path | None) -> tuple[SplitKey, bool]:
    """The split's key, and whether it was made just now; then it is not saved yet.

    Raises UsageError where the dataset was split with another, or its private split lies in a
    folder that was not named.
    """
    outside = [home.path, *([private] if private else [])]
    if home.manifest.commitment:
        if private is None and not home.files("trajectories", PRIVATE):
            raise UsageError(
                f"{home.path}: its private split lies apart: name its folder with --private-out"
            )
        key = read_key(file, outside)
        check_key(home, key)
        return key, False
    if file.exists():
        return read_key(file, outside), False
    return make_key(file, outside), True


def open_apart(
    home: Dataset,
    folder: Path,
    key: SplitKey,
    encrypt_to: tuple[str, ...],
    identity: Path | None,
    *,
    as_parquet: bool = False,
) -> Apart:
    """The private folder as it is. `as_parquet`: its data files are to be encrypted Parquet.
    Raises UsageError where it is not the dataset's, or is not encrypted and is to be."""
    wanted = Seal.to(encrypt_to) if encrypt_to else None
    sealed = (folder / SEALED).exists()
    if as_parquet and not wanted and not sealed:
        raise UsageError(
            "encrypted Parquet has a key of its own: say who may read it, --encrypt-to"
        )
    if not sealed and not (folder / MANIFEST).exists():
        return Apart(folder, None, wanted.with_parquet_key() if wanted and as_parquet else wanted)
    if wanted and not sealed:
        raise UsageError(f"{folder}: holds a dataset that is not encrypted: choose a new folder")
    dataset = Dataset.open(folder, identity)
    if any(file.split != PRIVATE for file in dataset.manifest.files):
        raise UsageError(f"{folder}: holds more than a private split")
    check_key(dataset, key)
    if dataset.manifest.tokenizer != home.manifest.tokenizer:
        raise UsageError(f"{folder}: was counted with another tokenizer than {home.path}")
    if not sealed:
        return Apart(folder, dataset, None)
    facts = dataset.manifest.splits.get(PRIVATE, {})
    seal = wanted or Seal.to(facts.get("recipients", ()))
    known = dataset.opener.parquet_key if dataset.opener else None
    changed = list(seal.recipients) != facts.get("recipients") or (as_parquet and known is None)
    if known is not None or as_parquet:
        # Who may no longer read it knows the old key.
        seal = seal.with_parquet_key(None if changed else known)
    return Apart(folder, dataset, seal, changed)
