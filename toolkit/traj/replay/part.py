"""What one process of a run brings back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Part:
    """Times are of the monotonic clock of the machine that it ran on."""

    rows: list[tuple[Any, ...]]
    start_us: int
    end_us: int
    lags_us: list[int]
    cpu_share: float
    played: int
    first_error: str | None
    hopeless: bool
    interrupted: bool
    clock_offset_us: int = 0  # to be added to be on the run's clock
    clock_error_us: int | None = None  # how wrong that may be; None: it is the same clock
