"""Rows that begin alike, as a tree, and who had which beginning before.

A row is a text or an array of numbers; no row may be the beginning of another (rows end with a
mark of their own). A branch is a stretch that rows have in common. It remembers the first play
that had it, the last, and the last one before that: as the prompts of a play come together, and
those of a phase too, this is enough to tell every scope apart.
"""

from __future__ import annotations

from array import array
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

Row = TypeVar("Row", str, "array[int]")

# What a prompt may share: with its own play, with other plays of its phase, with earlier phases.
SCOPES = ("within", "across_trajectories", "across_phases")
WITHIN, TRAJECTORIES, PHASES = range(3)


@dataclass(slots=True)
class Moment:
    """The play that is going on; plays are numbered from 0 through all phases."""

    play: int = -1
    phase_start: int = 0  # first play of the phase

    def begin(self, *, phase: bool) -> None:
        """Begins the next play, and with `phase` the next phase."""
        self.play += 1
        if phase:
            self.phase_start = self.play

    def seen(self, scope: int, first: int, last: int, before: int) -> bool:
        """Whether a scope had what `first` had first, `last` last, and before that `before`;
        plays by number, -1 for none.
        """
        if scope == WITHIN:
            return last == self.play
        if scope == PHASES:
            return first < self.phase_start
        return (before if last == self.play else last) >= self.phase_start


@dataclass(slots=True, eq=False)
class Branch(Generic[Row]):
    """A stretch of rows behind the stretch above it; `leaf` numbers the row that ends here.

    `folded` is the length and the hash of a stretch of which `edge` is no more than the beginning.
    """

    edge: Row
    leaf: int = -1
    first: int = -1
    last: int = -1
    before: int = -1
    children: dict[Any, Branch[Row]] | None = None  # by the first item of their edges
    folded: tuple[int, int] | None = None

    def length(self) -> int:
        return self.folded[0] if self.folded else len(self.edge)

    def agreeing(self, row: Row, at: int) -> int:
        """How much of the stretch a row has from a place on; if not all of one that is folded,
        at least so much.
        """
        if self.folded and hash(row[at : at + self.folded[0]]) == self.folded[1]:
            return self.folded[0]
        low, high = 0, len(self.edge)
        if not self.folded and row[at : at + high] == self.edge:
            return high
        while low < high:
            middle = (low + high + 1) // 2
            if row[at + low : at + middle] == self.edge[low:middle]:
                low = middle
            else:
                high = middle - 1
        return low

    def seen(self, scope: int, now: Moment) -> bool:
        return now.seen(scope, self.first, self.last, self.before)

    def touch(self, play: int) -> None:
        if self.last != play:
            if self.first < 0:
                self.first = play
            self.before, self.last = self.last, play

    def split(self, length: int) -> Branch[Row]:
        """Keeps that much of the edge; gives the new branch that holds the rest."""
        edge, self.edge = self.edge, self.edge[:length]
        stamps = self.first, self.last, self.before
        lower: Branch[Row] = Branch(edge[length:], self.leaf, *stamps, self.children)
        self.leaf, self.children = -1, {edge[length]: lower}
        return lower

    def put(self, item: Any, child: Branch[Row]) -> None:
        if self.children is None:
            self.children = {}
        self.children[item] = child


Path = list[tuple[Branch[Row], int]]  # branches from the root on, and where in the row they end


def descend(root: Branch[Row], row: Row) -> Path[Row]:
    """The branches that a row goes along. The row may leave the last one before its end."""
    path = [(root, 0)]
    branch, at = root, 0
    while at < len(row) and branch.children and (found := branch.children.get(row[at])):
        branch = found
        same = branch.agreeing(row, at)
        at += same
        path.append((branch, at))
        if same < branch.length():
            break
    return path


class BlockTrie:
    """Prompts as ids of blocks, where an id stands for all that comes before it too."""

    _END = -(1 << 63)

    def __init__(self, now: Moment) -> None:
        self._now = now
        self._root: Branch[array[int]] = Branch(array("q"))

    def add(self, blocks: array[int]) -> list[int]:
        """Adds a prompt; gives how many of its blocks were there before, by scope."""
        row = blocks + array("q", [self._END])
        path = descend(self._root, row)
        seen = [
            max((at for branch, at in path if branch.seen(scope, self._now)), default=0)
            for scope in range(len(SCOPES))
        ]
        branch, at = path[-1]
        if at < len(row):
            inside = at - path[-2][1] if len(path) > 1 else 0
            if inside < len(branch.edge):
                branch.split(inside)
            leaf = Branch(row[at:])
            branch.put(row[at], leaf)
            path.append((leaf, len(row)))
        for branch, _ in path:
            branch.touch(self._now.play)
        return [min(found, len(blocks)) for found in seen]
