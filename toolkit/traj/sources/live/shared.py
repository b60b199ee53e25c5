"""Bodies of a log, without putting together what they share.

A body is `{... "messages":[` (its start), a chain of links, which are the parts of that list, and
what stands behind the last of them (its tail). Bodies with the same beginning have their links in
common, so a conversation costs what is new in each of its requests. What is not of this shape is
kept as the list of its pieces.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import msgspec
from msgspec import Raw, Struct

from traj.sources.lines import UNDECODABLE
from traj.sources.live import wire
from traj.sources.requests.links import Link

_GROWING = ("messages", "input", "contents")
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_NESTED = msgspec.json.Decoder(dict[str, list[Raw]])


class Body(Struct):
    """A request's body. Pieces are text and names of parts in turn, text first."""

    size: int  # pieces in all
    pieces: list[str] | None = None  # all of them, where the body has no such list
    head: tuple[str, ...] = ()  # the pieces before the list's first part
    start: bytes = b""  # what they are up to the list's bracket
    tip: Link = Link()
    tail: tuple[str, ...] = ()

    def first(self, kept: int) -> list[str]:
        """The first pieces, or all but the last ones where `kept` is negative."""
        if self.pieces is not None:
            return self.pieces[:kept]
        if 0 <= kept <= len(self.head):
            return list(self.head[:kept])
        return self.whole()[:kept]

    def whole(self) -> list[str]:
        """All pieces."""
        if self.pieces is not None:
            return self.pieces
        behind: list[str] = [*self.tail[::-1]]
        link = self.tip
        while link.before is not None:
            behind += (link.part, link.literal)
            link = link.before
        behind.pop()  # it is in the head, too
        return [*self.head, *reversed(behind)]


class Bodies:
    """The bodies of a log. `parts` are all of its parts."""

    def __init__(self, parts: Mapping[str, bytes]) -> None:
        self._parts = parts
        self._roots = {name: Link() for name in _GROWING}
        self._links: dict[tuple[Link, str, str], Link] = {}
        self._starts: dict[tuple[str, ...], tuple[str, bytes, str] | None] = {}
        self._sound: dict[str, bool] = {}

    def begun(self, pieces: list[str]) -> Body:
        """A body of these pieces."""
        for place in range(1, len(pieces), 2):
            if any(f'"{name}"' in pieces[place - 1] for name in _GROWING):
                head = tuple(pieces[:place])
                if head not in self._starts:
                    self._starts[head] = self._start(head)
                found = self._starts[head]
                if found is None:
                    continue
                if not self._is_sound(pieces[place]):
                    break
                name, start, literal = found
                tip = self._link(self._roots[name], literal, pieces[place])
                return self._grown(len(pieces), head, start, tip, pieces[place + 1 :])
        return Body(len(pieces), pieces)

    def goes_on(self, before: Body, told: wire.Pieces) -> Body | None:
        """A body that begins as an earlier one; None where that has not so many pieces."""
        if before.size < told.kept:
            return None
        beginning = len(before.head)
        if before.pieces is not None or told.kept <= beginning:
            return self.begun(before.first(told.kept) + told.rest)
        depth = min(before.tip.depth, (told.kept - beginning + 1) // 2)
        tip, more = before.tip.at(depth), told.kept - beginning - 2 * depth + 1
        if depth < before.tip.depth:
            between = [before.tip.at(depth + 1).literal][:more]
        else:
            between = list(before.tail[:more])
        return self._grown(
            told.kept + len(told.rest), before.head, before.start, tip, between + told.rest
        )

    def _grown(
        self, size: int, head: tuple[str, ...], start: bytes, tip: Link, behind: Sequence[str]
    ) -> Body:
        place = 0
        while place + 1 < len(behind):
            literal, part = behind[place : place + 2]
            if literal != "," and small(literal) is None:
                break
            if not self._is_sound(part):
                break
            tip = self._link(tip, literal, part)
            place += 2
        return Body(size, None, head, start, tip, tuple(behind[place:]))

    def _link(self, before: Link, literal: str, part: str) -> Link:
        found = self._links.get((before, literal, part))
        if found is None:
            found = self._links[before, literal, part] = Link(before, literal, part)
        return found

    def _start(self, head: tuple[str, ...]) -> tuple[str, bytes, str] | None:
        """The growing list that a part behind these pieces is in, the text up to its bracket, and
        the text from there; None where it is in none. Two numbers in the part's place tell: it is
        where they are seen."""
        text = self.joined(head)
        if text is None:
            return None
        try:
            fields, others = (_OBJECT.decode(text + one + b"]}") for one in (b"0", b"1"))
            name = next((n for n in _GROWING if n in fields and fields[n] != others.get(n)), None)
            value = b"" if name is None else bytes(fields[name])
            if name is None or bytes(_LIST.decode(value)[-1]) != b"0":
                return None
        except UNDECODABLE:
            return None
        at = len(text) + 3 - len(value)  # behind the bracket
        literal = text[at:]
        if text[at - 1 :] + b"0]" != value or len(literal) > len(head[-1].encode()):
            return None
        return name, text[:at], literal.decode()

    def _is_sound(self, part: str) -> bool:
        """Whether a part is one JSON value."""
        if part not in self._sound:
            text = self._parts.get(part)
            try:
                self._sound[part] = text is not None and (
                    len(_NESTED.decode(b'{"":[' + text + b"]}")[""]) == 1
                )
            except (KeyError, *UNDECODABLE):
                self._sound[part] = False
        return self._sound[part]

    def joined(self, pieces: Iterable[str]) -> bytes | None:
        """The bytes of pieces, text first; None where a part is missing."""
        try:
            return b"".join(
                self._parts[piece] if place % 2 else piece.encode()
                for place, piece in enumerate(pieces)
            )
        except (KeyError, UnicodeEncodeError):
            return None

    def items(self, link: Link) -> list[bytes]:
        """The items of the list that a link stands for: its part, and small ones before it."""
        first = link.before is None or link.before.depth == 0
        part = self._parts[link.part]
        return [part] if link.literal == "," else [*(small(link.literal, first) or ()), part]


def small(literal: str, first: bool = False) -> list[bytes] | None:
    """The items in the text between two parts of a list, or before the first one; None where it
    is no such text."""
    try:
        text = literal.encode()
        found = [bytes(one) for one in _LIST.decode((b"[" if first else b"[0") + text + b"0]")]
    except (UnicodeEncodeError, *UNDECODABLE):
        return None
    if found[-1] != b"0" or not (first or (len(found) > 1 and found[0] == b"0")):
        return None
    return found[:-1] if first else found[1:-1]
