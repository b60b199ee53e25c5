"""The agent's own log of a run, kept beside the live log, to be joined with it at any time.

Looked for where agents keep their sessions, in the environment that the agent had, and among the
files that its command names; only in what was written since the run began.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import mkdtemp
from typing import NamedTuple

from traj.sources import COMPANIONS, SUFFIXES, discover, find, inside
from traj.sources.joining import SLACK_US
from traj.sources.joining.pairing import KEPT, span

_DATABASE = ".db"  # of many sessions: read where it lies


class Kept(NamedTuple):
    """Where the agent's own log is to be read, and why no copy could be made."""

    places: list[Path]
    problem: str | None = None


def keep(log: Path, command: Sequence[str], variables: Mapping[str, str]) -> Kept:
    """Copies what is joined with a live log into a folder beside it, whole or not at all."""
    run = span(log)
    if run is None:
        return Kept([])
    roots = dict(_written(command, variables, run[0] - SLACK_US))
    found = find([log, *roots])
    joined = [path for one in found.sessions for own in one.logs for path in own.paths]
    files = {path: roots[path] for path in joined if path.suffix != _DATABASE}
    databases = [path for path in joined if path.suffix == _DATABASE]
    if not files:
        return Kept(databases)
    try:
        return Kept([_copied(files, log.with_suffix(KEPT)), *databases])
    except OSError as error:
        return Kept(joined, error.strerror or str(error))


def _written(
    command: Sequence[str], variables: Mapping[str, str], since_us: int
) -> Iterator[tuple[Path, Path]]:
    """Files that may be sessions and were written since then, each with the folder below which its
    name tells something."""
    home = Path(variables.get("HOME") or Path.home())
    named = (Path(word) for word in command if word.endswith(SUFFIXES))
    places = [*discover(home, variables), *(path for path in named if path.is_file())]
    for place in places:
        for path in inside(place) if place.is_dir() else (place,):
            try:
                written_us = path.stat().st_mtime_ns // 1000
            except OSError:
                continue  # gone meanwhile
            if written_us >= since_us:
                yield path, place if place.is_dir() else place.parent


def _copied(files: Mapping[Path, Path], folder: Path) -> Path:
    """The folder, for the owner alone, of copies under the names that files have in theirs."""
    scratch = Path(mkdtemp(prefix=f"{folder.name}.", dir=folder.parent))
    try:
        for path, root in files.items():
            for one in (path, *_companions(path)):
                place = scratch / one.relative_to(root)
                place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                place.touch(mode=0o600, exist_ok=False)
                shutil.copyfile(one, place)
        return scratch.rename(folder)
    except OSError:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def _companions(path: Path) -> Iterable[Path]:
    companion = path.with_name(path.stem + COMPANIONS)
    return (companion,) if companion.is_file() else ()
