"""A view without text: lengths, times and categories, whose rows cannot be traced to the dataset.

Left out are messages and prompts, and whatever else is free text or a name: repository, task,
files, sub-agents' and tools' names (a call keeps its category), errors, the day. All ids and hashes
are minted anew from a secret that is thrown away, those of prompts per trajectory: what is equal
within one trajectory stays equal, and nothing else can be joined: not with the dataset, not with
another such view, not one trajectory with another.

Lengths and times stay as they are. Whoever holds the very session recognises it by them.
"""

from __future__ import annotations

import hmac
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.build.trajectory import trajectory_id
from traj.dataset import MANIFEST, Dataset, Span, runs
from traj.dataset.fingerprint import by_split
from traj.dataset.write import commit, in_order, locked, shards_for, write_shards
from traj.errors import UsageError

if TYPE_CHECKING:
    import pyarrow as pa

_TABLES = ("trajectories", "turns", "tool_calls")
_LEFT_OUT = (
    *("started_at", "command", "repository", "commit_source", "working_tree"),
    *("license_source", "visibility_source"),
    *("task", "task_url_source", "task_title_source"),
)
Change = Callable[[str, Any], Any]  # of a trajectory (its old id) and a value: the new value


def text_free(dataset: Dataset, out: Path, split: str | None = None) -> Dataset:
    """Writes the view of a dataset, or of one of its splits, into a new folder.

    Raises UsageError where there is a dataset already, or no trajectory to write.
    """
    heads = dataset.table("trajectories", split=split).to_pylist()
    if not heads:
        raise UsageError(f"{dataset.path}: there is no trajectory to write")
    with locked(out):
        if (out / MANIFEST).exists():
            raise UsageError(f"{out}: holds a dataset already: choose a new folder")
        mint = _Mint({row["trajectory_id"]: row["source"]["format"] for row in heads})
        tables = {
            name: _changed(dataset.table(name, split=split), name, mint.changes(name))
            for name in _TABLES
        }
        shards = shards_for(len(heads))
        files = []
        for its in sorted({row["split"] or "unsplit" for row in heads}):
            chosen = {
                mint.id(x["trajectory_id"]) for x in heads if (x["split"] or "unsplit") == its
            }
            files += write_shards(out, shards, its, _rows(tables, chosen))
        bare = replace(
            dataset.manifest,
            schema_version=schema.VERSION,
            files=in_order(file for file in files if file.table in _TABLES),
            shards=shards,
            splits={},
            commitment={},
            canary=str(uuid.uuid4()),
        )
        splits = by_split(Dataset(out, bare))
        for facts in splits.values():
            facts["canary"] = bare.canary if len(splits) == 1 else str(uuid.uuid4())
        commit(out, replace(bare, splits=splits))
    return Dataset.open(out)


class _Mint:
    """New ids for old ones, under a secret that nobody keeps."""

    def __init__(self, formats: Mapping[str, str]) -> None:
        self._secret = secrets.token_bytes(32)
        self._ids = {
            name: trajectory_id(kind, self._digest("session", name)[:32])
            for name, kind in formats.items()
        }

    def id(self, name: str) -> str:
        return self._ids[name]

    def changes(self, table: str) -> dict[str, Change]:
        """What becomes of the columns of a table; the others stay."""
        found: dict[str, Change] = {"trajectory_id": lambda name, _: self._ids[name]}
        if table == "trajectories":
            found |= dict.fromkeys(_LEFT_OUT, _nothing)
            found["content_sha256"] = lambda name, _: self._digest("content", name)
            found["source"] = self._source
        elif table == "turns":
            blank = ("lane_name", "response_id", "error", "source_file", "source_line")
            found |= dict.fromkeys(blank, _nothing)
            found |= dict.fromkeys(("system_id", "tools_id"), self._prompt)
        return found

    def _source(self, name: str, source: dict[str, Any]) -> dict[str, Any]:
        return source | {"session_id": self._digest("session", name)[:32], "files": []}

    def _prompt(self, name: str, prompt: str | None) -> str | None:
        return None if prompt is None else self._digest("prompt", name, prompt)

    def _digest(self, *words: str) -> str:
        return hmac.digest(self._secret, "\0".join(words).encode(), "sha256").hex()


def _nothing(_name: str, _value: Any) -> None:
    return None


def _changed(table: pa.Table, name: str, changes: Mapping[str, Change]) -> pa.Table:
    """The table with its columns changed, in the order of its new keys."""
    import pyarrow as pa

    old = table["trajectory_id"].to_pylist()
    found = table
    for column, change in changes.items():
        at = table.schema.get_field_index(column)
        values = [change(*pair) for pair in zip(old, table[column].to_pylist(), strict=True)]
        field = table.schema.field(at)
        found = found.set_column(at, field, pa.array(values, field.type))
    if name == "tool_calls":
        ids = pa.array([f"call_{number}" for number in found["call"].to_pylist()], pa.string())
        for column, values in (("tool_call_id", ids), ("name", found["category"])):
            at = found.schema.get_field_index(column)
            found = found.set_column(at, found.schema.field(at), values)
    return found.sort_by([(key, "ascending") for key in schema.table(name).key]).combine_chunks()


def _rows(
    tables: Mapping[str, pa.Table], chosen: set[str]
) -> Iterator[tuple[str, dict[str, Span]]]:
    """The chosen trajectories in the order of their ids."""
    spans: dict[str, dict[str, Span]] = {}
    for name, table in tables.items():
        for trajectory, span in runs(table):
            spans.setdefault(trajectory, {})[name] = span
    for trajectory in sorted(chosen):
        yield trajectory, spans[trajectory]
