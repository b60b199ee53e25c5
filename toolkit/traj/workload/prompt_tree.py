"""All prompts of an export as one tree of parts, made to be small: no text is kept.

A part in its place is a node: a hash, tokens up to its end, which plays had it, where in the files
it can be read again; some 200 bytes. Parts are equal where their 64-bit hashes are, compared only
with parts that follow the same prompt. A prompt that goes on from an earlier one costs its new
parts, any other a look-up a part.

Where a prompt leaves what a scope had seen before is settled once for a play, at the first node
that the scope has not seen, and handed down to all that follows it.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from traj.build.tokens import Tokenizer
from traj.workload.prefix_trie import PHASES, TRAJECTORIES, WITHIN, Moment
from traj.workload.sibling_texts import SiblingTexts, head, joined

ROOT = 0

_REMEMBERED = 200_000  # parts whose tokens are remembered; the first ones, as later phases repeat
_WAITING_CHARACTERS = 1 << 20  # counted together: a call costs as much as 5 KB of text
_WAITING_PROMPTS = 512


class Part(NamedTuple):
    """Texts that are counted each by itself: of a message its content, reasoning, and each call's
    name and arguments. `place` says where it stands, to whoever can read it again.
    """

    texts: tuple[str, ...]
    place: int = -1


class Seen(NamedTuple):
    """A prompt's length and how much of its front was there before, by scope, in tokens."""

    tokens: int
    shared: list[int]


@dataclass(slots=True)
class _Family:
    """The parts that follow one prompt, where there are several."""

    nodes: dict[int, int]  # by hash
    texts: SiblingTexts


_Left = tuple[int, int]  # the last node that a scope had; tokens it had of what follows


class PromptTree:
    """Prompts in the order in which they are sent.

    `read` gives the texts at a place again; without it they are kept.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        now: Moment,
        read: Callable[[int], Sequence[str]] | None = None,
    ) -> None:
        self._tokenizer = tokenizer
        self._now = now
        self._read = read
        # A node an item; node 0 is the empty prompt.
        self._hash = array("q", [0])
        self._tokens = array("i", [0])
        self._place = array("q", [-1])
        self._child = array("i", [0])  # the first one; 0 for none
        self._head = [""]
        self._kept: list[Sequence[str]] = [()]
        self._first, self._last, self._before = (array("i", [-1]) for _ in range(3))
        # By other scopes than WITHIN: the node where the play left what was seen; -1 where not.
        self._left_at = {scope: array("i", [-1]) for scope in (TRAJECTORIES, PHASES)}
        self._left_tokens = {scope: array("i", [0]) for scope in (TRAJECTORIES, PHASES)}
        self._families: dict[int, _Family] = {}
        self._remembered: dict[int, int] = {}
        self._new: list[tuple[int, int, tuple[str, ...]]] = []  # node, parent, texts
        self._characters = 0
        self._waiting: list[tuple[int, list[_Left | None]]] = []

    def begin_play(self) -> None:
        """To be called when the moment has moved on."""
        self._touch(ROOT)

    def add(self, after: int, parts: Sequence[Part]) -> int:
        """Adds a prompt that goes on from a node of this play (or the root); gives its node."""
        play = self._now.play
        node = after
        within: _Left | None = None
        for part in parts:
            key = hash(part.texts)
            child = self._find(node, key)
            if not child or self._last[child] != play:
                child, shared = self._enter(node, child, key, part, within is None)
                within = within or (node, shared)
            node = child
        lefts = [within, self._left(TRAJECTORIES, node), self._left(PHASES, node)]
        self._waiting.append((node, lefts))
        return node

    def settle(self, *, now: bool = False) -> list[Seen]:
        """The prompts added since it last gave some, in order; [] until they are worth counting."""
        many = self._characters >= _WAITING_CHARACTERS or len(self._waiting) >= _WAITING_PROMPTS
        if not (now or many):
            return []
        self._count()
        tokens = self._tokens
        seen = [
            Seen(
                tokens[node],
                [tokens[node] if left is None else tokens[left[0]] + left[1] for left in lefts],
            )
            for node, lefts in self._waiting
        ]
        self._waiting.clear()
        return seen

    def _find(self, node: int, key: int) -> int:
        child = self._child[node]
        if not child or self._hash[child] == key:
            return child
        family = self._families.get(node)
        return family.nodes.get(key, 0) if family else 0

    def _left(self, scope: int, node: int) -> _Left | None:
        at = self._left_at[scope][node]
        return None if at < 0 else (at, self._left_tokens[scope][node])

    def _enter(self, node: int, child: int, key: int, part: Part, within: bool) -> tuple[int, int]:
        """Goes to a part that the play did not have there (child 0: that nobody had); gives its
        node, and with `within` what it shares with others that the play had there.
        """
        leaving = [WITHIN] if within else []
        leaving += [
            scope
            for scope in (TRAJECTORIES, PHASES)
            if self._left_at[scope][node] < 0 and not (child and self._seen(scope, child))
        ]
        alone = not self._child[node] or (child and node not in self._families)
        child = child or self._create(node, key, part)
        shared = [0] * len(leaving) if alone else self._meet(node, child, part.texts, leaving)
        found = dict(zip(leaving, shared, strict=True))
        for scope in (TRAJECTORIES, PHASES):
            self._left_at[scope][child] = node if scope in found else self._left_at[scope][node]
            passed = self._left_tokens[scope][node]
            self._left_tokens[scope][child] = found.get(scope, passed)
        self._touch(child)
        return child, found.get(WITHIN, 0)

    def _meet(self, node: int, child: int, texts: Sequence[str], scopes: list[int]) -> list[int]:
        """What a part shares with those that follow the same prompt, by scope."""
        family = self._families.get(node)
        if family is None:
            first = self._child[node]
            family = _Family({}, SiblingTexts(self._tokenizer, self._now, self._row))
            stamps = self._first[first], self._last[first], self._before[first]
            family.texts.start(first, self._head[first], *stamps)
            self._families[node] = family
        family.nodes[self._hash[child]] = child
        return family.texts.add(child, joined(texts), scopes)

    def _create(self, parent: int, key: int, part: Part) -> int:
        node = len(self._hash)
        self._hash.append(key)
        self._tokens.append(0)
        self._place.append(part.place)
        self._child.append(0)
        self._head.append(head(part.texts))
        if self._read is None:
            self._kept.append(part.texts)
        for plays in (self._first, self._last, self._before):
            plays.append(-1)
        for scope in (TRAJECTORIES, PHASES):
            self._left_at[scope].append(-1)
            self._left_tokens[scope].append(0)
        self._child[parent] = self._child[parent] or node
        self._new.append((node, parent, part.texts))
        self._characters += sum(map(len, part.texts))
        return node

    def _touch(self, node: int) -> None:
        if self._first[node] < 0:
            self._first[node] = self._now.play
        self._before[node], self._last[node] = self._last[node], self._now.play

    def _seen(self, scope: int, node: int) -> bool:
        return self._now.seen(scope, self._first[node], self._last[node], self._before[node])

    def _row(self, node: int) -> str:
        texts = tuple(self._read(self._place[node]) if self._read else self._kept[node])
        if hash(texts) != self._hash[node]:
            raise ValueError(f"place {self._place[node]} holds another part than before")
        return joined(texts)

    def _count(self) -> None:
        """Counts what is new, each distinct part once."""
        fresh: dict[int, int] = {}
        asked: dict[int, tuple[int, int]] = {}
        batch: list[str] = []
        for node, _, texts in self._new:
            key = self._hash[node]
            if key not in self._remembered and key not in asked:
                asked[key] = len(batch), len(batch) + len(texts)
                batch.extend(texts)
        counts = self._tokenizer.count(batch) if batch else []
        for key, (start, stop) in asked.items():
            fresh[key] = sum(counts[start:stop])
        for node, parent, _ in self._new:
            key = self._hash[node]
            tokens = fresh[key] if key in fresh else self._remembered[key]
            self._tokens[node] = self._tokens[parent] + tokens
        room = _REMEMBERED - len(self._remembered)
        self._remembered.update(list(fresh.items())[: max(0, room)])
        self._new.clear()
        self._characters = 0
