"""Contexts of logs that are trees: chains of ranges of messages that share their beginnings.

A log that names for each entry the one before it can go back to any of them. A chain costs the same
however long the conversation before it is, so a place in the tree can simply keep one. Two chains
are the same context where they are the same object.
"""

from __future__ import annotations

from typing import NamedTuple


class Chain(NamedTuple):
    """Message numbers of a context: the last range, and what stands before it."""

    before: Chain | None
    start: int
    stop: int


def joined(chain: Chain | None, number: int) -> Chain:
    """A context with one more message at its end."""
    if chain is not None and chain.stop == number:
        return Chain(chain.before, chain.start, number + 1)
    return Chain(chain, number, number + 1)


def replaced(chain: Chain | None, old: int, new: int | None) -> Chain | None:
    """A context with one message in place of another, or without it."""
    made: Chain | None = None
    for _, start, stop in ranges(chain, 0):
        if not start <= old < stop:
            made = Chain(made, start, stop)
            continue
        if start < old:
            made = Chain(made, start, old)
        if new is not None:
            made = Chain(made, new, new + 1)
        if old + 1 < stop:
            made = Chain(made, old + 1, stop)
    return made


def ranges(chain: Chain | None, lane: int) -> tuple[tuple[int, int, int], ...]:
    """A context of a lane as a Rebase has it."""
    found: list[tuple[int, int, int]] = []
    while chain is not None:
        found.append((lane, chain.start, chain.stop))
        chain = chain.before
    return tuple(reversed(found))
