"""Long random values that a name calls secret: `DB_PASSWORD=…`, `"apiKey": "…"`, `--token …`.

The engines know tokens by their form and keep out of guessing; here the name in front decides, and
the value must look drawn by lot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from traj.scrub.checks import random
from traj.scrub.found import Found

_NAME = re.compile(
    r"(?:[Ss]ecret|SECRET|[Tt]oken|TOKEN|[Pp]assword|PASSWORD|PASSWD|[Aa]pi[_-]?[Kk]ey|API_?KEY"
    r"|[Aa]ccess[_-]?[Kk]ey|ACCESS_?KEY)(?:_[A-Za-z0-9_]{0,20}|[A-Z][A-Za-z0-9]{0,20})?"
    r"""["'\\]{0,3}\s{0,3}(?:[:=]{1,2}|\s)\s{0,3}["'\\]{0,3}\Z"""
)
_BEFORE = 64
_LONGEST = 200


def assigned(text: str, runs: Iterable[tuple[int, int]]) -> Iterator[Found]:
    """The stretches among `runs` that are such values."""
    for start, stop in runs:
        if stop - start <= _LONGEST and text[stop : stop + 1] not in (".", "("):
            before = text[max(0, start - _BEFORE) : start]
            if not any(word in before.lower() for word in ("key", "token", "secret", "passw")):
                continue
            if _NAME.search(before) and random(text, start, stop):
                end = stop + text[stop : stop + 2].count("=")
                yield Found(start, end, "assigned-secret", text[start:end])
