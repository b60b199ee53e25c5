"""Power: the arithmetic of what NVIDIA's library tells, with a double of the library."""

from __future__ import annotations

import sys
from itertools import count
from types import ModuleType
from typing import Any

import pytest

from traj.capacity import power
from traj.capacity.power import Meter


class _Library(ModuleType):
    """The few calls of `pynvml` that are made; each device's milliwatts, one after another, the
    last again and again."""

    class NVMLError(Exception):
        """As the library's own."""

    class NVMLError_NoPermission(NVMLError):  # noqa: N801, N818 - the library's name
        """A kind of it."""

    def __init__(self, *devices: list[Any], driver: bool = True) -> None:
        super().__init__("pynvml")
        self.devices, self.driver, self.ended = devices, driver, 0
        self._asked = [count() for _ in devices]

    def nvmlInit(self) -> None:  # noqa: N802
        if not self.driver:
            raise self.NVMLError("no driver")

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.ended += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.devices)

    def nvmlDeviceGetHandleByIndex(self, number: int) -> int:  # noqa: N802
        return number

    def nvmlDeviceGetPowerUsage(self, number: int) -> int:  # noqa: N802
        told = self.devices[number]
        place = next(self._asked[number])
        found = told[min(place, len(told) - 1)]
        if found is None:
            raise self.NVMLError_NoPermission("not for you")
        return int(found)

    def asked(self) -> int:
        """How often the first device was."""
        return next(self._asked[0])


class _Ticks:
    """Stands for the meter's event: the phase ends after so many samples, without any waiting."""

    def __init__(self, samples: int) -> None:
        self._left = samples

    def wait(self, _seconds: float) -> bool:
        self._left -= 1
        return self._left <= 0

    def set(self) -> None:
        """The phase is over; the samples are counted all the same."""


def _metered(monkeypatch: pytest.MonkeyPatch, library: _Library | None, samples: int = 4) -> Meter:
    monkeypatch.setitem(sys.modules, "pynvml", library)  # None: as if it were not installed
    monkeypatch.setattr(power, "Event", lambda: _Ticks(samples))
    with Meter() as meter:
        pass
    return meter


def test_power_is_the_mean_over_the_phase(monkeypatch: pytest.MonkeyPatch) -> None:
    """Milliwatts in, watts out, every sample with the same weight; the library is left."""
    library = _Library([100_000, 200_000, 300_000, 600_000])
    assert _metered(monkeypatch, library).mean_w == 300.0
    assert library.asked() == 4
    assert library.ended == 1


def test_devices_are_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several devices it is the power of all together, not of one."""
    library = _Library([700_000, 500_000], [10_500], [0])
    assert _metered(monkeypatch, library, samples=2).mean_w == 610.5


def test_the_shortest_phase_has_a_sample(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring begins with the phase."""
    assert _metered(monkeypatch, _Library([42_000]), samples=1).mean_w == 42.0


@pytest.mark.parametrize(
    ("library", "ended"),
    [
        (None, 0),
        (_Library([1_000], driver=False), 0),
        (_Library(), 1),
        (_Library([None]), 1),
        (_Library([300_000], [None]), 1),
        (_Library([300_000, 300_000, None]), 1),
    ],
    ids=["not installed", "no driver", "no device", "denied", "one denied", "lost on the way"],
)
def test_what_is_not_told_is_unknown(
    library: _Library | None, ended: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Never zero, and never the power of a part of the devices or of the phase."""
    assert _metered(monkeypatch, library).mean_w is None
    assert library is None or library.ended == ended
