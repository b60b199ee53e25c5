"""A calibration as plain text, while it runs and when it is done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TextIO

from traj.report.text import plain, table


def rounds(stream: TextIO) -> Callable[[int, int], None] | None:
    """Counts rounds on one line of a terminal, and clears it after the last; None elsewhere."""
    if not stream.isatty():
        return None

    def show(done: int, whole: int) -> None:
        text = f"round {done + 1} of {whole}" if done < whole else ""
        print(f"\r{text}\x1b[K", end="", file=stream, flush=True)

    return show


def calibrated(profile: Any) -> str:
    """What `traj tools calibrate` measured, on what, and what it could not."""
    machine = profile.hardware
    memory = None if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.0f} GiB"
    cores = f"{machine.usable_cores or machine.cores} of {machine.cores} cores"
    known = [machine.cpu, cores, memory, profile.system]
    lines = [
        plain(", ".join(one for one in known if one)),
        f"load {_or_unknown(profile.load_before)} before, {_or_unknown(profile.load_after)} after",
        "",
    ]
    heads = ("category", "task", "runs", "median ms", "sigma")
    rows = [
        (one.category, one.task, one.runs, one.median_s * 1000, one.sigma) for one in profile.tasks
    ]
    lines += table(rows, heads, right={2, 3, 4})
    rows = [
        (name, "all its tasks", shape.calls, shape.median_s * 1000, shape.sigma)
        for name, shape in profile.categories.items()
    ]
    lines += ["", *table(rows, heads, right={2, 3, 4})]
    if profile.not_measured:
        lines += ["", "not measured:"]
        lines += [f"  {plain(what)}: {plain(why)}" for what, why in profile.not_measured.items()]
    return "\n".join(lines)


def _or_unknown(load: float | None) -> str:
    return "unknown" if load is None else f"{load:.2f}"
