"""What a simulated engine gets wrong on purpose, so that clients can be seen to survive it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from traj.errors import UsageError

FAULTS = {
    "error": "answered at once with status 500",
    "overload": "refused at once with status 503",
    "hang": "taken and never answered",
    "truncate": "cut off in the midst of the answer",
    "no-usage": "answered without usage",
}


@dataclass(frozen=True, slots=True)
class Faults:
    """The share of requests that each fault befalls; no request has two."""

    shares: tuple[tuple[str, float], ...] = ()

    @classmethod
    def of(cls, wanted: list[str]) -> Faults:
        """Reads `NAME:SHARE`. Raises UsageError for an unknown fault, or shares that are none."""
        shares: dict[str, float] = {}
        for one in wanted:
            name, _, share = one.partition(":")
            if name not in FAULTS:
                raise UsageError(f"unknown fault {name!r}: known are {', '.join(FAULTS)}")
            try:
                shares[name] = float(share or "1")
            except ValueError:
                raise UsageError(f"{one!r}: a fault is NAME:SHARE, as in error:0.05") from None
        if not all(0 <= share <= 1 for share in shares.values()) or sum(shares.values()) > 1 + 1e-9:
            raise UsageError("the shares of faults lie between 0 and 1, and so does their sum")
        return cls(tuple(shares.items()))

    def draw(self, chance: random.Random) -> str | None:
        """The fault of the next request, if any."""
        if not self.shares:
            return None
        drawn = chance.random()
        for name, share in self.shares:
            if drawn < share:
                return name
            drawn -= share
        return None
