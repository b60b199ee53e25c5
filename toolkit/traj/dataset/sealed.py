"""Encrypted datasets: every file of the folder is an age file, opened in memory and nowhere else.

A sealed dataset looks like any other, but each name ends in `.age`; sizes and hashes in its
manifest are those of the files as they lie there, so whoever has no key can still check that they
are whole. What is decrypted is never written: not to a scratch file, not to a temporary folder.

The data files may be encrypted Parquet instead, which other readers open too, a column at a time.
Their key is made for the dataset and stands in its manifest, which is an age file as ever.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from traj.errors import DatasetError, MissingExtraError, UsageError

SUFFIX = ".age"
PARQUET_KEY = "parquet_key"  # of a sealed manifest alone
IDENTITY = "TRAJ_IDENTITY"  # the environment variable that names the file of keys


@dataclass(frozen=True, slots=True)
class Seal:
    """Encrypts to recipients: any one of them can open what was sealed."""

    recipients: tuple[str, ...]  # age1... or ssh public keys, sorted
    _keys: tuple[Any, ...]
    parquet_key: bytes | None = None  # of the data files, where these are encrypted Parquet

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

    def with_parquet_key(self, key: bytes | None = None) -> Seal:
        """The same with a key for Parquet files, a fresh one by default."""
        return replace(self, parquet_key=key or secrets.token_bytes(32))

    def close(self, data: bytes) -> bytes:
        sealed: bytes = _age().encrypt(data, list(self._keys))
        return sealed

    def close_manifest(self, text: bytes) -> bytes:
        """A manifest's JSON, sealed with the Parquet files' key in it."""
        if self.parquet_key is not None:
            text = json.dumps(json.loads(text) | {PARQUET_KEY: self.parquet_key.hex()}).encode()
        return self.close(text)


@dataclass(frozen=True, slots=True)
class Opener:
    """Decrypts with the keys of an identity file."""

    file: Path
    _keys: tuple[Any, ...]
    parquet_key: bytes | None = None  # of the data files, once the manifest is open

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

    def open_manifest(self, file: Path) -> tuple[bytes, Opener]:
        """What `Seal.close_manifest` sealed, and what opens the data files."""
        text = self.open(file)
        try:
            key = bytes.fromhex(json.loads(text).get(PARQUET_KEY, "")) or None
        except (ValueError, TypeError, AttributeError):
            raise DatasetError(f"{file}: not a dataset manifest") from None
        return text, replace(self, parquet_key=key)

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
