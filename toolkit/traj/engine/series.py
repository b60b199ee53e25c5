"""Steps that are alike, taken together: each takes as much longer than the one before."""

from __future__ import annotations

from math import isqrt
from typing import NamedTuple


class Series(NamedTuple):
    """Times in picoseconds: of the first step, and what each adds to the one before."""

    first_ps: int
    growth_ps: int = 0

    def span_ps(self, count: int) -> int:
        """How long so many steps take."""
        return self.first_ps * count + self.growth_ps * (count * (count - 1) // 2)

    def until(self, wanted_ps: int) -> int:
        """The fewest steps, at least one, that take at least that long."""
        growth = self.growth_ps
        if growth:
            linear = 2 * self.first_ps - growth
            root = isqrt(max(0, linear * linear + 8 * growth * wanted_ps))
            count = max(1, (root - linear) // (2 * growth))
        else:
            count = max(1, wanted_ps // self.first_ps)
        # The root was rounded down: the answer is this or the next.
        while self.span_ps(count) < wanted_ps:
            count += 1
        return count
