"""A run on several machines: Ray places its client processes, each brings its part back.

All begin at the same time: each worker asks a meeting for the run's clock, several times, and keeps
the answer that came quickest; half that time is how wrong it may be, and stands in the result. How
late a request was sent is a matter of the worker's own clock alone. A worker that is lost takes its
part with it: the run says so, and is not valid.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import signal
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj.errors import MissingExtraError, TrajError, UsageError
from traj.replay.outcome import now_us
from traj.replay.part import Part
from traj.replay.player import State, summed

if TYPE_CHECKING:
    from traj.dataset import Dataset
    from traj.replay.options import ReplayOptions
    from traj.replay.run import Progress

_HEAD_START_US = 500_000
_ASKED = 20  # times, for the clock
_TOLD_S = 0.5  # between two looks at how far the workers are


class Meeting:
    """Where the workers of a run meet: its clock, its beginning and its end."""

    def __init__(self, workers: int) -> None:
        self._awaited = set(range(workers))
        self._complete = asyncio.Event()
        self._start_us = 0
        self._states: dict[int, State] = {}
        self._is_over = False

    async def clock_us(self) -> int:
        """The run's clock."""
        return now_us()

    async def begin(self, worker: int) -> int:
        """When to begin, as soon as all are here."""
        await self.without(worker)
        await self._complete.wait()
        return self._start_us

    async def without(self, worker: int) -> None:
        """A worker need not be waited for: it is here, or lost."""
        self._awaited.discard(worker)
        if not self._awaited and not self._complete.is_set():
            self._start_us = now_us() + _HEAD_START_US
            self._complete.set()

    async def report(self, worker: int, state: State) -> bool:
        """How far a worker is. True: it is over."""
        self._states[worker] = state
        return self._is_over

    async def told(self) -> State:
        """How far all are."""
        return summed(self._states.values())

    async def end(self) -> None:
        """Tells the workers to stop, when they report next."""
        self._is_over = True


def spread(
    dataset: Dataset, options: ReplayOptions, progress: Progress | None
) -> tuple[list[Part], list[str]]:
    """The parts of all workers, and how others were lost.

    The cluster is that of RAY_ADDRESS, else this machine. `traj` and the dataset, under the same
    path, are on all of its machines. Raises TrajError where a worker could not go on.
    """
    try:
        import ray
    except ImportError:
        raise MissingExtraError("workers on several machines", "ray") from None
    if not ray.is_initialized():
        ray.init(log_to_driver=False, logging_level="error", include_dashboard=False)
    meeting = ray.remote(Meeting).remote(options.processes)
    work = ray.remote(num_cpus=1, max_retries=0, scheduling_strategy="SPREAD")(_work)
    path, digest = dataset.path.resolve(), _digest(dataset)
    tasks = [
        work.remote(path, digest, options, first, meeting) for first in range(options.processes)
    ]
    return _gathered(ray, tasks, meeting, progress)


def _gathered(
    ray: Any, tasks: Sequence[Any], meeting: Any, progress: Progress | None
) -> tuple[list[Part], list[str]]:
    parts: dict[int, Part] = {}
    lost: list[str] = []
    number = {task: place for place, task in enumerate(tasks)}
    left = list(tasks)
    while left:
        try:
            done, left = ray.wait(left, timeout=_TOLD_S)
            if progress is not None:
                progress(ray.get(meeting.told.remote()))
        except KeyboardInterrupt:
            ray.get(meeting.end.remote())
            continue
        for task in done:
            worker = number[task]
            try:
                parts[worker] = ray.get(task)
            except ray.exceptions.RayTaskError as error:
                ray.get(meeting.end.remote())
                if isinstance(error.cause, TrajError):
                    raise error.cause from None
                raise
            except ray.exceptions.RayError as error:
                lost.append(f"worker {worker} was lost: {str(error).splitlines()[0]}")
                ray.get(meeting.without.remote(worker))
    if not parts:
        raise TrajError(lost[0])
    return [parts[worker] for worker in sorted(parts)], lost


def _digest(dataset: Dataset) -> str:
    return hashlib.sha256(dataset.manifest.to_json()).hexdigest()


def _work(path: Path, digest: str, options: ReplayOptions, first: int, meeting: Any) -> Part:
    """One worker, in a process of Ray's."""
    import ray

    from traj.dataset import Dataset
    from traj.replay.run import drive

    dataset = Dataset.open(path)
    if _digest(dataset) != digest:
        raise UsageError(f"{path}: is another dataset on {os.uname().nodename}")
    offset_us, error_us = _offset(lambda: int(ray.get(meeting.clock_us.remote())))
    reports: list[Any] = []

    def start() -> int:
        return int(ray.get(meeting.begin.remote(first))) - offset_us

    def report(state: State) -> None:
        # Nothing here waits: requests are being sent.
        done, _ = ray.wait(reports, timeout=0) if reports else ([], [])
        if done and ray.get(reports.pop()):
            os.kill(os.getpid(), signal.SIGINT)
        if not reports:
            reports.append(meeting.report.remote(first, state))

    part = drive(dataset, options, first, report, start)
    return replace(part, clock_offset_us=offset_us, clock_error_us=error_us)


def _offset(clock_us: Any) -> tuple[int, int]:
    """What the run's clock is ahead of ours, and how wrong that may be."""
    best: tuple[int, int] | None = None
    for _ in range(_ASKED):
        asked_us = now_us()
        told_us = clock_us()
        answered_us = now_us()
        error_us = (answered_us - asked_us + 1) // 2
        if best is None or error_us < best[1]:
            best = told_us - (asked_us + answered_us) // 2, error_us
    assert best is not None
    return best
