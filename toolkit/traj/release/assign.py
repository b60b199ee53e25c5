"""Which families are private: a keyed coin for each, leaning to the side that keeps the balance.

A family's coin is a number between 0 and 1 that only the key's holder can compute, and it is
private where its coin is below a threshold. The threshold is not the share alone: it is raised
where the private split lacks the family's languages, use cases and lengths, and lowered where it
has enough of them (the biased coin and the minimisation of clinical trials, which have to divide
people who come one after another in just this way). What was assigned before is never moved and
counts in the balance.

The price: an assignment depends on what was there when a family came, so it cannot be worked out
again from the secret alone. It is noted behind the secret in the key's file, and stands in the
datasets. With a threshold of the share and nothing else (LEAN = 0) it could be, but the private
share of a language would be left to chance: tests/test_assign.py holds the two against each other.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from traj.errors import UsageError

PUBLIC, PRIVATE = "public", "private"
LEAN = 0.8
Level = tuple[str, str]  # a property and its value: language, Rust


@dataclass(frozen=True, slots=True)
class Candidate:
    """A family as the draw sees it."""

    name: str
    split: str | None  # where it was assigned before
    levels: Mapping[Level, int]  # how many of its trajectories have the property


def assign(
    families: Sequence[Candidate], key: bytes, share: float, lean: float = LEAN
) -> dict[str, str]:
    """The split of every family, by name; `share` of the trajectories are to be private.

    The same families, key and share give the same assignment, in whatever order they are given.
    """
    check_share(share)
    balance = _Balance(share)
    found: dict[str, str] = {}
    for family in families:
        if family.split is not None:
            found[family.name] = family.split
            balance.add(family.levels, family.split)
    new = [family for family in families if family.split is None]
    for family in sorted(new, key=lambda family: _turn(family, key)):
        leaning = lean if balance.wants(family.levels) else 0.0
        threshold = share * (1 - lean) + leaning
        found[family.name] = PRIVATE if _coin(key, "coin", family.name) < threshold else PUBLIC
        balance.add(family.levels, found[family.name])
    return found


def check_share(share: float) -> None:
    """Raises UsageError for a share that leaves one of the splits empty."""
    if not 0 < share < 1:
        raise UsageError(f"the private share must lie between 0 and 1, not {share}")


def length_level(turns: int) -> str:
    """The class of a length in turns: bounds that grow by four, and do not move with the data."""
    low = 0
    high = 8
    while turns >= high:
        low, high = high, high * 4
    return f"{low} to {high - 1}"


class _Balance:
    """How many trajectories of each level lie where."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._excess: dict[Level, float] = {}  # private ones more than their share

    def add(self, levels: Mapping[Level, int], split: str) -> None:
        for level, count in levels.items():
            gain = count * (1 - self._share) if split == PRIVATE else -count * self._share
            self._excess[level] = self._excess.get(level, 0.0) + gain

    def wants(self, levels: Mapping[Level, int]) -> bool:
        """Whether the family's levels come nearer to their shares with it in private."""
        private = self._off(levels, 1 - self._share)
        return private < self._off(levels, -self._share)

    def _off(self, levels: Mapping[Level, int], gain: float) -> float:
        return sum(
            (self._excess.get(level, 0.0) + count * gain) ** 2 for level, count in levels.items()
        )


def _turn(family: Candidate, key: bytes) -> tuple[int, float]:
    """The order of the draw: large families first, which small ones then even out; else keyed."""
    size = max(family.levels.values(), default=0)
    return -size.bit_length(), _coin(key, "order", family.name)


def _coin(key: bytes, purpose: str, name: str) -> float:
    digest = hmac.digest(key, f"{purpose}\0{name}".encode(), "sha256")
    return int.from_bytes(digest[:8]) / 2**64


def levels_of(rows: Iterable[Mapping[str, object]]) -> dict[Level, int]:
    """The levels of a family's trajectories, given as rows of language, use_case and turns. What
    is not known is a level of its own."""
    levels: dict[Level, int] = {}
    for row in rows:
        turns = row["turns"]
        assert isinstance(turns, int)
        known = (
            ("all", ""),
            ("language", str(row["language"] or "unknown")),
            ("use_case", str(row["use_case"] or "unknown")),
            ("turns", length_level(turns)),
        )
        for level in known:
            levels[level] = levels.get(level, 0) + 1
    return levels
