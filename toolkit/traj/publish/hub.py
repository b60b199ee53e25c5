"""The Hugging Face Hub as publishing needs it: what a repository holds, one commit, one tag.

What the library raises becomes one line. The token is taken from the standard places and is in no
message: libraries quote headers in theirs.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traj.errors import MissingExtraError, TrajError, UsageError
from traj.publish.plan import PlannedFile

if TYPE_CHECKING:
    from huggingface_hub import HfApi

_TOKEN = re.compile(r"hf_[A-Za-z0-9_]{8,}|api_org_[A-Za-z0-9]{8,}")
_USER_INFO = re.compile(r"(?<=://)[^/\s@]*@")
_THREADS = 5


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """A file of a repository: its SHA-256 where it is a large one, else the name git gives it."""

    size: int  # bytes
    sha256: str | None
    git_oid: str

    def same(self, file: PlannedFile) -> bool:
        """Whether the repository holds these very bytes."""
        if self.size != file.size:
            return False
        return self.sha256 == file.sha256 if self.sha256 else self.git_oid == file.git_oid


@dataclass(frozen=True, slots=True)
class State:
    """A revision of a repository."""

    commit: str
    private: bool
    files: Mapping[str, RemoteFile]


class HubError(TrajError):
    """The Hub could not be reached or did not do what it was asked; the text says what."""


class Hub:
    """A connection. Raises MissingExtraError without the library."""

    def __init__(self, token: str | None, *, progress: bool = False) -> None:
        self._token, self._progress = token, progress
        self._api = _api(token)

    @classmethod
    def from_environment(cls, *, progress: bool = False) -> Hub:
        """With the token that `hf auth login` or HF_TOKEN gives. Raises UsageError without one."""
        token = find_token()
        if not token:
            raise UsageError("no Hugging Face token: run `hf auth login`, or set HF_TOKEN")
        return cls(token, progress=progress)

    def state(self, repo_id: str, revision: str = "main") -> State | None:
        """A repository as it is; None where there is no such repository or revision."""
        from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError
        from huggingface_hub.hf_api import RepoFile

        with said(repo_id, self._token):
            try:
                info = self._api.dataset_info(repo_id, revision=revision)
                found = self._api.list_repo_tree(
                    repo_id, recursive=True, revision=info.sha, repo_type="dataset"
                )
                files = {
                    one.path: RemoteFile(one.size, one.lfs.sha256 if one.lfs else None, one.blob_id)
                    for one in found
                    if isinstance(one, RepoFile)
                }
            except (RepositoryNotFoundError, RevisionNotFoundError):
                return None
        if info.sha is None:
            raise HubError(f"{repo_id}: the Hub names no commit")
        # What does not say that it is private is taken for public.
        return State(info.sha, bool(info.private), files)

    def create(self, repo_id: str, *, private: bool) -> None:
        """Makes a repository, where there is none."""
        with said(repo_id, self._token):
            self._api.create_repo(repo_id, repo_type="dataset", private=private, exist_ok=True)

    def commit(
        self, repo_id: str, head: str, add: Sequence[PlannedFile], delete: Sequence[str], title: str
    ) -> str:
        """One commit upon `head` of all changes: large files are sent first, those that the Hub
        has already are not sent. Gives the commit. Fails where another commit came in between."""
        from huggingface_hub import CommitOperationAdd, CommitOperationDelete

        with said(repo_id, self._token), bars(shown=self._progress):
            operations: list[Any] = [CommitOperationDelete(path) for path in delete]
            operations += [
                CommitOperationAdd(
                    file.path, file.source if isinstance(file.source, bytes) else str(file.source)
                )
                for file in add
            ]
            made = self._api.create_commit(
                repo_id,
                operations,
                commit_message=title,
                repo_type="dataset",
                parent_commit=head,
                num_threads=_THREADS,
            )
        return made.oid

    def tag(self, repo_id: str, name: str, commit: str) -> None:
        """Names a commit. Fails where there is such a tag."""
        with said(repo_id, self._token):
            self._api.create_tag(repo_id, tag=name, revision=commit, repo_type="dataset")


def find_token() -> str | None:
    """The token from the environment or the file of `hf auth login`."""
    try:
        from huggingface_hub import get_token
    except ImportError:
        raise MissingExtraError("publishing", "hub") from None
    return get_token()


@contextmanager
def said(what: str, token: str | None) -> Iterator[None]:
    """What the library raises, as one line without the token."""
    import httpx2
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except OfflineModeIsEnabled:
        raise HubError(f"{what}: HF_HUB_OFFLINE is set: nothing was sent") from None
    except HfHubHTTPError as error:
        raise HubError(f"{what}: {_refused(error, token)}") from None
    except RuntimeError as error:  # a large file, from one of the library's threads
        cause = error.__cause__
        inner = _refused(cause, token) if isinstance(cause, HfHubHTTPError) else str(cause or "")
        raise HubError(f"{what}: {one_line(str(error), token)} {one_line(inner, token)}") from None
    except ValueError as error:  # what the library itself finds wrong, before it sends anything
        raise HubError(f"{what}: {one_line(str(error), token)}") from None
    except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
        text = one_line(str(error), token) or type(error).__name__
        raise HubError(f"{what}: the Hub cannot be reached: {text}; run again") from None


def _refused(error: Any, token: str | None) -> str:
    """What the Hub answered, and what helps."""
    status = error.response.status_code
    remedy = {
        401: "the token is missing or not valid: `hf auth login`",
        403: "the token may not write here: it needs write access to the repository's owner",
        404: "there is no such repository or revision, or the token may not see it",
        409: "something of that name is there already",
        412: "someone else committed meanwhile: run again",
        429: "too many requests: wait, then run again",
    }.get(status, "run again; what was sent is kept")
    told = one_line(str(error.server_message or ""), token)
    return f"the Hub answered {status}{f' ({told})' if told else ''}: {remedy}"


def one_line(text: str, token: str | None) -> str:
    """The first line of a text from a library, without anything that may be a token."""
    if token:
        text = text.replace(token, "***")
    text = _USER_INFO.sub("***@", _TOKEN.sub("***", text))
    return text.strip().partition("\n")[0][:300]


def _api(token: str | None) -> HfApi:
    try:
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError("publishing", "hub") from None
    return HfApi(token=token or False, library_name="traj")


@contextmanager
def bars(*, shown: bool) -> Iterator[None]:
    """The library's progress bars, shown or not, and as they were afterwards."""
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    were_off = are_progress_bars_disabled()
    if shown or were_off:
        yield
        return
    disable_progress_bars()
    try:
        yield
    finally:
        enable_progress_bars()
