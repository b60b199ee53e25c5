"""A run in several processes: all begin at the same time, each brings its part back."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import wait
from pathlib import Path
from typing import TYPE_CHECKING

from traj.errors import TrajError
from traj.replay.outcome import now_us
from traj.replay.part import Part
from traj.replay.player import State, summed

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from traj.dataset import Dataset
    from traj.replay.options import ReplayOptions
    from traj.replay.run import Progress

_HEAD_START_US = 300_000


@dataclass(frozen=True, slots=True)
class _Ready:
    """A process has its first scripts."""


def together(dataset: Dataset, options: ReplayOptions, progress: Progress | None) -> list[Part]:
    """The parts of all processes. Raises TrajError where one of them could not go on."""
    context = get_context("spawn")
    pipes: list[Connection] = []
    workers = []
    # An interrupt reaches the children too; the parent waits for what they bring.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for first in range(options.processes):
            ours, theirs = context.Pipe()
            worker = context.Process(target=_work, args=(dataset.path, options, first, theirs))
            worker.start()
            theirs.close()
            pipes.append(ours)
            workers.append(worker)
        return _gather(pipes, progress)
    finally:
        signal.signal(signal.SIGINT, before)
        for worker in workers:
            worker.join(5)
            worker.kill()


def _gather(pipes: list[Connection], progress: Progress | None) -> list[Part]:
    ready: set[int] = set()
    states: dict[int, State] = {}
    parts: dict[int, Part] = {}
    while len(parts) < len(pipes):
        heard = wait([pipe for number, pipe in enumerate(pipes) if number not in parts])
        for number, pipe in enumerate(pipes):
            if pipe not in heard:
                continue
            try:
                found: _Ready | State | Part | TrajError = pipe.recv()
            except EOFError:
                raise TrajError("a process of the replay ended before its time") from None
            if isinstance(found, TrajError):
                raise found
            if isinstance(found, _Ready):
                ready.add(number)
                if len(ready) == len(pipes):
                    start_us = now_us() + _HEAD_START_US
                    for one in pipes:
                        one.send(start_us)
            elif isinstance(found, State):
                states[number] = found
                if progress is not None:
                    progress(summed(states.values()))
            else:
                parts[number] = found
    return [parts[number] for number in range(len(pipes))]


def _work(path: Path, options: ReplayOptions, first: int, pipe: Connection) -> None:
    from traj.dataset import Dataset
    from traj.replay.run import drive

    def start() -> int:
        pipe.send(_Ready())
        return int(pipe.recv())

    try:
        pipe.send(drive(Dataset.open(path), options, first, pipe.send, start))
    except TrajError as error:
        pipe.send(error)
    finally:
        pipe.close()
