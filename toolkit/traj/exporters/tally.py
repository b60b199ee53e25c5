"""Counts what an export sends, as it is written: sessions, lengths, delays, losses.

A number a request is all that is kept, so the memory of an export does not depend on its text.
"""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from traj.workload.play import Play

PERCENTILES = (5, 25, 50, 75, 95, 99)


def _numbers() -> array[int]:
    return array("q")


@dataclass(slots=True)
class Tally:
    """What one export sent."""

    trajectories: int = 0
    sessions: int = 0  # conversations in the target's sense
    messages: int = 0  # messages written, a repeated one each time
    input_tokens: array[int] = field(default_factory=_numbers)  # an item a request
    output_tokens: array[int] = field(default_factory=_numbers)
    delay_us: array[int] = field(default_factory=_numbers)
    requests_per_trajectory: array[int] = field(default_factory=_numbers)
    counted_input_tokens: int = 0
    counted_cached_tokens: int = 0
    uncut_input_tokens: int = 0
    uncut_cached_tokens: int = 0
    lost: Counter[str] = field(default_factory=Counter)

    def request(self, input_tokens: int, output_tokens: int, delay_us: int) -> None:
        """One request, as long as the target sends it, that long after what it waits for."""
        self.input_tokens.append(input_tokens)
        self.output_tokens.append(output_tokens)
        self.delay_us.append(delay_us)

    def play(self, play: Play) -> None:
        """A whole play, as long as it is sent, with what any load of it loses."""
        turns, sent = play.turns, play.sent
        self.losses_of(play)
        if not sent:
            return
        for turn in sent:
            self.request(play.input_tokens(turn), play.output_tokens(turn), play.delay_us(turn))
        self.trajectory(
            len(sent),
            sum(turns["counted_input_tokens"][turn] or 0 for turn in sent),
            sum(turns["counted_cached_tokens"][turn] or 0 for turn in sent),
        )

    def losses_of(self, play: Play) -> None:
        """What any load of a play loses."""
        self.lost += play.losses()
        self.uncut_input_tokens += play.uncut_tokens[0]
        self.uncut_cached_tokens += play.uncut_tokens[1]

    def trajectory(self, requests: int, counted_input: int, counted_cached: int) -> None:
        """One trajectory, done; the counted lengths are sums over its requests."""
        self.trajectories += 1
        self.requests_per_trajectory.append(requests)
        self.counted_input_tokens += counted_input
        self.counted_cached_tokens += counted_cached

    def lose(self, kind: str, count: int = 1) -> None:
        """Writes down what the target cannot carry; `kind` is a key of its DROPS."""
        if count:
            self.lost[kind] += count

    def counts(self) -> dict[str, int]:
        return {
            "trajectories": self.trajectories,
            "sessions": self.sessions,
            "requests": len(self.input_tokens),
            "messages": self.messages,
        }

    def percentiles(self) -> dict[str, dict[str, float]]:
        return {
            "input_tokens": summary(self.input_tokens),
            "output_tokens": summary(self.output_tokens),
            "turns_per_trajectory": summary(self.requests_per_trajectory),
            "delay_s": summary(self.delay_us, unit=1e6),
        }

    def ideal_hit_rate(self) -> float | None:
        """What a cache that forgets nothing would find within trajectories; None without text."""
        if not self.counted_input_tokens:
            return None
        return round(self.counted_cached_tokens / self.counted_input_tokens, 6)

    def uncut_hit_rate(self) -> float | None:
        """The same of the trajectories as they were before a limit of context cut them; None where
        none did."""
        if not self.lost["cut"] or not self.uncut_input_tokens:
            return None
        return round(self.uncut_cached_tokens / self.uncut_input_tokens, 6)

    def losses(self, reasons: Mapping[str, str]) -> list[dict[str, Any]]:
        return [
            {"kind": kind, "count": count, "why": reasons[kind]}
            for kind, count in sorted(self.lost.items())
        ]


def summary(values: Sequence[int], unit: float = 1) -> dict[str, float]:
    """Percentiles (interpolated), mean and maximum; empty for no values."""
    if not values:
        return {}
    ordered = sorted(values)
    found = {f"p{percent}": _percentile(ordered, percent) for percent in PERCENTILES}
    found |= {"mean": sum(ordered) / len(ordered), "max": float(ordered[-1])}
    return {name: round(value / unit, 6) for name, value in found.items()}


def _percentile(ordered: Sequence[int], percent: int) -> float:
    place = (len(ordered) - 1) * percent / 100
    low = int(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)
