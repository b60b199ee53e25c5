"""Reads the tokens a `traj` dataset holds straight off its Parquet files."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

_COLUMNS = {
    "prompt_tokens": "input_tokens",
    "cache_read_tokens": "cached_tokens",
    "cache_write_tokens": "cache_write_tokens",
    "output_tokens": "output_tokens",
}


def traj_tokens(dataset: Path) -> dict[str, int | None]:
    """Totals over the `turns` table; a turn without usage is no call the count knows of."""
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    total: dict[str, int | None] = dict.fromkeys(["calls", *_COLUMNS], 0)
    for path in _turns(dataset):
        turns: Any = pq.read_table(path, columns=list(_COLUMNS.values()))
        counted = len(turns) - turns["output_tokens"].null_count
        total["calls"] = (total["calls"] or 0) + counted
        for name, column in _COLUMNS.items():
            total[name] = (total[name] or 0) + (pc.sum(turns[column]).as_py() or 0)
    return total


def turns_held(dataset: Path) -> int:
    """Rows of the `turns` table."""
    import pyarrow.parquet as pq

    return sum(pq.read_metadata(path).num_rows for path in _turns(dataset))


def _turns(dataset: Path) -> list[Path]:
    return sorted(path for path in dataset.rglob("*.parquet") if path.parent.name == "turns")


def traj_version(command: list[str]) -> str:
    """What `traj --version` says, or nothing where there is no such option yet."""
    told = subprocess.run(
        [*command, "--version"],
        capture_output=True,
        text=True,
        check=False,
    )
    words = told.stdout.split()
    return words[-1] if told.returncode == 0 and words else ""
