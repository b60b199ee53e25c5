"""Service levels: tables as they were published, or levels of one's own."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from traj.errors import UsageError

_OWN = re.compile(r"(\d+(?:\.\d+)?)/(\d+(?:\.\d+)?)")


@dataclass(frozen=True, slots=True)
class Tier:
    """A service level: tokens a second at the 25th percentile of requests, seconds to the first
    token at the 95th."""

    name: str
    output_tokens_per_s: float
    ttft_s: float
    source: str


@cache
def tables() -> dict[str, tuple[Tier, ...]]:
    """The published tables by name."""
    text = files("traj.capacity").joinpath("tiers.toml").read_text("utf-8")
    found = tomllib.loads(text)["tables"]
    return {
        name: tuple(Tier(**tier, source=table["source"]) for tier in table["tiers"])
        for name, table in found.items()
    }


def find_tiers(asked: str) -> tuple[Tier, ...]:
    """A published table by its name, or levels written as `30/10,100/5`: speed and seconds.

    Raises UsageError for anything else.
    """
    if asked in tables():
        return tables()[asked]
    found = []
    for text in asked.split(","):
        match = _OWN.fullmatch(text.strip())
        if match is None or float(match[2]) == 0:
            names = ", ".join(tables())
            raise UsageError(f"unknown service level {text!r}: {names}, or SPEED/SECONDS")
        found.append(Tier(match[0], float(match[1]), float(match[2]), "the user"))
    return tuple(found)
