"""Counts tokens: which tokenizers there are, and never twice for the same message.

`o200k_base`, `cl100k_base` and `o200k_harmony` come compiled into toktok, whose counts are
tiktoken's own (a test rebuilds tiktoken's encoder from its vocabulary and compares), so that they
need no download and are several times faster. The two know different versions of Unicode: a
character assigned in 2025 may be a letter to one and nothing to the other. Any other tiktoken
encoding needs tiktoken's cache; any other model a `tokenizer.json`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from traj.errors import MissingExtraError, UsageError

DEFAULT = "o200k_base"

# SHA-256 of the vocabulary files as OpenAI publishes them (tiktoken checks its downloads against
# the same). o200k_harmony adds special tokens to the vocabulary of o200k_base, no ranks.
_COMPILED = {
    "o200k_base": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "o200k_harmony": "446a9538cb6c348e3516120d7c08b09f57c36495e2acfffe59a5bf8b0cfb1a2d",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
_KEPT = 400_000  # messages whose counts are remembered; some 80 MB


@dataclass(frozen=True, slots=True)
class Tokenizer:
    """Counts tokens of ordinary text: strings that look like special tokens count as text."""

    name: str
    sha256: str  # of the vocabulary file, in hex
    count: Callable[[Sequence[str]], list[int]]
    common: Callable[[str, str], int]  # how many tokens two texts have in common, from the front


def open_tokenizer(name: str = DEFAULT) -> Tokenizer:
    """A tokenizer by encoding name, or by the path of a `tokenizer.json`.

    Raises UsageError where there is none of that name, or its vocabulary cannot be had offline.
    """
    if name in _COMPILED:
        return _compiled(name)
    if name.endswith(".json") or Path(name).is_dir():
        return _from_file(Path(name))
    return _tiktoken(name)


def _compiled(name: str) -> Tokenizer:
    import toktok

    def count(texts: Sequence[str]) -> list[int]:
        counts: list[int] = toktok.batch_count(texts, name, threads=1)
        return counts

    def common(one: str, other: str) -> int:
        encoding = toktok._encoding(name)  # noqa: SLF001 - no public name gives ids
        return _common(encoding.encode_ordinary(one), encoding.encode_ordinary(other))

    return Tokenizer(name, _COMPILED[name], count, common)


def _from_file(path: Path) -> Tokenizer:
    try:
        from tokenizers import Tokenizer as Fast
    except ImportError:
        raise MissingExtraError("a tokenizer.json", "tokenizers") from None
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        data = file.read_bytes()
        fast = Fast.from_buffer(data)
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except Exception as error:  # noqa: BLE001 - the library raises no narrower type
        raise UsageError(f"{file}: not a tokenizer.json ({error})") from None
    # A file may ask for these, and for special tokens where text looks like them: not to count.
    fast.no_truncation()
    fast.no_padding()
    fast.encode_special_tokens = True

    def count(texts: Sequence[str]) -> list[int]:
        found = fast.encode_batch_fast(list(texts), add_special_tokens=False)
        return [len(encoding.ids) for encoding in found]

    def common(one: str, other: str) -> int:
        return _common(*(fast.encode(text, add_special_tokens=False).ids for text in (one, other)))

    label = file.parent.name if file.name == "tokenizer.json" and file.parent.name else file.name
    return Tokenizer(label, hashlib.sha256(data).hexdigest(), count, common)


def _tiktoken(name: str) -> Tokenizer:
    import base64

    import tiktoken

    known = tiktoken.list_encoding_names()
    if name not in known:
        raise UsageError(
            f"unknown tokenizer {name!r}: give the path of a tokenizer.json, or one of "
            + ", ".join(sorted({*known, *_COMPILED}))
        )
    try:
        encoding = tiktoken.get_encoding(name)
    except Exception as error:  # noqa: BLE001 - whatever its download raises
        raise UsageError(
            f"tokenizer {name!r} is not in tiktoken's cache and cannot be downloaded "
            f"({type(error).__name__}); set TIKTOKEN_CACHE_DIR"
        ) from None
    vocabulary = encoding._mergeable_ranks  # noqa: SLF001 - no public name gives it
    ranks = sorted(vocabulary.items(), key=lambda item: item[1])
    file = b"".join(base64.b64encode(token) + b" %d\n" % rank for token, rank in ranks)

    def count(texts: Sequence[str]) -> list[int]:
        return [len(encoding.encode_ordinary(text)) for text in texts]

    def common(one: str, other: str) -> int:
        return _common(encoding.encode_ordinary(one), encoding.encode_ordinary(other))

    return Tokenizer(name, hashlib.sha256(file).hexdigest(), count, common)


def _common(one: Sequence[int], other: Sequence[int]) -> int:
    return next(
        (place for place, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
        min(len(one), len(other)),
    )


class Counter:
    """Counts the texts of messages, each distinct message once.

    The key is the message's canonical hash, which is made anyway.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self._known: dict[bytes, tuple[int, ...]] = {}

    def count(
        self, keys: Sequence[bytes], texts: Callable[[int], Sequence[str]]
    ) -> list[tuple[int, ...]]:
        """Token counts of the texts behind each key; `texts(i)` is asked for new keys alone."""
        known = self._known
        if len(known) > _KEPT:
            known.clear()
        fresh: dict[bytes, tuple[int, int]] = {}
        batch: list[str] = []
        for index, key in enumerate(keys):
            if key not in known and key not in fresh:
                mine = texts(index)
                fresh[key] = (len(batch), len(batch) + len(mine))
                batch.extend(mine)
        if fresh:
            counts = self.tokenizer.count(batch)
            for key, (start, stop) in fresh.items():
                known[key] = tuple(counts[start:stop])
        return [known[key] for key in keys]
