"""The floor: reads every line of every session file and parses it with orjson, and no more.

    python -m benchmarks.floor FOLDER

No program that parses these files in Python can be faster; `record.py` sets `traj` against it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson


def parse_all(folder: Path) -> tuple[int, int]:
    """Lines parsed and lines broken."""
    parsed = broken = 0
    files = sorted(folder.rglob("*.jsonl")) if folder.is_dir() else [folder]
    for path in files:
        with path.open("rb") as lines:
            for line in lines:
                try:
                    orjson.loads(line)
                    parsed += 1
                except orjson.JSONDecodeError:
                    broken += 1
    return parsed, broken


if __name__ == "__main__":
    print(*parse_all(Path(sys.argv[1])))
