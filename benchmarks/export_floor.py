"""The floor of an export: reads the dataset's messages and writes each once as JSON, and no more.

    python -m benchmarks.export_floor DATASET OUT

Text that is exported has to be read from Parquet and written as JSON; `export.py` sets
`traj export` against it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import orjson

COLUMNS = ["role", "content", "reasoning", "tool_calls", "tool_call_id"]


def copy_messages(dataset: Path, out: Path) -> int:
    """Bytes written."""
    import pyarrow.parquet as pq

    written = 0
    files = orjson.loads((dataset / "dataset.json").read_bytes())["files"]
    with out.open("wb") as lines:
        for file in files:
            if file["table"] != "messages":
                continue
            with pq.ParquetFile(dataset / file["path"]) as parquet:
                for batch in parquet.iter_batches(columns=COLUMNS):
                    for row in batch.to_pylist():
                        written += lines.write(orjson.dumps(row, option=orjson.OPT_APPEND_NEWLINE))
    return written


if __name__ == "__main__":
    print(copy_messages(Path(sys.argv[1]), Path(sys.argv[2])))
