"""Lists that grow from body to body, as one tree: what bodies share is one chain of links.

A link is one part of a list behind others. Any earlier link of a chain is found in as many steps
as the chain's length has digits in base two: each link also knows one far above it.
"""

from __future__ import annotations


class Link:
    """A part behind others; the root (depth 0) has none. `literal` is the text before the part."""

    __slots__ = ("before", "depth", "far", "literal", "part")

    def __init__(self, before: Link | None = None, literal: str = "", part: str = "") -> None:
        self.before, self.literal, self.part = before, literal, part
        self.depth = 0
        self.far = self
        if before is not None:
            far = before.far
            alike = before.depth - far.depth == far.depth - far.far.depth
            self.depth = before.depth + 1
            self.far = far.far if alike else before

    def at(self, depth: int) -> Link:
        """The link of this chain that stands at a depth; this one where it is no deeper."""
        link = self
        while link.depth > depth and link.before is not None:
            link = link.far if link.far.depth >= depth else link.before
        return link

    def is_behind(self, other: Link) -> bool:
        """Whether this is the other one, or stands somewhere behind it."""
        return self.at(other.depth) is other
