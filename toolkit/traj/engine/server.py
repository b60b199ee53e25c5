"""A simulated engine behind HTTP, for clients of OpenAI's and Anthropic's APIs."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
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

if TYPE_CHECKING:
    from aiohttp import web

_LARGEST = 1 << 28  # bytes of a body


class Server:
    """One engine, in the running event loop. `traj.engine.serving` starts and stops it."""

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
            if text := self._answers.text(drawn, before, min(tokens, last)):
                data += wire.piece(said, text)
            if tokens == len(drawn) == last:
                said.text = self._answers.text(drawn)
                data += wire.closing(said)
            await response.write(data)
            if tokens > last:
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
