"""What a working directory is: repository, commit, branch, and whether anything was changed."""

from __future__ import annotations

import subprocess
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from traj.sources.live.wire import Checkout

# Nothing of the repository's own is run, nothing fetched.
_STILL = ("-c", "core.fsmonitor=false", "-c", "protocol.allow=never", "--no-optional-locks")
_LIMIT_S = 20
_LICENCES = ("licen", "copying", "unlicense", "notice")


def checkout(folder: Path) -> Checkout | None:
    """The git checkout that a folder lies in; None where there is none, or no git."""
    commit = _git(folder, "rev-parse", "--verify", "--quiet", "HEAD^{commit}")
    if commit is None:
        return None
    names = (_git(folder, "remote") or "").split()
    remote = "origin" if "origin" in names else names[0] if len(names) == 1 else None
    url = _git(folder, "config", "--get", f"remote.{remote}.url") if remote else None
    branch = _git(folder, "symbolic-ref", "--quiet", "--short", "HEAD")
    status = _git(folder, "status", "--porcelain", "--untracked-files=normal")
    listed = (_git(folder, "ls-tree", "--name-only", "--full-tree", "HEAD") or "").splitlines()
    return Checkout(
        url=_plain(url) if url else None,
        commit=commit,
        branch=branch or None,
        clean=None if status is None else not status,
        license_files=[name for name in listed if name.lower().startswith(_LICENCES)],
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(  # noqa: S603 - fixed words
            ["git", *_STILL, "-C", str(folder), *arguments],  # noqa: S607
            capture_output=True,
            check=False,
            timeout=_LIMIT_S,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.decode("utf-8", "replace").strip() if done.returncode == 0 else None


def _plain(url: str) -> str | None:
    """A remote without user, password or query. `git@host:owner/name` has nothing to hide."""
    if "://" not in url:
        return url
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    return urlunsplit((parts.scheme, host + port, parts.path, "", ""))
