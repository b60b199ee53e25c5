"""Prompts as cache blocks: which blocks two requests of a trajectory share.

A prompt is laid out as a row of parts, each a run of tokens with a place: the part that the record
lacks, tool definitions, system prompt, messages. Where a part ends is fixed when it first appears
behind the same parts (`_Node`); a later prompt that begins with the same parts has them in the same
places. What is new fills the prompt to its length, shared out by the parts' own token counts, so a
prompt ends where the provider's figure says although the dataset counts with another tokenizer.

A block's id stands for all tokens up to its end (parts, and where in them). So two prompts whose
common parts are N tokens long have floor(N / block) equal ids in front, and no other. Ids are
numbered from 1 by first appearance in the trajectory, or, where they are to mean the same in all
trajectories of an export, are 63-bit hashes of what they stand for.

A prompt that is shorter than the parts it repeats (a provider that stopped sending earlier
reasoning) keeps as much of the front as leaves room for its new parts.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

Part = tuple[str, int]  # what it is, and its tokens by the dataset's own count
Segment = tuple[int | str, int, int]  # part, first token of it, number of tokens


@dataclass(slots=True)
class _Node:
    """A part in its place behind other parts."""

    name: int | str
    start: int
    stop: int
    following: dict[str, _Node] = field(default_factory=dict)


@dataclass(slots=True)
class Layout:
    """A prompt as it stands, to be extended by the next one of its context."""

    node: _Node
    length: int = 0
    nodes: list[_Node] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)  # ids of the whole blocks
    rest: list[Segment] = field(default_factory=list)  # of the block that is not whole yet


class Blocks:
    """The blocks of one trajectory, `block` tokens each. With a name of its `own` for the play, ids
    mean the same in all trajectories."""

    def __init__(self, block: int, own: str | None = None) -> None:
        self._block = block
        self._own = own
        self._root = _Node(0, 0, 0)
        self._nodes = 0
        self._ids: dict[tuple[int, tuple[Segment, ...]], int] = {}
        self._last = 0

    def empty(self) -> Layout:
        return Layout(self._root)

    def extend(
        self, layout: Layout, parts: Sequence[Part], length: int, front: int = 0
    ) -> list[int]:
        """Lays parts behind what is there, to a prompt of `length` tokens; gives its block ids.

        `front`: tokens of the prompt's first part that are neither stretched nor taken away.
        """
        known = 0
        while known < len(parts) and (node := layout.node.following.get(parts[known][0])):
            self._put(layout, node)
            known += 1
        self._put_new(layout, parts[known:], length, front)
        return self._whole(layout, length)

    def _put_new(self, layout: Layout, parts: Sequence[Part], length: int, front: int) -> None:
        front = min(front, length)
        if front and parts and not layout.length:
            self._add(layout, parts[0][0], 0, front)
            parts = parts[1:]
        counted = sum(tokens for _, tokens in parts)
        start = layout.length if length > layout.length else max(front, length - counted)
        room, done = max(0, length - start), 0
        for number, (what, tokens) in enumerate(parts, 1):
            before = start
            done += tokens
            share = done / counted if counted else number / len(parts)
            stop = length - room + round(room * share)
            start = max(before, stop)
            self._add(layout, what, before, start)

    def _add(self, layout: Layout, what: str, start: int, stop: int) -> None:
        """A part in a place of its own."""
        self._nodes += 1
        name = self._nodes if self._own is None else what
        node = layout.node.following[what] = _Node(name, start, stop)
        self._put(layout, node)

    def _put(self, layout: Layout, node: _Node) -> None:
        if node.start < layout.length:
            self._cut(layout, node.start)
        layout.node = node
        layout.nodes.append(node)
        self._fill(layout, node, node.start, node.stop)

    def _fill(self, layout: Layout, node: _Node, start: int, stop: int) -> None:
        """Adds the node's tokens from place `start` to `stop`, and closes the blocks they fill."""
        while start < stop:
            end = min(stop, (start // self._block + 1) * self._block)
            layout.rest.append((node.name, start - node.start, end - start))
            if end % self._block == 0:
                before = layout.blocks[-1] if layout.blocks else 0
                layout.blocks.append(self._id(before, layout.rest))
                layout.rest.clear()
            start = end
        layout.length = stop

    def _cut(self, layout: Layout, length: int) -> None:
        """Takes tokens off the end."""
        nodes = layout.nodes
        while nodes and nodes[-1].start >= length:
            nodes.pop()
        del layout.blocks[length // self._block :]
        layout.rest.clear()
        # The block that the cut goes through is filled anew, from the parts that lie in it.
        start, stop = length - length % self._block, length
        inside: list[tuple[_Node, int, int]] = []
        for node in reversed(nodes):
            if stop <= start:
                break
            inside.append((node, max(start, node.start), min(stop, node.stop)))
            stop = min(stop, node.start)  # an earlier cut may have gone through the node before
        for node, first, last in reversed(inside):
            self._fill(layout, node, first, last)
        layout.length = length

    def _id(self, before: int, segments: list[Segment]) -> int:
        key = (before, tuple(segments))
        found = self._ids.get(key)
        if found is None:
            found = self._ids[key] = self._new() if self._own is None else _hash(repr(key))
        return found

    def _new(self) -> int:
        """An id that nothing else has."""
        self._last += 1
        return self._last if self._own is None else _hash(f"{self._own} {self._last}")

    def _whole(self, layout: Layout, length: int) -> list[int]:
        """The ids of the prompt's whole blocks. Where a repeated prompt was reported longer than
        its parts, what fills it up is like nothing else.
        """
        whole = length // self._block
        missing = max(0, whole - len(layout.blocks))
        return layout.blocks[:whole] + [self._new() for _ in range(missing)]


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> 1
