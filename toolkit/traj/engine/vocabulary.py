"""Token ids of text: `traj.build.tokens` counts, an engine's cache needs to know which they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from traj.build.tokens import Tokenizer

Encode = Callable[[str], Sequence[int]]


def encoder(tokenizer: Tokenizer, name: str) -> Encode:
    """What gives the ids of ordinary text, of a tokenizer that was opened by that name."""
    if name in ("o200k_base", "o200k_harmony", "cl100k_base"):
        import toktok

        encode: Encode = toktok._encoding(name).encode_ordinary  # noqa: SLF001 - no public name
        return encode
    if name.endswith(".json") or Path(name).is_dir():
        from tokenizers import Tokenizer as Fast

        path = Path(name)
        fast = Fast.from_file(str(path / "tokenizer.json" if path.is_dir() else path))
        fast.no_truncation()
        fast.no_padding()
        fast.encode_special_tokens = True
        return lambda text: fast.encode(text, add_special_tokens=False).ids
    import tiktoken

    return tiktoken.get_encoding(tokenizer.name).encode_ordinary
