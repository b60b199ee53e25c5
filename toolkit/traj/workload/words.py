"""Text of an exact length in tokens that means nothing: prefixes no cache has seen, and filling.

The text is a list of nouns (`words.txt`), drawn by a key: each byte of SHAKE-256 of the key is one
of 256 words, those that cost this tokenizer least. So a key gives the same words everywhere, and
the words of a longer text begin with those of a shorter one. What follows the words, at most
`ENDING_TOKENS`, makes the length exact and keeps the last word apart from what comes after.

Nothing is taken on trust from the tokenizer: word costs are where the search starts, and a text is
given out only when the whole of it, between its neighbours, has been counted. Of the neighbours it
is enough to count what reaches to the next place where this tokenizer always starts a new token;
where there is no such place, or the tokenizer has none, they are counted whole.
"""

from __future__ import annotations

import hashlib
import itertools
import re
import string
from bisect import bisect_right
from collections.abc import Sequence
from importlib import resources

from traj.build.tokens import Tokenizer
from traj.errors import UsageError

ENDING_TOKENS = 16  # texts of one key agree in all but at most this many at the shorter one's end

_FILLED = 12  # of them, so that merges at the words' end stay within
_WORDS = 256  # a byte's worth: 128 bits in 16 words, and every 256th pair of keys shares the first
_TRIES = 24  # counts of the whole text, for one ending
_KEPT = 4096  # edges of neighbours whose counts are remembered
_EDGE = 256  # characters of a neighbour that decide which ending is tried first
# What may stand between the last word and what comes after, in order of preference.
_ENDINGS = ("\n", " ", "", ".\n", "\n\n", ".", ",", ";", ":", " .", ". ", "\n.\n", "...")
_LETTERS = tuple(f" {letter}" for letter in string.ascii_lowercase)
# Places where tokenizers start anew, if they split text into words at all: before the space of a
# space and letter that come after a visible character, and after the end of a line unless white
# space or a slash follows (o200k takes these into the token before). Longer white space will not
# do: GPT-2 splits it according to what follows.
_BEFORE_SPACE = r"(?<=[!-~])(?= [A-Za-z])"
_AFTER_LINE = r"(?<=[!-~]\n)(?=[^\s/])"
_COMMON = ("of", "in", "to", "the", "is", "self", "return", "import", "not", "and", "for", "if")
_VISIBLE = string.ascii_letters + string.digits + string.punctuation
_SPACES = (
    [*_COMMON, *(f"on{sign}" for sign in _VISIBLE)],
    # Beside nothing at all it shows if the space goes with some of the words before it.
    ["", *(f" {word}" for word in _COMMON), *(f" {letter} " for letter in string.ascii_letters)],
)
_LINES = (
    [*(f"{word}\n" for word in _COMMON), *(f"on{sign}\n" for sign in _VISIBLE)],
    ["", *_COMMON, *_VISIBLE.replace("/", ""), "\u0301", "\u4e2d", "\u00e9", "\U0001f642", "\0"],
)
# Tokenizers with a closed vocabulary give these, and all words they do not know, the same token.
_UNKNOWN = ("\ua66e", "qxzjvkqw")


def aligned(tokens: int, block: int) -> int:
    """`tokens` rounded up to a multiple of the engine's block size."""
    if block < 1:
        raise UsageError(f"a block holds 1 token or more, not {block}")
    return -(-tokens // block) * block


class Words:
    """Makes texts for one tokenizer. Costs a few thousand short counts; keep it."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        """Raises UsageError where the tokenizer cannot tell the words apart."""
        self.tokenizer = tokenizer
        self._known: dict[str, int] = {}
        self._ordered: dict[str, list[tuple[str, int]]] = {}
        costs = self._ranked()
        pool = list(costs)
        drawn = min(_WORDS, 1 << (len(pool).bit_length() - 1))
        self._drawn = [pool[byte % drawn] for byte in range(_WORDS)]
        self._costs = [costs[word] for word in self._drawn]
        self._probe = self._drawn[0] + self._drawn[1]
        self._fills = self._filled(costs)
        places = ((_BEFORE_SPACE, _SPACES), (_AFTER_LINE, _LINES))
        cuts = itertools.takewhile(lambda place: self._starts_anew(*place[1]), places)
        pattern = "|".join(place for place, _ in cuts)
        self._cut = re.compile(pattern) if pattern else None

    def text(self, tokens: int, key: bytes, *, before: str = "", after: str = "") -> str:
        """Text of exactly `tokens` tokens that merges with neither neighbour:
        count(before + text + after) == count(before) + tokens + count(after).

        It depends on the tokenizer, `tokens`, `key`, and on how `before` ends and `after` begins.
        Two texts of one key with the same `before` agree in all but the last `ENDING_TOKENS` of
        the shorter one. Raises UsageError where the tokenizer has no such text.
        """
        if tokens < 0:
            raise UsageError(f"a text has 0 tokens or more, not {tokens}")
        if not tokens:
            return ""
        front, back = self._end(before), self._start(after)
        goal = self._length(front) + tokens + self._length(back)
        # Twice what is needed if all is as measured: some tokenizers merge across words.
        draws = hashlib.shake_256(key).digest(2 * tokens + 64)
        sums = self._sums(draws)
        lead = self._lead(front[-_EDGE:])
        for ending, cost in self._endings(back[:_EDGE]):
            offset = lead + cost
            tried: set[tuple[int, str]] = set()
            for _ in range(_TRIES):
                choice = self._choose(sums, tokens - offset, _FILLED - cost, tried)
                if choice is None:
                    break
                tried.add(choice)
                count, fill = choice
                text = "".join(map(self._drawn.__getitem__, draws[:count])) + fill + ending
                beyond = self.tokenizer.count([front + text + back])[0] - goal
                if not beyond:
                    return text
                offset += beyond
        raise UsageError(
            f"{self.tokenizer.name} has no text of {tokens} tokens that merges with neither "
            f"{before[-8:]!r} before nor {after[:8]!r} after it: ask for another length"
        )

    def _ranked(self) -> dict[str, int]:
        """Tokens of each word the tokenizer knows, as it stands among others; the cheapest first.

        Of words that cost the same, those first that cost no more without their space: chat
        templates trim what they are given.
        """
        nouns = (resources.files("traj.workload") / "words.txt").read_text("utf-8").splitlines()
        words = [f" {noun}" for line in nouns if line[0] != "#" for noun in line.split()]
        bare = dict(zip(words, self.tokenizer.count([word[1:] for word in words]), strict=True))
        costs = self._within(words)
        found = sorted((w for w in words if costs[w] > 0), key=lambda w: (costs[w], bare[w]))
        found = [word for word in found if not self._unknown(word, bare[word])]
        if len(found) < 2:
            raise UsageError(
                f"{self.tokenizer.name} does not know the words that prefixes and filling are made "
                "of: choose another tokenizer"
            )
        return {word: costs[word] for word in found}

    def _unknown(self, word: str, tokens: int) -> bool:
        return any(
            self.tokenizer.common(word[1:], other) == tokens and self._length(other) == tokens
            for other in _UNKNOWN
        )

    def _within(self, pieces: Sequence[str]) -> dict[str, int]:
        """Tokens that each piece adds between words."""
        without, *counts = self.tokenizer.count(
            [" river mountain", *(f" river{piece} mountain" for piece in pieces)]
        )
        return {piece: count - without for piece, count in zip(pieces, counts, strict=True)}

    def _filled(self, costs: dict[str, int]) -> list[str | None]:
        """Text by its cost, up to `_FILLED`; None where none has that cost."""
        coins: dict[int, str] = {}
        for word, cost in itertools.chain(costs.items(), self._within(_LETTERS).items()):
            coins.setdefault(cost, word)
        fills: list[str | None] = [""]
        for cost in range(1, _FILLED + 1):
            ways = [
                f"{rest}{coins[last]}"
                for last in sorted(coins, reverse=True)
                if 0 < last <= cost and (rest := fills[cost - last]) is not None
            ]
            fills.append(ways[0] if ways else None)
        return fills

    def _starts_anew(self, lefts: Sequence[str], rights: Sequence[str]) -> bool:
        """Whether a new token always starts between the two sides, by all that one can see: each
        adds the same to a text whatever the other is.
        """
        some = len(_COMMON) // 2
        pairs = [*itertools.product(lefts, rights[:some]), *itertools.product(lefts[:some], rights)]
        counts = self.tokenizer.count([left + right for left, right in pairs])
        found = dict(zip(pairs, counts, strict=True))
        first, second = lefts[0], rights[0]
        return all(
            count + found[first, second] == found[left, second] + found[first, right]
            for (left, right), count in found.items()
        )

    def _start(self, text: str) -> str:
        """The text up to the first place where the tokenizer starts anew."""
        match = self._cut.search(text) if self._cut else None
        return text[: match.start()] if match else text

    def _end(self, text: str) -> str:
        """The text from about the last place where the tokenizer starts anew."""
        size = _EDGE
        while self._cut:
            start = max(0, len(text) - size)
            places = [match.start() for match in self._cut.finditer(text, start)]
            if places or not start:
                return text[places[-1] :] if places else text
            size *= 8
        return text

    def _length(self, text: str) -> int:
        found = self._known.get(text)
        if found is None:
            (found,) = self.tokenizer.count([text])
            if len(text) <= _EDGE:
                if len(self._known) >= _KEPT:
                    self._known.clear()
                self._known[text] = found
        return found

    def _lead(self, front: str) -> int:
        """Tokens that the words cost after `front` beyond what they cost among words."""
        first = self._costs[0] + self._costs[1]
        return self._length(front + self._probe) - self._length(front) - first

    def _endings(self, back: str) -> list[tuple[str, int]]:
        """Endings by preference, with the tokens that each costs before `back`."""
        found = self._ordered.get(back)
        if found is None:
            alone, after = self._length(self._probe), self._length(back)
            ended = [self._probe + ending for ending in _ENDINGS]
            counts = self.tokenizer.count([*ended, *(text + back for text in ended)])
            apart, joined = counts[: len(ended)], counts[len(ended) :]
            found = [
                (ending, count - alone - after)
                for ending, count in zip(_ENDINGS, joined, strict=True)
            ]
            best = next(
                (
                    at
                    for at, (ending, cost) in enumerate(found)
                    if (joined[at] == apart[at] + after and self._keeps(ended[at], back))
                    # Many tokenizers count a text as if a space stood before its first word.
                    or (ending == " " and not cost and not back[:1].isspace())
                ),
                0,
            )
            found.insert(0, found.pop(best if back else _ENDINGS.index("")))
            if len(self._ordered) >= _KEPT:
                self._ordered.clear()
            self._ordered[back] = found
        return found

    def _keeps(self, text: str, back: str) -> bool:
        """Whether the text's tokens are the same with `back` after it: counts alone may hide a
        token lost on one side and won on the other."""
        return self.tokenizer.common(text, text + back) == self.tokenizer.common(text, text)

    def _sums(self, draws: bytes) -> Sequence[int]:
        """Tokens of the first 0, 1, 2, ... words."""
        cost = self._costs[0]
        if self._costs[-1] == cost:
            return range(0, cost * (len(draws) + 1), cost)
        costs = map(self._costs.__getitem__, draws)
        return list(itertools.accumulate(costs, initial=0))

    def _choose(
        self, sums: Sequence[int], budget: int, most: int, tried: set[tuple[int, str]]
    ) -> tuple[int, str] | None:
        """How many words, and what filling after them, make up the budget."""
        for count in range(bisect_right(sums, budget) - 1, -1, -1):
            gap = budget - sums[count]
            if gap > min(most, _FILLED):
                return None
            fill = self._fills[gap]
            if fill is not None and (count, fill) not in tried:
                return count, fill
        return None
