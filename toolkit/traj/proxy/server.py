"""The proxy itself: HTTP on both sides, answers passed on byte for byte as they come.

What happens on one side happens on the other: an agent that goes away ends the request upstream, an
upstream that breaks off ends the agent's connection the same way, and a slow reader slows the
upstream down. Nothing is retried that the agent would have seen fail, nothing times out here.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import web
from multidict import CIMultiDict
from yarl import URL

from traj.errors import UsageError
from traj.proxy.bodies import Masks
from traj.proxy.headers import credentials, passed_on, plain_path, written
from traj.proxy.log import Answer, Log, Request
from traj.proxy.noting import note, note_request
from traj.proxy.sockets import Sockets, refusals
from traj.proxy.upstreams import Upstreams, Way

_DRAIN_S = 10.0  # how long requests in flight may take at the end
_LATER_S = 0.03
_LARGE = 1 << 20  # bytes of a body that is sent in pieces, so that others get their turn
_FIELD = 1 << 17  # bytes of a header: some agents send whole settings
_QUIET = logging.getLogger("traj.proxy")  # an agent's terminal is no place for our troubles
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False
_FORGOTTEN = frozenset(("host", "expect", "content-length"))


@dataclass
class Proxy:
    """A proxy and the logs of its runs. `start` it, `close` it; both in one event loop."""

    upstreams: Upstreams
    folder: Path  # of the logs that are made for runs that requests name
    run: str  # of requests that name none
    host: str = "127.0.0.1"
    port: int = 0
    sockets: bool = False  # whether WebSockets are passed on, else they are refused
    own: Log | None = None  # the log of `run`, where it is to tell of a command
    failed: dict[str, int] = field(default_factory=dict)  # upstream: connections that failed
    _logs: dict[str, Log] = field(default_factory=dict)
    _sockets: Sockets | None = None
    _client: aiohttp.ClientSession | None = None
    _runner: Any = None
    _ways_out: Mapping[str, str] = field(default_factory=getproxies)

    async def start(self) -> str:
        """Listens, and gives the proxy's address. Raises UsageError where it cannot."""
        if self.own is not None:
            self._logs[self.run] = self.own
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_reused)
        self._client = aiohttp.ClientSession(
            auto_decompress=False,
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=20),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_field_size=_FIELD,
            max_line_size=_FIELD,
            raise_for_status=refusals,
            skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            timeout=aiohttp.ClientTimeout(total=None, connect=None, sock_connect=None),
            trace_configs=[tracing],
        )
        self._sockets = Sockets(self._client) if self.sockets else None
        server = web.Server(
            self._handle,
            access_log=None,
            logger=_QUIET,
            auto_decompress=False,
            handler_cancellation=True,
            lingering_time=0,
            max_field_size=_FIELD,
            max_line_size=_FIELD,
        )
        self._runner = web.ServerRunner(server, shutdown_timeout=_DRAIN_S)
        await self._runner.setup()
        try:
            await web.TCPSite(self._runner, self.host, self.port, backlog=1024).start()
        except OSError as error:
            await self.close()
            reason = error.strerror or error
            raise UsageError(f"{self.host}:{self.port}: cannot listen there: {reason}") from None
        port = self._runner.addresses[0][1]
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http://{host}:{port}"

    async def close(self, exit_code: int | None = None) -> int:
        """Lets requests in flight come to their end for a while, flushes the logs, and gives how
        many lines could not be written."""
        if self._sockets is not None:
            self._sockets.end_idle()
        if self._runner is not None:
            await self._runner.cleanup()
        if self._client is not None:
            await self._client.close()
        for log in self._logs.values():
            await asyncio.to_thread(log.close, exit_code)
        return sum(log.lost for log in self._logs.values())

    @property
    def requests(self) -> int:
        """How many came so far."""
        return sum(log.requests for log in self._logs.values())

    def _log(self, run: str | None) -> Log:
        name = run or self.run
        if name not in self._logs:
            self._logs[name] = Log(self.folder / f"{name}.jsonl", name)
        return self._logs[name]

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        path, _, query = request.raw_path.partition("?")
        way = self.upstreams.way(path)
        if way is None:
            return web.Response(status=404, text="traj: no upstream for this path\n")
        log = self._log(way.run)
        asked = Request(
            log.next_number(),
            log.clock.at_us(),
            log.clock.wall_us(),
            request.method,
            way.upstream.name,
            plain_path(way.upstream.below(way.rest), query),
            written(request.raw_headers),
            b"",
            request.headers.get("Content-Encoding"),
            Masks(credentials(request.raw_headers, query)),
        )
        answer = Answer(asked)
        try:
            asked.body = await _body(request)
            # Cutting and hashing wait until the request is on its way: models take longer.
            asked.pending = asyncio.get_running_loop().call_later(
                _LATER_S, note_request, asked, log
            )
            if "websocket" in request.headers.get("Upgrade", "").lower():
                if self._sockets is not None:
                    target = URL(_target(way, query), encoded=True)
                    out = _way_out(self._ways_out, target)
                    try:
                        return await self._sockets.carry(request, target, out, answer, log)
                    except (aiohttp.ClientError, OSError) as error:
                        return self._unreached(request, way, answer, error)
                # Agents then send requests instead.
                answer.status = 426
                return web.Response(status=426, headers={"Upgrade": "HTTP/1.1"})
            return await self._forward(request, way, query, answer, log)
        except (asyncio.CancelledError, ConnectionError):
            answer.cut = answer.cut or "agent"
            raise
        finally:
            note(answer, log)

    async def _forward(
        self, request: web.BaseRequest, way: Way, query: str, answer: Answer, log: Log
    ) -> web.StreamResponse:
        try:
            response = await self._send(request, _target(way, query), answer.request.body)
        except (aiohttp.ClientError, OSError) as error:
            return self._unreached(request, way, answer, error)
        answer.first_us = log.clock.at_us()
        answer.status = response.status
        answer.headers = written(response.raw_headers)
        answer.encoding = response.headers.get("Content-Encoding")
        passed = web.StreamResponse(
            status=response.status, reason=response.reason, headers=_headers(response)
        )
        chunks: list[tuple[int, bytes]] = []
        answer.chunks = chunks
        now = log.clock.at_us
        try:
            await passed.prepare(request)
            async for chunk in response.content.iter_any():
                chunks.append((now(), chunk))
                await passed.write(chunk)
                if not answer.request.noted:
                    note_request(answer.request, log)
        except (aiohttp.ClientPayloadError, aiohttp.ClientConnectionError, OSError) as error:
            transport = request.transport
            gone = transport is None or transport.is_closing()
            answer.cut, answer.error = "agent" if gone else "upstream", type(error).__name__
            response.close()
            return _broken_off(request, passed)
        except asyncio.CancelledError:
            response.close()  # and with it the connection: the upstream sees that nobody listens
            raise
        response.release()
        # In the file before the agent can have seen the end: what it was told is never lost.
        done = asyncio.get_running_loop().create_future()
        note(answer, log, done)
        await done
        await passed.write_eof()
        return passed

    def _unreached(
        self, request: web.BaseRequest, way: Way, answer: Answer, error: Exception
    ) -> web.StreamResponse:
        # The agent meets what it would have met: a connection that came to nothing.
        answer.cut, answer.error = "upstream", type(error).__name__
        name = way.upstream.name
        self.failed[name] = self.failed.get(name, 0) + 1
        return _broken_off(request)

    async def _send(
        self, request: web.BaseRequest, target: str, body: bytes
    ) -> aiohttp.ClientResponse:
        assert self._client is not None
        headers = _request_headers(request, body)
        url = URL(target, encoded=True)
        proxy = _way_out(self._ways_out, url)
        connection = SimpleNamespace(kept=False)
        for again in (False, True):
            try:
                return await self._client.request(
                    request.method,
                    url,
                    data=BytesIO(body) if len(body) > _LARGE else body or None,
                    headers=headers,
                    allow_redirects=False,
                    proxy=proxy,
                    trace_request_ctx=connection,
                )
            except aiohttp.ServerDisconnectedError:
                # Of a connection that was kept and closed meanwhile nothing was read: the agent's
                # own would have been another. On a fresh one it is the upstream's doing.
                if again or not connection.kept:
                    raise
        raise AssertionError


def _target(way: Way, query: str) -> str:
    return way.upstream.target(way.rest) + (f"?{query}" if query else "")


async def _reused(_session: object, context: SimpleNamespace, _params: object) -> None:
    if context.trace_request_ctx is not None:
        context.trace_request_ctx.kept = True


async def _body(request: web.BaseRequest) -> bytes:
    pieces = [chunk async for chunk in request.content.iter_any()]
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


def _request_headers(request: web.BaseRequest, body: bytes) -> CIMultiDict[str]:
    headers = CIMultiDict(passed_on(request.raw_headers, drop=_FORGOTTEN))
    if body or request.method in ("POST", "PUT", "PATCH"):
        headers["Content-Length"] = str(len(body))
    return headers


def _headers(response: aiohttp.ClientResponse) -> CIMultiDict[str]:
    return CIMultiDict(passed_on(response.raw_headers))


def _way_out(ways: Mapping[str, str], url: URL) -> str | None:
    """The proxy that the environment names for an address, as the agent would have used it."""
    found = ways.get(url.scheme)
    return None if found is None or proxy_bypass(url.host or "") else found


def _broken_off(
    request: web.BaseRequest, passed: web.StreamResponse | None = None
) -> web.StreamResponse:
    """Closes the agent's connection without an end of the answer."""
    if request.transport is not None:  # it may be gone already
        request.transport.close()
    return passed if passed is not None else web.StreamResponse()
