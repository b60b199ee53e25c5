"""A capacity as text: agents a tier, and how sure that is."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TextIO

from traj.report.text import plain, table

if TYPE_CHECKING:
    from traj.capacity import Capacity
    from traj.capacity.phase import Phase


def carried(capacity: Capacity) -> str:
    """What `traj capacity` prints at its end."""
    system = capacity.system
    lines = [plain(f"{system.name} {system.model}".strip())]
    rows = [
        (
            tier.tier["name"],
            tier.agents,
            _figure(tier.agents_per_accelerator),
            _figure(tier.agents_per_megawatt),
            tier.statement + (f" ({tier.missed})" if tier.missed else ""),
        )
        for tier in capacity.tiers
    ]
    heads = ("tokens/s / s to first", "agents", "per accelerator", "per MW", "how sure")
    lines += table(rows, heads, right={1, 2, 3})
    if capacity.simulated:
        lines.append("simulated: a model's figures, not a measurement of any system")
    if capacity.reduced:
        lines.append("REDUCED: " + ", ".join(capacity.reduced))
    return "\n".join(lines)


def phase_line(out: TextIO) -> Callable[[Phase], None]:
    """Says a line for each phase as it ends, on a terminal over the line of its progress."""
    over = "\r\x1b[K" if out.isatty() else ""

    def say(phase: Phase) -> None:
        speed = "-" if phase.speed is None else f"{phase.speed.value:.1f} tokens/s"
        first = "-" if phase.ttft_us is None else f"{phase.ttft_us.value / 1e6:.2f} s to first"
        told = f"{phase.agents:>6} agents: {speed}, {first}, {phase.answered:,} requests"
        told += f", {phase.failed} failed" if phase.failed else ""
        told += "".join(f"; {why}" for why in phase.trouble)
        print(over + plain(told), file=out, flush=True)

    return say


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
