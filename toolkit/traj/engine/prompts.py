"""Prompts that arrive as messages, as an engine's cache sees them: tokens in blocks.

Each message is `<start> role text <end>`, where start, role and end are a token each that no text
has, as in the chat templates of most models; a prompt ends with the start and role of the answer.
What was worked out for a conversation is kept, so that its next prompt costs what it adds.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import NamedTuple

from traj.engine.vocabulary import Encode

MARKS = 3  # tokens of a message beside its text
OPENING = 2  # tokens that open the answer

_START, _END = 0xFFFF_FFF0, 0xFFFF_FFF1
_ROLES = 0xFF00_0000  # and what follows
_KEPT = 200_000  # messages in their places, some 100 MB


class Piece(NamedTuple):
    """A message, or what else stands in a prompt. Without a role it has no marks."""

    role: str | None
    texts: tuple[str, ...]


@dataclass(slots=True)
class _Place:
    """What is known of the prompts that begin like this."""

    tokens: int = 0
    blocks: array[int] = field(default_factory=lambda: array("q"))  # that the last piece added
    last: int = 0
    rest: array[int] = field(default_factory=lambda: array("I"))  # tokens of the unfinished block
    following: dict[bytes, _Place] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt's length, the ids of its whole blocks, and what is behind them."""

    tokens: int
    blocks: array[int]
    last: int
    rest: array[int]
    opening: bytes  # the same for all prompts of one conversation

    def key(self) -> bytes:
        """Stands for the prompt's text."""
        return f"{self.last} {self.tokens} ".encode() + self.rest.tobytes()


class Prompts:
    """Lays prompts out under one tokenizer, in blocks of one size."""

    def __init__(self, encode: Encode, block_tokens: int) -> None:
        self._encode = encode
        self._size = block_tokens
        self._front = _Place()
        self._places = 0

    def lay(self, pieces: Sequence[Piece]) -> Prompt:
        """The prompt that those pieces make, opened for an answer if they have roles."""
        if self._places > _KEPT:
            self._front, self._places = _Place(), 0
        place, blocks, opening = self._front, array("q"), b""
        for piece in pieces:
            key = _key(piece)
            if not opening and piece.role == "user":
                opening = key
            following = place.following.get(key)
            if following is None:
                following = self._behind(place, self._ids(piece))
                place.following[key] = following
                self._places += 1
            place = following
            blocks.extend(place.blocks)
        if pieces and pieces[-1].role is not None:
            place = self._behind(place, [_START, _role("assistant")])
            blocks.extend(place.blocks)
        return Prompt(place.tokens, blocks, place.last, place.rest, opening)

    def following(self, prompt: Prompt, ids: Sequence[int]) -> array[int]:
        """The blocks that an answer adds to a prompt."""
        return self._behind(_Place(prompt.tokens, last=prompt.last, rest=prompt.rest), ids).blocks

    def tokens(self, ids: Sequence[int]) -> Prompt:
        """A prompt that was sent as tokens. Raises ValueError for what is none."""
        try:
            place = self._behind(self._front, ids)
        except (OverflowError, TypeError):
            raise ValueError("a token is a whole number from 0 on") from None
        return Prompt(place.tokens, place.blocks, place.last, place.rest, b"")

    def _ids(self, piece: Piece) -> Sequence[int]:
        ids = [number for text in piece.texts for number in self._encode(text)]
        return ids if piece.role is None else [_START, _role(piece.role), *ids, _END]

    def _behind(self, place: _Place, ids: Sequence[int]) -> _Place:
        tokens, size = place.rest + array("I", ids), self._size
        blocks, last = array("q"), place.last
        whole = len(tokens) // size * size
        for start in range(0, whole, size):
            before = last.to_bytes(8, "little")
            digest = blake2b(before + tokens[start : start + size].tobytes(), digest_size=8)
            last = int.from_bytes(digest.digest(), "little") >> 1
            blocks.append(last)
        return _Place(place.tokens + len(ids), blocks, last, tokens[whole:])


def _role(name: str) -> int:
    return _ROLES + (zlib.crc32(name.encode()) & 0xFFFF)


def _key(piece: Piece) -> bytes:
    digest = blake2b(digest_size=16)
    for text in (piece.role or "", *piece.texts):
        data = text.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "little"))
        digest.update(data)
    return digest.digest()
