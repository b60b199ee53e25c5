"""From a dataset's folder to its repositories: plan, refuse or send, load back.

open        the dataset, and its private split where that is at hand
plan        every file of both repositories            plan
refuse      all reasons at once; then nothing is sent  refusals, exposure
send        the private companion first, so that no public commitment is without its private part
load back   with every client, from the Hub            load_back
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from traj.dataset import Dataset
from traj.errors import UsageError
from traj.publish import exposure, refusals
from traj.publish.fetch import REPOSITORY
from traj.publish.hub import Hub, find_token
from traj.publish.licences import check_named
from traj.publish.load_back import LoadCheck, load_back
from traj.publish.plan import (
    PUBLIC,
    RepositoryPlan,
    plan_repository,
    private_part,
    public_part,
    write_traces,
)
from traj.publish.refusals import Refusal, Release
from traj.publish.upload import Before, Uploaded, look, upload

REFUSALS: tuple[Callable[[Release], Iterator[Refusal]], ...] = (
    refusals.unsplit,
    refusals.invalid,
    refusals.unscrubbed,
    refusals.unlicensed,
    refusals.unseen,
    refusals.unproven,
    refusals.key_inside,
    exposure.secrets,
    exposure.card_names,
    exposure.private_shown,
)
# A tag that is no branch's name and cannot be taken for a commit.
_VERSION = re.compile(r"(?!main$)(?![0-9a-f]{7,40}$)[A-Za-z0-9][A-Za-z0-9.+_-]{0,63}")


@dataclass(frozen=True, slots=True)
class PublishOptions:
    """What is published, and where."""

    repo_id: str
    private_repo_id: str | None = None
    private_dataset: Path | None = None  # where the private split lies apart
    identity: Path | None = None  # opens it where it is encrypted
    version: str | None = None  # by default the manifest's
    traces: bool = False  # files for the Hub's trace viewer, as a config of their own
    permit_licenses: tuple[str, ...] = ()  # beside those of traj.publish.licences
    rules: Path | None = None  # of scrubbing: what may stay
    tokenizer: str | None = None  # for validation, where its name does not find it
    dry_run: bool = False
    load_back: bool = True


@dataclass(frozen=True, slots=True)
class Planned:
    """One repository as it is to be."""

    repo_id: str
    private: bool
    tag: str
    files: tuple[tuple[str, int], ...]  # path, bytes

    @property
    def bytes(self) -> int:
        return sum(size for _, size in self.files)


@dataclass(frozen=True, slots=True)
class PublishReport:
    """What was published, or why nothing was."""

    dry_run: bool
    planned: tuple[Planned, ...]
    refusals: tuple[Refusal, ...]
    uploaded: tuple[Uploaded, ...] = ()
    loaded: tuple[LoadCheck, ...] = field(default=())

    @property
    def ok(self) -> bool:
        """Nothing was refused, and what was loaded is what was sent."""
        read = all(check.status in ("same", "not_run") for check in self.loaded)
        return not self.refusals and read

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"ok": self.ok} | asdict(self)


def publish(path: Path, options: PublishOptions, *, progress: bool = False) -> PublishReport:
    """Publishes a dataset, or says why not. With `dry_run` nothing touches the network.

    Called again it goes on where it was stopped, and changes nothing where nothing is left to do.
    Raises UsageError where the call is wrong, the version is published with other content, or the
    private repository is a public one; TrajError where the Hub fails.
    """
    version = _check(path, options)
    hub = None if options.dry_run else Hub.from_environment(progress=progress)
    with tempfile.TemporaryDirectory(prefix="traj-publish-") as scratch:
        release = prepare(path, options, version, Path(scratch))
        refused = tuple(one for check in REFUSALS for one in check(release))
        planned = tuple(map(_planned, release.plans))
        if refused or hub is None:
            return PublishReport(options.dry_run, planned, refused)
        uploaded = send(hub, release.plans)
        loaded: list[LoadCheck] = []
        if options.load_back:
            for plan, done in zip(release.plans, uploaded, strict=True):
                token = find_token() if done.private else None
                loaded += load_back(plan, done.commit, token)
        return PublishReport(False, planned, (), uploaded, tuple(loaded))


def prepare(path: Path, options: PublishOptions, version: str, scratch: Path) -> Release:
    """The release: what is there, and the plans of its repositories, the private one first."""
    home = Dataset.open(path)
    apart = None
    if options.private_dataset is not None:
        apart = Dataset.open(options.private_dataset, options.identity)
    public, private = public_part(home, version), private_part(home, apart, version)
    plans: list[RepositoryPlan] = []
    if options.private_repo_id is not None:
        if private is None:
            raise UsageError(
                f"{path}: holds no private split for {options.private_repo_id}: name its folder "
                "with --private-dataset"
            )
        plans.append(plan_repository(private, options.private_repo_id, None, version, None))
    if public.files("trajectories", PUBLIC):
        traces = write_traces(public, scratch) if options.traces else None
        companion = options.private_repo_id
        plans.append(plan_repository(public, options.repo_id, companion, version, traces))
    return Release(
        home,
        public,
        private,
        apart is not None,
        tuple(plans),
        options.permit_licenses,
        options.rules,
        options.tokenizer,
    )


def send(hub: Hub, plans: tuple[RepositoryPlan, ...]) -> tuple[Uploaded, ...]:
    """Uploads in the order of the plans; nothing where one of them may not go where it is to."""
    before: list[Before] = [look(hub, plan) for plan in plans]
    return tuple(upload(hub, plan, was) for plan, was in zip(plans, before, strict=True))


def _check(path: Path, options: PublishOptions) -> str:
    """The version. Raises UsageError for a call that is wrong."""
    for name in (options.repo_id, options.private_repo_id):
        if name is not None and not REPOSITORY.fullmatch(name):
            raise UsageError(f"{name!r} is no repository: write ORG/NAME")
    if options.repo_id == options.private_repo_id:
        raise UsageError("the public and the private repository are to be two")
    check_named(options.permit_licenses)
    find_token()  # the library is needed in any case: better said at the beginning
    version = options.version or Dataset.open(path).manifest.version
    if version is None:
        raise UsageError(f"{path}: has no version yet: give one with --version, such as 1.0.0")
    if not _VERSION.fullmatch(version):
        raise UsageError(f"{version!r} cannot be a version: a tag is made of it")
    return version


def _planned(plan: RepositoryPlan) -> Planned:
    files = tuple((file.path, file.size) for file in plan.files)
    return Planned(plan.repo_id, plan.private, plan.tag, files)
