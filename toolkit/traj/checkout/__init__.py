"""What a local git checkout tells of the repository in it.

Everything but `is_clean` is read from git's own objects, at a commit: what lies in the folder may
be an agent's work. Git is asked nothing that would run a program, fetch, or write.

url        of the remote `origin`, else of the only one; without credentials
licence    traj.checkout.licence
languages  of the committed files, by extension
"""

from __future__ import annotations

import os
import re
import subprocess
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from traj.build.trajectory import extensions, forge
from traj.checkout.licence import Licence, is_telling, licence_of
from traj.errors import UsageError

_STILL = ("-c", "core.fsmonitor=false", "-c", "protocol.allow=never")  # run nothing, fetch nothing
_LARGEST = 1 << 20  # bytes of a licence or manifest
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_REFLOG = re.compile(rb"^[0-9a-f]+ ([0-9a-f]+) [^\t\n]*> (\d+) [+-]\d{4}(?:\t|$)", re.MULTILINE)


def is_commit(text: str) -> bool:
    """Whether this is a whole commit hash."""
    return bool(_COMMIT.fullmatch(text))


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

    @property
    def branch(self) -> str | None:
        """The branch that HEAD is on."""
        found = _git(self.path, "symbolic-ref", "--quiet", "--short", "HEAD")
        return found.decode("utf-8", "replace").strip() if found else None

    @property
    def is_clean(self) -> bool | None:
        """Whether the folder is as HEAD has it, new files included; None where git cannot say."""
        found = _git(self.path, "status", "--porcelain", "--untracked-files=normal")
        return None if found is None else not found

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
        listed = _git(self.path, "ls-tree", "-z", "--long", "--full-tree", commit) or b""
        texts = {}
        for kind, blob, size, name in _entries(listed):
            if kind == "blob" and is_telling(name) and size <= _LARGEST:
                texts[name] = (_git(self.path, "cat-file", "blob", blob) or b"").decode(
                    "utf-8", "replace"
                )
        return licence_of(texts)

    def languages(self, commit: str) -> str | None:
        """The programming languages of a commit's files, that with most bytes as the main one."""
        listed = _git(self.path, "ls-tree", "-r", "-z", "--long", "--full-tree", commit) or b""
        sizes: Counter[str] = Counter()
        for kind, _, size, name in _entries(listed):
            language = extensions().get(PurePosixPath(name).suffix[1:].lower())
            if kind == "blob" and language is not None:
                sizes[language] += size
        if not sizes:
            return None
        main = min(sizes, key=lambda name: (-sizes[name], name))
        return f"{main}|{'; '.join(sorted(sizes))}"


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
