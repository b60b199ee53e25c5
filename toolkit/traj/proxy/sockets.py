"""WebSockets through the proxy: frames passed on as they come, both ways, and how they end.

A message in fragments is passed on in one; nothing else about frames changes. An upstream that
refuses a socket is heard unchanged, so that the agent can send requests instead.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import aiohttp
from aiohttp import WSMsgType, web
from multidict import CIMultiDict

from traj.proxy.conversation import SWITCHED, Conversation
from traj.proxy.headers import Raw, passed_on, written
from traj.proxy.log import Answer, Log
from traj.proxy.noting import note_request

if TYPE_CHECKING:
    from yarl import URL

_HANDSHAKE = frozenset(
    (
        *("host", "content-length", "sec-websocket-key", "sec-websocket-version"),
        *("sec-websocket-extensions", "sec-websocket-protocol", "sec-websocket-accept"),
    )
)
_FRAMES = (WSMsgType.TEXT, WSMsgType.BINARY, WSMsgType.PING, WSMsgType.PONG)
_CLOSE_S = 2.0  # how long a side may take to answer a close
_Agent = web.WebSocketResponse[bool]
_Upstream = aiohttp.ClientWebSocketResponse[bool]


class RefusedError(aiohttp.ClientError):
    """The upstream did not agree to a socket: its answer, as it was."""

    def __init__(self, response: aiohttp.ClientResponse, body: bytes) -> None:
        super().__init__()
        self.status, self.reason, self.body = response.status, response.reason, body
        self.raw_headers = response.raw_headers


async def refusals(response: aiohttp.ClientResponse) -> None:
    """Keeps the body of a refusal, which would be lost. Raises RefusedError."""
    asked = response.request_info.headers
    if "Sec-WebSocket-Key" in asked and response.status != SWITCHED:
        raise RefusedError(response, await response.read())


class Sockets:
    """The sockets of a proxy. `client` is to have `refusals` for its `raise_for_status`."""

    def __init__(self, client: aiohttp.ClientSession) -> None:
        self._client = client
        self._open: dict[Conversation, asyncio.Task[Any] | None] = {}

    def end_idle(self) -> None:
        """Ends the sockets on which nothing is being answered."""
        for said, task in list(self._open.items()):
            if said.idle and task is not None:
                task.cancel()

    async def carry(
        self, request: web.BaseRequest, url: URL, way_out: str | None, answer: Answer, log: Log
    ) -> web.StreamResponse:
        """Serves a request for a socket until that is closed; `answer` tells what came of it.
        Raises ClientError and OSError where the upstream is not reached."""
        try:
            upstream = await _connected(self._client, request, url, way_out)
        except RefusedError as refused:
            answer.status, answer.headers = refused.status, written(refused.raw_headers)
            return web.Response(
                status=refused.status,
                reason=refused.reason,
                headers=CIMultiDict(passed_on(refused.raw_headers)),
                body=refused.body,
            )
        answer.first_us, answer.status = log.clock.at_us(), SWITCHED
        answer.headers, answer.frames = written(_raw_headers(upstream)), {}
        said = Conversation(answer, log)
        try:
            agent = _accepting(upstream)
            await agent.prepare(request)
            note_request(answer.request, log)
            self._open[said] = asyncio.current_task()
            await _pass_frames(request, agent, upstream, said)
        finally:
            self._open.pop(said, None)
            with suppress(aiohttp.ClientError, OSError):
                await upstream.close(code=aiohttp.WSCloseCode.GOING_AWAY)
        return agent


async def _pass_frames(
    request: web.BaseRequest, agent: _Agent, upstream: _Upstream, said: Conversation
) -> None:
    """Passes frames on, both ways, until one side is done; then so is the other."""
    ways = (
        asyncio.create_task(_pump(agent, upstream, said)),
        asyncio.create_task(_pump(upstream, agent, said)),
    )
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    except asyncio.CancelledError:
        said.cut("agent" if agent.closed or request.transport is None else "proxy")
        raise
    finally:
        for way in ways:
            way.cancel()
        ends = await asyncio.gather(*ways, return_exceptions=True)
    gone = "agent" if request.transport is None else "upstream"  # where passing on failed
    side, close = next((end for end in ends if isinstance(end, tuple)), (gone, None))
    said.cut(side)
    if close is not None:
        code, reason = close
        for one in (upstream, agent) if side == "agent" else (agent, upstream):
            with suppress(aiohttp.ClientError, OSError):
                await one.close(code=code, message=reason)
    elif request.transport is not None:  # no close came: the line is just cut
        request.transport.close()


async def _pump(
    source: _Agent | _Upstream, target: _Agent | _Upstream, said: Conversation
) -> tuple[str, tuple[int, bytes] | None]:
    """Which side has gone, and the code and reason of its close, None where it sent none."""
    sides = ("agent", "upstream")
    side, other = sides if isinstance(source, web.WebSocketResponse) else sides[::-1]
    while True:
        message = await source.receive()
        if message.type is WSMsgType.CLOSE:
            reason = (message.extra or "").encode()
            return side, (message.data or aiohttp.WSCloseCode.OK, reason)
        if message.type not in _FRAMES:
            return side, None
        if message.type is not WSMsgType.TEXT:
            said.count(f"{side} {message.type.name.lower()}")
        elif side == "agent":
            said.asked(message.data)
        elif (in_file := said.told(message.data)) is not None:
            await in_file  # what the agent was told is never lost
        try:
            await target.send_frame(bytes(message.data), message.type)
        except (aiohttp.ClientError, OSError):
            return other, None


async def _connected(
    client: aiohttp.ClientSession, request: web.BaseRequest, url: URL, way_out: str | None
) -> _Upstream:
    """A socket to the upstream, asked for as the agent did. Raises RefusedError, ClientError,
    OSError."""
    offered = request.headers.get("Sec-WebSocket-Extensions", "")
    protocols = request.headers.get("Sec-WebSocket-Protocol", "")
    return await client.ws_connect(
        url,
        headers=list(passed_on(request.raw_headers, drop=_HANDSHAKE)),
        protocols=[one.strip() for one in protocols.split(",") if one.strip()],
        compress=15 if "permessage-deflate" in offered else 0,
        timeout=aiohttp.ClientWSTimeout(ws_close=_CLOSE_S),
        autoclose=False,
        autoping=False,
        max_msg_size=0,
        decode_text=False,
        proxy=way_out,
    )


def _accepting(upstream: _Upstream) -> _Agent:
    """The agent's side, to be prepared: with the subprotocol and headers of the upstream's."""
    agent = web.WebSocketResponse(
        timeout=_CLOSE_S,
        autoclose=False,
        autoping=False,
        protocols=(upstream.protocol,) if upstream.protocol else (),
        compress=bool(upstream.compress),
        max_msg_size=0,
        decode_text=False,
    )
    for name, value in passed_on(_raw_headers(upstream), drop=_HANDSHAKE):
        agent.headers.add(name, value)
    return agent


def _raw_headers(upstream: _Upstream) -> Raw:
    response = upstream._response  # noqa: SLF001 - no public way to the headers of a handshake
    return response.raw_headers
