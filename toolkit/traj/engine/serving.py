"""Starts and stops a simulated engine's server: here, in a thread, or until a signal comes.

aiohttp, since replay uses it as a client: one library for both sides, which parses HTTP in C and
needs no second package to listen. It is an extra: the engine itself needs none.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any

from traj.engine.options import ServerOptions
from traj.engine.parameters import Parameters
from traj.errors import MissingExtraError, TrajError, UsageError

_GRACE_S = 0.5  # that answers under way have when the server stops


@asynccontextmanager
async def serving(parameters: Parameters, options: ServerOptions) -> AsyncIterator[str]:
    """A server in the running event loop; its URL, without a path.

    Raises UsageError where it cannot listen, MissingExtraError without aiohttp.
    """
    try:
        from aiohttp import web
    except ImportError:
        raise MissingExtraError("a simulated engine behind HTTP", "replay") from None
    from traj.engine.server import Server

    server = Server(parameters, options)
    runner = web.AppRunner(
        server.app(), access_log=None, handler_cancellation=True, shutdown_timeout=_GRACE_S
    )
    await runner.setup()
    work = asyncio.create_task(server.live.run())
    try:
        try:
            await web.TCPSite(runner, options.host, options.port).start()
        except OSError as error:
            reason = error.strerror or str(error)
            raise UsageError(f"cannot listen on {options.host}:{options.port}: {reason}") from None
        host, port = runner.addresses[0][:2]
        yield f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    finally:
        await runner.cleanup()
        work.cancel()


@contextmanager
def in_thread(parameters: Parameters, options: ServerOptions | None = None) -> Iterator[str]:
    """A server in a thread of its own, for demonstrations and tests; its URL."""
    ready: Future[str] = Future()
    ends: list[Callable[[], object]] = []

    async def work() -> None:
        done = asyncio.Event()
        ends.append(partial(asyncio.get_running_loop().call_soon_threadsafe, done.set))
        try:
            async with serving(parameters, options or ServerOptions()) as url:
                ready.set_result(url)
                await done.wait()
        except TrajError as error:
            ready.set_exception(error)

    thread = threading.Thread(target=lambda: _run(work()), daemon=True)
    thread.start()
    try:
        yield ready.result()
    finally:
        if not ready.exception():
            ends[0]()
        thread.join()


def serve(parameters: Parameters, options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Serves until interrupted or terminated, which ends it cleanly. `ready` is told the URL."""

    async def work() -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, done.set)
        async with serving(parameters, options) as url:
            ready(url)
            await done.wait()

    _run(work())


def _run(work: Coroutine[Any, Any, None]) -> None:
    """In an event loop, the quicker one where there is a choice."""
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)
