"""The secret of a split: a file that only its owner may read, never inside a dataset.

From the one secret come the keys of the draw and of the commitment's salts. Whoever holds it can
work out both; whoever loses it can neither add to the split nor disclose from it.

Behind the secret the file lists what was assigned: every repository, and every session of an
unknown one. So a dataset that is recorded anew, or another that is split with the same key, has
them where they were.
"""

from __future__ import annotations

import base64
import hmac
import os
import re
import secrets
import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from traj.dataset import Dataset
from traj.errors import UsageError

_FORM = re.compile(r"TRAJ-SPLIT-KEY-1-([0-9A-F]{64})")
_LINE = re.compile(r"^(public|private) (.+)$", re.MULTILINE)
_HEAD = """\
# The secret of a traj split. Keep a copy of it, apart from the datasets: without it the split
# cannot grow and nothing private can be proven. Who has it can tell private from public.
"""


@dataclass(frozen=True, slots=True)
class SplitKey:
    """The secret, and the file that it stands in."""

    file: Path
    _secret: bytes = field(repr=False)
    assigned: Mapping[str, str] = field(default_factory=dict)  # repository or trajectory: split

    def derive(self, purpose: str) -> bytes:
        """A key for one purpose alone, 32 bytes."""
        return hmac.digest(self._secret, f"traj {purpose} 1".encode(), "sha256")

    def reveal(self) -> str:
        """The secret itself, in hex: for its file."""
        return self._secret.hex().upper()

    @property
    def mark(self) -> str:
        """What tells this key from others and says nothing of it: 16 hex digits."""
        return self.derive("mark")[:8].hex()


def read_key(file: Path, outside: Iterable[Path] = ()) -> SplitKey:
    """Reads the key; `outside` are folders that it must not lie in.

    Raises UsageError where it lies there, is not a key, or others may read it.
    """
    _refuse_inside(file, outside)
    try:
        with file.open("rb") as handle:
            mode = os.fstat(handle.fileno()).st_mode
            text = handle.read().decode("utf-8", "replace")
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}: no split key") from None
    if stat.S_IMODE(mode) & 0o077:
        raise UsageError(f"{file}: others may read this secret: chmod 600 it")
    found = _FORM.search(text)
    if found is None:
        raise UsageError(f"{file}: not a split key")
    assigned = {name: split for split, name in _LINE.findall(text)}
    return SplitKey(file, bytes.fromhex(found[1]), assigned)


def make_key(file: Path, outside: Iterable[Path] = ()) -> SplitKey:
    """Makes a fresh key, not saved yet. Raises UsageError where there is such a file, or it would
    lie in one of the folders `outside`."""
    _refuse_inside(file, outside)
    if file.exists() or file.is_symlink():
        raise UsageError(f"{file}: exists: a key is never overwritten")
    return SplitKey(file, secrets.token_bytes(32))


def save_key(key: SplitKey) -> None:
    """Writes a fresh key to a new file that only its owner may read."""
    try:
        _write(key.file, _text(key))
    except OSError as error:
        raise UsageError(f"{key.file}: cannot make a split key: {error.strerror}") from None


def save_parquet_key(dataset: Dataset, file: Path) -> None:
    """Writes the key of a dataset's encrypted Parquet files, in base64, to a new file that only its
    owner may read. Raises UsageError where the dataset has none, or the file would lie in it."""
    key = dataset.opener.parquet_key if dataset.opener else None
    if key is None:
        raise UsageError(f"{dataset.path}: its files are no encrypted Parquet")
    _refuse_inside(file, [dataset.path])
    try:
        _write(file, f"{base64.b64encode(key).decode()}\n")
    except OSError as error:
        raise UsageError(f"{file}: cannot write the key: {error.strerror}") from None


def note(key: SplitKey, assigned: Mapping[str, str]) -> None:
    """Adds to what the key's file says was assigned; the file is replaced in one step."""
    whole = replace(key, assigned={**key.assigned, **assigned})
    if whole == key:
        return
    file = key.file.resolve()
    scratch = file.with_name(f".{file.name}.{os.getpid()}.tmp")
    try:
        _write(scratch, _text(whole))
        scratch.replace(file)
    except OSError as error:
        scratch.unlink(missing_ok=True)
        raise UsageError(f"{key.file}: cannot note what was assigned: {error.strerror}") from None


def _text(key: SplitKey) -> str:
    lines = [f"{split} {name}\n" for name, split in sorted(key.assigned.items())]
    return f"{_HEAD}TRAJ-SPLIT-KEY-1-{key.reveal()}\n{''.join(lines)}"


def _write(file: Path, text: str) -> None:
    # The mode is set as the file is made, so it is at no time readable by others.
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())


def _refuse_inside(file: Path, outside: Iterable[Path]) -> None:
    real = file.parent.resolve() / file.name
    for folder in outside:
        for path in (real, file.resolve()):
            if path.is_relative_to(folder.resolve()):
                raise UsageError(f"{file}: a key must not lie in the dataset {folder}")
