"""Datasets on their way to being published: recorded, scrubbed, labelled, split."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from conftest import SAMPLES
from fleet import options, repository
from traj.dataset import Dataset, Span
from traj.dataset.fingerprint import by_split
from traj.dataset.repositories import repository_name
from traj.dataset.write import commit, in_order, shards_for, write_prompts, write_shards
from traj.dataset.write import prompts_of as all_prompts
from traj.pipeline import record
from traj.release import split

Row = dict[str, Any]
TASKS = {"JavaScript": "javascript-csv", "Java": "java-intervals", "Rust": "rust-duration"}
TASKS |= {"C": "c-ring", "Python": "python-pager", "Perl": "perl-ini"}


def relabelled(folder: Path, change: Callable[[Row], Row], **manifest: Any) -> Dataset:
    """The dataset of a folder, unsplit, with each trajectory's row changed."""
    import pyarrow as pa

    dataset = Dataset.open(folder)
    rows: list[tuple[str, Mapping[str, Span]]] = []
    for name, spans in dataset.spans():
        head = spans["trajectories"].rows()
        fresh = pa.Table.from_pylist([change(head.to_pylist()[0])], head.schema)
        rows.append((name, {**spans, "trajectories": Span(fresh, 0, 1)}))
    files = write_shards(folder, shards_for(len(rows)), "unsplit", rows)
    files.append(write_prompts(folder, "unsplit", all_prompts(dataset)))
    made = replace(dataset.manifest, files=in_order(files), **manifest)
    commit(folder, replace(made, splits=by_split(Dataset(folder, made))))
    return Dataset.open(folder)


def labelled(row: Row) -> Row:
    """What a person knows of the sample sessions: whose they are, and that anyone may have them."""
    known = row["repository"]
    if repository_name(known) is None:
        known = repository(f"github.com/traj-samples/{TASKS[row['language']]}")
    return row | {"repository": known | {"license": "Apache-2.0", "visibility": "public"}}


def samples(folder: Path, *, count: int | None = None) -> Path:
    """The sample sessions (or so many of Codex's, and all of Claude Code's), scrubbed, labelled."""
    codex = sorted((SAMPLES / "codex").rglob("*.jsonl"))[:count]
    out = folder / "my.traj"
    report = record([*codex, SAMPLES / "claude_code"], out, scrub=True)
    assert not report.problems
    relabelled(out, labelled)
    return out


def set_apart(home: Path, **over: Any) -> Path:
    """Splits a dataset; gives the folder of the private part."""
    private = home.parent / "private.traj"
    report = split(home, options(home.parent, private_share=0.3, private_out=private, **over))
    assert report.ok, report.findings
    return private
