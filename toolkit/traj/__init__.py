"""traj: recorded coding-agent sessions as datasets that any inference benchmark can replay.

traj.record(["~/.claude/projects"], "my.traj")     sessions to a dataset
traj.load("my.traj")                               open a dataset; "org/name": from the Hub
traj.validate(dataset)                             prove it sound
traj.export(dataset, "aiperf-dag", "out/")         files for a harness
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.version import __version__

if TYPE_CHECKING:
    from traj.dataset import Dataset

__all__ = ["__version__", "export", "load", "record", "validate"]


def load(
    path: str | Path, *, revision: str | None = None, identity: str | Path | None = None
) -> Dataset:
    """Opens a dataset folder, or one that was published: "org/name" on the Hugging Face Hub, where
    no folder is called so (`revision` is its version, by default the newest). `identity` names the
    file of keys for an encrypted one. A Path never goes to the network.

    Raises traj.errors.DatasetError where there is none, UsageError where it cannot be opened.
    """
    from traj.dataset import Dataset
    from traj.errors import UsageError

    remote = isinstance(path, str) and not Path(path).exists()
    if remote:
        from traj.publish.fetch import REPOSITORY, fetch

        if REPOSITORY.fullmatch(str(path)):
            return fetch(str(path), revision=revision, identity=identity)
    if revision is not None:
        raise UsageError(f"{path}: only a dataset on the Hugging Face Hub has revisions")
    return Dataset.open(path, identity)


def record(places: Sequence[str | Path], out: str | Path, **options: Any) -> Any:
    """Records sessions into a dataset, scrubbed unless `scrub=False`: see traj.pipeline.record."""
    from traj.pipeline import record as record_sessions

    options = {"scrub": True, **options}
    return record_sessions([Path(place).expanduser() for place in places], Path(out), **options)


def validate(dataset: Dataset, *, tokenizer: str | None = None) -> Any:
    """Checks a dataset: see traj.validation."""
    from traj.validation import validate as check

    return check(dataset, tokenizer=tokenizer)


def export(
    dataset: Dataset, target: str, out: str | Path, *, overwrite: bool = False, **options: Any
) -> Any:
    """Writes a harness's files: see traj.exporters; options are those of traj.workload.options."""
    from traj.exporters import export as export_files
    from traj.workload.options import LoadOptions

    chosen = LoadOptions(**options)
    return export_files(dataset, target, Path(out), chosen, overwrite=overwrite)
