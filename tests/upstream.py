"""A model's API whose every byte the test decides, and a proxy before it, in one event loop.

Answers are written as raw chunks of HTTP, so that what a test sends is what goes over the wire;
what comes in is kept as it came.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp

from traj.events import Session
from traj.proxy.log import Log
from traj.proxy.server import Proxy
from traj.proxy.upstreams import Upstreams, upstream
from traj.sources import find

OK = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Received:
    """A request as the upstream saw it."""

    head: bytes
    body: bytes

    @property
    def headers(self) -> dict[str, str]:
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in lines if line)}


Answering = Callable[[Received, "Connection"], Any]


class Connection:
    """The upstream's side of a connection."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, *chunks: bytes) -> None:
        for chunk in chunks:
            self.writer.write(chunk)
            await self.writer.drain()

    async def chunk(self, *chunks: bytes) -> None:
        for data in chunks:
            await self.send(b"%x\r\n%b\r\n" % (len(data), data))

    async def end(self) -> None:
        await self.send(b"0\r\n\r\n")

    async def gone(self) -> bool:
        """Waits until the other side has gone."""
        with suppress(ConnectionError):
            return await asyncio.wait_for(self.reader.read(1), 10) == b""
        return True


@dataclass
class World:
    """An upstream, a proxy before it, and a client's session."""

    address: str  # of the proxy
    direct: str  # of the upstream
    proxy: Proxy
    log: Log
    client: aiohttp.ClientSession
    received: list[Received] = field(default_factory=list)

    def url(self, path: str, run: str | None = None) -> str:
        return f"{self.address}{f'/s/{run}' if run else ''}/model{path}"

    async def session(self) -> Session:
        """The one session of the log, read after the proxy's end."""
        await self.proxy.close()
        (found,) = find([self.log.path]).sessions
        return found.read()


@asynccontextmanager
async def world(folder: Path, answering: Answering, path: str = "/v1") -> AsyncIterator[World]:
    """Everything started; `answering` gets each request and its connection."""
    received: list[Received] = []
    tasks: set[Any] = set()

    async def connection(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.add(asyncio.current_task())
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                one = Received(head, b"")
                one.body = await _body(reader, one.headers)
                received.append(one)
                await answering(one, Connection(reader, writer))
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(connection, "127.0.0.1", 0, limit=1 << 26)
    port = server.sockets[0].getsockname()[1]
    places = Upstreams([upstream("model", f"http://127.0.0.1:{port}{path}")])
    log = Log(folder / "run.jsonl", "run")
    proxy = Proxy(places, folder, "run", own=log)
    address = await proxy.start()
    try:
        async with aiohttp.ClientSession(auto_decompress=False) as client:
            direct = f"http://127.0.0.1:{port}"
            yield World(address, direct, proxy, log, client, received)
    finally:
        await proxy.close()
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "chunked" in headers.get("transfer-encoding", ""):
        found = b""
        while size := int(await reader.readline(), 16):
            found += await reader.readexactly(size)
            await reader.readexactly(2)
        await reader.readexactly(2)
        return found
    return await reader.readexactly(int(headers.get("content-length", 0)))
