"""What a local git checkout (`traj.checkout`) tells of the sessions that worked on its repository.

The commit is the one that a session started at where the checkout has it, else HEAD; for sessions
that are said to have run here, where the reflog had HEAD when they started. Languages are told of
sessions whose tools touched no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from traj.checkout import Checkout
from traj.dataset.repositories import plain_name
from traj.label.said import nothing, said

if TYPE_CHECKING:
    import polars as pl


@dataclass(slots=True)
class Told:
    """What checkouts tell, as `said`, and what they do not, and why."""

    said: pl.DataFrame
    trajectories: int = 0
    notes: list[str] = field(default_factory=list)


def ask(path: Path, present: pl.DataFrame, started_us: dict[str, int], ran_here: set[str]) -> Told:
    """What a checkout tells of the trajectories of its repository: those of the same URL or whose
    commit is here; and of `ran_here`, of which a person says that they ran in it."""
    import polars as pl

    checkout = Checkout.open(path)
    known = dict(zip(present["trajectory_id"], present["repository.commit"], strict=True))
    here = checkout.holds({commit for commit in known.values() if commit})
    name = plain_name(checkout.url) if checkout.url else ""
    names = zip(present["trajectory_id"], present["repository"], strict=True)
    same = {one for one, repository in names if repository == name}
    same |= ran_here | {one for one, commit in known.items() if commit in here}
    told = Told(nothing(), len(same))
    if not same:
        told.notes.append(f"{path}: no session worked on it: choose them with --where")
        return told
    began = {one: checkout.head_at(started_us.get(one)) for one in ran_here if known[one] is None}
    parts = [
        _said([one], "repository.commit", commit, "checkout", path)
        for one, commit in sorted(began.items())
        if commit is not None
    ]
    lost = sum(commit is None for commit in began.values())
    if lost:
        told.notes.append(f"{path}: of {lost} sessions the reflog does not say where HEAD was")
    here |= checkout.holds({commit for commit in began.values() if commit})
    commits = {}
    for one in same:
        commit = known[one] or began.get(one)
        commits[one] = commit if commit in here else checkout.head
    if checkout.url is None:
        told.notes.append(f"{path}: has no remote that is a forge's")
    else:
        parts.append(_said(sorted(same), "repository.url", checkout.url, "checkout", path))
    parts += _of_commits(checkout, present, commits, told)
    told.said = pl.concat([nothing(), *parts])
    return told


def _of_commits(
    checkout: Checkout, present: pl.DataFrame, commits: dict[str, str], told: Told
) -> Iterator[pl.DataFrame]:
    """Licence and languages, of each commit once."""
    by_commit: dict[str, list[str]] = {}
    for one, commit in sorted(commits.items()):
        by_commit.setdefault(commit, []).append(one)
    silent = set(present.filter(present["languages"].is_null())["trajectory_id"])
    for commit, ids in by_commit.items():
        licence = checkout.licence(commit)
        if licence.expression is None:
            told.notes.append(f"{checkout.path}: licence at {commit[:12]}: {licence.reason}")
        else:
            name = "repository.license"
            yield _said(ids, name, licence.expression, licence.source, checkout.path)
        quiet = [one for one in ids if one in silent]
        languages = checkout.languages(commit) if quiet else None
        if languages is not None:
            yield _said(quiet, "languages", languages, "checkout", checkout.path)


def _said(ids: Sequence[str], label: str, value: str, source: str, path: Path) -> pl.DataFrame:
    return said(ids, label, value, source, f"checkout {path}", asserted=False)
