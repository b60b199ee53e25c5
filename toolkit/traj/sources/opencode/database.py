"""OpenCode's database, read without leaving a mark on it or beside it.

SQLite makes files beside a database in write-ahead mode even when it opens it to read, and opened
as immutable it does not see the log. So a database whose log is empty is opened as immutable, and
one with a log is copied, with the log, to a temporary folder. Both are kept open while the files
stay as they are: a database holds many sessions.
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from multiprocessing.util import Finalize
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from traj.errors import SourceError
from traj.events import SourceFile
from traj.sources.opencode import wire

_LOGS = ("-wal", "-journal")
_TRIES = 5
_WAL_HEADER_BYTES = 32
# Where sessions are listed; the last counts most, as 2.x leaves the rows of 1.x as they were.
_LISTS = {
    "session": "select id, parent_id from session",
    "session_v2": "select id, parent_id from session_v2",
}
_HEADERS = {
    "session": "select * from session where id = ?",
    "session_v2": "select * from session_v2 where id = ?",
}
# The length of a blob is known without reading it.
_SIZES = {
    "message": "select session_id, sum(length(cast(data as blob))) from message group by 1",
    "part": "select session_id, sum(length(cast(data as blob))) from part group by 1",
    "session_message": "select session_id, sum(length(cast(data as blob))) from session_message"
    " group by 1",
}

Stamp = tuple[int, int, bytes]  # size, time of change, and how a log begins


class Listed(NamedTuple):
    """A session in a database."""

    session_id: str
    parent: str | None
    share: int  # bytes of its messages


class _Opened:
    """A connection, and the copy it reads if there is one."""

    def __init__(self, path: Path, stamps: tuple[Stamp | None, ...]) -> None:
        if any(stamps[1:]):
            folder = TemporaryDirectory(prefix="traj-")
            # Worker processes end without the usual clearing up.
            Finalize(self, folder.cleanup, exitpriority=1)
            place = Path(folder.name) / "copy.db"
            for ending in ("", *_LOGS):
                if path.with_name(path.name + ending).exists():
                    shutil.copyfile(path.with_name(path.name + ending), f"{place}{ending}")
            uri = place.as_uri()
        else:
            uri = f"{path.resolve().as_uri()}?immutable=1"
        self.connection = sqlite3.connect(uri, uri=True)
        self.connection.text_factory = bytes
        tables = self.connection.execute("select name from sqlite_master where type = 'table'")
        self.tables = {bytes(name).decode("utf-8", "replace") for (name,) in tables}

    def columns(self, table: str) -> set[str]:
        """The names of a table's columns; none where there is no such table."""
        found = self.connection.execute(f"pragma table_info({table})")
        return {bytes(row[1]).decode("utf-8", "replace") for row in found}


def is_known(path: Path) -> bool:
    """Whether it is a database of OpenCode's. Raises SourceError for one that cannot be read."""
    with _reading(path) as opened:
        first = {"session_id", "data"} <= opened.columns("message")
        first &= {"message_id", "data"} <= opened.columns("part")
        second = {"session_id", "seq", "data"} <= opened.columns("session_message")
        return first | second and bool(_session_tables(opened))


def sessions(path: Path) -> list[Listed]:
    """The sessions in a database that hold messages, in the order of their ids."""
    with _reading(path) as opened:
        found: dict[str, Listed] = {}
        first = _sizes(opened, "message", "part")
        second = _sizes(opened, "session_message")
        for table in _session_tables(opened):
            for name, parent in opened.connection.execute(_LISTS[table]):
                session = _text(name)
                if session is None:
                    continue
                is_second = table == "session_v2" or session not in first
                share = (second if is_second else first).get(session, 0)
                if share:
                    found[session] = Listed(session, _text(parent), share)
        return [found[name] for name in sorted(found)]


def session(path: Path, session_id: str, file: int) -> tuple[wire.KeptSession, SourceFile]:
    """One session's messages in order, and what of the file they are. Raises SourceError."""
    with _reading(path) as opened:
        header, is_second = _header(opened, session_id)
        rows = _records(opened, session_id) if is_second else _bundles(opened, session_id)
        kept = wire.KeptSession(header, list(rows), file)
    return kept, _measured(path, session_id, kept)


def _measured(path: Path, session_id: str, kept: wire.KeptSession) -> SourceFile:
    """The session's rows as a file: their hash changes with what they say."""
    head = kept.header
    digest = hashlib.sha256(repr((session_id, head.parent_id, head.title, head.version)).encode())
    size = 0
    for message in kept.messages:
        digest.update(message.id.encode())
        for text in (message.head, *(message.parts or ())):
            digest.update(len(text).to_bytes(8, "little"))
            digest.update(text)
            size += len(text)
    return SourceFile(f"{path.name}:{session_id}", digest.hexdigest(), size)


def _session_tables(opened: _Opened) -> list[str]:
    return [name for name in _LISTS if "parent_id" in opened.columns(name)]


def _sizes(opened: _Opened, *tables: str) -> dict[str, int]:
    """How many bytes of messages a session has."""
    found: dict[str, int] = {}
    for table in tables:
        if table in opened.tables:
            for name, size in opened.connection.execute(_SIZES[table]):
                session = _text(name)
                if session is not None and isinstance(size, int):
                    found[session] = found.get(session, 0) + size
    return found


def _header(opened: _Opened, session_id: str) -> tuple[wire.Header, bool]:
    """What a session says of itself, and whether it is one of 2.x."""
    found: dict[str, object] | None = None
    is_second = False
    for table in _session_tables(opened):
        cursor = opened.connection.execute(_HEADERS[table], (session_id,))
        row = cursor.fetchone()
        if row is not None:
            found = {
                column[0]: value for column, value in zip(cursor.description, row, strict=True)
            }
            is_second = table == "session_v2"
    if found is None:
        raise SourceError(f"no session {session_id} in the database")
    if not is_second:
        query = "select 1 from message where session_id = ? limit 1"
        has_first = "message" in opened.tables
        is_second = not (has_first and opened.connection.execute(query, (session_id,)).fetchone())
    created = found.get("time_created")
    header = wire.Header(
        session_id,
        _text(found.get("parent_id")),
        _text(found.get("title")),
        _text(found.get("version")),
        _text(found.get("agent")),
        wire.Times(created) if isinstance(created, int) and 0 <= created <= 4e12 else None,
    )
    return header, is_second


def _bundles(opened: _Opened, session_id: str) -> Iterator[wire.Kept]:
    """1.x: messages in the order of their making, each with its parts."""
    parts: dict[bytes, list[bytes]] = {}
    query = "select message_id, data from part where session_id = ? order by message_id, id"
    for message, data in opened.connection.execute(query, (session_id,)):
        parts.setdefault(_bytes(message), []).append(_bytes(data))
    query = "select id, data from message where session_id = ? order by time_created, id"
    for message, data in opened.connection.execute(query, (session_id,)):
        name = _bytes(message)
        yield wire.Kept(_text(name) or "", _bytes(data), parts.get(name, []))


def _records(opened: _Opened, session_id: str) -> Iterator[wire.Kept]:
    """2.x: one row a message."""
    query = "select id, type, data from session_message where session_id = ? order by seq, id"
    for name, kind, data in opened.connection.execute(query, (session_id,)):
        yield wire.Kept(_text(name) or "", _bytes(data), None, _text(kind))


def _text(value: object) -> str | None:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else None


def _bytes(value: object) -> bytes:
    return value if isinstance(value, bytes) else b""


@contextmanager
def _reading(path: Path) -> Iterator[_Opened]:
    """The database as it is now. What goes wrong with it becomes a SourceError."""
    try:
        for _ in range(_TRIES):
            stamps = _stamps(path)
            opened = _opened(path, stamps)
            if _is_whole(stamps, _stamps(path)):
                break
        else:
            raise SourceError(f"{path}: is being written to: close OpenCode, or try again")
        yield opened
        if not any(stamps[1:]) and _stamps(path)[0] != stamps[0]:
            raise SourceError(f"{path}: changed while it was read: try again")
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise SourceError(f"{path}: not a database that can be read: {error}") from None


@lru_cache(maxsize=1)
def _opened(path: Path, stamps: tuple[Stamp | None, ...]) -> _Opened:
    return _Opened(path, stamps)


def _stamps(path: Path) -> tuple[Stamp | None, ...]:
    """What tells whether the database, or what is logged of it, has changed."""
    return (_stamp(path), *(_stamp(path.with_name(path.name + ending)) for ending in _LOGS))


def _is_whole(before: tuple[Stamp | None, ...], after: tuple[Stamp | None, ...]) -> bool:
    """Whether what was copied meanwhile fits together: a log that only grew gives a beginning of
    it, one that was started anew has another header."""
    logs = zip(before[1:], after[1:], strict=True)
    return before[0] == after[0] and all((b and b[2]) == (a and a[2]) for b, a in logs)


def _stamp(path: Path) -> Stamp | None:
    try:
        told = path.stat()
        if told.st_size == 0:
            return None
        with path.open("rb") as file:
            return told.st_size, told.st_mtime_ns, file.read(_WAL_HEADER_BYTES)
    except FileNotFoundError:
        return None
