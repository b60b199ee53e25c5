"""Requests to one engine: over as many connections as there are at once, every failure named."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Self
from urllib.parse import urlsplit

from traj.errors import MissingExtraError
from traj.replay.connection import Answer, Connection
from traj.replay.outcome import FailedError, Outcome, now_us

if TYPE_CHECKING:
    from types import TracebackType

    from traj.replay.apis import Api
    from traj.replay.options import ReplayOptions

_CONNECT_S = 30.0
_IDLE_US = 30_000_000  # after which a connection is not trusted to be one


class Client:
    """Connections to one engine. To be used as an asynchronous context."""

    def __init__(self, options: ReplayOptions, api: Api) -> None:
        self._api, self._timeout_s = api, options.timeout_s
        url = urlsplit(options.endpoint)
        self._host, self._tls = url.hostname or "", url.scheme == "https"
        self._port = url.port or (443 if self._tls else 80)
        host = url.netloc.rpartition("@")[2]
        lines = [f"POST {url.path} HTTP/1.1", f"Host: {host}"]
        lines += [f"{name}: {value}" for name, value in options.headers().items()]
        self._head = "\r\n".join([*lines, "Content-Length: "]).encode()
        self._open: set[Connection] = set()
        self._idle: list[Connection] = []
        self._context: ssl.SSLContext | None = None

    async def __aenter__(self) -> Self:
        try:
            from httptools import HttpResponseParser
        except ImportError:
            raise MissingExtraError("replaying", "replay") from None
        self._parser = HttpResponseParser
        if self._tls:
            self._context = ssl.create_default_context()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # A loop of uvloop's that ends before its connections have may wait for ever.
        lost = [connection.lost for connection in self._open]
        for connection in tuple(self._open):
            connection.abort()
        await asyncio.gather(*lost)

    async def send(self, body: bytes, outcome: Outcome) -> None:
        """Sends one request and fills in what came of it; again where the engine had closed an
        idle connection before a byte came back, which is nobody's failure. Raises nothing but
        what cancels it."""
        request = b"%b%d\r\n\r\n%b" % (self._head, len(body), body)
        while True:
            outcome.sent_us = now_us()
            stale = False
            try:
                connection = self._waiting() or await self._connect()
                stale = connection.used
                await connection.exchange(request, Answer(self._api, outcome), self._timeout_s)
            except FailedError as failure:
                if stale and failure.name == "disconnected":
                    outcome.retries += 1
                    continue
                outcome.fail(failure.name, str(failure))
            outcome.end_us = now_us()
            return

    def _waiting(self) -> Connection | None:
        """A connection that is open and idle, the one that was used last."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_open and now_us() - connection.heard_us < _IDLE_US:
                return connection
            connection.abort()
        return None

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(min(_CONNECT_S, self._timeout_s)):
                _, connection = await loop.create_connection(
                    lambda: Connection(self._parser, self._open, self._idle),
                    self._host,
                    self._port,
                    ssl=self._context,
                )
        except TimeoutError:
            raise FailedError("timeout", "no connection in time") from None
        except OSError as error:
            raise FailedError("not_connected", str(error)) from None
        return connection
