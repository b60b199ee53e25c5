"""What a local git checkout tells of the sessions that worked on its repository.

Everything is read from git's own objects, at the commit that a session started at where the
checkout has it, else at HEAD: what lies in the folder may be an agent's work. Git is asked nothing
that would run a program, fetch, or write.

url        of the remote `origin`, else of the only one; without credentials
commit     for sessions that are said to have run here: where the reflog had HEAD when they started
licence    traj.label.licence
languages  of the committed files, by extension, where the session's tools touched none
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from traj.build.trajectory import forge
from traj.dataset.repositories import plain_name
from traj.errors import UsageError
from traj.label.licence import Licence, is_telling, licence_of
from traj.label.said import nothing, said
from traj.label.values import extensions, is_commit

if TYPE_CHECKING:
    import polars as pl

_STILL = ("-c", "core.fsmonitor=false", "-c", "protocol.allow=never")  # run nothing, fetch nothing
_LARGEST = 1 << 20  # bytes of a licence or manifest
_REFLOG = re.compile(rb"^[0-9a-f]+ ([0-9a-f]+) [^\t\n]*> (\d+) [+-]\d{4}(?:\t|$)", re.MULTILINE)


@dataclass(frozen=True)
class Checkout:
    """A local checkout."""

    path: Path
    head: str
    url: str | None

    @classmethod
    def open(cls, path: Path) -> Checkout:
        """Raises UsageError where there is no checkout, no commit in it, or no git."""
        if not path.is_dir():
            raise UsageError(f"{path}: no such folder")
        head = _git(path, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
        if head is None:
            raise UsageError(f"{path}: not a git checkout with a commit")
        names = (_git(path, "remote") or b"").decode("utf-8", "replace").split()
        remote = "origin" if "origin" in names else names[0] if len(names) == 1 else None
        url = _git(path, "config", "--get", f"remote.{remote}.url") if remote else None
        known = forge(url.decode("utf-8", "replace").strip()) if url else (None,)
        return cls(path, head.decode().strip(), known[0] if all(known) else None)

    def holds(self, commits: Collection[str]) -> set[str]:
        """Those of some commits that are here; what is no full hash is none."""
        wanted = sorted(one for one in commits if is_commit(one))
        told = _git(self.path, "cat-file", "--batch-check", given="\n".join(wanted).encode())
        lines = (told or b"").decode().splitlines()
        return {name for name, line in zip(wanted, lines, strict=False) if " commit " in line}

    def head_at(self, moment_us: int | None) -> str | None:
        """Where HEAD was at a time; None where the reflog does not reach back that far."""
        known = None
        for seconds, commit in self._moves:
            if moment_us is None or seconds * 1_000_000 > moment_us:
                break
            known = commit
        return known

    @cached_property
    def _moves(self) -> list[tuple[int, str]]:
        place = _git(self.path, "rev-parse", "--git-path", "logs/HEAD")
        if place is None:
            return []
        file = self.path / os.fsdecode(place.rstrip(b"\n"))
        try:
            text = file.read_bytes()
        except OSError:
            return []
        return [(int(time), commit.decode()) for commit, time in _REFLOG.findall(text)]

    def licence(self, commit: str) -> Licence:
        """The licence that a commit's root states."""
        listed = _git(self.path, "ls-tree", "-z", "--long", commit) or b""
        texts = {}
        for kind, blob, size, name in _entries(listed):
            if kind == "blob" and is_telling(name) and size <= _LARGEST:
                texts[name] = (_git(self.path, "cat-file", "blob", blob) or b"").decode(
                    "utf-8", "replace"
                )
        return licence_of(texts)

    def languages(self, commit: str) -> str | None:
        """The programming languages of a commit's files, that with most bytes as the main one."""
        listed = _git(self.path, "ls-tree", "-r", "-z", "--long", commit) or b""
        sizes: Counter[str] = Counter()
        for kind, _, size, name in _entries(listed):
            language = extensions().get(PurePosixPath(name).suffix[1:].lower())
            if kind == "blob" and language is not None:
                sizes[language] += size
        if not sizes:
            return None
        main = min(sizes, key=lambda name: (-sizes[name], name))
        return f"{main}|{'; '.join(sorted(sizes))}"


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


def _entries(listed: bytes) -> Iterator[tuple[str, str, int, str]]:
    """Kind, blob, size and name of each line of a tree; of no size where there is none."""
    for line in listed.split(b"\0"):
        head, tab, name = line.partition(b"\t")
        if tab:
            _, kind, blob, size = head.decode().split()
            yield kind, blob, 0 if size == "-" else int(size), name.decode("utf-8", "replace")


def _git(path: Path, *words: str, given: bytes = b"") -> bytes | None:
    """What git says; None where it fails. Raises UsageError where git is missing or refuses."""
    own = {"LC_ALL": "C", "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    foreign = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY")
    around = {name: value for name, value in os.environ.items() if name not in foreign}
    try:
        done = subprocess.run(  # noqa: S603 (git, with words of our own)
            ["git", "-C", os.fspath(path), *_STILL, *words],  # noqa: S607
            input=given,
            capture_output=True,
            env=around | own,
            check=False,
        )
    except OSError:
        raise UsageError(f"{path}: reading a checkout needs git: install it") from None
    if b"dubious ownership" in done.stderr:
        raise UsageError(f"{path}: belongs to somebody else: git reads it if safe.directory has it")
    return done.stdout if done.returncode == 0 else None
