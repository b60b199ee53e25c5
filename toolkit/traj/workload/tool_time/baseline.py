"""Baseline tool time: a duration for each call, the same whatever system is measured.

Each category of work has a lognormal distribution: fitted to the dataset's own calls where it has
20 or more of them, or a given profile's. Where these have none, the default profile's is taken,
made as much slower or faster as they are in those categories that both have (the median ratio), so
that figures from two machines are not mixed. One factor scales all of them so that the median over
all calls of the dataset is 1.0 s; then durations are clipped to 0.1 to 5 s, which leaves the median
where it is. A call's draw is a keyed hash of (seed, trajectory, call): the same in any order of
work, in any sample of the dataset, on any system; durations are whole milliseconds.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from itertools import groupby
from math import exp
from statistics import NormalDist, median
from typing import TYPE_CHECKING

from traj.workload.tool_time import profiles
from traj.workload.tool_time.calls import Calls
from traj.workload.tool_time.profiles import Distribution, Profile, fitted, rounded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from traj.dataset import Dataset

MEDIAN_S = 1.0
LOW_US = 100_000
HIGH_US = 5_000_000
ENOUGH = 20  # calls, for a category's own fit

_normal = NormalDist().inv_cdf


@dataclass(frozen=True, slots=True)
class Fit:
    """One category's distribution before the factor, and where it is from.

    `calls`: of the dataset with a known duration, also where they were too few. `origin`: dataset,
    or the profile's name.
    """

    category: str
    median_s: float
    sigma: float
    calls: int
    origin: str


class Baseline:
    """The durations of a dataset's calls under one seed."""

    def __init__(self, dataset: Dataset, seed: str, profile: str | None = None) -> None:
        """`profile` names the one to take in place of the dataset's own figures.

        Raises UsageError for a profile that cannot be read, before the dataset is.
        """
        given = None if profile is None else profiles.read(profile)
        self._seed = seed
        table = dataset.table("tool_calls", columns=["trajectory_id", *Calls.COLUMNS])
        calls = Calls.of(table)
        self.fits = _fits(calls, given, profiles.read(profiles.DEFAULT))
        self._shapes = {fit.category: Distribution(fit.median_s, fit.sigma) for fit in self.fits}
        self.scale = 1.0
        unscaled = self._unscaled(table.column("trajectory_id").to_pylist(), calls)
        self.scale = factor(unscaled)
        self.median_s: float | None = None  # of all calls, once clipped
        if unscaled:
            self.median_s = median(clipped(self._scaled(one)) for one in unscaled) / 1e6

    def durations_us(self, trajectory_id: str, calls: Calls) -> list[int | None]:
        """How long each call takes before clipping; None where it takes no time of its own."""
        seconds = self._seconds(trajectory_id, calls)
        return [None if one is None else self._scaled(one) for one in seconds]

    def _unscaled(self, trajectory_ids: list[str], calls: Calls) -> list[float]:
        found: list[float] = []
        start = 0
        for trajectory_id, rows in groupby(trajectory_ids):
            stop = start + sum(1 for _ in rows)
            drawn = self._seconds(trajectory_id, calls.part(start, stop))
            found += [one for one in drawn if one is not None]
            start = stop
        return found

    def _seconds(self, trajectory_id: str, calls: Calls) -> Iterator[float | None]:
        """Before scaling and clipping."""
        draws = _draws(self._seed, trajectory_id, calls.call)
        for own, category, draw in zip(calls.own(), calls.category, draws, strict=True):
            shape = self._shapes.get(category, self._shapes["other"])
            yield shape.median_s * exp(shape.sigma * draw) if own else None

    def _scaled(self, seconds: float) -> int:
        return round(seconds * self.scale * 1000) * 1000


def clipped(duration_us: int) -> int:
    return min(max(duration_us, LOW_US), HIGH_US)


def _fits(calls: Calls, given: Profile | None, default: Profile) -> tuple[Fit, ...]:
    """A fit for each category: the given profile's, or the dataset's own; else the default's."""
    seconds: defaultdict[str, list[float]] = defaultdict(list)
    for category, took_us in zip(calls.category, calls.took_us(), strict=True):
        if took_us is not None:
            seconds[category].append(took_us / 1e6)
    if given is None:
        origin = "dataset"
        first = {name: fitted(own) for name, own in seconds.items() if len(own) >= ENOUGH}
    else:
        origin = given.name
        first = {name: Distribution(x.median_s, x.sigma) for name, x in given.categories.items()}
    second = {name: Distribution(x.median_s, x.sigma) for name, x in default.categories.items()}
    both = [first[name].median_s / second[name].median_s for name in second if name in first]
    speed = median(both) if both else 1.0
    fits = []
    for category, (median_s, sigma) in second.items():
        count = len(seconds[category])
        if category in first:
            fits.append(Fit(category, *first[category], count, origin))
        else:
            fits.append(Fit(category, rounded(median_s * speed), sigma, count, default.name))
    return tuple(fits)


def factor(seconds: list[float]) -> float:
    """What to multiply durations with so that, once clipped, their median is MEDIAN_S."""
    if not seconds:
        return 1.0
    middle = sorted(seconds)[(len(seconds) - 1) // 2 : len(seconds) // 2 + 1]
    lower, upper = middle[0], middle[-1]
    found = 2 * MEDIAN_S / (lower + upper)
    if lower * found * 1e6 < LOW_US:
        # The lower of an even number's middle two will be raised: the upper makes up for that.
        found = (2 * MEDIAN_S - LOW_US / 1e6) / upper
    return rounded(found)


def _draws(seed: str, trajectory_id: str, numbers: Iterable[int]) -> Iterator[float]:
    """A standard normal number for each call."""
    key = b"".join(b"%d:%s" % (len(x.encode()), x.encode()) for x in (seed, trajectory_id))
    keyed = hashlib.blake2b(key, digest_size=8, person=b"traj tool time")
    for number in numbers:
        one = keyed.copy()
        one.update(b"%d" % number)
        # The middle of one of 2^53 equal parts of the unit interval: never 0, never 1.
        yield _normal(((int.from_bytes(one.digest(), "big") >> 11) + 0.5) / 2**53)
