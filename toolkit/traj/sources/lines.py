"""Reads session logs that are JSON lines: streaming, tolerant, and with every loss counted.

A line is decoded straight into a msgspec struct that names only the fields a source needs, which
skips the rest without making objects of it. A line that does not fit is tried again leniently;
what still does not fit is counted and passed over.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import re
import sys
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import orjson

from traj.errors import SourceError
from traj.events import Session, SourceFile

BLOCK_BYTES = 4 << 20
FIRST_BYTES = 16 << 10  # of most logs enough to tell what they are
HEAD_BYTES = 256 << 10
HEAD_LINES = 40
PACKED = ".zst"
LINES = (".jsonl", ".jsonl.zst", ".ndjson")
UNDECODABLE = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_UNKNOWN = "\ufffd"
_LONE = re.compile("[\ud800-\udfff]")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

# Figures that the schema can hold; anything else is a malformed field.
Count = Annotated[int, msgspec.Meta(ge=0, le=2**53)]
ExitCode = Annotated[int, msgspec.Meta(ge=-(2**31), le=2**31 - 1)]
Milliseconds = Annotated[float, msgspec.Meta(ge=0, le=1e12)]

T = TypeVar("T", bound=msgspec.Struct)


class Head:
    """The beginning of a file, for telling formats apart: the objects on its first lines, read and
    parsed as they are asked for, once; or what it holds as one document."""

    def __init__(self, path: Path) -> None:
        """Raises SourceError, as all that reads on."""
        self._path = path
        self._first = self._read(FIRST_BYTES)
        self._more = len(self._first) == FIRST_BYTES
        self._lines = self._split()
        self._found: list[dict[str, Any]] = []
        self._is_lines = False
        self.is_sqlite = self._first.startswith(b"SQLite format 3\0")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        yield from self._found
        for number, line in self._lines:
            with suppress(ValueError):
                value = orjson.loads(line)
                if isinstance(value, dict):
                    self._is_lines |= number == 0 and len(line) + 1 < len(self._first.rstrip())
                    self._found.append(value)
                    yield value

    @cached_property
    def block(self) -> bytes:
        """All that is looked at; of a file of lines at least one."""
        return self._read(HEAD_BYTES) if self._more else self._first

    @cached_property
    def document(self) -> Any:
        """The file as one JSON value, as far as its beginning goes: an object, a list, or None
        for what is no JSON or is many lines of it."""
        from jiter import from_json

        next(iter(self), None)
        if self._is_lines or self.is_sqlite or self._first.lstrip()[:1] not in (b"{", b"["):
            return None
        try:
            return from_json(self.block, partial_mode="trailing-strings")
        except ValueError:
            return None

    def _split(self) -> Iterator[tuple[int, bytes]]:
        """Whole lines with their numbers, from 0; what is not ended is one where it is alone."""
        lines = self._first.split(b"\n", HEAD_LINES)
        whole = lines[:-1]
        yield from enumerate(whole)
        if self._more and len(whole) < HEAD_LINES:
            lines = self.block.split(b"\n", HEAD_LINES)
            yield from list(enumerate(lines[:-1]))[len(whole) :]
        if len(lines) == 1:
            yield 0, lines[0]

    def _read(self, size: int) -> bytes:
        try:
            with _open(self._path) as file:
                block = file.read(size)
                if b"\n" not in block and size == HEAD_BYTES and self._path.name.endswith(LINES):
                    block += file.readline()
        except OSError as error:
            raise SourceError(f"{self._path}: {error.strerror or error}") from None
        return block


def read(
    path: Path, decoder: msgspec.json.Decoder[T], session: Session
) -> Iterator[tuple[int, bytes, T]]:
    """Line number, raw line and decoded line, for each line that can be decoded.

    Reads what was there when it was opened: a file that grows meanwhile gives a whole prefix of
    lines. Appends the file to `session.files` when done, and counts in `session.losses`:
    truncated_line, invalid_utf8, lone_surrogate, malformed_line, malformed_field.
    """
    number = 0
    decode = decoder.decode
    counted = _Counted(path)
    try:
        for block in counted.blocks():
            lines = block.split(b"\n")
            if not is_text(block):
                lines = [line if is_text(line) else repaired(line, session) for line in lines]
            last = lines.pop()
            for line in lines:
                number += 1
                try:
                    yield number, line, decode(line)
                except UNDECODABLE:
                    value = lenient(line, decoder, session)
                    if value is not None:
                        yield number, line, value
            if last.strip():
                number += 1
                try:
                    yield number, last, decode(last)
                except UNDECODABLE:
                    session.lose("truncated_line")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    session.files.append(counted.file())


def is_text(data: bytes) -> bool:
    """Whether bytes are UTF-8. msgspec does not look at what it leaves raw."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def repaired(data: bytes, session: Session) -> bytes:
    """Bytes as UTF-8, with U+FFFD for what is none; counted once as `invalid_utf8`."""
    session.lose("invalid_utf8")
    return data.decode("utf-8", "replace").encode()


class _Counted:
    """The bytes of a file in blocks of whole lines, with their hash and number."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._digest = hashlib.sha256()
        self._size = 0

    def blocks(self) -> Iterator[bytes]:
        """Blocks that end with a line feed, but for the last perhaps."""
        packed = self._path.suffix == PACKED
        with _open(self._path) as file:
            left = sys.maxsize if packed else os.fstat(file.fileno()).st_size
            while left > 0 and (block := file.read(min(BLOCK_BYTES, left))):
                if not block.endswith(b"\n") and len(block) < left:
                    block += file.readline(left - len(block))
                left -= len(block)
                if not packed:
                    self._size += len(block)
                    self._digest.update(block)
                yield block

    def file(self) -> SourceFile:
        """The file as it was read; a packed one by its packed bytes."""
        if self._path.suffix == PACKED:
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
                return SourceFile(self._path.name, digest, os.fstat(file.fileno()).st_size)
        return SourceFile(self._path.name, self._digest.hexdigest(), self._size)


def _open(path: Path) -> io.BufferedReader:
    """A log for reading, unpacked where it is packed with zstd (Codex's archived sessions)."""
    if path.suffix != PACKED:
        return path.open("rb")
    import pyarrow as pa

    return io.BufferedReader(pa.input_stream(str(path), compression="zstd"))


def lenient(line: bytes, decoder: msgspec.json.Decoder[T], session: Session) -> T | None:
    """A second try at an object: repairs the text, then drops the fields that are not of the
    expected type. None, and counted, for what is no object."""
    line = line.strip()
    if not line:
        return None
    try:
        value = json.loads(line)  # takes lone surrogates, which the fast decoders refuse
    except (ValueError, RecursionError):
        session.lose("malformed_line")
        return None
    if not isinstance(value, dict):
        session.lose("malformed_line")
        return None
    fitting = {}
    for key, item in value.items():
        name = _LONE.sub(_UNKNOWN, key)
        text, replaced = _LONE.subn(_UNKNOWN, json.dumps(item, ensure_ascii=False))
        session.lose("lone_surrogate", replaced)
        raw = msgspec.Raw(text.encode())
        try:
            decoder.decode(msgspec.json.encode({name: raw}))
        except (msgspec.DecodeError, RecursionError):
            session.lose("malformed_field")
        else:
            fitting[name] = raw
    return decoder.decode(msgspec.json.encode(fitting))


def epoch_us(text: str | None) -> int | None:
    """Microseconds since the epoch of an ISO 8601 time stamp; one without a zone is UTC.

    None for what is not a time stamp.
    """
    if text is None:
        return None
    if len(text) == 24 and text[-1] == "Z" and text[19] == ".":  # what nearly all logs write
        minute = _minute_us(text[:16])
        second, millisecond = text[17:19], text[20:23]
        if minute is not None and second.isdecimal() and millisecond.isdecimal():
            return minute + int(second) * 1_000_000 + int(millisecond) * 1000
    return _epoch_us(text)


@lru_cache(maxsize=4096)
def _minute_us(text: str) -> int | None:
    return _epoch_us(text + ":00Z")


def _epoch_us(text: str) -> int | None:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND
