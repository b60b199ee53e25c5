"""What load a dataset is: counts and percentiles of its turns, for the manifest.

With Arrow's compute functions and not polars: `traj record` then never loads it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from traj.dataset import Dataset
from traj.dataset.files import UNSPLIT
from traj.schema import TABLES

if TYPE_CHECKING:
    import pyarrow as pa

PERCENTILES = (5, 25, 50, 75, 95, 99)
_LENGTHS = ("input_tokens", "cached_tokens", "output_tokens")
LOAD = ["trajectory_id", "delay_us", *_LENGTHS, *(f"counted_{name}" for name in _LENGTHS)]
CAPS = {"32K": 32_768, "64K": 65_536, "128K": 131_072, "200K": 200_000, "1M": 1_000_000}


def by_split(dataset: Dataset) -> dict[str, dict[str, Any]]:
    """The fingerprint of each split that the dataset's files name, beside what else the manifest
    says of the split."""
    splits = sorted({file.split for file in dataset.manifest.files}) or [UNSPLIT]
    known = dataset.manifest.splits
    return {split: known.get(split, {}) | fingerprint(dataset, split) for split in splits}


def fingerprint(dataset: Dataset, split: str) -> dict[str, Any]:
    """Counts, percentiles and ideal hit rates of one split.

    Lengths are the provider's where known, else counted. The ideal hit rate under a context cap is
    the share of counted input tokens that an ideal cache holds, over turns of at most that input.
    """
    rows = {name: sum(f.rows for f in dataset.files(name, split)) for name in TABLES}
    return {"rows": rows, "fingerprint": load(dataset.table("turns", LOAD, split))}


def load(turns: pa.Table) -> dict[str, Any]:
    """The fingerprint of turns, given as the columns of LOAD."""
    import pyarrow.compute as pc

    inputs = pc.coalesce(turns["input_tokens"], turns["counted_input_tokens"])
    outputs = pc.coalesce(turns["output_tokens"], turns["counted_output_tokens"])
    return {
        "input_tokens": _spread(inputs),
        "cached_tokens": _spread(turns["cached_tokens"]),
        "output_tokens": _spread(outputs),
        "turns": _spread(pc.value_counts(turns["trajectory_id"]).field("counts")),
        "delay_us": _spread(turns["delay_us"]),
        "ideal_hit_rate": {
            label: _hit_rate(turns.filter(pc.less_equal(inputs, cap)))
            for label, cap in CAPS.items()
        },
    }


def _spread(values: pa.ChunkedArray | pa.Array) -> dict[str, float | int]:
    """Percentiles (nearest rank, so each is a value that occurs), mean and maximum."""
    import pyarrow.compute as pc

    known = values.drop_null()
    if not len(known):
        return {"known": 0}
    ranks = pc.quantile(known, [p / 100 for p in PERCENTILES], interpolation="nearest").to_pylist()
    return {
        "known": len(known),
        **{f"p{p}": rank for p, rank in zip(PERCENTILES, ranks, strict=True)},
        "mean": round(pc.mean(known).as_py(), 1),
        "max": pc.max(known).as_py(),
    }


def _hit_rate(turns: pa.Table) -> float | None:
    import pyarrow.compute as pc

    whole = pc.sum(turns["counted_input_tokens"]).as_py()
    cached = pc.sum(turns["counted_cached_tokens"]).as_py()
    return round(cached / whole, 4) if whole else None
