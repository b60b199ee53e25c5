"""Simulated engines as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from traj.report.text import plain, table

if TYPE_CHECKING:
    from traj.engine.parameters import Parameters


def listening(parameters: Parameters, url: str) -> str:
    """What `traj simulate-engine` says when it is ready."""
    kind = "a model, not a measurement" if parameters.model else "from measurements"
    return f"{plain(parameters.name)} ({kind}) answers at {url}/v1"


def engines(found: Sequence[Parameters]) -> str:
    """The engines that come with the package."""
    rows = [
        (
            one.name,
            one.accelerators,
            one.replicas,
            f"{one.kv_blocks * one.block_tokens:,}",
            one.max_batch,
            f"{1e6 / (one.step_us + one.sequence_us):,.0f}",
            f"{1e6 / one.prefill_us:,.0f}" if one.prefill_us else "",
        )
        for one in found
    ]
    head = ("engine", "accelerators", "replicas", "cache", "batch", "decode/s", "prefill/s")
    lines = table(rows, head, right={1, 2, 3, 4, 5, 6})
    lines += [
        "",
        "Cache (tokens), batch and rates are of one replica; decode is of one agent alone.",
    ]
    for one in found:
        lines += ["", f"{one.name}:", f"  {one.source}"]
    return "\n".join(lines)
