"""One HTTP/1.1 connection, and one answer on it after another, each taken in as it arrives.

No task wakes for an event of a stream: what the socket gives is parsed where it is given, and its
time is that of its arrival. So a process keeps up with tens of thousands of events a second.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, cast

from traj.replay.outcome import FailedError, Outcome, now_us

if TYPE_CHECKING:
    import httptools

    from traj.replay.apis import Api

_TOLD = 4_000  # bytes of a refusal that are looked at


class Answer:
    """What an engine says to one request, put into its outcome."""

    def __init__(self, api: Api, outcome: Outcome) -> None:
        self._event, self.outcome = api.event, outcome
        self._parts: list[str] = []
        self._rest = b""
        self._streamed = False
        self._kind = ""

    def begin(self, status: int, kind: str) -> None:
        """The head of the response: its status and content type."""
        self.outcome.http_status, self._kind = status, kind
        self._streamed = status == 200 and kind.startswith("text/event-stream")

    def take(self, data: bytes, at_us: int) -> bool:
        """A piece of the body; True when the stream says that it is over. Raises FailedError."""
        if not self._streamed:
            if len(self._rest) < _TOLD:
                self._rest += data
            return False
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        for line in lines:
            if line.startswith(b"data:") and self._event(
                line[5:].strip(), at_us, self.outcome, self._parts
            ):
                self._finish()
                return True
        return False

    def end(self) -> None:
        """The body is over. Raises FailedError where the answer is not, or is none."""
        if not self._streamed:
            text = self._rest.decode("utf-8", "replace")
            if self.outcome.http_status == 200:
                raise FailedError("not_streamed", f"{self._kind}: {text}")
            raise FailedError(f"http_{self.outcome.http_status}", text)
        self._finish()
        if self.outcome.finish_reason is None:
            raise FailedError("cut_off", "the stream ended before the answer did")

    def _finish(self) -> None:
        self.outcome.text = "".join(self._parts)
        if self.outcome.first_token_us is None and self.outcome.finish_reason is not None:
            raise FailedError("no_tokens", "an answer without a token")


class Connection(asyncio.Protocol):
    """A connection to an engine: among the `known` as long as it lives, among the `idle` when it
    can carry another request."""

    def __init__(
        self,
        parser: type[httptools.HttpResponseParser],
        known: set[Connection],
        idle: list[Connection],
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._parser: httptools.HttpResponseParser | None = parser(self)
        self._known, self._idle = known, idle
        self._answer: Answer | None = None
        self._over: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._kind = ""
        self.lost = self._loop.create_future()
        self.heard_us = now_us()
        self.used = False  # has carried a request before the one that it carries

    @property
    def is_open(self) -> bool:
        return self._parser is not None and not self._transport.is_closing()

    async def exchange(self, request: bytes, answer: Answer, timeout_s: float) -> None:
        """Sends a request, and takes its answer in. Raises FailedError for one that fails, which
        leaves the connection of no more use, and so does cancelling."""
        over = self._over = self._loop.create_future()
        self._answer, self.heard_us = answer, now_us()
        self._timer = self._loop.call_later(timeout_s, self._watch, timeout_s)
        self._transport.write(request)
        try:
            await over
        except asyncio.CancelledError:
            if self._over is over:
                self._settle()
                self.abort()
            raise

    def abort(self) -> None:
        """Closes at once."""
        self._transport.abort()

    def _settle(self, failure: FailedError | None = None) -> None:
        """Whoever waits for the exchange goes on."""
        over, self._over, self._answer = self._over, None, None
        if self._timer is not None:
            self._timer.cancel()
        if over is None or over.done():
            return
        if failure is None:
            over.set_result(None)
        else:
            over.set_exception(failure)
            self.abort()

    def _watch(self, timeout_s: float) -> None:
        """Something must have come in since."""
        left_s = timeout_s - (now_us() - self.heard_us) / 1e6
        if left_s > 0:
            self._timer = self._loop.call_later(left_s, self._watch, timeout_s)
        else:
            self._settle(FailedError("timeout", f"not a byte in {timeout_s:g} s"))

    # What asyncio calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._known.add(self)

    def data_received(self, data: bytes) -> None:
        import httptools

        self.heard_us = now_us()
        if self._parser is None:
            return
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            self._lost(f"not HTTP as it should be: {error}")
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        self._lost(str(exc or "") or "the engine closed the connection")
        self._known.discard(self)
        self.lost.set_result(None)
        self._parser = None  # which knows this connection: neither would go without the other

    def _lost(self, why: str) -> None:
        answer = self._answer
        if answer is None:
            return
        if answer.outcome.http_status is None:
            self._settle(FailedError("disconnected", why))
        else:
            self._end(answer)

    def _end(self, answer: Answer) -> None:
        try:
            answer.end()
        except FailedError as failure:
            self._settle(failure)
        else:
            self._settle()

    # What the parser calls.

    def on_message_begin(self) -> None:
        self._kind = ""

    def on_header(self, name: bytes, value: bytes) -> None:
        if name.lower() == b"content-type":
            self._kind = value.decode("latin-1").lower()

    def on_headers_complete(self) -> None:
        assert self._parser is not None
        status = self._parser.get_status_code()
        if self._answer is not None and status >= 200:
            self._answer.begin(status, self._kind)

    def on_body(self, body: bytes) -> None:
        if self._answer is None:
            return
        try:
            if self._answer.take(body, self.heard_us):
                self._settle()
        except FailedError as failure:
            self._settle(failure)

    def on_message_complete(self) -> None:
        assert self._parser is not None
        if self._parser.get_status_code() < 200:
            return
        keeps = self._parser.should_keep_alive()
        if self._answer is not None:
            self._end(self._answer)
        self.used = True
        if keeps and not self._transport.is_closing():
            self._idle.append(self)
        else:
            self._transport.close()
