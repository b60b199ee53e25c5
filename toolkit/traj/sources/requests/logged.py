"""From a logged request and response to an exchange, and from exchanges to a session.

What logs of requests share once their envelopes are open: bodies, a status, headers, times.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping, Sequence
from itertools import pairwise

from msgspec import Struct
from msgspec.structs import replace

from traj.errors import SourceError
from traj.events import Session
from traj.sources.requests.bodies import answered, api_of, asked
from traj.sources.requests.chaining import chain
from traj.sources.requests.spoken import Answered, Exchange

# Where agents say which of them a request is from; sub-agents share no prompt with their parents.
_AGENT = ("x-claude-code-agent-id", "thread-id", "x-session-id")
_SESSION = ("x-claude-code-session-id", "session-id", "x-parent-session-id", "x-session-id")
_OK = 400  # statuses from here on are failures


class Logged(Struct, frozen=True):
    """A request and its response, unpacked. Header names are in lower case; times epoch
    microseconds."""

    url: str
    body: bytes
    response: bytes
    status: int | None = None
    headers: Mapping[str, str] = {}
    start_us: int | None = None
    first_token_us: int | None = None
    end_us: int | None = None
    file: int = 0
    line: int | None = None


def exchange(one: Logged, session: Session) -> Exchange | None:
    """The request of a log's entry; None for what is no request to a model, or has no body (loss
    `body_not_logged`)."""
    api = api_of(one.url)
    if api is None:
        return None
    told = asked(api, one.body, one.url)
    if told is None or not (told.messages or told.follows):
        session.lose("body_not_logged")
        return None
    failed = one.status is not None and (one.status >= _OK or one.status <= 0)
    said = answered(api, one.response, one.body)
    if said is None:
        said = Answered(complete=False) if not failed else Answered()
    if failed:
        said = Answered(error=said.error or (str(one.status) if one.status else "no response"))
    return Exchange(
        told,
        said,
        one.start_us,
        one.first_token_us,
        one.end_us,
        "none" if one.start_us is None else "measured",
        next((one.headers[name] for name in _AGENT if name in one.headers), None),
        one.file,
        one.line,
    )


def session_of(headers: Mapping[str, str]) -> str | None:
    """The session that a request says it is of."""
    return next((headers[name] for name in _SESSION if headers.get(name)), None)


def fill(session: Session, exchanges: Sequence[Exchange], where: str) -> None:
    """Gives a session the lanes of its requests. Raises SourceError where there are none."""
    if not exchanges:
        raise SourceError(f"{where}: no request to a model whose body was logged")
    chain(session, _times(exchanges))
    starts = [one.start_us for one in exchanges if one.start_us is not None]
    session.started_us = min(starts, default=None)


def _times(exchanges: Sequence[Exchange]) -> list[Exchange]:
    """Clocks of milliseconds can let a request begin just before the answer that it needed: it is
    moved by that millisecond."""
    made = [one for one in exchanges if one.start_us is None or one.end_us is None]
    known = [one for one in exchanges if one.start_us is not None and one.end_us is not None]
    known.sort(key=lambda one: one.start_us or 0)
    fixed = known[:1]
    for before, one in pairwise(known):
        close = (one.start_us or 0) < (before.end_us or 0) <= (one.start_us or 0) + 1000
        fixed.append(replace(one, start_us=before.end_us) if close else one)
    return [*fixed, *made]


def decoded(text: str, encoding: str | None) -> bytes:
    """A body as text, perhaps in base64, as bytes."""
    if encoding == "base64":
        try:
            return base64.b64decode(text)
        except (binascii.Error, ValueError):
            return b""
    return text.encode("utf-8", "replace")
