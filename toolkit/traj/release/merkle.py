"""A Merkle tree over leaf hashes, the shape of RFC 6962: a tree of n leaves is cut at the largest
power of two below n, so no leaf ever stands for two.

`root` of all leaves; `prove` gives the hashes that are missing to somebody who knows some of the
leaves; `recompute` gives the root from those leaves and hashes, or None where they do not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence

LEAF, NODE = b"\x00", b"\x01"  # so that no inner node passes for a leaf


def leaf(salt: bytes, content: bytes) -> bytes:
    """The hash of one leaf: SHA-256(0x00, salt, content)."""
    return hashlib.sha256(LEAF + salt + content).digest()


def root(leaves: Sequence[bytes]) -> bytes:
    """The hash over all leaves; of none it is SHA-256 of nothing."""
    return _root(leaves, 0, len(leaves)) if leaves else hashlib.sha256().digest()


def prove(leaves: Sequence[bytes], known: Sequence[int]) -> list[bytes]:
    """What is missing to one who knows the leaves at the places `known` (ascending), in the order
    in which `recompute` asks for it."""
    return list(_prove(leaves, 0, len(leaves), known))


def recompute(count: int, known: Mapping[int, bytes], missing: Sequence[bytes]) -> bytes | None:
    """The root of a tree of `count` leaves, of which some are known; None where `missing` is not
    just what these leaves lack."""
    if count <= 0 or not known or any(not 0 <= place < count for place in known):
        return None
    rest = iter(missing)
    places = sorted(known)
    found = _recompute(0, count, places, known, rest)
    return found if found is not None and next(rest, None) is None else None


def _node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(NODE + left + right).digest()


def _cut(low: int, high: int) -> int:
    return low + (1 << (high - low - 1).bit_length() - 1)


def _root(leaves: Sequence[bytes], low: int, high: int) -> bytes:
    if high - low == 1:
        return leaves[low]
    cut = _cut(low, high)
    return _node(_root(leaves, low, cut), _root(leaves, cut, high))


def _within(places: Sequence[int], low: int, high: int) -> Sequence[int]:
    return [place for place in places if low <= place < high]


def _prove(leaves: Sequence[bytes], low: int, high: int, known: Sequence[int]) -> Iterator[bytes]:
    if not known:
        yield _root(leaves, low, high)
    elif high - low > 1:
        cut = _cut(low, high)
        yield from _prove(leaves, low, cut, _within(known, low, cut))
        yield from _prove(leaves, cut, high, _within(known, cut, high))


def _recompute(
    low: int, high: int, places: Sequence[int], known: Mapping[int, bytes], rest: Iterator[bytes]
) -> bytes | None:
    if not places:
        return next(rest, None)
    if high - low == 1:
        return known[low]
    cut = _cut(low, high)
    left = _recompute(low, cut, _within(places, low, cut), known, rest)
    right = _recompute(cut, high, _within(places, cut, high), known, rest)
    return None if left is None or right is None else _node(left, right)
