"""Which licences of a repository permit its sessions to be published.

A session shows the repository's code. The list holds licences that let anyone pass code on: the
common ones that the OSI or the FSF approve, and those of open data. An SPDX expression is permitted
where one of its OR terms is, with all of its AND terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection

from traj.errors import MissingExtraError, UsageError

PERMITTED = frozenset(
    (
        *("0BSD", "AFL-3.0", "AGPL-3.0", "AGPL-3.0-only", "AGPL-3.0-or-later", "Apache-1.1"),
        *("Apache-2.0", "Artistic-1.0", "Artistic-2.0", "BlueOak-1.0.0", "BSD-1-Clause"),
        *("BSD-2-Clause", "BSD-2-Clause-Patent", "BSD-3-Clause", "BSD-3-Clause-Clear"),
        *("BSD-4-Clause", "BSL-1.0", "CC-BY-3.0", "CC-BY-4.0", "CC-BY-SA-3.0", "CC-BY-SA-4.0"),
        *("CC0-1.0", "CDDL-1.0", "CDDL-1.1", "CECILL-2.1", "ECL-2.0", "EPL-1.0", "EPL-2.0"),
        *("EUPL-1.1", "EUPL-1.2", "GFDL-1.3-only", "GFDL-1.3-or-later", "GPL-2.0"),
        *("GPL-2.0-only", "GPL-2.0-or-later", "GPL-3.0", "GPL-3.0-only", "GPL-3.0-or-later"),
        *("HPND", "ICU", "ISC", "LGPL-2.1", "LGPL-2.1-only", "LGPL-2.1-or-later", "LGPL-3.0"),
        *("LGPL-3.0-only", "LGPL-3.0-or-later", "LPPL-1.3c", "MIT", "MIT-0", "MPL-1.1"),
        *("MPL-2.0", "MS-PL", "MulanPSL-2.0", "NCSA", "ODbL-1.0", "OFL-1.1", "OpenSSL"),
        *("PDDL-1.0", "PHP-3.01", "PostgreSQL", "PSF-2.0", "Python-2.0", "Ruby", "Unicode-3.0"),
        *("Unlicense", "UPL-1.0", "Vim", "W3C", "WTFPL", "X11", "Zlib", "ZPL-2.1"),
    )
)
_WORD = re.compile(r"[()]|[^\s()]+")


def canonical(expression: str) -> str | None:
    """An SPDX expression in its own spelling, None for what is none."""
    try:
        from packaging.licenses import InvalidLicenseExpression, canonicalize_license_expression
    except ImportError:
        raise MissingExtraError("publishing", "hub") from None
    try:
        return canonicalize_license_expression(expression)
    except InvalidLicenseExpression:
        return None


def permits(expression: str, more: Collection[str] = ()) -> bool:
    """Whether an expression is permitted: by the list, or by `more` licences. What is no SPDX
    expression is not."""
    known = canonical(expression)
    if known is None:
        return False
    words = _WORD.findall(known)
    also = {word.lower() for word in more}

    def single(name: str) -> bool:
        base = name.removesuffix("+")
        return base in PERMITTED or base.lower() in also

    return known.lower() in also or (_any(words, single) and not words)


def check_named(licences: Collection[str]) -> None:
    """Raises UsageError where one of them is no SPDX identifier or LicenseRef."""
    for name in licences:
        if canonical(name) is None:
            raise UsageError(f"{name!r} is no SPDX licence: spdx.org/licenses lists them")


def _any(words: list[str], single: Callable[[str], bool]) -> bool:
    """The value of terms joined by OR; what was read is taken from the words."""
    found = _all(words, single)
    while words and words[0] == "OR":
        words.pop(0)
        found |= _all(words, single)
    return found


def _all(words: list[str], single: Callable[[str], bool]) -> bool:
    found = _term(words, single)
    while words and words[0] == "AND":
        words.pop(0)
        found &= _term(words, single)
    return found


def _term(words: list[str], single: Callable[[str], bool]) -> bool:
    word = words.pop(0)
    if word == "(":
        found = _any(words, single)
        words.pop(0)
        return found
    if words and words[0] == "WITH":  # an exception only ever permits more
        del words[:2]
    return single(word)
