"""How a tool call ended, from the text of its result."""

from __future__ import annotations

import re
from typing import Annotated

import msgspec
from msgspec import Struct

from traj.events import ToolRun
from traj.sources.lines import ExitCode

_EXIT = re.compile(r"^(?:Process exited with code|Exit code:?) (-?\d{1,9})", re.MULTILINE)
_WALL = re.compile(r"^Wall time: ([0-9.]{1,15}) seconds", re.MULTILINE)


Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e9)]


class _OldMetadata(Struct):
    exit_code: ExitCode | None = None
    duration_seconds: Seconds | None = None


class _OldOutput(Struct):
    metadata: _OldMetadata | None = None


def finish_run(run: ToolRun, text: str, time: int | None) -> None:
    """Writes down how a tool call ended, from the text of its result."""
    ended = run.end_us is not None  # an event of the tool's own said so
    if not ended:
        run.end_us = time
    if run.clock == "none" and run.end_us is not None and run.start_us is not None:
        run.clock = "derived"
    head = text[:400]
    code = _EXIT.search(head)
    wall = _WALL.search(head)
    seconds = float(wall.group(1)) if wall and wall.group(1).count(".") <= 1 else None
    if code:
        run.exit_code = int(code.group(1))
    elif text.startswith("{"):
        try:
            old = msgspec.json.decode(text, type=_OldOutput).metadata
        except msgspec.DecodeError:
            old = None
        if old is not None:
            run.exit_code, seconds = old.exit_code, old.duration_seconds
    if seconds is not None and seconds > 0 and not ended and time is not None:
        start = time - round(seconds * 1e6)
        if run.start_us is not None and start >= run.start_us:
            run.start_us, run.clock = start, "logged"
    run.status = _status(head, run.exit_code)


def _status(head: str, exit_code: ExitCode | None) -> str:
    if "rejected by user" in head or "rejected:" in head[:40]:
        return "rejected"
    if head.startswith("aborted") or "aborted by user" in head:
        return "interrupted"
    if "timed out" in head[:80]:
        return "timeout"
    if exit_code:
        return "error"
    return "ok"
