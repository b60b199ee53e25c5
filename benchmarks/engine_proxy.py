"""Stands between a harness and an engine, and keeps every request with the usage the engine gave.

Answers are cut short: how long they are has nothing to do with what is found of a prompt, and a
small machine would spend its time on them.
"""

from __future__ import annotations

import asyncio
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web


@dataclass(slots=True)
class Exchange:
    """A request, when it was sent and answered, and the engine's own count."""

    body: dict[str, Any]
    sent_s: float
    ended_s: float = 0.0
    usage: dict[str, Any] = field(default_factory=dict)
    error: str = ""


@dataclass(slots=True)
class Proxy:
    """Where it listens, and what has passed, in order."""

    engine: str
    answer_tokens: int
    url: str = ""
    exchanges: list[Exchange] = field(default_factory=list)

    async def chat(self, request: web.Request) -> web.StreamResponse:
        import aiohttp
        from aiohttp import web

        body = orjson.loads(await request.read())
        for name in ("max_tokens", "max_completion_tokens", "min_tokens"):
            if body.get(name):
                body[name] = min(body[name], self.answer_tokens)
        body["stream_options"] = {"include_usage": True}
        exchange = Exchange(body, time.time())
        self.exchanges.append(exchange)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        timeout = aiohttp.ClientTimeout(total=None)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(f"{self.engine}/v1/chat/completions", json=body) as answer,
        ):
            if answer.status != 200:
                exchange.error = await answer.text()
                return web.Response(status=answer.status, text=exchange.error)
            await response.prepare(request)
            async for line in answer.content:
                if line.startswith(b"data: {"):
                    exchange.usage = orjson.loads(line[6:]).get("usage") or exchange.usage
                await response.write(line)
        exchange.ended_s = time.time()
        await response.write_eof()
        return response

    async def models(self, request: web.Request) -> web.Response:
        import aiohttp
        from aiohttp import web

        async with (
            aiohttp.ClientSession() as session,
            session.get(f"{self.engine}{request.path}") as answer,
        ):
            return web.Response(body=await answer.read(), status=answer.status)

    async def start(self) -> None:
        from aiohttp import web

        app = web.Application(client_max_size=1 << 30)
        app.add_routes([web.post("/v1/chat/completions", self.chat)])
        app.add_routes([web.get("/{path:.*}", self.models)])
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"


@contextmanager
def proxy(engine: str, answer_tokens: int) -> Iterator[Proxy]:
    """One before an engine's URL, in a thread of its own."""
    found, loop = Proxy(engine, answer_tokens), asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        asyncio.run_coroutine_threadsafe(found.start(), loop).result(timeout=30)
        yield found
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
