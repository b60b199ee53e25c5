"""Loads what was published as its readers will, and holds it against the local dataset.

Each client reads every table of the published version from the Hub, and its rows are compared with
the local ones, value by value and in order; `traj` compares the downloaded files' SHA-256 with the
manifest's. A client that is not installed is reported as not run, never as passed.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from traj import schema
from traj.dataset import DataFile, Dataset
from traj.errors import TrajError
from traj.publish.clients import CLIENTS, Client, Part, failures
from traj.publish.fetch import fetch
from traj.publish.hub import one_line
from traj.publish.plan import TRACES, RepositoryPlan

if TYPE_CHECKING:
    import pyarrow as pa

_NO_TRACES = (
    "datasets reads all configs of a repository in one format, Parquet here: trace files are for "
    "the Hub's viewer, and were compared by their hashes when they were sent"
)
Status = Literal["same", "differs", "failed", "not_run"]


@dataclass(frozen=True, slots=True)
class LoadCheck:
    """How one client read one config of one repository; `detail` says what is wrong."""

    repo_id: str
    client: str
    config: str
    status: Status
    rows: int | None
    expected_rows: int | None
    detail: str = ""


def load_back(plan: RepositoryPlan, commit: str, token: str | None) -> list[LoadCheck]:
    """Loads a published version with every client. `token` is None for what anyone may read; then
    none is sent. An encrypted repository is loaded by traj alone: nothing else opens it."""
    with tempfile.TemporaryDirectory(prefix="traj-load-back-") as scratch:
        found = [_by_traj(plan, token, Path(scratch))]
        if plan.sealed:
            return found
        for name, client in CLIENTS.items():
            for part in _parts(plan, commit, token, Path(scratch)):
                check = _read(name, client, part, plan)
                found.append(check)
                if check.status == "not_run":
                    break
    if TRACES in plan.names.files:
        found.append(LoadCheck(plan.repo_id, "datasets", TRACES, "not_run", None, None, _NO_TRACES))
    return found


def _by_traj(plan: RepositoryPlan, token: str | None, scratch: Path) -> LoadCheck:
    opener = plan.dataset.opener
    expected = sum(file.rows for file in plan.dataset.manifest.files)
    try:
        found = fetch(
            plan.repo_id,
            revision=plan.tag,
            identity=opener.file if opener else None,
            token=token or False,
            cache=scratch / "traj",
        )
    except TrajError as error:
        return LoadCheck(plan.repo_id, "traj", "all", "failed", None, expected, str(error))
    rows = sum(file.rows for file in found.manifest.files)
    wrong = [file.path for file in found.manifest.files if not _whole(found.path, file)]
    if found.manifest != plan.dataset.manifest:
        wrong.insert(0, "the manifest")
    detail = f"{wrong[0]} is not what was published" if wrong else ""
    status: Status = "differs" if wrong else "same"
    return LoadCheck(plan.repo_id, "traj", "all", status, rows, expected, detail)


def _whole(folder: Path, file: DataFile) -> bool:
    with (folder / file.path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest() == file.sha256


def _parts(plan: RepositoryPlan, commit: str, token: str | None, scratch: Path) -> Iterator[Part]:
    for config, splits in plan.names.files.items():
        if config != TRACES:
            for split, paths in splits.items():
                yield Part(plan.repo_id, commit, config, split, paths, token, scratch)


def _read(name: str, client: Client, part: Part, plan: RepositoryPlan) -> LoadCheck:
    dataset = plan.dataset
    expected = sum(file.rows for file in dataset.files(part.config, part.split))
    rows: int | None = None
    try:
        rows, detail = _compared(_local(dataset, part), client(part), part.config)
        status: Status = "differs" if detail else "same"
    except ImportError as error:
        detail = f"{error.name or name} is not installed"
        return LoadCheck(part.repo_id, name, "all", "not_run", None, None, detail)
    except failures() as error:
        status, detail = "failed", f"{type(error).__name__}: {one_line(str(error), part.token)}"
    return LoadCheck(part.repo_id, name, part.config, status, rows, expected, detail)


def _local(dataset: Dataset, part: Part) -> Iterator[pa.Table]:
    for file in dataset.files(part.config, part.split):
        with dataset.parquet(file) as parquet:
            for group in range(parquet.num_row_groups):
                yield parquet.read_row_group(group)


def _compared(local: Iterator[pa.Table], remote: Iterator[pa.Table], table: str) -> tuple[int, str]:
    """How many rows the client read, and the first difference; both a piece at a time."""
    import pyarrow as pa

    form = schema.arrow(table)
    mine = theirs = form.empty_table()
    seen = done = 0
    difference = ""
    while True:
        if not mine.num_rows:
            mine = next((x for x in local if x.num_rows), mine)
        if not theirs.num_rows:
            found = next((x for x in remote if x.num_rows), None)
            if found is not None:
                missing = sorted(set(form.names) - set(found.column_names))
                if missing:
                    return seen, f"column {missing[0]} is missing"
                theirs = found.select(form.names).cast(form)
                seen += theirs.num_rows
        common = min(mine.num_rows, theirs.num_rows)
        if not common:
            break
        for name in [] if difference else form.names:
            one, other = (pa.chunked_array(x[name].slice(0, common)) for x in (mine, theirs))
            if not one.equals(other):
                difference = f"column {name} is another in rows {done} to {done + common - 1}"
                break
        mine, theirs, done = mine.slice(common), theirs.slice(common), done + common
    seen_here = done + mine.num_rows + sum(x.num_rows for x in local)
    seen += sum(x.num_rows for x in remote)
    if seen != seen_here:
        return seen, f"{seen} rows instead of {seen_here}"
    return seen, difference
