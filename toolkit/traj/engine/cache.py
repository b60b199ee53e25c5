"""Which blocks of earlier prompts an engine still holds, and which go first when room is needed.

A block's id stands for all tokens up to the block's end, so two prompts with equal ids at one place
are equal up to there. Blocks that followed each other once are kept as one stretch (`Stretch`), in
a tree: a prompt is found in as many looks as it has stretches, one for each turn of its
conversation, however long it is. Which blocks are held is the same as when each is looked at by
itself:

- what a running sequence uses stays; of the rest goes first what was used least recently, and of
  one sequence's blocks the last one;
- a block is held once: who computed one that is there by then uses that one.

Since a sequence uses all blocks before one that it uses, only the ends of the tree's branches can
be next to go: they wait in a heap by their last use, and what loses its last branch joins them.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import NamedTuple


class Stretch:
    """Blocks in a row, of which those after the first have one predecessor."""

    __slots__ = ("branches", "ids", "length", "locks", "parent", "used")

    def __init__(self, parent: Stretch | None, ids: Sequence[int], length: int) -> None:
        self.parent = parent
        self.ids = ids  # at least `length`: what was dropped from its end is still there
        self.length = length
        self.branches: dict[int, Stretch] = {}  # by their first block
        self.locks = 0  # sequences that end here, and branches that are locked
        self.used = 0  # when a sequence that ends here last left


class Found(NamedTuple):
    """How far a prompt is held: `inside` blocks of the last stretch, `blocks` in all, `idle` of
    which nothing that runs uses."""

    stretch: Stretch
    inside: int
    blocks: int
    idle: int


class PrefixCache:
    """Holds what it is given until it is told to make room; how much may be held is its user's
    business. `blocks` is what is held, `idle` what of it could go."""

    def __init__(self) -> None:
        self.root = Stretch(None, (), 0)
        self.blocks = 0
        self.idle = 0
        self._now = 0
        self._stretches = 0
        self._ends: list[tuple[int, int, Stretch]] = []  # idle, without branches; some outdated
        self._entries = 0

    def find(self, ids: Sequence[int], most: int, after: Found | None = None) -> Found:
        """How much of the first `most` blocks is held, behind `after` (by default the front)."""
        if after is None:
            after = Found(self.root, 0, 0, 0)
        if after.inside < after.stretch.length:
            return after
        stretch, inside, at, idle = after.stretch, after.inside, 0, after.idle
        while at < most and inside == stretch.length:
            branch = stretch.branches.get(ids[at])
            if branch is None:
                break
            stretch, inside = branch, _common(branch, ids, at, most)
            at += inside
            if not stretch.locks:
                idle += inside
        return Found(stretch, inside, after.blocks + at, idle)

    def hold(self, found: Found) -> Stretch:
        """Keeps what was found from going; nothing may have happened since. To be released."""
        stretch = self._until(found.stretch, found.inside)
        self._lock(stretch)
        return stretch

    def add(self, held: Stretch, ids: Sequence[int], start: int, stop: int) -> Stretch:
        """Puts blocks `start` to `stop` of `ids` behind a stretch that is held, unless they are
        there, and holds them instead of it."""
        last, at = held, start
        while at < stop and (branch := last.branches.get(ids[at])):
            same = _common(branch, ids, at, stop)
            last = self._until(branch, same)
            at += same
        fresh = stop - at
        if fresh:
            last.branches[ids[at]] = last = Stretch(last, ids[at:stop], fresh)
            self._stretches += 1
            self.blocks += fresh
            self.idle += fresh
        if last is not held:
            self._lock(last)
            self._unlock(held)
        return last

    def release(self, held: Stretch) -> None:
        """Ends a hold: all that was held has been used now."""
        self._now += 1
        held.used = self._now
        self._unlock(held)

    def evict(self, count: int) -> None:
        """Drops so many idle blocks, the least recently used first."""
        while count:
            used, entry, stretch = heapq.heappop(self._ends)
            if stretch.used != used or stretch.locks or stretch.branches or not stretch.length:
                continue
            dropped = min(count, stretch.length)
            count -= dropped
            self.blocks -= dropped
            self.idle -= dropped
            stretch.length -= dropped
            if stretch.length:
                heapq.heappush(self._ends, (used, entry, stretch))
            else:
                self._remove(stretch)

    def _remove(self, stretch: Stretch) -> None:
        parent = stretch.parent
        assert parent is not None
        del parent.branches[stretch.ids[0]]
        self._stretches -= 1
        # What went was the least recently used of all: its parent is next, however old its own use.
        if parent is not self.root and not parent.locks and not parent.branches:
            self._offer(parent)

    def _offer(self, stretch: Stretch) -> None:
        """Lets a stretch be dropped when its turn comes."""
        self._entries += 1
        heapq.heappush(self._ends, (stretch.used, self._entries, stretch))
        if len(self._ends) > 2 * self._stretches + 1_000:
            fresh = {
                id(last): (used, entry, last)
                for used, entry, last in self._ends
                if last.used == used and last.length and not last.locks and not last.branches
            }
            self._ends = list(fresh.values())
            heapq.heapify(self._ends)

    def _until(self, stretch: Stretch, inside: int) -> Stretch:
        """The stretch that ends after `inside` blocks of this one: made by a cut if need be."""
        if inside == stretch.length:
            return stretch
        front = Stretch(stretch.parent, stretch.ids[:inside], inside)
        assert stretch.parent is not None
        stretch.parent.branches[stretch.ids[0]] = front
        front.branches[stretch.ids[inside]] = stretch
        front.locks = int(stretch.locks > 0)
        stretch.parent = front
        stretch.ids = stretch.ids[inside : stretch.length]
        stretch.length -= inside
        self._stretches += 1
        return front

    def _lock(self, stretch: Stretch) -> None:
        at: Stretch | None = stretch
        while at is not None and at is not self.root:
            at.locks += 1
            if at.locks > 1:
                return
            self.idle -= at.length
            at = at.parent

    def _unlock(self, stretch: Stretch) -> None:
        at: Stretch | None = stretch
        while at is not None and at is not self.root:
            at.locks -= 1
            if at.locks:
                return
            self.idle += at.length
            if not at.branches:
                self._offer(at)
            at = at.parent


def _common(stretch: Stretch, ids: Sequence[int], start: int, stop: int) -> int:
    """How many blocks agree, of which the first one does."""
    most = min(stretch.length, stop - start)
    if stretch.ids[most - 1] == ids[start + most - 1]:
        return most
    least = 1  # agree; `most` do not
    while most - least > 1:
        middle = (least + most) // 2
        if stretch.ids[middle - 1] == ids[start + middle - 1]:
            least = middle
        else:
            most = middle
    return least
