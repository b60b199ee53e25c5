"""Where a session lies: what a source says of a file that it recognised."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Located(NamedTuple):
    """A file that belongs to a session."""

    path: Path
    format: str
    session_id: str
    part: str | None  # the sub-agent that the file is of; None for the session's own file
    parent: str | None  # session that started this one, where the source splits them by file
