"""Licences of the repositories that were worked on: the sessions quote their code."""

from __future__ import annotations

from dataclasses import dataclass

from traj.publish.card.frames import Frames
from traj.publish.card.markup import code, count, folded, table

OTHER = "other"
_SHOWN = 100  # repositories; the rest are in the table by licence

# SPDX names in lower case that the Hub knows by another; the same names are in _SAME.
_RENAMED = {
    "agpl-3.0-only": "agpl-3.0",
    "agpl-3.0-or-later": "agpl-3.0",
    "gpl-2.0-only": "gpl-2.0",
    "gpl-2.0-or-later": "gpl-2.0",
    "gpl-3.0-only": "gpl-3.0",
    "gpl-3.0-or-later": "gpl-3.0",
    "lgpl-2.1-only": "lgpl-2.1",
    "lgpl-2.1-or-later": "lgpl-2.1",
    "lgpl-3.0-only": "lgpl-3.0",
    "lgpl-3.0-or-later": "lgpl-3.0",
    "pddl-1.0": "pddl",
    "odbl-1.0": "odbl",
    "odc-by-1.0": "odc-by",
}
_SAME = frozenset(
    (
        *("apache-2.0", "mit", "afl-3.0", "artistic-2.0", "bsl-1.0", "bsd-2-clause"),
        *("bsd-3-clause", "bsd-3-clause-clear", "cc0-1.0", "cc-by-3.0", "cc-by-4.0"),
        *("cc-by-sa-3.0", "cc-by-sa-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-nd-4.0"),
        *("cdla-sharing-1.0", "cdla-permissive-1.0", "cdla-permissive-2.0", "c-uda-1.0"),
        *("ecl-2.0", "epl-1.0", "epl-2.0", "etalab-2.0", "eupl-1.1", "agpl-3.0", "gpl-2.0"),
        *("gpl-3.0", "isc", "lgpl-2.1", "lgpl-3.0", "lppl-1.3c", "mpl-2.0", "ms-pl", "ncsa"),
        *("ofl-1.1", "osl-3.0", "postgresql", "unlicense", "wtfpl", "zlib"),
    )
)
_BY_REPOSITORY = (
    "select repository.host, repository.owner, repository.name, repository.url, "
    "repository.license, count(*), sum(totals.turns) from trajectories group by repository.host, "
    "repository.owner, repository.name, repository.url, repository.license "
    "order by count(*) desc, repository.host, repository.owner, repository.name, repository.url, "
    "repository.license"
)


@dataclass(frozen=True, slots=True)
class Holding:
    """A repository under one licence, as far as both are known."""

    repository: str | None
    spdx: str | None
    trajectories: int
    turns: int


def of(frames: Frames) -> list[Holding]:
    """Every repository with its licence, the one with the most trajectories first."""
    found = []
    for host, owner, name, url, spdx, trajectories, turns in frames.rows(_BY_REPOSITORY):
        parts = [part for part in (host, owner, name) if part]
        found.append(Holding("/".join(parts) if name else url, spdx, trajectories, turns))
    return found


def hub_id(held: list[Holding]) -> str:
    """The licence as the Hub names it, where all share one that it knows; else `other`."""
    names = {holding.spdx for holding in held}
    (name,) = names if len(names) == 1 else (None,)
    known = (name or "").lower()
    return known if known in _SAME else _RENAMED.get(known, OTHER)


def section(held: list[Holding]) -> list[str]:
    """The licences, by themselves and by repository."""
    shown = [
        (code(one.repository), code(one.spdx), count(one.trajectories), count(one.turns))
        for one in held[:_SHOWN]
    ]
    more = len(held) - len(shown)
    heads = ("repository", "licence", "trajectories", "turns")
    return [
        "## Licences",
        """\
Sessions quote what they worked on: that part of a trajectory is under its repository's licence.
`trajectories.repository` names both, row by row.""",
        table(("licence", "repositories", "trajectories", "turns"), _by_licence(held), (1, 2, 3)),
        folded(
            "By repository",
            table(heads, shown, (2, 3)),
            f"{count(more)} more, in the data." if more > 0 else "",
        ),
    ]


def _by_licence(held: list[Holding]) -> list[tuple[str, str, str, str]]:
    rows = []
    for spdx in {holding.spdx for holding in held}:
        own = [holding for holding in held if holding.spdx == spdx]
        known = {holding.repository for holding in own} - {None}
        trajectories = sum(holding.trajectories for holding in own)
        turns = sum(holding.turns for holding in own)
        rows.append((-trajectories, code(spdx), count(len(known)), trajectories, turns))
    return [(name, number, count(a), count(b)) for _, name, number, a, b in sorted(rows)]
