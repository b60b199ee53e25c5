"""Ideal cached lengths: how much of each prompt a cache that forgets nothing would hold.

Prompts are sequences of parts (tool definitions, system prompt, messages). All prompts of a
trajectory, each with its answer behind it, are kept as one tree of parts; a new prompt is cached
as far as its path exists. A lane remembers the nodes of its last prompt, so that an extended
prompt costs only its new parts.
"""

from __future__ import annotations

from collections.abc import Sequence

Range = tuple[int, int]


class PrefixTree:
    """The prompts of one trajectory, in the order of their turns."""

    def __init__(self) -> None:
        self._children: dict[tuple[int, object], int] = {}
        # By lane: what the nodes depend on, ranges of the last prompt, its nodes; first the node in
        # front of the messages.
        self._last: dict[int, tuple[object, list[Range], list[int]]] = {}

    def add(
        self, lane: int, front: Sequence[object], ranges: list[Range], parts: Sequence[object]
    ) -> tuple[int, int]:
        """Adds a prompt: the parts in front of the messages, then `parts[start:stop]` for each of
        `ranges`. Gives how many front parts and how many messages were there before.

        `parts` are hashable, equal where the engine would see equal text; it must be the same
        object for prompts that treat messages alike.
        """
        known = len(self._children)
        node = 0
        fronts = 0
        for part in front:
            before = len(self._children)
            node = self._step(node, part)
            fronts += len(self._children) == before == known
        key = (id(parts), *front)
        last_key, last_ranges, nodes = self._last.get(lane, (None, [], []))
        if last_key != key:
            last_ranges, nodes = [], [node]
        same = _common(last_ranges, ranges)
        del nodes[same + 1 :]
        node = nodes[-1]
        cached = same
        for number in _numbers(ranges, same):
            before = len(self._children)
            node = self._step(node, parts[number])
            if len(self._children) == before == known:
                cached += 1
            nodes.append(node)
        self._last[lane] = (key, ranges, nodes)
        return fronts, cached

    def answer(self, lane: int, part: object) -> None:
        """Adds the answer to the lane's last prompt."""
        self._step(self._last[lane][2][-1], part)

    def _step(self, node: int, part: object) -> int:
        return self._children.setdefault((node, part), len(self._children) + 1)


def _common(a: list[Range], b: list[Range]) -> int:
    """How many messages two lists of ranges begin with alike."""
    length = 0
    for (start, stop), (other, end) in zip(a, b, strict=False):
        if start != other:
            break
        length += min(stop, end) - start
        if stop != end:
            break
    return length


def _numbers(ranges: list[Range], skip: int) -> list[int]:
    found: list[int] = []
    for start, stop in ranges:
        length = stop - start
        if skip >= length:
            skip -= length
            continue
        found.extend(range(start + skip, stop))
        skip = 0
    return found
