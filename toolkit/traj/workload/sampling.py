"""A seeded choice of whole trajectories: as the dataset is in languages, uses and lengths."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import TYPE_CHECKING

from traj.errors import UsageError

if TYPE_CHECKING:
    from traj.dataset import Dataset

_BANDS = 3  # of length: short, middling, long


def choose(dataset: Dataset, count: int, seed: str, split: str | None = None) -> frozenset[str]:
    """Ids of `count` trajectories, each stratum with its share (largest remainders get the rest).

    A stratum is one main language, use case, and third of the dataset by turns. Within a stratum a
    keyed hash decides, so the same seed chooses the same. Raises UsageError where there are fewer.
    """
    columns = ["trajectory_id", "language", "use_case", "totals"]
    rows = dataset.table("trajectories", columns=columns, split=split).to_pylist()
    if count > len(rows):
        raise UsageError(f"a sample of {count} from {len(rows)} trajectories: ask for fewer")
    by_length = sorted(rows, key=lambda row: (row["totals"]["turns"], row["trajectory_id"]))
    strata: defaultdict[tuple[str, str, int], list[str]] = defaultdict(list)
    for place, row in enumerate(by_length):
        band = place * _BANDS // len(rows)
        strata[row["language"] or "", row["use_case"] or "", band].append(row["trajectory_id"])
    shares = {key: count * len(ids) / len(rows) for key, ids in strata.items()}
    quotas = {key: int(share) for key, share in shares.items()}
    left = count - sum(quotas.values())

    def remainder(key: tuple[str, str, int]) -> tuple[float, bytes]:
        return quotas[key] - shares[key], _rank(seed, str(key))

    for key in sorted(shares, key=remainder)[:left]:
        quotas[key] += 1
    return frozenset(
        one
        for key, ids in strata.items()
        for one in sorted(ids, key=lambda name: _rank(seed, name))[: quotas[key]]
    )


def _rank(seed: str, name: str) -> bytes:
    key = hashlib.blake2b(seed.encode()).digest()
    return hashlib.blake2b(name.encode(), key=key, digest_size=8).digest()
