"""Why a dataset may not be published: all reasons at once, each with its remedy.

REFUSALS is the whole of it: small functions over a Release, each of which yields what speaks
against it. What cannot be checked is refused, too.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from traj.dataset import Dataset
from traj.dataset.files import UNSPLIT
from traj.dataset.repositories import repository_name
from traj.errors import UsageError
from traj.publish.licences import permits
from traj.publish.plan import PRIVATE, PUBLIC, RepositoryPlan
from traj.release.parts import Parts, Proposed
from traj.release.splitting import PROOFS
from traj.validation import validate
from traj.validation.run import Run

_NAMED = 5  # of many of a kind, so many are named
_KEYS = (b"TRAJ-SPLIT-KEY-1-", b"AGE-SECRET-KEY-1", b"PRIVATE KEY-----")
_HEAD = 65_536  # bytes of a file that are looked at for a key


@dataclass(frozen=True, slots=True)
class Refusal:
    """One reason; `where` is the dataset, the repository or the page that it is about."""

    check: str
    where: str
    reason: str
    remedy: str
    count: int = 1


@dataclass(frozen=True, slots=True)
class Release:
    """What is to be published, and with what it is checked. `home` holds all splits that its
    folder has; `private` the private split, wherever it lies; the plans are None where there is
    nothing to plan."""

    home: Dataset
    public: Dataset
    private: Dataset | None
    apart: bool  # the private split has a folder of its own
    plans: tuple[RepositoryPlan, ...]
    permitted: tuple[str, ...] = ()  # licences beside the list
    rules: Path | None = None
    tokenizer: str | None = None

    def going(self) -> Iterator[tuple[Dataset, str]]:
        """The parts that are to be published, and their splits."""
        if any(not plan.private for plan in self.plans) or not self.plans:
            yield self.public, PUBLIC
        if self.private is not None and any(plan.private for plan in self.plans):
            yield self.private, PRIVATE


def unsplit(release: Release) -> Iterator[Refusal]:
    """Every trajectory has a split, its own file's, and the public part is not empty."""
    rows = sum(file.rows for file in release.home.files("trajectories", UNSPLIT))
    name = str(release.home.path)
    remedy = "run traj split: what is in neither split is not published"
    if rows:
        yield Refusal("unsplit", name, f"{rows} trajectories are in neither split", remedy, rows)
    for dataset, split in release.going():
        found = Counter(dataset.table("trajectories", ["split"]).column(0).to_pylist())
        others = sum(count for its, count in found.items() if its != split)
        if others:
            reason = f"{others} trajectories in the {split} files are not {split} ones"
            yield Refusal("unsplit", str(dataset.path), reason, "run traj split", others)
        if not found and not rows:
            reason = f"there are no {split} trajectories"
            yield Refusal("unsplit", str(dataset.path), reason, "record more, then run traj split")


def invalid(release: Release) -> Iterator[Refusal]:
    """`traj validate` finds no error, and every check could be made."""
    datasets = [release.home, *([release.private] if release.private and release.apart else [])]
    for dataset in datasets:
        name = str(dataset.path)
        report = validate(dataset, tokenizer=release.tokenizer)
        for one in report.findings:
            if one.severity == "error":
                reason = f"{one.check}: {one.table} {one.where}: {one.message}"
                remedy = "traj validate lists what is wrong; record it anew"
                yield Refusal("invalid", name, reason, remedy, one.count)
        for check in report.checks:
            if check.status == "not_run":
                reason = f"{check.name} could not be checked: {check.reason}"
                remedy = "give what it needs (--tokenizer, --identity), or record it anew"
                yield Refusal("invalid", name, reason, remedy)


def unscrubbed(release: Release) -> Iterator[Refusal]:
    """Secrets and personal data were replaced, in the manifest's word."""
    for dataset, _ in release.going():
        if not dataset.manifest.scrubbed:
            remedy = "scrub it: traj record --scrub, or traj scrub"
            yield Refusal("unscrubbed", str(dataset.path), "was never scrubbed", remedy)


def unlicensed(release: Release) -> Iterator[Refusal]:
    """Every session's repository is known, with a licence that lets its code be passed on."""
    for dataset, _ in release.going():
        kinds: dict[tuple[str, str], int] = {}
        for row in _repositories(dataset):
            licence = (row or {}).get("license")
            if licence is None or not permits(licence, release.permitted):
                kind = repository_name(row) or "unknown repositories", licence or ""
                kinds[kind] = kinds.get(kind, 0) + 1
        for (repository, licence), count in _first(kinds):
            reason = f"the licence of {repository} is unknown"
            remedy = "set it with traj label, or leave these sessions out"
            if licence:
                reason = f"the licence of {repository}, {licence}, is not on the list"
                remedy = "leave these sessions out, or give --permit-license if it permits this"
            yield Refusal("unlicensed", str(dataset.path), reason, remedy, count)


def unseen(release: Release) -> Iterator[Refusal]:
    """The repositories of public sessions are public."""
    kinds: dict[tuple[str, str], int] = {}
    for row in _repositories(release.public):
        visibility = (row or {}).get("visibility") or "unknown"
        if visibility != PUBLIC:
            kind = repository_name(row) or "unknown repositories", visibility
            kinds[kind] = kinds.get(kind, 0) + 1
    for (repository, visibility), count in _first(kinds):
        reason = f"the visibility of {repository} is {visibility}, not public"
        remedy = "set it with traj label if anyone may read it, else leave these sessions out"
        yield Refusal("unseen", str(release.public.path), reason, remedy, count)


def unproven(release: Release) -> Iterator[Refusal]:
    """The private split is at hand, is the one that was committed to, and shares nothing with the
    public one."""
    name, committed = str(release.home.path), release.home.manifest.commitment
    if not committed:
        return
    if release.private is None:
        reason = "its private split is not here, so nothing shows that none of it is public"
        yield Refusal("unproven", name, reason, "name its folder with --private-dataset")
        return
    if release.private.manifest.commitment.get("root") != committed.get("root"):
        reason = f"{release.private.path} is not the private split that it is committed to"
        yield Refusal("unproven", name, reason, "name the right folder, or run traj split again")
    try:
        parts = Parts.of(release.home, release.private if release.apart else None)
    except UsageError as error:
        yield Refusal("unproven", name, str(error), "name the private folder of this dataset")
        return
    run = Run(PROOFS)
    run.carry_out(PROOFS, Proposed(parts))
    report = run.report({})
    for one in report.findings:
        if one.severity == "error":
            reason = f"public and private share something: {one.check}: {one.where}: {one.message}"
            remedy = "run traj split, with --families or --settle-public"
            yield Refusal("unproven", name, reason, remedy, one.count)
    for check in report.checks:
        if check.status == "not_run":
            reason = f"that the splits share nothing is not proven: {check.name}: {check.reason}"
            yield Refusal("unproven", name, reason, "give what it needs")


def key_inside(release: Release) -> Iterator[Refusal]:
    """No secret key lies in a dataset's folder."""
    for folder in {dataset.path for dataset, _ in release.going()}:
        for path in sorted(folder.rglob("*")):
            if not path.is_file() or path.suffix == ".parquet":
                continue
            with path.open("rb") as file:
                head = file.read(_HEAD)
            if any(mark in head for mark in _KEYS):
                inside = path.relative_to(folder).as_posix()
                reason = f"{inside} is a secret key, in the dataset's folder"
                yield Refusal("key_inside", str(folder), reason, "move it away, and out of backups")


def _repositories(dataset: Dataset) -> list[dict[str, Any] | None]:
    found: list[dict[str, Any] | None] = (
        dataset.table("trajectories", ["repository"]).column(0).to_pylist()
    )
    return found


def _first(kinds: dict[tuple[str, str], int]) -> Iterator[tuple[tuple[str, str], int]]:
    """The first of many kinds, and one more that stands for the rest."""
    ordered = sorted(kinds.items(), key=lambda kind: (-kind[1], kind[0]))
    yield from ordered[:_NAMED]
    rest = ordered[_NAMED:]
    if rest:
        (_, value), _count = rest[0]
        yield (f"{len(rest)} more repositories", value), sum(count for _, count in rest)
