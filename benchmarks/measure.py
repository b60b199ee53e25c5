"""Runs a command as a child process and measures it: wall time, CPU time, peak memory.

Machines that run benchmarks are shared, so no figure stands alone: two commands are run in turn
(A B A B …), each pair gives a ratio, and the median of the ratios is what is reported.
"""

from __future__ import annotations

import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import orjson

LAUNCHER = Path(__file__).with_name("launch.py")


class CommandFailedError(Exception):
    """A measured command ended with an error."""


@dataclass(frozen=True, slots=True)
class Run:
    """One run of a command. `peak_bytes` is of the largest single process in it."""

    wall_s: float
    cpu_s: float
    peak_bytes: int
    exit_code: int = 0


def run(
    command: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    accept: Sequence[int] = (0,),
    stdout: Path | None = None,
    makes: Path | None = None,
) -> Run:
    """Runs to the end, standard output thrown away or kept.

    Raises with the last lines it said where it ended badly, or did not make what it should.
    """
    with tempfile.TemporaryDirectory() as folder:
        report, said = Path(folder, "report"), Path(folder, "said")
        with said.open("wb") as errors, (stdout or said).open("ab") as out:
            subprocess.run(
                [sys.executable, "-S", "-E", str(LAUNCHER), str(report), *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=errors,
                env={**os.environ, **(env or {})},
                check=False,
            )
        tail = said.read_bytes()[-2_000:].decode(errors="replace")
        if not report.exists():
            raise CommandFailedError(f"{' '.join(command)}: cannot start\n{tail}")
        used = Run(**orjson.loads(report.read_bytes()))
    if used.exit_code not in accept or (makes and not makes.exists()):
        raise CommandFailedError(f"{' '.join(command)}: exit {used.exit_code}\n{tail}")
    return used


def in_turn(actions: Mapping[str, Callable[[], Run]], times: int) -> dict[str, list[Run]]:
    """Runs all the actions one after the other, so many times over."""
    runs: dict[str, list[Run]] = {name: [] for name in actions}
    for _ in range(times):
        for name, action in actions.items():
            runs[name].append(action())
    return runs


def ratio(above: Sequence[Run], below: Sequence[Run], what: str = "wall_s") -> float:
    """The median of the ratios pair by pair."""
    pairs = zip(above, below, strict=True)
    return float(median(getattr(a, what) / getattr(b, what) for a, b in pairs))


def summary(runs: Sequence[Run], source_bytes: int) -> dict[str, Any]:
    """Medians of several runs of one command, and every run behind them."""
    wall = median(run.wall_s for run in runs)
    return {
        "wall_s": wall,
        "cpu_s": median(run.cpu_s for run in runs),
        "peak_bytes": max(run.peak_bytes for run in runs),
        "megabytes_per_s": source_bytes / 1e6 / wall,
        "runs": [asdict(run) for run in runs],
    }


def folder_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def machine() -> dict[str, Any]:
    """What the figures were measured on."""
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_name(),
        "cores": os.cpu_count(),
        "load_average": list(os.getloadavg()),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown"
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def write_json(path: Path, result: Mapping[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(orjson.dumps(result, option=orjson.OPT_INDENT_2) + b"\n")
