"""All prompts of a log as one tree of messages, so that what prompts share is found at once."""

from __future__ import annotations

from collections.abc import Hashable, Iterable


class Tree:
    """All prompts. A node is a message behind other messages, and knows where its text stands;
    below zero are the roots, where nothing was said yet."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Hashable], int] = {}
        self._roots: dict[str | None, int] = {}
        self._parents: list[int] = []
        self._depths: list[int] = []
        self._firsts: list[int] = []  # where a node's unbroken run of places begins
        self.places: list[tuple[int, int]] = []  # chain, number of the message in it

    def root(self, thread: str | None) -> int:
        if thread not in self._roots:
            self._roots[thread] = -1 - len(self._roots)
        return self._roots[thread]

    def child(self, node: int, key: Hashable) -> int | None:
        """The node of a message behind another, where it is known."""
        return self._children.get((node, key))

    def walk(self, node: int, keys: Iterable[Hashable]) -> tuple[int, int]:
        """The last node of as many messages as are known behind a node, and their number."""
        count = 0
        for key in keys:
            child = self._children.get((node, key))
            if child is None:
                break
            node = child
            count += 1
        return node, count

    def grow(self, node: int, key: Hashable, place: tuple[int, int]) -> int:
        """The node of a message behind another, made where it is new."""
        found = self._children.setdefault((node, key), len(self.places))
        if found == len(self.places):
            chain, number = place
            goes_on = node >= 0 and self.places[node] == (chain, number - 1)
            self.places.append(place)
            self._parents.append(node)
            self._depths.append(self.depth(node) + 1)
            self._firsts.append(self._firsts[node] if goes_on else found)
        return found

    def parent(self, node: int) -> int:
        """The node before; a root is its own."""
        return self._parents[node] if node >= 0 else node

    def depth(self, node: int) -> int:
        """How many messages there are from the beginning to this one."""
        return self._depths[node] if node >= 0 else 0

    def ranges(self, node: int) -> tuple[tuple[int, int, int], ...]:
        """Where the messages up to a node stand: chains, first numbers, and ends."""
        found: list[tuple[int, int, int]] = []
        while node >= 0:
            first = self._firsts[node]
            chain, number = self.places[first]
            found.append((chain, number, self.places[node][1] + 1))
            node = self._parents[first]
        return tuple(found[::-1])
