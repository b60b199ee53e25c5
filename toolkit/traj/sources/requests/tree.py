"""All prompts of a log as one tree of messages, so that what prompts share is found at once."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


class Tree:
    """All prompts. A node is a message behind other messages, and knows where its text stands."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, Hashable], int] = {}
        self._roots: dict[str | None, int] = {}
        self._parents: list[int] = []
        self.places: list[tuple[int, int]] = []  # chain, number of the message in it

    def root(self, thread: str | None) -> int:
        if thread not in self._roots:
            self._roots[thread] = -1 - len(self._roots)
        return self._roots[thread]

    def walk(self, node: int, keys: Sequence[Hashable]) -> list[int]:
        """The nodes of as many messages as are known behind a node."""
        found: list[int] = []
        for key in keys:
            child = self._children.get((node, key))
            if child is None:
                break
            found.append(child)
            node = child
        return found

    def grow(self, node: int, key: Hashable, place: tuple[int, int]) -> int:
        """The node of a message behind another, made where it is new."""
        found = self._children.setdefault((node, key), len(self.places))
        if found == len(self.places):
            self.places.append(place)
            self._parents.append(node)
        return found

    def path(self, node: int) -> list[int]:
        """The nodes from the beginning to this one."""
        found: list[int] = []
        while node >= 0:
            found.append(node)
            node = self._parents[node]
        return found[::-1]
