"""The power that this machine's accelerators draw, where it has some and they tell (NVML)."""

from __future__ import annotations

from contextlib import suppress
from threading import Event, Thread
from types import ModuleType
from typing import Self

_EVERY_S = 0.5


class Meter:
    """Measures while it is open. `mean_w`: of all accelerators together; None without any, and
    where one of them did not tell all the time: a part of the power is not the power."""

    def __init__(self) -> None:
        self._watts: list[float] = []
        self._stop = Event()
        self._thread: Thread | None = None

    def __enter__(self) -> Self:
        nvml = _nvml()
        if nvml is not None:
            self._thread = Thread(target=self._watch, args=(nvml,), daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    @property
    def mean_w(self) -> float | None:
        return sum(self._watts) / len(self._watts) if self._watts else None

    def _watch(self, nvml: ModuleType) -> None:
        try:
            count = nvml.nvmlDeviceGetCount()
            devices = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(count)]
            while devices:
                milliwatts = sum(nvml.nvmlDeviceGetPowerUsage(device) for device in devices)
                self._watts.append(milliwatts / 1e3)
                if self._stop.wait(_EVERY_S):
                    break
        except nvml.NVMLError:
            self._watts.clear()
        with suppress(nvml.NVMLError):
            nvml.nvmlShutdown()


def _nvml() -> ModuleType | None:
    """NVIDIA's library, where it and a driver are there."""
    try:
        import pynvml
    except ImportError:
        return None
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return None
    found: ModuleType = pynvml
    return found
