"""The machine that is measured: what it is, how busy, with which programs."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from importlib import metadata
from pathlib import Path

from traj.workload.tool_time.profiles import Hardware


def system() -> str:
    """Operating system, its release, and the instruction set."""
    return f"{platform.system()} {platform.release()} {platform.machine()}"


def load() -> float | None:
    """Processes that wanted to run, on average over the last minute."""
    try:
        return round(os.getloadavg()[0], 2)
    except OSError:
        return None


def hardware() -> Hardware:
    """What can be found out; nothing that names the machine."""
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else None
    return Hardware(
        cpu=_cpu(), cores=os.cpu_count(), usable_cores=usable, memory_bytes=_memory_bytes()
    )


def versions(programs: Sequence[str]) -> dict[str, str]:
    """Of this toolkit, of Python and of those programs that say theirs."""
    found = {"python": platform.python_version()}
    with suppress(metadata.PackageNotFoundError):  # run from its sources
        found["traj-toolkit"] = metadata.version("traj-toolkit")
    for program in programs:
        said = _first_line([program, "--version"])
        if said is not None:
            found[program] = said
    return found


def _cpu() -> str | None:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", errors="replace").splitlines()
    except OSError:
        return _first_line(["sysctl", "-n", "machdep.cpu.brand_string"])
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, None)


def _memory_bytes() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (OSError, ValueError):
        return None


def _first_line(command: list[str]) -> str | None:
    path = shutil.which(command[0])
    if path is None:
        return None
    try:
        done = subprocess.run(  # noqa: S603 (our own commands)
            command,
            executable=path,  # by its name: some say their path with their version
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    lines = done.stdout.decode(errors="replace").splitlines()
    return lines[0].strip() if lines and not done.returncode else None
