"""An engine that takes next to no work: it streams answers of the length asked for at a given pace.

What measures a client must not need the client's cores. So nothing is parsed but lengths, nothing
is made but bytes that were made before, and every stream has a timer of its own, as streams of many
replicas would: `python -m benchmarks.replay_engine --rate 20` prints its port, and when it is ended
the CPU time that it took, in seconds.
"""

from __future__ import annotations

import argparse
import asyncio
import re
import resource
import signal
from typing import cast

_HEAD = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream; charset=utf-8\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n"
)
_FRONT = (
    b'data: {"id":"chatcmpl-7c0f4a6c2e5d4b0f9a3c1d2e3f405162","object":"chat.completion.chunk",'
    b'"created":1790000000,"model":"m","choices":['
)
_SIZE = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_TOKENS = re.compile(rb'"max_tokens": *(\d+)')


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


_TOKEN = _chunk(
    _FRONT + b'{"index":0,"delta":{"content":" self"},"logprobs":null,"finish_reason":null}]}\n\n'
)
_LAST = _FRONT + b'{"index":0,"delta":{},"logprobs":null,"finish_reason":"length"}]}\n\n' + _FRONT


def _end(tokens: int) -> bytes:
    usage = b'],"usage":{"prompt_tokens":1,"completion_tokens":%d,"total_tokens":1}}' % tokens
    return _chunk(_LAST + usage + b"\n\ndata: [DONE]\n\n") + b"0\r\n\r\n"


class Connection(asyncio.Protocol):
    """One client's connection: a request, its stream, the next request."""

    def __init__(self, first_s: float, token_s: float) -> None:
        self._first_s, self._token_s = first_s, token_s
        self._loop = asyncio.get_running_loop()
        self._head, self._missing, self._tokens, self._left = b"", 0, 0, 0
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        if self._timer is not None:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            front, found, body = self._head.partition(b"\r\n\r\n")
            if not found or not (size := _SIZE.search(front)):
                return
            tokens = _TOKENS.search(body, 0, 500)
            if tokens is None and len(body) < int(size[1]):
                return  # not there yet
            self._tokens = int(tokens[1]) if tokens else 16
            self._missing, self._head = int(size[1]) - len(body), b""
        if not self._missing:
            self._left, self._due = self._tokens, self._loop.time() + self._first_s
            self._timer = self._loop.call_at(self._due, self._token)

    def _token(self) -> None:
        data = _TOKEN
        if self._left == self._tokens:
            data = _HEAD + data
        self._left -= 1
        if self._left:
            # What came too late is not made up for: a burst is nothing an engine would send.
            self._due = max(self._due + self._token_s, self._loop.time())
            self._timer = self._loop.call_at(self._due, self._token)
        else:
            data += _end(self._tokens)
        self._transport.write(data)


async def serve(first_s: float, token_s: float) -> None:
    """Until it is terminated."""
    loop, over = asyncio.get_running_loop(), asyncio.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, over.set)
    server = await loop.create_server(
        lambda: Connection(first_s, token_s), "127.0.0.1", 0, backlog=4096
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await over.wait()
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(round(used.ru_utime + used.ru_stime, 3), flush=True)


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--first", type=float, default=0.5, help="seconds to the first token")
    parser.add_argument("--rate", type=float, default=20.0, help="tokens a second of a stream")
    options = parser.parse_args()
    uvloop.run(serve(options.first, 1 / options.rate))


if __name__ == "__main__":
    main()
