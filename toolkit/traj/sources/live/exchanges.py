"""Requests of a live log as exchanges: what was asked and answered, and when."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from msgspec.structs import replace

from traj.events import Message, Session
from traj.sources import requests
from traj.sources.live import wire
from traj.sources.live.log import Asked, Run, bytes_of
from traj.sources.requests import Answered, Exchange
from traj.sources.requests.gemini import Calls
from traj.sources.requests.prompts import Prompts
from traj.sources.requests.streams import events, is_stream

_PIECES = ("content", "reasoning_content", "reasoning", "tool_calls", "refusal", "parts")
_FAILED = 400
_Request = bytes | Calls
_Told = tuple[requests.Asked | None, _Request]


def exchanges(run: Run, session: Session) -> list[tuple[Asked, Exchange]]:
    """The requests to models, in the order in which they came. What prompts share they share as
    the same objects."""
    found = []
    bodies = _Bodies(run)
    texts: dict[str | None, str | None] = {}
    for one in run.asked:
        path = one.ask.path
        api = requests.api_of(path) if one.ask.method == "POST" else None
        if api is None:
            continue
        try:
            asked, body = bodies.asked(api, one, path.partition("?")[0])
        except _UnwrittenError:
            session.lose("unwritten_request")
            continue
        if asked is None:
            continue
        asked = replace(
            asked,
            system=texts.setdefault(asked.system, asked.system),
            tools=texts.setdefault(asked.tools, asked.tools),
        )
        if asked.sampling is not None and ":streamGenerateContent" in path:
            asked = replace(asked, sampling=replace(asked.sampling, stream=True))
        found.append((one, _exchange(one, asked, body, run.begin.wall_us)))
    return found


class _UnwrittenError(Exception):
    """A part of a body is not in the log."""


class _Bodies:
    """What the requests of a log ask; messages that bodies share are read once."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._messages: dict[Message, Message] = {}
        self._prompts = Prompts(run.bodies.items, self._same)

    def _same(self, message: Message) -> Message:
        return self._messages.setdefault(message, message)

    def asked(self, api: str, one: Asked, url: str) -> _Told:
        """What a request asks, None where it is none, and its body, or what an answer's reading
        needs of it. Raises _UnwrittenError."""
        if one.ask.pieces is None:
            return self._read(api, bytes_of(one.ask.said), url)
        body, bodies = self._run.body(one), self._run.bodies
        if body is None:
            raise _UnwrittenError
        if body.pieces is None:

            def text_of(mark: bytes) -> bytes:
                behind = bodies.joined(body.tail)
                if behind is None:
                    raise _UnwrittenError
                return body.start + mark + behind

            key = (body.start, body.tail)
            found = self._prompts.asked(api, url, body.tip, key, text_of)
            if found is not None:
                return found
        text = bodies.joined(body.whole())
        if text is None:
            raise _UnwrittenError
        return self._read(api, text, url)

    def _read(self, api: str, body: bytes, url: str) -> _Told:
        asked = requests.asked(api, body, url)
        if asked is not None:
            asked = replace(asked, messages=tuple(map(self._same, asked.messages)))
        return asked, body


def _exchange(one: Asked, asked: requests.Asked, body: _Request, began_us: int) -> Exchange:
    end = one.end
    start = began_us + one.ask.at_us
    if end is None:  # the proxy was killed, or could not write
        return Exchange(asked, Answered(complete=False), start, clock="measured", line=one.line)
    said = bytes_of(end.said)
    return Exchange(
        asked,
        _answered(asked.api, body, end, said),
        start,
        _first_token_us(end, said, start),
        began_us + end.at_us,
        "measured",
        thread=one.who.agent,
        compacts=one.who.compacts,
        line=one.line,
    )


def _answered(api: str, request: _Request, end: wire.End, body: bytes) -> Answered:
    if end.status is None:
        return Answered(complete=False) if end.cut == "agent" else Answered(error="not_connected")
    found = requests.answered(api, body, request) if body else None
    if end.status >= _FAILED:
        told = found.error if found is not None else None
        return Answered(error=told if told not in (None, "error") else f"http_{end.status}")
    if found is None or (end.cut and not is_stream(body) and found.message is None):
        cut_off = end.cut == "agent"
        return Answered(complete=False) if cut_off else Answered(error=end.error or "malformed")
    if not found.complete and end.cut == "upstream":
        return replace(found, error=found.error or "cut_off")
    return found


def _first_token_us(end: wire.End, body: bytes, start: int) -> int | None:
    """When the chunk came that ended the first event with a piece of the answer."""
    if not end.chunks or end.said is None or not is_stream(body):
        return None
    if sum(size for _, size in end.chunks) != len(body):
        return None  # packed: which chunk brought what is not known
    place = _first_token(body)
    if place is None:
        return None
    arrived = accumulate(size for _, size in end.chunks)
    return next(
        (start + at for (at, _), until in zip(end.chunks, arrived, strict=True) if until >= place),
        None,
    )


def _first_token(body: bytes) -> int | None:
    """Where the first event ends that carries a piece of the answer."""
    at = 0
    while at < len(body):
        ends = [found for gap in (b"\n\n", b"\r\n\r\n") if (found := body.find(gap, at)) >= 0]
        if not ends:
            return None
        stop = min(ends)
        if any(_says(event) for event in events(body[at:stop])):
            return stop
        at = stop + 2
    return None


def _says(event: dict[str, Any]) -> bool:
    """Whether an event carries a piece of an answer, in the words of any API."""
    kind = str(event.get("type", ""))
    if kind.endswith(("_delta", ".delta", ".output_item.done")):
        return kind != "message_delta"
    for several, inner in (("choices", "delta"), ("candidates", "content")):
        for one in event.get(several) or ():
            told = one.get(inner) if isinstance(one, dict) else None
            if isinstance(told, dict) and any(told.get(name) for name in _PIECES):
                return True
    return False
