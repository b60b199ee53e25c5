"""A simulated engine behind HTTP, for clients of OpenAI's and Anthropic's APIs.

aiohttp, because the same library is a client as well, and the only one of the well-kept servers
that needs no second package to listen. It is an extra: the engine itself needs none.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

from traj.build.tokens import open_tokenizer
from traj.engine.answers import Answers
from traj.engine.metrics import Metrics
from traj.engine.options import ServerOptions
from traj.engine.parameters import Parameters
from traj.engine.prompts import Prompt, Prompts
from traj.engine.realtime import Live, Reply
from traj.engine.request import Request
from traj.engine.vocabulary import encoder
from traj.engine.wire import Ask, RefusedError, Said, Wire
from traj.engine.wire.completions import ChatCompletions, Completions
from traj.engine.wire.messages import Messages
from traj.engine.wire.responses import Responses
from traj.errors import MissingExtraError, TrajError, UsageError

if TYPE_CHECKING:
    from aiohttp import web

_LARGEST = 1 << 28  # bytes of a body
_GRACE_S = 1.0  # that answers under way have when the server stops


class Server:
    """One engine, in the running event loop. `serving` starts and stops it."""

    def __init__(self, parameters: Parameters, options: ServerOptions) -> None:
        """Raises UsageError where the tokenizer is missing, or cannot say anything."""
        tokenizer = open_tokenizer(options.tokenizer)
        encode = encoder(tokenizer, options.tokenizer)
        self.parameters, self.options = parameters, options
        self.model = options.model or parameters.name
        self.live = Live(parameters)
        self.metrics = Metrics(self.model, self.live)
        self._answers = Answers(encode, tokenizer.name)
        self._prompts = Prompts(encode, parameters.block_tokens)
        self._chance = random.Random(options.seed)  # noqa: S311 - not for secrets
        self._requests = 0

    def app(self) -> web.Application:
        """All its addresses."""
        from aiohttp import web

        app = web.Application(client_max_size=_LARGEST)
        for wire in (ChatCompletions(), Completions(), Responses(), Messages()):
            app.router.add_post(wire.PATH, self._answering(wire))
        app.router.add_get("/v1/models", self._models)
        app.router.add_get("/health", self._health)
        app.router.add_get("/metrics", self._metrics)
        return app

    def _answering(self, wire: Wire) -> Callable[[web.Request], Any]:
        async def answer(request: web.Request) -> web.StreamResponse:
            try:
                return await self._answer(wire, request)
            except RefusedError as error:
                return _error(wire, error)

        return answer

    async def _answer(self, wire: Wire, request: web.Request) -> web.StreamResponse:
        received = self.live.now_ps()
        body = await request.read()
        fault = await self._fault()
        ask = wire.read(body)
        if ask.model not in (None, self.model):
            raise RefusedError(f"The model `{ask.model}` does not exist.", 404)
        prompt = self._lay(ask)
        tokens, reason = self._length(ask, prompt)
        if refusal := self.parameters.refusal(prompt.tokens, tokens):
            raise RefusedError(refusal)
        drawn = self._answers.draw(tokens, f"{self.options.seed} ".encode() + prompt.key())
        answer = self._prompts.following(prompt, self._answers.ids(drawn))
        reply = self.live.submit(
            Request(prompt.tokens, tokens, prompt.blocks, answer),
            ask.session or prompt.opening or prompt.key(),
            received,
            self.options.stream_interval if ask.stream else None,
        )
        self._requests += 1
        name, now = f"sim-{self._requests}", int(time.time())
        said = Said(name, self.model, now, reason, wants_usage=ask.usage)
        try:
            answering = self._stream if ask.stream else self._whole
            return await answering(wire, request, reply, said, drawn, fault)
        finally:
            if not reply.is_over:
                self.live.abort(reply)
            self.metrics.count(reply.progress, reason if reply.is_over else "abort")

    async def _fault(self) -> str | None:
        """What goes wrong with the next request; what concerns its answer is left to that."""
        fault = self.options.faults.draw(self._chance)
        if fault:
            self.metrics.faults[fault] += 1
        if fault == "error":
            raise RefusedError("a fault that was asked for", 500)
        if fault == "overload":
            raise RefusedError("overloaded, as was asked for", 503)
        if fault == "hang":
            await asyncio.Event().wait()  # until the client gives up
        return fault

    def _lay(self, ask: Ask) -> Prompt:
        if ask.tokens is None:
            return self._prompts.lay(ask.pieces)
        try:
            return self._prompts.tokens(ask.tokens)
        except ValueError as error:
            raise RefusedError(f"prompt: {error}") from None

    def _length(self, ask: Ask, prompt: Prompt) -> tuple[int, str]:
        """Tokens of the answer, and why it ends there."""
        room = max(1, self.parameters.max_context - prompt.tokens)
        most = room if ask.most is None else min(ask.most, room)
        wanted = max(self.options.answer_tokens, ask.least)
        if ask.forced or wanted >= most:
            return most, "length"
        return wanted, "stop"

    async def _whole(
        self,
        wire: Wire,
        request: web.Request,
        reply: Reply,
        said: Said,
        drawn: bytes,
        fault: str | None,
    ) -> web.StreamResponse:
        await reply.more()
        said.text = self._answers.text(drawn)
        _tell_usage(said, reply, fault)
        if fault == "truncate":
            _cut(request)
        return _json(wire.whole(said))

    async def _stream(
        self,
        wire: Wire,
        request: web.Request,
        reply: Reply,
        said: Said,
        drawn: bytes,
        fault: str | None,
    ) -> web.StreamResponse:
        from aiohttp import web

        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        last = len(drawn) // 2 if fault == "truncate" else len(drawn)
        before = 0
        while before < len(drawn):
            tokens = await reply.more()
            data = b""
            if not before:
                _tell_usage(said, reply, fault)
                data = wire.opening(said)
            data += wire.piece(said, self._answers.text(drawn, before, min(tokens, last)))
            if tokens == len(drawn) == last:
                said.text = self._answers.text(drawn)
                data += wire.closing(said)
            await response.write(data)
            if tokens > last or last == 0:
                _cut(request)
                return response
            before = tokens
        await response.write_eof()
        return response

    async def _models(self, _request: web.Request) -> web.Response:
        model = {"id": self.model, "object": "model", "created": 0, "owned_by": "traj"}
        more = {"max_model_len": self.parameters.max_context, "root": self.parameters.name}
        return _json({"object": "list", "data": [model | more]})

    async def _health(self, _request: web.Request) -> web.Response:
        return _json({})

    async def _metrics(self, _request: web.Request) -> web.Response:
        from aiohttp import web

        return web.Response(text=self.metrics.text())


def _tell_usage(said: Said, reply: Reply, fault: str | None) -> None:
    if fault != "no-usage":
        asked = reply.progress.request
        said.input_tokens, said.output_tokens = asked.input_tokens, asked.output_tokens
        said.cached_tokens = reply.progress.cached_tokens


def _cut(request: web.Request) -> None:
    """Drops the connection without a farewell."""
    if request.transport is not None:
        request.transport.close()


def _json(data: Any, status: int = 200) -> web.Response:
    import orjson
    from aiohttp import web

    return web.Response(body=orjson.dumps(data), status=status, content_type="application/json")


def _error(wire: Wire, error: RefusedError) -> web.Response:
    status = error.status
    kind = {400: "invalid_request_error", 404: "not_found_error"}.get(status, "api_error")
    said = {"type": kind, "message": str(error)}
    if wire.ERRORS == "anthropic":
        return _json({"type": "error", "error": said}, status)
    return _json({"error": said | {"param": None, "code": status}}, status)


@asynccontextmanager
async def serving(parameters: Parameters, options: ServerOptions) -> AsyncIterator[str]:
    """A server in the running event loop; its URL, without a path.

    Raises UsageError where it cannot listen, MissingExtraError without aiohttp.
    """
    try:
        from aiohttp import web
    except ImportError:
        raise MissingExtraError("a simulated engine behind HTTP", "replay") from None
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

    thread = threading.Thread(target=lambda: asyncio.run(work()), daemon=True)
    thread.start()
    try:
        yield ready.result()
    finally:
        if not ready.exception():
            ends[0]()
        thread.join()


def serve(parameters: Parameters, options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Serves until interrupted or terminated, which ends it cleanly. `ready` is told the URL."""
    import signal

    async def work() -> None:
        done, loop = asyncio.Event(), asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, done.set)
        async with serving(parameters, options) as url:
            ready(url)
            await done.wait()

    asyncio.run(work())
