"""Makes a repository what its plan says: what changed, in one commit; then the tag.

Nothing of a publication is kept on this side, so there is nothing to go wrong when it is stopped:
whatever was sent is found there again. Until the commit, readers see the version before; it holds
all changes, so that every commit is a whole dataset. The tag comes last, and is never moved.
"""

from __future__ import annotations

from dataclasses import dataclass

from traj.errors import UsageError
from traj.publish.hub import Hub, HubError, State
from traj.publish.plan import RepositoryPlan

# What earlier publications put there, and is deleted where the new one does not name it.
_FOLDERS = ("data", "plots", "traces")
_FILES = ("README.md", "croissant.json", "dataset.json", "dataset.json.age")


@dataclass(frozen=True, slots=True)
class Uploaded:
    """What became of one repository. `sent` counts files that the commit changed, with bytes;
    `left` are files that are none of ours."""

    repo_id: str
    private: bool
    commit: str
    tag: str
    sent: int
    sent_bytes: int
    deleted: tuple[str, ...]
    left: tuple[str, ...]
    unchanged: bool


@dataclass(frozen=True, slots=True)
class Before:
    """A repository before it is touched; `head` is None where there is none yet, `published` the
    commit that bears the plan's tag and content."""

    head: State | None
    published: str | None


def look(hub: Hub, plan: RepositoryPlan) -> Before:
    """What is there. Raises UsageError where the plan may not go there: the tag names other
    content, or what is private would be public."""
    head = hub.state(plan.repo_id)
    if head is None:
        return Before(None, None)
    _check_private(plan, head)
    tagged = hub.state(plan.repo_id, plan.tag)
    if tagged is None:
        return Before(head, None)
    if not is_there(plan, tagged):
        raise UsageError(
            f"{plan.repo_id}: version {plan.tag} is published with other content, and versions "
            "stay as they are: give another with --version"
        )
    return Before(head, tagged.commit)


def upload(hub: Hub, plan: RepositoryPlan, before: Before) -> Uploaded:
    """Carries the plan out, or what is left to do of it. Raises TrajError where that fails; it may
    then be called again."""
    if before.head is not None and before.published is not None:
        return _uploaded(plan, before.published, before.head, (), (), unchanged=True)
    head = before.head
    if head is None:
        hub.create(plan.repo_id, private=plan.private)
        head = hub.state(plan.repo_id)
        if head is None:
            raise HubError(f"{plan.repo_id}: was made, and is not there: run again")
        _check_private(plan, head)
    known = head.files
    add = [one for one in plan.files if one.path not in known or not known[one.path].same(one)]
    delete = _stale(plan, head)
    commit = head.commit
    if add or delete:
        title = f"Version {plan.tag}"
        commit = hub.commit(plan.repo_id, head.commit, add, delete, title)
        now = hub.state(plan.repo_id, commit)
        if now is None or not is_there(plan, now):
            raise HubError(f"{plan.repo_id}: holds something else than was sent: run again")
    hub.tag(plan.repo_id, plan.tag, commit)
    sent = tuple(one.size for one in add)
    return _uploaded(plan, commit, head, sent, tuple(delete), unchanged=False)


def is_there(plan: RepositoryPlan, state: State) -> bool:
    """Whether a revision holds the plan's files, and no others of ours."""
    known = state.files
    held = all(one.path in known and known[one.path].same(one) for one in plan.files)
    return held and not _stale(plan, state)


def _check_private(plan: RepositoryPlan, state: State) -> None:
    if plan.private and not state.private:
        raise UsageError(
            f"{plan.repo_id}: is a public repository: the private split goes into a private one "
            "(change it in the repository's settings, or name another with --private-repo)"
        )


def _stale(plan: RepositoryPlan, state: State) -> list[str]:
    named = {one.path for one in plan.files}
    return sorted(path for path in state.files if path not in named and _ours(path))


def _ours(path: str) -> bool:
    return path in _FILES or path.partition("/")[0] in _FOLDERS


def _uploaded(
    plan: RepositoryPlan,
    commit: str,
    head: State,
    sent: tuple[int, ...],
    deleted: tuple[str, ...],
    *,
    unchanged: bool,
) -> Uploaded:
    named = {one.path for one in plan.files}
    left = (path for path in head.files if path not in named and not _ours(path))
    return Uploaded(
        repo_id=plan.repo_id,
        private=head.private,
        commit=commit,
        tag=plan.tag,
        sent=len(sent),
        sent_bytes=sum(sent),
        deleted=deleted,
        left=tuple(sorted(set(left) - {".gitattributes"})),
        unchanged=unchanged,
    )
