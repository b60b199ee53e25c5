"""`traj split`: who is public and who is private, proven first and written then.

gather    traj.release.parts       what there is, here and in the private folder
draw      traj.release.draw        families by a keyed coin; who has a split stays in it
prove     traj.validation          nothing lies in both, before anything is written
commit to traj.release.commitment  a hash that binds the owner of the private split
place     traj.release.place       files beside the old, then one rename for each folder
"""

from __future__ import annotations

import uuid
from collections import Counter
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from traj import schema
from traj.dataset import Dataset, Manifest
from traj.dataset.write import commit
from traj.release import commitment
from traj.release.assign import PRIVATE, PUBLIC, check_share
from traj.release.draw import Draw, draw
from traj.release.folders import Apart, get_key, hold, hold_private, open_apart
from traj.release.keys import SplitKey, note, save_key
from traj.release.parts import Parts, Proposed
from traj.release.place import Destination, place
from traj.validation import split_content, split_distances, splits
from traj.validation.report import Check, Finding
from traj.validation.run import Run
from traj.validation.split_distances import Distance, distances

PROOFS: tuple[Check, ...] = (
    *splits.PROOFS,
    *split_content.CHECKS,
    *split_distances.PROOFS,
)


@dataclass(frozen=True, slots=True)
class SplitOptions:
    """How to split."""

    key: Path  # made where it is not there
    private_share: float = 0.2  # of the trajectories
    families: Path | None = None  # what belongs together: see traj.release.families
    lone_sessions: bool = False  # sessions of unknown repositories stand for themselves
    settle_public: bool = False  # families that turn out to lie in both splits become public
    private_out: Path | None = None
    encrypt_to: tuple[str, ...] = ()
    parquet_encryption: bool = False  # the private data files in place of age
    identity: Path | None = None  # opens a private folder that is encrypted


@dataclass(frozen=True, slots=True)
class SplitReport:
    """What a split did. With an error among the findings nothing was written."""

    key: str
    key_made: bool
    share: float
    families: dict[str, int]  # by split, as the next two
    trajectories: dict[str, int]
    assigned: dict[str, int]  # trajectories that had no split before
    levels: list[dict[str, Any]]  # property, value, trajectories, private
    findings: list[Finding]
    distances: list[Distance] = field(default_factory=list)
    root: str | None = None

    @property
    def ok(self) -> bool:
        return not any(finding.severity == "error" for finding in self.findings)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"ok": self.ok} | asdict(self)


def split(path: Path, options: SplitOptions) -> SplitReport:
    """Splits a dataset in place, or with its private part in a folder of its own.

    Raises UsageError where repositories are unknown, where the key or the private folder is not
    that of this dataset, or where a family lies in both splits; MissingExtraError without the
    extra.
    """
    check_share(options.private_share)
    commitment.canonical(None)  # the extra is needed at the end: better said at the beginning
    with ExitStack() as stack:
        stack.enter_context(hold(path))
        home = Dataset.open(path)
        key, made = get_key(home, options.key, options.private_out)
        apart = None
        if options.private_out is not None:
            stack.enter_context(hold_private(path, options.private_out))
            apart = open_apart(
                home,
                options.private_out,
                key,
                options.encrypt_to,
                options.identity,
                as_parquet=options.parquet_encryption,
            )
        parts = Parts.of(home, apart.dataset if apart else None)
        tables = Proposed(parts)
        drawn = draw(
            parts,
            tables,
            key,
            options.private_share,
            options.families,
            lone_sessions=options.lone_sessions,
            settle_public=options.settle_public,
        )
        if made:
            # Before the proofs: who mends what they find is to meet the same draw again.
            save_key(key)
        tables.propose(drawn.target)
        report = _report(parts, drawn, key, made, options, _proofs(tables))
        if not report.ok:
            return report
        if set(drawn.splits.values()) == {PUBLIC, PRIVATE}:
            report = replace(report, distances=tables.once(distances))
        bound = _bound(parts, drawn, key, report.distances)
        note(key, drawn.notes())
        _write(parts, drawn.target, bound, apart)
        return replace(report, root=bound.get("root"))


def public_manifest(manifest: Manifest) -> Manifest:
    """What may be published of a dataset that holds both splits: of the private one there is the
    commitment, and nothing else."""
    files = tuple(file for file in manifest.files if file.split == PUBLIC)
    known = {name: facts for name, facts in manifest.splits.items() if name == PUBLIC}
    canary = known.get(PUBLIC, {}).get("canary")
    return replace(manifest, files=files, splits=known, canary=canary)


def _proofs(tables: Proposed) -> list[Finding]:
    """What speaks against the split; a proof that could not be made does so too."""
    run = Run(PROOFS)
    run.carry_out(PROOFS, tables)
    report = run.report({})
    missed = [
        Finding(check.name, "error", "", "", f"not proven: {check.reason}", 1)
        for check in report.checks
        if check.status == "not_run"
    ]
    return [*report.findings, *missed]


def _report(
    parts: Parts,
    drawn: Draw,
    key: SplitKey,
    made: bool,
    options: SplitOptions,
    findings: list[Finding],
) -> SplitReport:
    target = drawn.target
    everyone = Counter(target.values())
    new = Counter(split for name, split in target.items() if name not in parts.assigned)
    families = Counter(drawn.splits.values())
    empty = [name for name in (PUBLIC, PRIVATE) if not everyone[name]]
    few = [
        Finding("split", "finding", "", f"split {name}", "the split is empty: too few families", 1)
        for name in empty
    ]
    return SplitReport(
        key=str(key.file),
        key_made=made,
        share=options.private_share,
        families={name: families[name] for name in (PUBLIC, PRIVATE)},
        trajectories={name: everyone[name] for name in (PUBLIC, PRIVATE)},
        assigned={name: new[name] for name in (PUBLIC, PRIVATE)},
        levels=drawn.levels(),
        findings=few + findings,
    )


def _bound(parts: Parts, drawn: Draw, key: SplitKey, measured: list[Distance]) -> dict[str, Any]:
    """The commitment: what the manifests of both splits say of the private one."""
    ids = [name for name, split in drawn.target.items() if split == PRIVATE]
    if not ids:
        return {}
    secret = key.derive("commitment")
    leaves = commitment.leaves(parts.rows(ids, PRIVATE), parts.prompts(ids), secret)
    return {
        "algorithm": commitment.ALGORITHM,
        **commitment.PARTS,
        "schema_version": schema.VERSION,
        "key": key.mark,
        "root": commitment.root(leaves),
        "counts": commitment.counts(leaves),
        "families": sum(split == PRIVATE for split in drawn.splits.values()),
        "distances": {one.column: one.distance for one in measured},
    }


def _write(
    parts: Parts, target: Mapping[str, str], bound: dict[str, Any], apart: Apart | None
) -> None:
    """Writes both folders, then commits, the private one first: what leaves one folder is in the
    other by then, and a split that was stopped in between is finished by the next."""
    home = parts.datasets[0]
    known: dict[str, Any] = {}
    for dataset in reversed(parts.datasets):
        known |= dataset.manifest.splits
    here = (PUBLIC, PRIVATE) if apart is None else (PUBLIC,)
    manifest = place(parts, target, Destination(home.path, home.manifest, 0, here))
    if apart is not None:
        old = apart.dataset.manifest if apart.dataset else _empty_like(home.manifest)
        to = Destination(apart.folder, old, 1, (PRIVATE,), apart.seal, anew=apart.seal_changed)
        private = _described(place(parts, target, to), known, bound)
        if apart.seal:
            private.splits.get(PRIVATE, {})["recipients"] = list(apart.seal.recipients)
        scrubbed = home.manifest.scrubbed and old.scrubbed
        commit(apart.folder, replace(private, scrubbed=scrubbed), apart.seal)
    commit(home.path, _described(manifest, known, bound))


def _described(manifest: Manifest, known: Mapping[str, Any], bound: dict[str, Any]) -> Manifest:
    """The manifest with a canary for each split: the one it has had, else a fresh one."""
    for split, facts in manifest.splits.items():
        facts["canary"] = known.get(split, {}).get("canary") or str(uuid.uuid4())
    canary = next((facts["canary"] for facts in manifest.splits.values()), None)
    return replace(manifest, canary=canary, commitment=bound)


def _empty_like(manifest: Manifest) -> Manifest:
    return Manifest(
        schema.VERSION,
        manifest.tool_version,
        manifest.tokenizer,
        (),
        name=manifest.name,
        version=manifest.version,
        scrubbed=manifest.scrubbed,
    )
