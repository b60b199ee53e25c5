"""Puts trajectories into the folders and files of their splits.

Shards that hold what they are to hold already are left as they are; the others are written anew
beside them. Nothing is committed here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from traj.dataset import DataFile, Manifest
from traj.dataset.fingerprint import LOAD, load
from traj.dataset.sealed import Seal
from traj.dataset.write import in_order, shard_of, shards_for, write_prompts, write_shards
from traj.release.parts import Parts
from traj.schema import TABLES, VERSION, is_older


@dataclass(frozen=True, slots=True)
class Destination:
    """A folder, which of the parts it is (or will be), and the splits that belong into it."""

    folder: Path
    old: Manifest
    part: int
    splits: tuple[str, ...]
    seal: Seal | None = None
    anew: bool = False  # nothing that is there can stay: it is to be encrypted otherwise


def place(parts: Parts, target: Mapping[str, str], to: Destination) -> Manifest:
    """Writes the destination's files and gives its manifest, with the facts of each split.
    `target` is the split of every trajectory."""
    own = {name: split for name, split in target.items() if split in to.splits}
    shards = shards_for(len(own))
    stale = _stale(parts, target, to, shards)
    kept = [file for file in to.old.files if file.table != "prompts" and not _is_stale(file, stale)]
    files = list(kept)
    with_text = any(one.files("messages") for one in parts.datasets)
    facts: dict[str, Any] = {}
    for split in to.splits:
        ids = {name for name, its in own.items() if its == split}
        if not ids:
            continue
        fresh = {x for x in ids if stale is None or (split, shard_of(x, shards)) in stale}
        rows = parts.rows(fresh, split)
        files += write_shards(to.folder, shards, split, rows, to.seal)
        if with_text:
            files.append(write_prompts(to.folder, split, parts.prompts(ids), to.seal))
        counts = {x: sum(f.rows for f in files if (f.table, f.split) == (x, split)) for x in TABLES}
        facts[split] = {"rows": counts, "fingerprint": load(parts.table("turns", LOAD, ids))}
    files_now = in_order(files)
    return replace(to.old, schema_version=VERSION, shards=shards, files=files_now, splits=facts)


Stale = set[tuple[str, int]] | None  # splits and shards; None: all


def _stale(parts: Parts, target: Mapping[str, str], to: Destination, shards: int) -> Stale:
    """Where something is to come or to go."""
    if to.anew or shards != to.old.shards or is_older(to.old.schema_version):
        return None
    found = {(file.split, file.shard) for file in to.old.files if file.split not in to.splits}
    for name, split in target.items():
        part, now = parts.places[name]
        if split in to.splits and (part, now) != (to.part, split):
            found.add((split, shard_of(name, shards)))
        if part == to.part and now != split:
            found.add((now, shard_of(name, shards)))
    for part, now, name in parts.shadowed:
        if part == to.part:
            found.add((now, shard_of(name, shards)))
    return found


def _is_stale(file: DataFile, stale: Stale) -> bool:
    return stale is None or (file.split, file.shard) in stale
