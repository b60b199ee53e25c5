"""One request over HTTP: sent, streamed, timed; and every way in which it can fail, by name.

Times are microseconds on the machine's monotonic clock, which all processes of a run share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Self

import msgspec
from msgspec import Struct

from traj.errors import MissingExtraError

if TYPE_CHECKING:
    from types import TracebackType

    from aiohttp import ClientResponse, ClientSession

    from traj.replay.options import ReplayOptions

_ERROR_TEXT = 300  # characters of an engine's own words that are kept


def now_us() -> int:
    """Microseconds on the monotonic clock."""
    return time.monotonic_ns() // 1000


@dataclass(slots=True)
class Outcome:
    """What came of one request. Tokens are the engine's own figures; None where it gave none."""

    sent_us: int = 0
    first_token_us: int | None = None
    last_token_us: int | None = None
    end_us: int = 0
    status: str = "ok"  # ok, cancelled, or the name of a failure
    http_status: int | None = None
    error: str | None = None  # the engine's or the system's own words
    retries: int = 0  # on connections that the engine had closed meanwhile
    text: str = ""
    events: int = 0  # of the stream that carried a part of the answer
    finish_reason: str | None = None
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None


class StreamError(Exception):
    """The stream says that something went wrong, or is none; `name` is the failure's."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name


class _Function(Struct):
    name: str | None = None
    arguments: str | None = None


class _Call(Struct):
    function: _Function | None = None


class _Delta(Struct):
    content: str | None = None
    reasoning_content: str | None = None
    reasoning: str | None = None
    tool_calls: list[_Call] | None = None


class _Choice(Struct):
    delta: _Delta | None = None
    finish_reason: str | None = None


class _Details(Struct):
    cached_tokens: int | None = None


class _Usage(Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Chunk(Struct):
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None


_CHUNK = msgspec.json.Decoder(_Chunk)


class Client:
    """Connections to one engine. To be used as an asynchronous context."""

    def __init__(self, options: ReplayOptions) -> None:
        self._endpoint, self._headers = options.endpoint, options.headers()
        self._timeout_s = options.timeout_s
        self._session: ClientSession | None = None

    async def __aenter__(self) -> Self:
        try:
            import aiohttp
        except ImportError:
            raise MissingExtraError("replaying", "replay") from None
        timeout = aiohttp.ClientTimeout(
            total=None, sock_connect=min(30.0, self._timeout_s), sock_read=self._timeout_s
        )
        tracing = aiohttp.TraceConfig()
        tracing.on_connection_reuseconn.append(_reused)
        # As many connections as there are requests: an engine sees agents, not a queue.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=30),
            timeout=timeout,
            headers=self._headers,
            read_bufsize=1 << 20,
            trace_configs=[tracing],
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._session is not None
        await self._session.close()

    async def send(self, body: bytes, outcome: Outcome) -> None:
        """Sends one request and fills in what came of it; again where the engine had closed an
        idle connection before a byte came back, which is nobody's failure. Raises nothing but
        what cancels it."""
        while True:
            connection = _Connection()
            await self._once(body, outcome, connection)
            stale = outcome.status == "disconnected" and outcome.http_status is None
            if not (stale and connection.reused):
                return
            outcome.status, outcome.error, outcome.retries = "ok", None, outcome.retries + 1

    async def _once(self, body: bytes, outcome: Outcome, connection: _Connection) -> None:
        import aiohttp

        assert self._session is not None
        outcome.sent_us = now_us()
        try:
            async with self._session.post(
                self._endpoint, data=body, trace_request_ctx=connection
            ) as response:
                outcome.http_status = response.status
                await _receive(response, outcome)
        except StreamError as error:
            outcome.status, outcome.error = error.name, _brief(str(error))
        except TimeoutError as error:
            outcome.status, outcome.error = "timeout", _brief(str(error))
        except aiohttp.ClientConnectorError as error:
            outcome.status, outcome.error = "not_connected", _brief(str(error))
        except (aiohttp.ClientError, OSError, ValueError) as error:
            cut = outcome.http_status is not None
            outcome.status = "cut_off" if cut else "disconnected"
            outcome.error = _brief(str(error))
        outcome.end_us = now_us()


@dataclass(slots=True)
class _Connection:
    """Whether a request went over a connection that had been used before."""

    reused: bool = False


async def _reused(_session: object, context: Any, _params: object) -> None:
    context.trace_request_ctx.reused = True


async def _receive(response: ClientResponse, outcome: Outcome) -> None:
    if response.status != 200:
        text = (await response.content.read(_ERROR_TEXT)).decode("utf-8", "replace")
        raise StreamError(f"http_{response.status}", text)
    if response.content_type != "text/event-stream":
        text = (await response.content.read(_ERROR_TEXT)).decode("utf-8", "replace")
        raise StreamError("not_streamed", f"{response.content_type}: {text}")
    rest = b""
    parts: list[str] = []
    done = False
    while not done and (block := await response.content.readany()):
        at = now_us()
        *lines, rest = (rest + block).split(b"\n")
        for line in lines:
            if line.startswith(b"data:"):
                done = _event(line[5:].strip(), at, outcome, parts) or done
    outcome.text = "".join(parts)
    if not done and outcome.finish_reason is None:
        raise StreamError("cut_off", "the stream ended before the answer did")
    if outcome.first_token_us is None:
        raise StreamError("no_tokens", "an answer without a token")


def _event(data: bytes, at: int, outcome: Outcome, parts: list[str]) -> bool:
    """Takes one event of the stream; True for the last."""
    if data == b"[DONE]":
        return True
    try:
        chunk = _CHUNK.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise StreamError("malformed_stream", str(error)) from None
    if chunk.error:
        raise StreamError("error_in_stream", msgspec.json.encode(chunk.error).decode())
    if chunk.usage is not None:
        outcome.input_tokens = chunk.usage.prompt_tokens
        outcome.output_tokens = chunk.usage.completion_tokens
        details = chunk.usage.prompt_tokens_details
        outcome.cached_tokens = details.cached_tokens if details else None
    for choice in chunk.choices or ():
        if choice.delta is not None and _spoken(choice.delta, parts):
            outcome.events += 1
            outcome.last_token_us = at
            if outcome.first_token_us is None:
                outcome.first_token_us = at
        outcome.finish_reason = choice.finish_reason or outcome.finish_reason
    return False


def _spoken(delta: _Delta, parts: list[str]) -> bool:
    """Whether the event carries a part of the answer; its text is put to the others."""
    before = len(parts)
    parts += [text for text in (delta.content, delta.reasoning_content, delta.reasoning) if text]
    for call in delta.tool_calls or ():
        if call.function is not None:
            parts += [text for text in (call.function.name, call.function.arguments) if text]
    return len(parts) > before


def _brief(text: str) -> str:
    return " ".join(text.split())[:_ERROR_TEXT]
