"""Contexts of logs that are trees: chains of ranges of messages that share their beginnings.

A log that names for each entry the one before it can go back to any of them. A chain costs the same
however long the conversation before it is, so a place in the tree can simply keep one. Two chains
are the same context where they are the same object.
"""

from __future__ import annotations

from typing import NamedTuple

RANGES = 1_000_000  # that a session's Rebases may have in all


class Chain(NamedTuple):
    """Message numbers of a context: the last range, and what stands before it."""

    before: Chain | None
    start: int
    stop: int
    pieces: int = 1  # ranges it has


class Branches:
    """Contexts as Rebases have them. A log in which every line goes back to somewhere else would
    take the square of its length: past RANGES its branches are no longer followed."""

    def __init__(self, lane: int) -> None:
        self._lane = lane
        self._left = RANGES

    def ranges(self, chain: Chain | None) -> tuple[tuple[int, int, int], ...] | None:
        """The ranges of a context; None where there have been too many."""
        self._left -= chain.pieces if chain is not None else 0
        return ranges(chain, self._lane) if self._left >= 0 else None


def joined(chain: Chain | None, number: int) -> Chain:
    """A context with one more message at its end."""
    if chain is not None and chain.stop == number:
        return Chain(chain.before, chain.start, number + 1, chain.pieces)
    return _after(chain, number, number + 1)


def _after(chain: Chain | None, start: int, stop: int) -> Chain:
    return Chain(chain, start, stop, 1 if chain is None else chain.pieces + 1)


def replaced(chain: Chain | None, old: int, new: int | None) -> Chain | None:
    """A context with one message in place of another, or without it."""
    made: Chain | None = None
    for _, start, stop in ranges(chain, 0):
        if not start <= old < stop:
            made = _after(made, start, stop)
            continue
        if start < old:
            made = _after(made, start, old)
        if new is not None:
            made = _after(made, new, new + 1)
        if old + 1 < stop:
            made = _after(made, old + 1, stop)
    return made


def ranges(chain: Chain | None, lane: int) -> tuple[tuple[int, int, int], ...]:
    """A context of a lane as a Rebase has it."""
    found: list[tuple[int, int, int]] = []
    while chain is not None:
        found.append((lane, chain.start, chain.stop))
        chain = chain.before
    return tuple(reversed(found))
