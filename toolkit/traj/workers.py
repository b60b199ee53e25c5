"""Sessions into rows: read, scrubbed and built one at a time, in this process or in several."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache
from multiprocessing import get_context
from pathlib import Path

from traj.build import AnswerKey, Built, build
from traj.build.tokens import Counter, open_tokenizer
from traj.errors import SourceError
from traj.scrub import Detector, open_detector, scrub_session
from traj.sources import SessionFiles


@dataclass(frozen=True, slots=True)
class How:
    """What is asked for: plain values, which every worker process makes its own means from."""

    recorder_version: str
    tokenizer: str
    scrub: bool
    rules: Path | None  # a team's own


@dataclass(frozen=True, slots=True)
class Means:
    """What a session is made into rows with, in this process."""

    counter: Counter
    detector: Detector | None
    how: How

    @classmethod
    def of(cls, how: How) -> Means:
        """Those of this process."""
        detector = open_detector(how.rules) if how.scrub else None
        return cls(Counter(open_tokenizer(how.tokenizer)), detector, how)

    @property
    def scrubbed(self) -> str | bool:
        """What the manifest says of it: the version of all rules, or false."""
        return self.detector.version if self.detector else False


Task = tuple[SessionFiles, frozenset[AnswerKey]]


def run(tasks: Iterable[Task], means: Means, processes: int) -> Iterator[Built | SourceError]:
    """Results in the order of the tasks; with several processes a bounded number are under way."""
    if processes <= 1:
        for task in tasks:
            yield build_one(task, means)
        return
    with ProcessPoolExecutor(processes, get_context("forkserver")) as pool:
        under_way: deque[Future[Built | SourceError]] = deque()
        for task in tasks:
            under_way.append(pool.submit(_work, task, means.how))
            if len(under_way) >= 3 * processes:
                yield under_way.popleft().result()
        while under_way:
            yield under_way.popleft().result()


def build_one(task: Task, means: Means) -> Built | SourceError:
    """A session's rows without what it copies, or why it cannot be read."""
    files, copied = task
    try:
        session = files.read()
    except SourceError as error:
        return error
    redactions = None
    if means.detector is not None:
        scrubbed = scrub_session(session, means.detector)
        session, redactions = scrubbed.session, scrubbed.redactions
    return build(session, means.counter, means.how.recorder_version, copied, redactions)


_worker_means = cache(Means.of)  # a worker process's own, kept from task to task


def _work(task: Task, how: How) -> Built | SourceError:
    return build_one(task, _worker_means(how))
