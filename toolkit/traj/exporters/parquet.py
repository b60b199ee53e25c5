"""A traj dataset of its own: one split, or a sample, with the rows as they are.

The folder is opened, validated and exported like any other. Split by split the rows, the canary and
the facts of the manifest go along; the commitment to a private split does where that split is here
whole, or not at all. With --text-free `messages` and `prompts` stay behind: names, repositories and
ids remain, so this is no view that cannot be traced (`traj.release.text_free` makes that).
"""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from typing import TYPE_CHECKING

from traj import schema
from traj.dataset import TRAJECTORY_TABLES, Dataset, Manifest, Span
from traj.dataset.files import UNSPLIT
from traj.dataset.fingerprint import by_split
from traj.dataset.write import (
    commit,
    in_order,
    prompts_of,
    shards_for,
    write_prompts,
    write_shards,
)
from traj.errors import DatasetError
from traj.exporters import archive
from traj.exporters.tally import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from traj.workload.load import Phase
    from traj.workload.options import LoadOptions
    from traj.workload.play import Play

NAME = "parquet"
SUMMARY = "a traj dataset of one split or a sample, with or without text; an archive"
HARNESS = f"traj, schema {schema.VERSION}"
PROOF = "loaded"
TEXT = False  # the rows' own text, without prefixes and fills
WHOLE_ROWS = True
TAKES = (*archive.TAKES, "text_free")
CARRIES = ("text", "delays", "tools", "sub_agents", "output_length")
DROPS = {
    "commitment": "it is to the whole private split, which is here in part or without text",
    "text": "messages, system prompts and tool definitions, left out by --text-free",
}
_TEXT = ("messages", "prompts")


def command(_tally: Tally, _options: LoadOptions) -> str:
    """An archive is not replayed."""
    return ""


def write(phase: Phase, out: Path) -> Tally:
    """Writes dataset.json and data/."""
    tally = Tally()
    source, options = phase.load.dataset, phase.options
    tables = [name for name in TRAJECTORY_TABLES if not (options.text_free and name in _TEXT)]
    count = options.sample or len(source.table("trajectories", ["trajectory_id"], options.split))
    shards = shards_for(count)
    known = {} if options.text_free else prompts_of(source)
    files = []
    for split, plays in groupby(phase, _split):
        used: set[str] = set()
        files += write_shards(out, shards, split, _rows(plays, tables, used, tally))
        files = [file for file in files if file.table in tables]
        if not options.text_free:
            missing = sorted(used - known.keys())
            if missing:
                raise DatasetError(
                    f"{source.path}: prompt {missing[0]} is missing; run traj validate"
                )
            files.append(write_prompts(out, split, {name: known[name] for name in used}))
    written = replace(
        source.manifest, schema_version=schema.VERSION, files=in_order(files), shards=shards
    )
    commit(out, _described(source, written, out, tally))
    return tally


def _split(play: Play) -> str:
    return play.rows.trajectories.column("split")[0].as_py() or UNSPLIT


def _rows(
    plays: Iterable[Play], tables: Iterable[str], used: set[str], tally: Tally
) -> Iterator[tuple[str, dict[str, Span]]]:
    """Whole trajectories; the prompts that they use are noted on the way."""
    for play in plays:
        for name in ("system_id", "tools_id"):
            used.update(one for one in play.turns[name] if one is not None)
        archive.count(tally, play)
        tally.sessions += 1
        rows = play.rows.tables
        if "messages" in tables:
            tally.messages += rows["messages"].num_rows
        else:
            tally.lose("text", rows["messages"].num_rows)
        yield play.trajectory_id, {name: Span(rows[name], 0, len(rows[name])) for name in tables}


def _described(source: Dataset, written: Manifest, out: Path, tally: Tally) -> Manifest:
    """The manifest with the facts of the splits that are here."""
    here = {file.split for file in written.files}
    known = {
        split: {name: value for name, value in facts.items() if name != "recipients"}
        for split, facts in source.manifest.splits.items()
        if split in here
    }
    canaries = [facts["canary"] for facts in known.values() if facts.get("canary")]
    canary = canaries[0] if canaries else source.manifest.canary
    kept = "private" not in here or _rows_of(source.manifest) == _rows_of(written)
    tally.lose("commitment", bool(source.manifest.commitment) and not kept)
    commitment = source.manifest.commitment if kept else {}
    bare = replace(written, splits=known, canary=canary, commitment=commitment)
    return replace(bare, splits=by_split(Dataset(out, bare)))


def _rows_of(manifest: Manifest) -> dict[str, int]:
    """Rows of the private split, by table."""
    return {
        table: sum(x.rows for x in manifest.files if (x.table, x.split) == (table, "private"))
        for table in schema.TABLES
    }
