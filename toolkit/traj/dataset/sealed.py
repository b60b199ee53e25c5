"""Encrypted datasets: every file of the folder is an age file, opened in memory and nowhere else.

A sealed dataset looks like any other, but each name ends in `.age`; sizes and hashes in its
manifest are those of the files as they lie there, so whoever has no key can still check that they
are whole. What is decrypted is never written: not to a scratch file, not to a temporary folder.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traj.errors import DatasetError, MissingExtraError, UsageError

SUFFIX = ".age"
IDENTITY = "TRAJ_IDENTITY"  # the environment variable that names the file of keys


@dataclass(frozen=True, slots=True)
class Seal:
    """Encrypts to recipients: any one of them can open what was sealed."""

    recipients: tuple[str, ...]  # age1... or ssh public keys, sorted
    _keys: tuple[Any, ...]

    @classmethod
    def to(cls, recipients: Sequence[str]) -> Seal:
        """Raises UsageError for what is no recipient."""
        age = _age()
        names = tuple(sorted({" ".join(name.split()[:2]) for name in recipients if name.strip()}))
        if not names:
            raise UsageError("no recipient to encrypt to: give an age1... or ssh public key")
        keys = []
        for name in names:
            kind = age.ssh if name.startswith("ssh-") else age.x25519
            try:
                keys.append(kind.Recipient.from_str(name))
            except age.RecipientError as error:
                raise UsageError(f"{name!r} is no age1... or ssh public key ({error})") from None
        return cls(names, tuple(keys))

    def close(self, data: bytes) -> bytes:
        sealed: bytes = _age().encrypt(data, list(self._keys))
        return sealed


@dataclass(frozen=True, slots=True)
class Opener:
    """Decrypts with the keys of an identity file."""

    file: Path
    _keys: tuple[Any, ...]

    @classmethod
    def read(cls, identity: str | Path | None, dataset: Path) -> Opener:
        """The keys of a file as `age-keygen` or `ssh-keygen` writes it, by default the one that
        TRAJ_IDENTITY names. Raises UsageError where there is none."""
        name = identity or os.environ.get(IDENTITY)
        if not name:
            raise UsageError(f"{dataset}: is encrypted: name your age key's file in {IDENTITY}")
        file = Path(name).expanduser()
        try:
            text = file.read_bytes()
        except OSError as error:
            raise UsageError(f"{file}: {error.strerror}") from None
        age = _age()
        try:
            if b"PRIVATE KEY-----" in text:
                return cls(file, (age.ssh.Identity.from_buffer(text),))
            lines = [line.strip() for line in text.decode().splitlines()]
            keys = [age.x25519.Identity.from_str(x) for x in lines if x and not x.startswith("#")]
        except (age.IdentityError, UnicodeDecodeError):
            # Whatever the library says of it: a key must not come into an error's text.
            raise UsageError(f"{file}: not a file of age or ssh keys") from None
        if not keys:
            raise UsageError(f"{file}: there is no key in it")
        return cls(file, tuple(keys))

    def open(self, file: Path) -> bytes:
        """What was sealed. Raises UsageError for keys that do not fit, DatasetError for a file
        that is damaged."""
        age = _age()
        try:
            sealed = file.read_bytes()
        except OSError as error:
            raise DatasetError(f"{file}: {error.strerror}") from None
        try:
            data: bytes = age.decrypt(sealed, list(self._keys))
        except age.DecryptError as error:
            if "No matching keys" in str(error):
                raise UsageError(f"{file}: no key in {self.file} opens it") from None
            raise DatasetError(f"{file}: damaged, or not an age file ({error})") from None
        return data


def _age() -> Any:
    try:
        import pyrage
    except ImportError:
        raise MissingExtraError("an encrypted dataset", "release") from None
    return pyrage
