"""Baseline profiles: how long each kind of tool call takes, as data with where it comes from.

A profile is a TOML file: `name`, `source`, `date`; a table for each category of work under
`categories` with the median in seconds, the spread (`sigma`, the standard deviation of the natural
logarithm) and how many calls it rests on; and where it was measured: hardware, load, versions.
What was not measured stands under `not_measured` with the reason. `default` is the one that comes
with traj; `traj tools calibrate` writes others.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.resources import files
from math import log
from pathlib import Path
from statistics import NormalDist, median, quantiles
from typing import Annotated, Any, NamedTuple

from msgspec import Meta, ValidationError, convert, to_builtins

from traj import schema
from traj.errors import UsageError

DEFAULT = "default"
LEAST_S = 0.001  # logs tell no shorter times apart
_SPREAD = 2 * NormalDist().inv_cdf(0.84)


class Distribution(NamedTuple):
    """A lognormal distribution of durations: its median in seconds, and sigma."""

    median_s: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Shape:
    """One category's figures in a profile."""

    median_s: Annotated[float, Meta(gt=0, le=1e6)]
    sigma: Annotated[float, Meta(ge=0, le=10)]
    calls: Annotated[int, Meta(ge=0)] | None = None
    source: str | None = None


@dataclass(frozen=True, slots=True)
class Hardware:
    """The machine that a profile was measured on; what could not be found out is None."""

    cpu: str | None = None
    cores: int | None = None
    usable_cores: int | None = None  # by this process
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class Task:
    """One task of a calibration, and how long its runs took."""

    category: str
    task: str
    runs: int
    median_s: float
    sigma: float


@dataclass(frozen=True, slots=True)
class Profile:
    """A baseline profile. Loads are of the last minute, in processes."""

    name: str
    source: str
    date: str
    categories: dict[str, Shape]
    system: str | None = None
    hardware: Hardware | None = None
    load_before: float | None = None
    load_after: float | None = None
    versions: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)
    tasks: tuple[Task, ...] = ()


def categories() -> tuple[str, ...]:
    """The kinds of work that take tool time of their own."""
    column = next(one for one in schema.table("tool_calls").columns if one.name == "category")
    return tuple(one for one in column.enum or () if one not in ("agent", "ask_user"))


def fitted(seconds: list[float]) -> Distribution:
    """The lognormal distribution with the median of some durations and their middle spread.

    Sigma is half the distance of the logarithms of the 16th and 84th percentiles. Quantiles, since
    what makes the tails of recorded times (a person away, a machine asleep) is not the tools' work,
    and since they are the same on every system, which sums are not. Six digits are kept.
    """
    known = [max(LEAST_S, one) for one in seconds]
    if len(known) == 1:
        return Distribution(rounded(known[0]), 0.0)
    cuts = quantiles(known, n=100, method="inclusive")
    sigma = (log(cuts[83]) - log(cuts[15])) / _SPREAD
    return Distribution(rounded(median(known)), rounded(sigma))


def rounded(number: float) -> float:
    """To six digits, so that what is shown is what is used."""
    return float(f"{number:.6g}")


def read(name: str) -> Profile:
    """The profile of that name (`default`) or path.

    Raises UsageError for a file that cannot be read, is no TOML, or has figures out of range.
    """
    try:
        if name == DEFAULT:
            text = files("traj.workload").joinpath("baselines", "default.toml").read_text("utf-8")
        else:
            text = Path(name).expanduser().read_text("utf-8")
        profile = convert(tomllib.loads(text), Profile)
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError, ValidationError) as error:
        raise UsageError(f"{name}: no baseline profile: {error}") from None
    if unknown := sorted(set(profile.categories) - set(categories())):
        known = ", ".join(categories())
        raise UsageError(f"{name}: unknown category {unknown[0]!r}: known are {known}")
    return profile


def write(profile: Profile, path: Path) -> None:
    """Writes a profile; the file appears whole or not at all."""
    unfinished = path.with_name(f".{path.name}.unfinished")
    try:
        unfinished.write_text("\n".join(_lines(to_builtins(profile))) + "\n", "utf-8")
        unfinished.replace(path)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error}") from None
    finally:
        unfinished.unlink(missing_ok=True)


def _lines(table: dict[str, Any], path: str = "") -> Iterator[str]:
    """A TOML table; what is None or empty is left out."""
    nested = {key: value for key, value in table.items() if isinstance(value, dict | tuple)}
    for key, value in table.items():
        if key not in nested and value is not None:
            yield f"{_key(key)} = {_scalar(value)}"
    for key, value in nested.items():
        inner = f"{path}{_key(key)}"
        found: list[dict[str, Any]] = list(value) if isinstance(value, tuple) else [value]
        for one in found:
            if any(not isinstance(part, dict) for part in one.values()):
                yield from ("", f"[[{inner}]]" if isinstance(value, tuple) else f"[{inner}]")
            yield from _lines(one, f"{inner}.")


def _key(key: str) -> str:
    return key if key.isascii() and key.replace("_", "a").isalnum() else _scalar(key)


def _scalar(value: str | float) -> str:
    # A JSON string is a TOML string, but for one control character.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
