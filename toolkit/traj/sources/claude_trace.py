"""claude-trace: Claude Code's requests and responses as pairs, a line each.

The session is the file: the tool begins one for each start of the agent.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from traj.events import Session
from traj.sources import lines
from traj.sources.about import About
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.requests import MEANINGS, Exchange
from traj.sources.requests.logged import Logged, exchange, fill, session_of
from traj.sources.requests.pieces import NOTHING, fit

NAME = "claude_trace"
ABOUT = About(
    "Claude Code under claude-trace",
    MEANINGS["anthropic_messages"],
    lengths="request",
    turn_clock="measured",
    tool_clock="derived",
    seen="documentation",
    lacks=("how tools ended, and how long each of several took", "the first token's time"),
)
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]


class _Request(Struct):
    timestamp: _Seconds | None = None
    url: str | None = None
    headers: Raw = NOTHING
    body: Raw = NOTHING


class _Response(Struct):
    timestamp: _Seconds | None = None
    status_code: Annotated[int, msgspec.Meta(ge=0, le=999)] | None = None
    body: Raw = NOTHING
    body_raw: str | None = None


class _Pair(Struct):
    request: _Request | None = None
    response: _Response | None = None


_DECODER = msgspec.json.Decoder(_Pair)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a log by its first pair; empty for anything else."""
    first = next(iter(head), None)
    if first is None or "logged_at" not in first or "response" not in first:
        return []
    request = first.get("request")
    if not isinstance(request, dict) or not isinstance(request.get("url"), str):
        return []
    headers = request.get("headers")
    named = session_of(_lower(headers)) if isinstance(headers, dict) else None
    return [Located(path, NAME, named or f"{request.get('timestamp')}")]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one log. Raises SourceError."""
    session = Session(NAME, session_id, "Claude Code")
    exchanges: list[Exchange] = []
    for number, _, pair in lines.read(parts[0].path, _DECODER, session):
        request, response = pair.request or _Request(), pair.response
        start, end = _us(request.timestamp), _us(response.timestamp if response else None)
        said = response or _Response()
        body = bytes(said.body)
        raw = said.body_raw.encode("utf-8", "replace") if said.body_raw else b""
        one = Logged(
            request.url or "",
            bytes(request.body),
            raw if not body or body == b"null" else body,
            0 if response is None else said.status_code,
            _lower(fit(request.headers, dict[str, str]) or {}),
            start,
            None,
            None if start is None or end is None else max(start, end),
            line=number,
        )
        found = exchange(one, session)
        if found is not None:
            exchanges.append(found)
    fill(session, exchanges, str(parts[0].path))
    return session


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)


def _lower(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items() if isinstance(value, str)}
