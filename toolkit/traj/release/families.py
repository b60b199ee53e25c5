"""Repository families: what must lie in one split, because one part would give the other away.

One family are sessions on one repository, on repositories that a families file joins (renames,
forks, mirrors), from one starting commit (forks share history), and sessions that hold the same
answer of a model word for word (forked and resumed sessions, whatever repository they name).

A families file is TOML or CSV. Whole repositories are written `host/owner/name` or as URLs, single
sessions by their trajectory_id:

    [families]                                               repository,family
    django = ["github.com/django/django", "github.com/x/y"]  github.com/django/django,django
"""

from __future__ import annotations

import csv
import re
import tomllib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from pathlib import Path

from traj.dataset.repositories import plain_name
from traj.errors import UsageError

_TRAJECTORY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True, slots=True)
class Session:
    """What tells a trajectory's family."""

    trajectory_id: str
    repository: str | None  # host/owner/name
    commit: str | None
    answers: tuple[int, ...] = ()  # hashes of its longer answers


@dataclass(frozen=True, slots=True)
class Family:
    """Sessions that stay together; the name is that of its first repository, else session."""

    name: str
    repositories: tuple[str, ...]
    trajectories: tuple[str, ...]


def families(
    sessions: Iterable[Session], joined: Iterable[Sequence[str]] = (), *, lone: bool = False
) -> list[Family]:
    """The families of all sessions, by name. `joined` are names that a families file puts
    together. `lone`: sessions whose repository is unknown stand for themselves.

    Raises UsageError where a session's repository is unknown, unless `lone`, or `joined` says.
    """
    known = sorted(sessions, key=lambda session: session.trajectory_id)
    groups = _Groups()
    for names in joined:
        for name in names:
            groups.join(names[0], name)
    named = groups.names()
    unknown = []
    for session in known:
        own = session.trajectory_id
        groups.join(own, own)
        if session.repository is not None:
            groups.join(own, session.repository)
        elif own not in named:
            unknown.append(own)
        if session.commit is not None:
            groups.join(own, f"commit {session.commit}")
        for answer in session.answers:
            groups.join(own, f"answer {answer}")
    if unknown and not lone:
        raise UsageError(
            f"the repository of {len(unknown)} of {len(known)} sessions is unknown ({unknown[0]}, "
            "...): name them in a families file, or take each for its own with --lone-sessions"
        )
    found: dict[str, list[Session]] = {}
    for session in known:
        found.setdefault(groups.of(session.trajectory_id), []).append(session)
    return sorted((_family(members) for members in found.values()), key=lambda one: one.name)


def read_families(file: Path) -> list[tuple[str, ...]]:
    """The names that a families file puts together. Raises UsageError for what is no such file."""
    try:
        text = file.read_text("utf-8")
        groups = list(_from_csv(text) if file.suffix == ".csv" else _from_toml(text))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from None
    except (tomllib.TOMLDecodeError, csv.Error, ValueError) as error:
        raise UsageError(f"{file}: not a families file: {error}") from None
    return [tuple(map(_name, names)) for names in groups if names]


def _family(members: Sequence[Session]) -> Family:
    repositories = sorted({one.repository for one in members if one.repository is not None})
    trajectories = tuple(one.trajectory_id for one in members)
    return Family((repositories or trajectories)[0], tuple(repositories), trajectories)


def _from_toml(text: str) -> Iterator[list[str]]:
    table = tomllib.loads(text).get("families")
    if not isinstance(table, dict):
        raise ValueError("there is no table [families]")  # noqa: TRY004 (a person's file, not a type)
    for name, members in table.items():
        if not isinstance(members, list) or not all(isinstance(one, str) for one in members):
            raise ValueError(f"{name} is not a list of names")
        yield members


def _from_csv(text: str) -> Iterator[list[str]]:
    rows = csv.DictReader(StringIO(text))
    if not {"repository", "family"} <= set(rows.fieldnames or ()):
        raise ValueError("its columns are to be repository and family")
    groups: dict[str, list[str]] = {}
    for row in rows:
        if not row["family"] or not row["repository"]:
            raise ValueError(f"line {rows.line_num} lacks a repository or its family")
        groups.setdefault(row["family"], []).append(row["repository"])
    yield from groups.values()


def _name(text: str) -> str:
    return text if _TRAJECTORY.fullmatch(text) else plain_name(text)


class _Groups:
    """Names that were joined, directly or through others."""

    def __init__(self) -> None:
        self._above: dict[str, str] = {}

    def of(self, name: str) -> str:
        """The one name that stands for the group."""
        while (above := self._above.setdefault(name, name)) != name:
            self._above[name] = self._above[above]
            name = above
        return name

    def join(self, one: str, other: str) -> None:
        self._above[self.of(one)] = self.of(other)

    def names(self) -> set[str]:
        return set(self._above)
