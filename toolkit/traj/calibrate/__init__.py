"""Measures how long a coding agent's usual commands take on this machine, as a baseline profile.

In a scratch folder of its own, in a small generated repository, it reads, searches, edits, runs,
tests, builds and commits, each command in a shell of its own as agents do it: the start of the
processes is part of the time. Every round goes once through all tasks, so that a spell of other
load falls on all of them. A first round that is not counted warms the caches and finds what cannot
be measured here. Nothing uses the network.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from traj.calibrate import machine, repository
from traj.calibrate.tasks import NOT_MEASURED, SETUP, Command, commands
from traj.errors import UsageError
from traj.workload.tool_time.profiles import Profile, Shape, Task, fitted, write

ROUNDS = 20
LONGEST_S = 40.0  # of measuring, where the number of rounds is not asked for
COMMAND_S = 60.0

Progress = Callable[[int, int], None]  # rounds done, of how many; equal at the end


def calibrate(
    out: Path | None = None, repeats: int | None = None, progress: Progress | None = None
) -> Profile:
    """Runs the tasks `repeats` times each, and writes the profile to the new file `out`.

    By default 20 times, or as often as 40 s allow. What cannot be run here stands in `not_measured`
    with the reason. Raises UsageError for a file that exists or whose folder does not, before
    anything is measured, and where there is no room for the scratch folder.
    """
    if out is not None and out.exists():
        raise UsageError(f"{out}: exists: choose another file for the profile")
    if out is not None and not out.parent.is_dir():
        raise UsageError(f"{out}: its folder does not exist: make it first")
    load_before = machine.load()
    deadline = time.monotonic() + LONGEST_S if repeats is None else None
    rounds = repeats or ROUNDS
    missing = dict(NOT_MEASURED)
    seconds: defaultdict[Command, list[float]] = defaultdict(list)
    try:
        with TemporaryDirectory(prefix="traj-calibrate-", ignore_cleanup_errors=True) as name:
            folder = Path(name)
            repository.make(folder)
            wanted = _warm(folder, missing)
            for number in range(1, rounds + 1):
                if progress is not None:
                    progress(number - 1, rounds)
                for command in wanted:
                    took = _run(command.line(number), folder)
                    if isinstance(took, float):
                        seconds[command].append(took)
                    else:
                        missing[f"{command.category}: {command.task}, round {number}"] = took
                if deadline is not None and time.monotonic() > deadline:
                    break
            if progress is not None:
                progress(rounds, rounds)
    except OSError as error:
        raise UsageError(f"the scratch folder for calibrating: {error}") from None
    profile = _profile(seconds, missing, load_before)
    if out is not None:
        write(profile, out)
    return profile


def _warm(folder: Path, missing: dict[str, str]) -> list[Command]:
    """The commands that work here, each run once."""
    found = []
    setup = {program: _run(line, folder) for program, line in SETUP.items()}
    for command in commands():
        took = setup.get(command.program, 0.0)
        if isinstance(took, float):
            took = _run(command.line(0), folder)
        if isinstance(took, float):
            found.append(command)
        else:
            missing[f"{command.category}: {command.task}"] = took
    return found


def _run(line: str, folder: Path) -> float | str:
    """How long a command took, in seconds; why it cannot be measured, where it failed."""
    shell = ["/bin/sh", "-c", line]
    began = time.perf_counter()
    try:
        done = subprocess.run(  # noqa: S603 (our own commands)
            shell,
            cwd=folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"took longer than {COMMAND_S:.0f} s"
    except FileNotFoundError:
        return "no /bin/sh on this machine"
    took = time.perf_counter() - began
    if done.returncode == 127:
        return f"no {line.split(maxsplit=1)[0]} on this machine"
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()
        return f"ended with {done.returncode}: {said[-1] if said else 'no message'}"
    return took


def _environment() -> dict[str, str]:
    """This process's, without what would lead Git or Python elsewhere."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "PYTHON"))
    }
    who = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "traj"), ("EMAIL", "traj@localhost"))
    }
    return kept | who | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1", "LC_ALL": "C"}


def _profile(
    seconds: dict[Command, list[float]], missing: dict[str, str], load_before: float | None
) -> Profile:
    by_category: defaultdict[str, list[float]] = defaultdict(list)
    tasks = []
    for command, found in seconds.items():
        by_category[command.category] += found
        tasks.append(Task(command.category, command.task, len(found), *fitted(found)))
    shapes = {
        category: Shape(*fitted(found), calls=len(found), source="measured")
        for category, found in by_category.items()
    }
    programs = sorted({command.program for command in seconds} - {sys.executable})
    return Profile(
        name="calibrated",
        source=f"traj tools calibrate: tasks in a generated repository of {repository.FILES} "
        "files, each in a shell of its own",
        date=datetime.now(UTC).date().isoformat(),
        categories=shapes,
        system=machine.system(),
        hardware=machine.hardware(),
        load_before=load_before,
        load_after=machine.load(),
        versions=machine.versions(programs),
        not_measured=missing,
        tasks=tuple(tasks),
    )
