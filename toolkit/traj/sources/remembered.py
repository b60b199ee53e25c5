"""What a file holds, worked out once: for files of many sessions, which are read one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from traj.errors import SourceError
from traj.events import Session

T = TypeVar("T")


def of_file(make: Callable[[Path, Session], T]) -> Callable[[Path, Session], T]:
    """`make` of a file as it stands, for the last file alone. What it does to the session that it
    is given (losses, files) is done to each session that asks."""

    @lru_cache(maxsize=1)
    def made(path: Path, _changed_ns: int, _size: int) -> tuple[T, Session]:
        noted = Session("", "", "")
        return make(path, noted), noted

    def remembered(path: Path, session: Session) -> T:
        try:
            stat = path.stat()
        except OSError as error:
            raise SourceError(f"{path}: {error.strerror or error}") from None
        found, noted = made(path, stat.st_mtime_ns, stat.st_size)
        for kind, count in noted.losses.items():
            session.lose(kind, count)
        session.files += noted.files
        return found

    return remembered
