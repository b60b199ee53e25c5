"""The parts that follow one and the same prompt: how many tokens a new one shares with others.

Of each part only so much text is kept as tells it apart from its siblings; the rest is read again
where a new sibling goes on alike. A part is one row: its texts, each followed by a mark.

Tokenizers here tell how many tokens two texts have in common, not which. So the place where two
texts part is found by their characters, and the tokenizer asked about the words around it alone:
from a space that follows something else (or a line's first letter) to the next such place. That
tokens end there is checked by counting, and where they do not, all of the text is compared. A run
of more than 1,024 characters without such a place is cut: there the result may be a token off.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

from traj.build.tokens import Tokenizer
from traj.workload.prefix_trie import Branch, Moment, Path, descend

# Halves of surrogate pairs: no text that a tokenizer takes can hold them.
_NEXT, _END = "\ud800", "\udfff"
_CLEAN = re.compile(f"(?<=\\S)(?= )|(?<=\n)(?=\\w)|(?<={_NEXT})|(?=[{_NEXT}{_END}])")

KEPT = 48  # characters kept of a part from where it differs; more where a word is longer
_FOLDED = 256  # what siblings have in common is kept as a hash where it is longer than this
_WORD = 1024
_COMPARED = 32  # words compared at most: of many that begin like the new one, one must be enough


def joined(texts: Sequence[str]) -> str:
    """The row of a part."""
    return "".join([*(text + _NEXT for text in texts), _END])


def head(texts: Sequence[str]) -> str:
    """The beginning of the row, without making all of it."""
    return joined([text[:KEPT] for text in texts])[:KEPT]


class SiblingTexts:
    """Parts behind one prompt. `row` gives the whole row of a part by its number, read again."""

    def __init__(self, tokenizer: Tokenizer, now: Moment, row: Callable[[int], str]) -> None:
        self._tokenizer = tokenizer
        self._now = now
        self._row = row
        self._root: Branch[str] = Branch("")

    def start(self, number: int, head: str, first: int, last: int, before: int) -> None:
        """Puts the part that was alone until now, by its head and the plays that had it."""
        self._root.put(head[0], Branch(head, number, first, last, before))
        self._root.first, self._root.last, self._root.before = first, last, before

    def add(self, number: int, row: str, scopes: Sequence[int]) -> list[int]:
        """Adds a part, or adds it again in another play; gives the most tokens that it shares with
        one of its siblings, by scope asked for.
        """
        path = self._descend(number, row)
        shared = [self._shared(scope, path, row) for scope in scopes]
        self._insert(path, row, number)
        return shared

    def _descend(self, number: int, row: str) -> Path[str]:
        path = descend(self._root, row)
        branch, at = path[-1]
        if branch.leaf == number:
            path[-1] = branch, len(row)
            return path
        start = path[-2][1] if len(path) > 1 else 0
        if _cut_short(branch, at - start):
            stop = start + branch.folded[0] if branch.folded else None
            branch.edge = self._row(_leaf_below(branch))[start:stop]
            branch.folded = None
            return descend(self._root, row)
        return path

    def _insert(self, path: Path[str], row: str, number: int) -> None:
        branch, at = path[-1]
        if branch.leaf != number:
            inside = at - path[-2][1] if len(path) > 1 else 0
            if inside < branch.length():
                _fold(branch.split(inside))
                _fold(branch)
            leaf = Branch(row[at:], number)
            _fold(leaf)
            branch.put(row[at], leaf)
            path.append((leaf, len(row)))
        for branch, _ in path:
            branch.touch(self._now.play)

    def _shared(self, scope: int, path: Path[str], row: str) -> int:
        """Tokens that a row shares with one that the scope had."""
        path = [(branch, at) for branch, at in path if branch.seen(scope, self._now)]
        if not path or not (at := path[-1][1]):
            return 0
        start, stop = _word(row, at)
        *whole, text = row[:start].split(_NEXT)
        floor = start - len(text)
        counts = self._tokenizer.count([*whole, text, row[start:stop], row[floor:stop]])
        before = sum(counts[:-2])
        if counts[-3] + counts[-2] != counts[-1]:
            start, before = floor, sum(counts[:-3])
        word, best = row[start:stop], 0
        for number, (same, other) in enumerate(self._words(scope, path, row, start)):
            if number and (
                number == _COMPARED or len(word) > _WORD or not self._reaches(word, same, best + 1)
            ):
                break
            best = max(best, self._tokenizer.common(word, other))
        return before + best

    def _reaches(self, word: str, length: int, tokens: int) -> bool:
        """Whether so many tokens of a word lie in its first characters."""
        if self._tokenizer.count([word])[0] < tokens + (length < len(word)):
            return False
        for cut in range(length, 0, -1):
            common = self._tokenizer.common(word, word[:cut])
            if common >= tokens:
                return True
            if common == self._tokenizer.count([word[:cut]])[0]:
                return False  # a token of the word ends here, so there is none in between
        return False

    def _words(
        self, scope: int, path: Path[str], row: str, start: int
    ) -> Iterator[tuple[int, str]]:
        """The words that siblings have from `start` on, and how many characters of each the row
        has too; those with most first.
        """
        for index in range(len(path) - 1, -1, -1):
            branch, at = path[index]
            if at <= start:
                return
            inside = at - path[index - 1][1]
            below = path[index + 1][0] if index + 1 < len(path) else None
            stem = row[start:at]
            if inside < branch.length():
                words = self._below(scope, branch, inside, stem)
            else:
                words = self._children(scope, branch, stem, below)
            for word in words:
                yield at - start, word

    def _below(self, scope: int, branch: Branch[str], inside: int, stem: str) -> Iterator[str]:
        text = stem + branch.edge[inside : inside + _WORD]
        end = _CLEAN.search(text, len(stem))
        if end or not branch.children or len(text) >= len(stem) + _WORD:
            yield text[: end.start()] if end else text
        else:
            yield from self._children(scope, branch, text)

    def _children(
        self, scope: int, branch: Branch[str], stem: str, without: Branch[str] | None = None
    ) -> Iterator[str]:
        for child in (branch.children or {}).values():
            if child is not without and child.seen(scope, self._now):
                yield from self._below(scope, child, 0, stem)


def _cut_short(branch: Branch[str], inside: int) -> bool:
    """Whether more must be known of a branch that a row leaves there."""
    if branch.folded:
        return inside < branch.folded[0]
    if branch.leaf < 0:
        return False
    return inside == len(branch.edge) or not _CLEAN.search(branch.edge, inside)


def _leaf_below(branch: Branch[str]) -> int:
    while branch.children:
        branch = next(iter(branch.children.values()))
    return branch.leaf


def _fold(branch: Branch[str]) -> None:
    """Keeps no more of a branch than its beginning, to the end of a word."""
    edge = branch.edge
    if branch.leaf < 0 and len(edge) > _FOLDED:
        branch.folded = len(edge), hash(edge)
    if branch.leaf >= 0 or branch.folded:
        end = _CLEAN.search(edge, 1, _WORD)
        # With the character that shows that the word ends.
        branch.edge = edge[: max(KEPT, end.start() + 1 if end else _WORD)]


def _word(row: str, at: int) -> tuple[int, int]:
    """From where to where the word reaches in which the place lies."""
    start = max(0, at - _WORD)
    for back in (128, _WORD):
        found = [match.start() for match in _CLEAN.finditer(row, max(0, at - back), at)]
        if found:
            start = found[-1]
            break
    end = _CLEAN.search(row, at, at + _WORD)
    return start, end.start() if end else at + _WORD
