"""Where a session lies: what a source says of a file that it recognised."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

HISTORY = "(history)"  # the part of a file that is read only for what came before


class Located(NamedTuple):
    """A file that belongs to a session, or the share of one session in a file of several."""

    path: Path
    format: str
    session_id: str
    part: str | None = None  # the sub-agent that the file is of; None for the session's own file
    parent: str | None = None  # session that started this one, where the source splits them by file
    history: str | None = None  # session whose file holds the beginning of this one's conversation
    share: int | None = None  # bytes of the file that are this session's; None: it has all of it

    @property
    def bytes(self) -> int:
        """How much there is to read."""
        return self.path.stat().st_size if self.share is None else self.share
