"""Scripts made by a process of their own, and taken up by the clock's process piece by piece.

Through the pipe goes: the length of what follows (8 bytes), its kind (1), and the thing itself.
"""

from __future__ import annotations

import asyncio
import os
import signal
import struct
from contextlib import suppress
from multiprocessing import get_context
from pathlib import Path
from typing import IO, TYPE_CHECKING, Self, cast

import msgspec

from traj.errors import TrajError, UsageError
from traj.replay.scripts import Script, scripts

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from types import TracebackType

    from traj.replay.options import ReplayOptions

AHEAD = 4  # scripts that are ready beyond one an agent
_FRAME = struct.Struct("=Qc")
_SCRIPT, _END, _ERROR, _USAGE = b"s", b".", b"e", b"u"
_DECODER = msgspec.msgpack.Decoder(Script)


class Feed(asyncio.Protocol):
    """The scripts of one process of a run, in order. They are made from the first moment on, and
    taken up in an event loop, as an asynchronous context."""

    def __init__(self, path: Path, options: ReplayOptions, first: int) -> None:
        context = get_context("spawn")
        receive, send = context.Pipe(duplex=False)
        self._process = context.Process(
            target=_make, args=(path, options, first, send), daemon=True
        )
        self._process.start()
        send.close()
        self._receive = receive
        self._agents = len(range(first, options.agents, options.processes))
        self._queue: asyncio.Queue[Script | TrajError | None] = asyncio.Queue()
        self._enough = asyncio.Event()
        self._left = asyncio.Event()
        self._data = bytearray()
        self._ended = False

    async def __aenter__(self) -> Self:
        """Ready when there is a script for every agent, or there are no more."""
        loop = asyncio.get_running_loop()
        pipe = os.fdopen(os.dup(self._receive.fileno()), "rb", 0)
        transport, _ = await loop.connect_read_pipe(lambda: self, pipe)
        self._transport = transport
        try:
            await self._enough.wait()
        except asyncio.CancelledError:
            await self._leave()
            raise
        return self

    async def next(self) -> Script | None:
        """The next script; None where there are no more. Raises TrajError where one cannot be
        made."""
        found = await self._queue.get()
        if not isinstance(found, Script):
            self._queue.put_nowait(found)  # the end, for the other agents too
        if isinstance(found, TrajError):
            raise found
        self._transport.resume_reading()
        return found

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._leave()

    async def _leave(self) -> None:
        self._transport.close()
        await self._left.wait()

    def close(self) -> None:
        """Ends the process, whatever it is at."""
        self._process.kill()
        self._process.join()
        self._receive.close()

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.ReadTransport", transport)

    def data_received(self, data: bytes) -> None:
        self._data += data
        while len(self._data) >= _FRAME.size:
            size, kind = _FRAME.unpack_from(self._data)
            stop = _FRAME.size + size
            if len(self._data) < stop:
                return
            self._take(kind, self._data[_FRAME.size : stop])
            del self._data[:stop]

    def connection_lost(self, exc: Exception | None) -> None:
        self._left.set()
        if not self._ended:
            self._end(TrajError(f"the process that makes requests ended before its time: {exc}"))

    def _take(self, kind: bytes, data: bytearray) -> None:
        if kind == _END:
            self._end(None)
        elif kind != _SCRIPT:
            self._end((UsageError if kind == _USAGE else TrajError)(data.decode()))
        else:
            self._queue.put_nowait(_DECODER.decode(data))
            if self._queue.qsize() >= self._agents:
                self._enough.set()
            if self._queue.qsize() >= self._agents + AHEAD:
                self._transport.pause_reading()

    def _end(self, why: TrajError | None) -> None:
        self._ended = True
        self._queue.put_nowait(why)
        self._enough.set()


def _make(path: Path, options: ReplayOptions, first: int, send: Connection) -> None:
    """The process: makes scripts until nobody takes them."""
    from traj.dataset import Dataset
    from traj.workload.load import Load

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the run decides when it is over
    with suppress(OSError, AttributeError):  # what is sent now goes before what is sent later
        os.nice(10)
        os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    encoder = msgspec.msgpack.Encoder()
    with suppress(BrokenPipeError), os.fdopen(os.dup(send.fileno()), "wb") as pipe:
        send.close()
        try:
            load = Load(Dataset.open(path), options.load, text=True)
            for script in scripts(load, options, every=options.processes, first=first):
                _put(pipe, _SCRIPT, encoder.encode(script))
            _put(pipe, _END, b"")
        except TrajError as error:
            _put(pipe, _USAGE if isinstance(error, UsageError) else _ERROR, str(error).encode())


def _put(pipe: IO[bytes], kind: bytes, data: bytes) -> None:
    pipe.write(_FRAME.pack(len(data), kind))
    pipe.write(data)
    pipe.flush()
