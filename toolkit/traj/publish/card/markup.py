"""Markdown out of figures, and out of words from logs, which are shown and never obeyed.

What a log, a user or a repository's owner chose stands in code spans alone, where Markdown, HTML
and links mean nothing; what could end a span or a table's cell is replaced.
"""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

UNKNOWN = "unknown"
_ENDS_A_SPAN = frozenset("`|\\<>")
_LONGEST = 80  # characters of a foreign word


def code(text: object) -> str:
    """A foreign word as a code span; what is not known is said so."""
    if text is None:
        return UNKNOWN
    word = inert(str(text))
    return f"`{word}`" if word else "(empty)"


def inert(text: str) -> str:
    """A foreign word without what Markdown, HTML or a terminal could take for an order."""
    word = "".join(
        c if c.isprintable() and c not in _ENDS_A_SPAN else "\N{REPLACEMENT CHARACTER}"
        for c in text.strip()
    )
    return word if len(word) <= _LONGEST else f"{word[: _LONGEST - 1]}…"


def plain(text: str, longest: int = _LONGEST) -> str:
    """A foreign word cut down to letters, digits and a little more: for titles, plots and
    alternative texts, where nothing can be quoted."""
    kept = (c if c.isascii() and (c.isalnum() or c in " .,+#-_/") else "?" for c in text.strip())
    return "".join(kept)[:longest] or "?"


def prose(text: str) -> str:
    """A sentence of the project's own, for a table's cell."""
    return html.escape(text, quote=False).replace("|", "&#124;").replace("*", "&#42;")


def table(heads: Sequence[str], rows: Iterable[Sequence[str]], right: Iterable[int] = ()) -> str:
    """A table; the columns in `right` are aligned right. Cells are Markdown already."""
    numbers = set(right)
    rule = ["---:" if column in numbers else "---" for column in range(len(heads))]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (heads, rule, *rows))


def folded(summary: str, *blocks: str) -> str:
    """What is read on request."""
    # Without the empty lines what is inside would be taken for HTML.
    inside = "\n\n".join(block for block in blocks if block)
    return f"<details><summary>{summary}</summary>\n\n{inside}\n\n</details>"


def fenced(language: str, text: str) -> str:
    return f"```{language}\n{text}\n```"


def count(value: float | None) -> str:
    return UNKNOWN if value is None else f"{value:,.0f}"


def share(value: float | None) -> str:
    """Per cent; nothing and everything read otherwise than nearly so."""
    if value is None:
        return UNKNOWN
    if 0 < value < 0.0005:
        return "<0.1 %"
    if 0.9995 <= value < 1:
        return ">99.9 %"
    return f"{100 * value:.1f} %"


def span(microseconds: float | None) -> str:
    """A length of time in a unit that suits it, with about three digits."""
    if microseconds is None:
        return UNKNOWN
    for unit, size, limit in (
        ("µs", 1, 1_000),
        ("ms", 1e3, 1_000),
        ("s", 1e6, 120),
        ("min", 6e7, 120),
        ("h", 3.6e9, 96),
    ):
        if microseconds < size * limit:
            return f"{_three_digits(microseconds / size)} {unit}"
    return f"{_three_digits(microseconds / 8.64e10)} days"


def _three_digits(value: float) -> str:
    decimals = 0 if value >= 100 or value == int(value) else 1 if value >= 10 else 2
    return f"{value:,.{decimals}f}"
