"""From what is held to who lies where: sessions to families, families to splits."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traj.errors import UsageError
from traj.release.assign import PRIVATE, PUBLIC, Candidate, Level, assign, levels_of
from traj.release.families import Family, Session, families, read_families
from traj.release.keys import SplitKey
from traj.release.parts import Parts, Proposed
from traj.validation.split_content import texts
from traj.validation.splits import sides


@dataclass(frozen=True, slots=True)
class Draw:
    """Families, as the draw saw them, and the split of each by its name."""

    families: tuple[Family, ...]
    candidates: tuple[Candidate, ...]
    splits: dict[str, str]

    @property
    def target(self) -> dict[str, str]:
        """The split of every trajectory."""
        return {name: self.splits[one.name] for one in self.families for name in one.trajectories}

    def notes(self) -> dict[str, str]:
        """The split of every repository, and of every session of a family that has none."""
        return {
            name: self.splits[one.name]
            for one in self.families
            for name in one.repositories or one.trajectories
        }

    def levels(self) -> list[dict[str, Any]]:
        """How even the split is: trajectories, and private ones, of each language, use case and
        length."""
        whole: Counter[Level] = Counter()
        private: Counter[Level] = Counter()
        for one in self.candidates:
            whole.update(one.levels)
            if self.splits[one.name] == PRIVATE:
                private.update(one.levels)
        return [
            {"property": level[0], "value": level[1], "trajectories": n, "private": private[level]}
            for level, n in sorted(whole.items())
        ]


def draw(
    parts: Parts,
    tables: Proposed,
    key: SplitKey,
    share: float,
    families_file: Path | None,
    *,
    lone_sessions: bool,
    settle_public: bool,
) -> Draw:
    """Assigns every trajectory. See traj.release.splitting for what the options mean.

    Raises UsageError where a repository is unknown, or a family lies in both splits.
    """
    joined = read_families(families_file) if families_file else []
    found = families(_sessions(tables), joined, lone=lone_sessions)
    columns = ["trajectory_id", "language", "use_case", "totals"]
    rows = {
        row["trajectory_id"]: row | {"turns": row["totals"]["turns"]}
        for row in tables.frame("trajectories", columns).to_dicts()
    }
    candidates = tuple(
        Candidate(
            family.name,
            _before(parts, family, key, settle_public),
            levels_of(rows[name] for name in family.trajectories),
        )
        for family in found
    )
    return Draw(tuple(found), candidates, assign(candidates, key.derive("split"), share))


def _sessions(tables: Proposed) -> Sequence[Session]:
    answers: dict[str, list[int]] = {}
    for name, role, text in tables.once(texts).select("trajectory_id", "role", "text").iter_rows():
        if role == "assistant":
            answers.setdefault(name, []).append(text)
    known = sides(tables).select("trajectory_id", "repository", "commit")
    return [
        Session(name, repository, commit, tuple(answers.get(name, ())))
        for name, repository, commit in known.iter_rows()
    ]


def _before(parts: Parts, family: Family, key: SplitKey, settle_public: bool) -> str | None:
    """The split that the family has had, by where its sessions lie and by the key's own notes."""
    names = (*family.repositories, *family.trajectories)
    before = {
        known[name] for known in (key.assigned, parts.assigned) for name in names if name in known
    }
    if len(before) < 2:
        return next(iter(before), None)
    if not settle_public:
        who = ", ".join((family.repositories or family.trajectories)[:3])
        raise UsageError(
            f"{who}: of one family, and in both splits until now: what was public cannot become "
            "private; --settle-public makes all of it public"
        )
    return PUBLIC
