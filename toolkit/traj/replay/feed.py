"""Scripts made by a process of their own, and taken up by a thread beside the clock."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from threading import Semaphore, Thread
from typing import TYPE_CHECKING

import msgspec

from traj.errors import TrajError
from traj.replay.scripts import Script, scripts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from traj.replay.options import ReplayOptions

AHEAD = 4  # scripts that are ready beyond one an agent
_SCRIPT, _ERROR = b"s", b"e"
_DECODER = msgspec.msgpack.Decoder(Script)


class Feed:
    """The scripts of one process of a run, in order. Made in an event loop, and closed there."""

    def __init__(self, path: Path, options: ReplayOptions, every: int, first: int) -> None:
        context = get_context("spawn")
        receive, send = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_make, args=(path, options, every, first, send), daemon=True
        )
        self._process.start()
        send.close()
        self._receive = receive
        agents = len(range(first, options.agents, every))
        self._room = Semaphore(agents + AHEAD)
        self._loop = asyncio.get_running_loop()
        self._queue: asyncio.Queue[Script | TrajError | None] = asyncio.Queue()
        self._enough = asyncio.Event()
        self._wanted = agents
        self._thread = Thread(target=self._take_up, daemon=True)
        self._thread.start()

    async def ready(self) -> None:
        """Until there is a script for every agent, or there are no more."""
        await self._enough.wait()

    async def next(self) -> Script | None:
        """The next script; None where there are no more. Raises TrajError where one cannot be
        made."""
        found = await self._queue.get()
        if not isinstance(found, Script):
            self._queue.put_nowait(found)  # the end, for the other agents too
        if isinstance(found, TrajError):
            raise found
        self._room.release()
        return found

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        self._process.join()
        self._receive.close()

    def _take_up(self) -> None:
        taken = 0
        with suppress(EOFError, OSError):
            while True:
                self._room.acquire()
                data = self._receive.recv_bytes()
                if data[:1] == _ERROR:
                    self._put(TrajError(data[1:].decode()))
                    break
                self._put(_DECODER.decode(memoryview(data)[1:]))
                taken += 1
                if taken >= self._wanted:
                    self._call(self._enough.set)
        self._put(None)
        self._call(self._enough.set)

    def _put(self, item: Script | TrajError | None) -> None:
        self._call(self._queue.put_nowait, item)

    def _call(self, function: object, *arguments: object) -> None:
        with suppress(RuntimeError):  # the loop has ended: nobody waits any more
            self._loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]


def _make(path: Path, options: ReplayOptions, every: int, first: int, send: Connection) -> None:
    """The process: makes scripts until nobody takes them."""
    from traj.dataset import Dataset
    from traj.workload.load import Load

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it is over
    with suppress(OSError):
        os.nice(10)  # what is sent now goes before what is sent later
    encoder = msgspec.msgpack.Encoder()
    try:
        with suppress(BrokenPipeError):
            try:
                load = Load(Dataset.open(path), options.load, text=True)
                for script in scripts(load, options, every=every, first=first):
                    send.send_bytes(_SCRIPT + encoder.encode(script))
            except TrajError as error:
                send.send_bytes(_ERROR + str(error).encode())
    finally:
        send.close()
