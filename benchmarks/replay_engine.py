"""An engine that takes next to no work: it streams answers of the length asked for, at a pace.

What measures a client must not need the client's cores, and must itself be exact. So nothing is
parsed but lengths, nothing is made but bytes that were made before, and every stream has a timer of
its own, as streams of many replicas would. `python -m benchmarks.replay_engine` prints its port;
when it is ended (SIGTERM), the CPU time that it took, in seconds.

With `--log FILE` it keeps every request, and writes at its end what came in, when, and when the
answer's first and last tokens went out. With `--varied` pace and first token differ from request to
request by as much as half and double, by the length of the answer alone: so they are the same for
whoever sends that request.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import signal
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import cast

import msgspec

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_MODELS = b'{"object":"list","data":[{"id":"m","object":"model"}]}'
_OTHER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
    len(_MODELS),
    _MODELS,
)
_FRONT = (
    b'data: {"id":"chatcmpl-7c0f4a6c2e5d4b0f9a3c1d2e3f405162","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"m","choices":['
)
_SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_(?:completion_)?tokens": *(\d+)')
_ENOUGH = 500  # bytes of a body that are looked at where all of it is not kept


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_TOKEN = _chunk(
    _FRONT + b'{"index":0,"delta":{"content":" self"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = _FRONT + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}\n\n' + _FRONT


def _end(tokens: int) -> bytes:
    usage = b'],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":1}}' % tokens
    return _chunk(_LAST + usage + b"\n\ndata: [DONE]\n\n") + b"0\r\n\r\n"


class Exchange(msgspec.Struct):
    """One request, and when what happened; seconds since the epoch."""

    body: str
    tokens: int
    arrived_s: float
    first_s: float = 0.0
    last_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Pace:
    """How answers come."""

    first_s: float
    token_s: float
    varied: bool = False
    log: list[Exchange] | None = field(default=None)

    def of(self, tokens: int) -> tuple[float, float]:
        """Seconds to the first token, and between two, of an answer."""
        if not self.varied:
            return self.first_s, self.token_s
        first, token = (
            2 ** ((tokens * odd % 65_536) / 32_768 - 1) for odd in (40_503, 30_011)
        )  # fmt: skip
        return self.first_s * first, self.token_s * token


class Connection(asyncio.Protocol):
    """One client's connection: a request, its stream, the next request."""

    def __init__(self, pace: Pace) -> None:
        self._pace = pace
        self._loop = asyncio.get_running_loop()
        self._head, self._body, self._missing = b"", bytearray(), 0
        self._tokens = self._left = 0
        self._due = self._token_s = 0.0
        self._exchange: Exchange | None = None
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if not self._missing:
            front, found, data = (self._head + data).partition(b"\r\n\r\n")
            size = _SIZE.search(front)
            if not found:
                self._head = front
                return
            self._head = b""
            if size is None:
                self._transport.write(_OTHER)
                return
            self._missing = int(size[1])
            self._body.clear()
        self._missing -= len(data)
        if self._pace.log is not None or len(self._body) < _ENOUGH:
            self._body += data
        if not self._missing:
            self._begin()

    def _begin(self) -> None:
        tokens = _TOKENS.search(self._body)
        self._tokens = self._left = int(tokens[1]) if tokens else 16
        first_s, self._token_s = self._pace.of(self._tokens)
        self._due = self._loop.time() + first_s
        self._timer = self._loop.call_at(self._due, self._token)
        if self._pace.log is not None:
            self._exchange = Exchange(self._body.decode(), self._tokens, time.time())
            self._pace.log.append(self._exchange)

    def _token(self) -> None:
        data = _HEAD + _TOKEN if self._left == self._tokens else _TOKEN
        self._left -= 1
        if self._left:
            # What came too late is not made up for: a burst is nothing an engine would send.
            self._due = max(self._due + self._token_s, self._loop.time())
            self._timer = self._loop.call_at(self._due, self._token)
        else:
            data += _end(self._tokens)
        if self._exchange is not None:
            self._exchange.last_s = time.time()
            self._exchange.first_s = self._exchange.first_s or self._exchange.last_s
        self._transport.write(data)


async def serve(pace: Pace) -> None:
    """Until it is terminated."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    server = await loop.create_server(partial(Connection, pace), "127.0.0.1", 0, backlog=4096)
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(round(used.ru_utime + used.ru_stime, 3), flush=True)


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=float, default=0.3, help="seconds to the first token")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of a stream")
    parser.add_argument("--varied", action="store_true", help="by request, half to double")
    parser.add_argument("--log", type=Path, help="write here what came in")
    options = parser.parse_args()
    log: list[Exchange] | None = None if options.log is None else []
    uvloop.run(serve(Pace(options.first, 1 / options.rate, options.varied, log)))
    if log is not None:
        options.log.write_bytes(msgspec.json.encode(log))


if __name__ == "__main__":
    main()
