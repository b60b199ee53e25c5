"""What came of one request, and the clock that it was measured with.

Times are microseconds on the machine's monotonic clock, which all processes of a run share.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

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

    def said(self, at_us: int) -> None:
        """An event has come in that carries a part of the answer."""
        self.events += 1
        self.last_token_us = at_us
        if self.first_token_us is None:
            self.first_token_us = at_us

    def seen(self) -> tuple[int, float | None] | None:
        """Microseconds to the first token, and tokens a second behind it, by the engine's count,
        else by events; None where there was no token."""
        if self.first_token_us is None:
            return None
        after_us = (self.last_token_us or 0) - self.first_token_us
        more = (self.output_tokens or self.events) - 1
        return self.first_token_us - self.sent_us, more * 1e6 / after_us if after_us > 0 else None

    def fail(self, status: str, error: str) -> None:
        """The request has failed in a way that has a name."""
        self.status, self.error = status, " ".join(error.split())[:_ERROR_TEXT]


class FailedError(Exception):
    """A request has failed; `name` is what its row says."""

    def __init__(self, name: str, text: str) -> None:
        super().__init__(text)
        self.name = name
