"""A dataset from the Hugging Face Hub, as the folder that it was published from."""

from __future__ import annotations

import re
import sys
from pathlib import Path, PurePosixPath

from traj.dataset import MANIFEST, SEALED, Dataset
from traj.errors import DatasetError, UsageError
from traj.publish.hub import bars, find_token, said

REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_MISSING = 'is not installed; to load from the Hugging Face Hub: pip install "traj-toolkit[hub]"'


def fetch(
    repo_id: str,
    *,
    revision: str | None = None,
    identity: str | Path | None = None,
    token: str | bool | None = None,
    cache: Path | None = None,
) -> Dataset:
    """Downloads a dataset, the files that its manifest names and no others, into the Hub's cache
    (or the folder `cache`), and opens it there. `revision` is a version, a branch or a commit;
    `identity` opens an encrypted one. `token` is the library's own by default; False for none.

    Raises UsageError where there is no such repository or revision, DatasetError where it holds no
    dataset, TrajError where it cannot be had.
    """
    try:
        from huggingface_hub import HfApi, hf_hub_download, snapshot_download
        from huggingface_hub.errors import (
            EntryNotFoundError,
            RepositoryNotFoundError,
            RevisionNotFoundError,
        )
    except ImportError as error:
        raise UsageError(
            f"{repo_id}: no such dataset folder, and {error.name} {_MISSING}"
        ) from None
    secret = token if isinstance(token, str) else find_token()
    at = f"{repo_id} at {revision}" if revision else repo_id
    with said(at, secret), bars(shown=sys.stderr.isatty()):
        try:
            commit = HfApi(token=token).dataset_info(repo_id, revision=revision).sha
            folder: Path | None = None
            for name in (MANIFEST, SEALED):
                try:
                    found = hf_hub_download(
                        repo_id,
                        name,
                        repo_type="dataset",
                        revision=commit,
                        token=token,
                        cache_dir=cache,
                    )
                except EntryNotFoundError:
                    continue
                folder = Path(found).parent
                break
        except RepositoryNotFoundError:
            raise UsageError(
                f"{repo_id}: no such dataset folder, and no such dataset on the Hugging Face Hub "
                "(or the token may not see it)"
            ) from None
        except RevisionNotFoundError:
            raise UsageError(f"{repo_id}: has no revision {revision!r} on the Hub") from None
        if folder is None:
            raise DatasetError(f"{at}: holds no {MANIFEST}: not published by traj publish")
        names = _named(Dataset.open(folder, identity), at)
        snapshot_download(
            repo_id,
            repo_type="dataset",
            revision=commit,
            token=token,
            cache_dir=cache,
            allow_patterns=names,
        )
    dataset = Dataset.open(folder, identity)
    for file in dataset.manifest.files:
        path = folder / file.path
        if not path.is_file() or path.stat().st_size != file.bytes:
            raise DatasetError(f"{at}: {file.path} is missing, or not whole: publish it again")
    return dataset


def _named(dataset: Dataset, where: str) -> list[str]:
    """The files of the manifest. A manifest from outside must not lead out of its folder."""
    names = [file.path for file in dataset.manifest.files]
    for name in names:
        path = PurePosixPath(name)
        if path.is_absolute() or ".." in path.parts or set(name) & set("*?[\\"):
            raise DatasetError(f"{where}: its manifest names a file outside of it")
    return [*names, MANIFEST, SEALED]
