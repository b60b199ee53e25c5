"""Reads session logs that are one JSON document: typed, tolerant, and with every loss counted.

A document is decoded into a msgspec struct whose long lists are `list[Raw]`; `items` then decodes
each of those by itself, so that one bad item costs itself and not the session.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec
import orjson
from msgspec import Raw

from traj.errors import SourceError
from traj.events import Session, SourceFile
from traj.sources.lines import UNDECODABLE, T, is_text, lenient, repaired

_LIST = msgspec.json.Decoder(list[Raw])


def read(path: Path, decoder: msgspec.json.Decoder[T], session: Session) -> T:
    """The document of a file, decoded. Appends the file to `session.files`.

    What is cut off is read as far as it goes (loss `truncated_document`), and a field of an
    unexpected type is dropped (`malformed_field`). Raises SourceError for what is no JSON object.
    """
    data = _bytes(path, session)
    try:
        return decoder.decode(data)
    except UNDECODABLE:
        value = lenient(_whole(path, data, session), decoder, session)
    if value is None:
        raise SourceError(f"{path}: not a JSON object")
    return value


def read_list(path: Path, session: Session) -> list[Raw]:
    """The items of a document that is a list, for `items`. Otherwise as `read`."""
    data = _bytes(path, session)
    try:
        return _LIST.decode(data)
    except UNDECODABLE:
        whole = _whole(path, data, session)
    try:
        return _LIST.decode(whole)
    except UNDECODABLE:
        raise SourceError(f"{path}: not a JSON list") from None


def items(
    found: Iterable[Raw], decoder: msgspec.json.Decoder[T], session: Session
) -> Iterator[tuple[int, T]]:
    """Number, from 1, and value of each item that can be decoded; the others are counted as
    malformed lines and fields are."""
    for number, raw in enumerate(found, start=1):
        try:
            yield number, decoder.decode(raw)
        except UNDECODABLE:
            value = lenient(bytes(raw), decoder, session)
            if value is not None:
                yield number, value


def _bytes(path: Path, session: Session) -> bytes:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    session.files.append(SourceFile(path.name, hashlib.sha256(data).hexdigest(), len(data)))
    return data if is_text(data) else repaired(data, session)


def _whole(path: Path, data: bytes, session: Session) -> bytes:
    """A document that decodes as JSON, closed where it was cut off."""
    try:
        orjson.loads(data)
    except ValueError as error:
        from jiter import from_json

        try:
            found = from_json(data, partial_mode="trailing-strings")
        except ValueError:
            raise SourceError(f"{path}: not JSON: {error}") from None
        session.lose("truncated_document")
        return json.dumps(found).encode()  # which takes integers of any size
    return data
