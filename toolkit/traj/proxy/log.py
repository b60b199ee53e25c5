"""The log of a run: written as things happen, whole lines at a time, by a thread of its own.

What happens to the disk is no matter of the agent's: a line that cannot be written is taken back,
counted, and the count is written as soon as there is room again.
"""

from __future__ import annotations

import asyncio
import os
import queue
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import count
from pathlib import Path
from time import monotonic_ns, time_ns

import msgspec

from traj.proxy.bodies import Masks, cut, digest, said, shared, unpacked, without_keys
from traj.sources.live import wire
from traj.version import __version__

_ENCODE = msgspec.json.Encoder().encode
_LOOKED_AT = 16  # earlier bodies that a new one may go on from


class Clock:
    """Time since the run began, and of day."""

    def __init__(self) -> None:
        self._began = monotonic_ns()

    def at_us(self) -> int:
        """Microseconds since the run began, never backwards."""
        return (monotonic_ns() - self._began) // 1000

    @staticmethod
    def wall_us() -> int:
        """Microseconds since the epoch."""
        return time_ns() // 1000


class Request(msgspec.Struct):
    """A request as it came in. Headers are those that are kept."""

    number: int
    at_us: int
    wall_us: int
    method: str
    upstream: str
    path: str
    headers: dict[str, str]
    body: bytes
    encoding: str | None
    masks: Masks
    socket: int | None = None  # the request for the socket on which this one came
    pending: asyncio.TimerHandle | None = None  # what will hand it to the log
    noted: bool = False  # handed to the log


class Answer(msgspec.Struct):
    """What came back, as it came."""

    request: Request
    at_us: int = 0
    status: int | None = None
    first_us: int | None = None
    headers: dict[str, str] = {}
    chunks: list[tuple[int, bytes]] = []
    encoding: str | None = None
    cut: str | None = None
    error: str | None = None
    frames: dict[str, int] = {}
    noted: bool = False  # handed to the log


class Log:
    """One run's file, made when there is something to write. All methods may be called from the
    event loop: none waits for the disk but `close`."""

    def __init__(
        self,
        path: Path,
        run: str,
        command: Sequence[str] | None = None,
        checkout: wire.Checkout | None = None,
    ) -> None:
        self.path, self.clock = path, Clock()  # path: another one, should that be taken
        self.lost = 0  # lines, in all
        self.requests = 0
        told = None if command is None else list(command)
        wall = self.clock.wall_us()
        self._begin = wire.Begin(wire.FORMAT, run, wall, __version__, told, checkout)
        self._file: int | None = None
        self._unsaid = 0  # of the lost lines, not written down yet
        self._parts: set[str] = set()
        self._bodies: OrderedDict[int, list[str]] = OrderedDict()
        self._queue: queue.SimpleQueue[Callable[[], object] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="traj-log", daemon=True)
        self._thread.start()

    def next_number(self) -> int:
        """The number of the next request, from 0."""
        self.requests += 1
        return self.requests - 1

    def ask(self, request: Request) -> None:
        """Notes a request."""
        self._queue.put(lambda: self._ask(request))

    def end(self, answer: Answer, done: Callable[[], None] | None = None) -> None:
        """Notes an answer; `done` is called, in the log's thread, when it is in the file."""

        def write() -> None:
            try:
                self._end(answer)
            finally:
                if done is not None:
                    done()

        self._queue.put(write)

    def close(self, exit_code: int | None = None) -> None:
        """Writes what is left, and the end of the run where anything was written."""
        if not self._thread.is_alive():
            return
        self._queue.put(lambda: self._closed(exit_code))
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        while (task := self._queue.get()) is not None:
            try:
                task()
            except (ValueError, TypeError, RecursionError, MemoryError):
                self.lost += 1  # what cannot be written must not cost what comes after it
                self._unsaid += 1

    def _closed(self, exit_code: int | None) -> None:
        if self._file is None and not self.lost:
            return
        self._lines([_ENCODE(wire.Closed(self.requests, self.clock.at_us(), exit_code))])
        if self._file is not None:
            with suppress(OSError):
                os.fsync(self._file)
            os.close(self._file)

    def _ask(self, request: Request) -> None:
        body, encoding = unpacked(request.body, request.encoding)
        body, masked = request.masks.bytes(body)
        line = wire.Ask(
            request.number,
            request.at_us,
            request.wall_us,
            request.method,
            request.upstream,
            request.path,
            request.headers,
            masked=masked,
            socket=request.socket,
        )
        cuts = None if encoding is not None or not body else cut(body)
        if cuts is None:
            if request.body:
                line.said = said(body, encoding)
            self._lines([_ENCODE(line)])
            return
        names: list[str] = []
        lines: list[bytes] = []
        new: list[str] = []
        for place, piece in enumerate(cuts):
            if place % 2 == 0:
                names.append(piece.decode())
                continue
            kept, found = without_keys(piece)
            line.masked += found
            name = digest(kept)
            names.append(name)
            if name not in self._parts:
                self._parts.add(name)
                new.append(name)
                lines.append(_ENCODE(wire.Part(name, said(kept))))
        line.pieces = self._pieces(names)
        lines.append(_ENCODE(line))
        if self._lines(lines):
            self._bodies[request.number] = names
            if len(self._bodies) > _LOOKED_AT:
                self._bodies.popitem(last=False)
        else:
            self._parts.difference_update(new)

    def _pieces(self, names: list[str]) -> wire.Pieces:
        best, kept = None, 1  # the first piece alone is not worth naming another body
        for number, earlier in self._bodies.items():
            common = shared(names, earlier)
            if common > kept:
                best, kept = number, common
        if best is None:
            return wire.Pieces(rest=names)
        self._bodies.move_to_end(best)
        return wire.Pieces(best, kept, names[kept:])

    def _end(self, answer: Answer) -> None:
        body = b"".join(chunk for _, chunk in answer.chunks)
        since = answer.request.at_us
        line = wire.End(
            answer.request.number,
            answer.at_us,
            answer.status,
            answer.first_us,
            answer.headers,
            [(at - since, len(chunk)) for at, chunk in answer.chunks],
            cut=answer.cut,
            error=answer.error,
            frames=answer.frames,
        )
        if body:
            plain, encoding = unpacked(body, answer.encoding)
            plain, line.masked = answer.request.masks.bytes(plain)
            line.said = said(plain, encoding)
        self._lines([_ENCODE(line)])

    def _lines(self, lines: list[bytes]) -> bool:
        """Writes lines, all or none of them; before them, how many are missing."""
        if self._unsaid and self._write([_ENCODE(wire.Lost(self._unsaid, self.clock.at_us()))]):
            self._unsaid = 0
        if self._unsaid == 0 and self._write(lines):
            return True
        self.lost += len(lines)
        self._unsaid += len(lines)
        return False

    def _write(self, lines: list[bytes]) -> bool:
        size = None
        try:
            if self._file is None:
                self._file = self._open()
                lines = [_ENCODE(self._begin), *lines]
            size = os.fstat(self._file).st_size
            data = memoryview(b"\n".join(lines) + b"\n")
            while data:
                data = data[os.write(self._file, data) :]
        except OSError:
            if size is not None and self._file is not None:
                os.ftruncate(self._file, size)  # half a line would spoil the next
                if size == 0:
                    os.close(self._file)
                    self.path.unlink()
                    self._file = None  # it has no beginning: made anew
            return False
        return True

    def _open(self) -> int:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND
        stem = self.path.stem
        for number in count(2):
            with suppress(FileExistsError):
                return os.open(self.path, flags, 0o600)  # it holds whole conversations
            self.path = self.path.with_name(f"{stem}-{number}{self.path.suffix}")
        raise AssertionError
