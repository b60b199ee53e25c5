"""A run: agents in a closed loop, from the first request to the last or to an interrupt.

Each process has its own event loop, its own scripts, and every P-th play of the run's order; times
are of the monotonic clock, which they share.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import platform
import resource
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from traj.errors import TrajError
from traj.replay.apis import open_api
from traj.replay.client import Client
from traj.replay.feed import Feed
from traj.replay.health import health, reasons
from traj.replay.lag import LoopLag
from traj.replay.outcome import now_us
from traj.replay.part import Part
from traj.replay.player import Player, State
from traj.replay.results import Requests, Run, frame
from traj.version import __version__
from traj.workload.load import Load

if TYPE_CHECKING:
    from traj.build.tokens import Tokenizer
    from traj.dataset import Dataset
    from traj.replay.options import ReplayOptions, Steady

HEAD_START_US = 200_000  # between readiness and the first request
_EARLY_US = 20_000  # before an agent's time, for its first script and body to be ready by then

Progress = Callable[[State], None]


def replay(dataset: Dataset, options: ReplayOptions, progress: Progress | None = None) -> Run:
    """Replays a dataset against an engine.

    Raises UsageError for options that cannot be meant, TrajError where the engine answers nothing
    at all. An interrupt (SIGINT, SIGTERM) ends it with what was measured.
    """
    began = datetime.now(UTC)
    lost: list[str] = []
    if options.on_ray:
        from traj.replay.workers import spread

        parts, lost = spread(dataset, options, progress)
    elif options.processes == 1:
        parts = [drive(dataset, options, 0, progress)]
    else:
        from traj.replay.processes import together

        parts = together(dataset, options, progress)
    hopeless = [part for part in parts if part.hopeless]
    if len(hopeless) == len(parts):
        raise TrajError(f"{options.url}: answered nothing: {hopeless[0].first_error}")
    return _run(dataset, options, parts, lost, began)


def drive(
    dataset: Dataset,
    options: ReplayOptions,
    first: int,
    progress: Progress | None = None,
    start: Callable[[], int] | None = None,
) -> Part:
    """The part of one process: agents `first`, `first + processes`, ... `start` waits until all
    processes are ready, and gives the time at which they begin."""
    feed = Feed(dataset.path, options, first)
    try:
        tokenizer = Load(dataset, options.load, text=False).tokenizer
        with asyncio.Runner(loop_factory=_new_loop()) as runner, _no_collector():
            return runner.run(_drive(options, feed, tokenizer, first, progress, start))
    finally:
        feed.close()


def _new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    try:
        import uvloop
    except ImportError:  # a slower loop is a loop
        return asyncio.new_event_loop
    return uvloop.new_event_loop


@contextmanager
def _no_collector() -> Iterator[None]:
    """It would go through all scripts, for up to a second, in which nothing is sent; and a request
    leaves no cycles."""
    before = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if before:
            gc.enable()


async def _drive(
    options: ReplayOptions,
    feed: Feed,
    tokenizer: Tokenizer,
    first: int,
    progress: Progress | None,
    start: Callable[[], int] | None,
) -> Part:
    state, requests, lag = State(), Requests(), LoopLag()
    async with Client(options, open_api(options.api)) as client, feed:
        player = Player(client, requests, state)
        started_us = now_us() + HEAD_START_US
        if start is not None:
            started_us = await asyncio.to_thread(start)
        cpu_s = _cpu_s()
        agents = [
            asyncio.create_task(_agent(agent, feed, player, state, options, started_us))
            for agent in range(first, options.agents, options.processes)
        ]
        others = [asyncio.create_task(lag.watch())]
        if progress is not None:
            others.append(asyncio.create_task(_report(state, progress)))
        interrupted = await _until_over(agents, options, state, started_us)
        for task in others:
            task.cancel()
        end_us = now_us()
        busy = (_cpu_s() - cpu_s) * 1e6 / max(1, end_us - started_us)
    requests.count(tokenizer)
    return Part(
        requests.rows,
        started_us,
        end_us,
        lag.lags_us,
        busy,
        state.played,
        state.first_error,
        state.hopeless,
        interrupted,
    )


async def _agent(
    agent: int, feed: Feed, player: Player, state: State, options: ReplayOptions, started_us: int
) -> None:
    """One agent: a trajectory after another, until there are none or the run stops."""
    free_us = started_us + round(options.ramp_s * 1e6 * agent / options.agents)
    early_us = _EARLY_US if options.ramp_s else 0
    await asyncio.sleep(max(0.0, (free_us - early_us - now_us()) / 1e6))
    if not options.ramp_s:
        free_us = max(free_us, now_us())  # all at once is one after another; timers may be early
    state.active += 1
    if state.active == len(range(options.agents)[agent % options.processes :: options.processes]):
        state.all_active_us = now_us()
    try:
        while not state.stopping and (script := await feed.next()) is not None:
            await player.play(script, agent, free_us)
            free_us = now_us()  # what the next script is waited for is the harness's delay
            state.played += not state.stopping
    finally:
        state.active -= 1


async def _until_over(
    agents: list[asyncio.Task[None]], options: ReplayOptions, state: State, started_us: int
) -> bool:
    """Waits for the agents, the end of the time or an interrupt; True for the latter."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, stop.set)
    try:
        waiting = asyncio.create_task(stop.wait())
        left = None
        if options.duration_s is not None:
            left = options.duration_s + max(0, started_us - now_us()) / 1e6
        whole = asyncio.ensure_future(asyncio.wait(agents, return_when=asyncio.FIRST_EXCEPTION))
        either: list[asyncio.Future[Any]] = [whole, waiting]
        if options.steady is not None:
            share = len(agents) / options.agents
            either.append(asyncio.create_task(_steady(options.steady, share, state)))
        await asyncio.wait(either, timeout=left, return_when=asyncio.FIRST_COMPLETED)
        state.stopping = True
        for task in (*either, *agents):
            task.cancel()
        for found in await asyncio.gather(*agents, return_exceptions=True):
            if isinstance(found, BaseException) and not isinstance(found, asyncio.CancelledError):
                raise found
        return stop.is_set()
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)


async def _steady(wanted: Steady, share: float, state: State) -> None:
    """Until this process has seen enough; of the trajectories it plays its share."""
    seconds = wanted.settle_s + wanted.window_s
    while (  # noqa: ASYNC110 - what is waited for is time
        state.all_active_us is None
        or now_us() - state.all_active_us < seconds * 1e6
        or state.played < wanted.trajectories * share
    ):
        await asyncio.sleep(0.02)


async def _report(state: State, progress: Progress) -> None:
    while True:
        progress(state)
        await asyncio.sleep(0.5)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _run(
    dataset: Dataset,
    options: ReplayOptions,
    parts: list[Part],
    lost: Sequence[str],
    began: datetime,
) -> Run:
    start_us = min(part.start_us + part.clock_offset_us for part in parts)
    rows = frame((part.clock_offset_us - start_us, part.rows) for part in parts)
    client = health(rows, parts)
    found = (*lost, *reasons(client))
    return Run(
        requests=rows,
        options=_plain(options),
        dataset={
            "name": dataset.manifest.name,
            "version": dataset.manifest.version,
            "sha256": hashlib.sha256(dataset.manifest.to_json()).hexdigest(),
        },
        tool={
            "traj": __version__,
            "httptools": version("httptools"),
            "python": platform.python_version(),
            "system": platform.platform(),
        },
        started_at=began.isoformat(timespec="milliseconds"),
        duration_us=max(part.end_us + part.clock_offset_us for part in parts) - start_us,
        client=client,
        played=sum(part.played for part in parts),
        valid=not found,
        reasons=found,
        interrupted=any(part.interrupted for part in parts),
    )


def _plain(options: ReplayOptions) -> dict[str, Any]:
    """As run.json holds them: without the key."""
    found = asdict(options)
    del found["api_key"]
    return found
