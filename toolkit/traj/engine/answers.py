"""What a simulated engine says: nouns, each one token, so that an answer has the length asked for.

The words are drawn by a key, so that the same prompt gets the same answer. Tokenizers in use split
text before a space and a letter; that each word is a token wherever it stands is nevertheless
counted, and words that are not are left out.
"""

from __future__ import annotations

import hashlib
from importlib import resources

from traj.engine.vocabulary import Encode
from traj.errors import UsageError

_LEAST = 16  # different words


class Answers:
    """Answers under one tokenizer."""

    def __init__(self, encode: Encode, name: str) -> None:
        """Raises UsageError where the tokenizer knows too few of the words."""
        lines = (resources.files("traj.workload") / "words.txt").read_text("utf-8").splitlines()
        nouns = [noun for line in lines if line[0] != "#" for noun in line.split()]
        front = len(encode("river"))
        found = [noun for noun in nouns if len(encode(noun)) == 1]
        found = [n for n in found if front == 1 and len(encode(f"river {n} river")) == 3]
        if len(found) < _LEAST:
            raise UsageError(f"{name} does not know the words that answers are made of")
        size = min(256, len(found))
        self._words = [found[byte % size] for byte in range(256)]
        self._ids = [encode(f"river {word}")[1] for word in self._words]
        self._bare = [encode(word)[0] for word in self._words]

    def draw(self, tokens: int, key: bytes) -> bytes:
        """The words of an answer, as places in the list of them."""
        return hashlib.shake_256(key).digest(tokens)

    def text(self, drawn: bytes, start: int = 0, stop: int | None = None) -> str:
        """The tokens from `start` to `stop`, as they stand in the answer."""
        words = " ".join(self._words[place] for place in drawn[start:stop])
        return f" {words}" if start and words else words

    def ids(self, drawn: bytes) -> list[int]:
        """The tokens of the answer, as the tokenizer gives them for its text."""
        if not drawn:
            return []
        return [self._bare[drawn[0]], *(self._ids[place] for place in drawn[1:])]
