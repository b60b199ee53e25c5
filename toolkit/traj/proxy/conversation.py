"""What is said on a WebSocket, logged as the requests and streams that it stands for.

OpenAI's Responses API has a WebSocket mode: the agent sends `response.create` messages, one after
the other, and gets the events of a stream, each as a message. Each of them is logged as the POST
that it stands for, its events as the stream they would have been. A warm-up (`generate: false`)
makes the model say nothing; what it brings is logged as part of the requests that go on from it.
Anything else is counted.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import Raw

from traj.proxy.headers import written
from traj.proxy.log import Answer, Log, Request
from traj.proxy.noting import note

SWITCHED = 101
_ENDS = ("response.completed", "response.failed", "response.incomplete", "error")
_KINDS = 64  # of messages that are counted each by its name
_WARM = 64  # warm-ups that later requests may go on from
_LOST = "SocketClosed"  # the kind of error where a socket closed before the answer's end
_FIELDS = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])


class _Told(msgspec.Struct):
    """What of a message says what it is."""

    type: str | None = None
    status: Any = None


_TOLD = msgspec.json.Decoder(_Told)


class _Create(msgspec.Struct):
    """What of a request on a socket is needed to log it."""

    type: str | None = None
    generate: bool | None = None
    previous_response_id: str | None = None
    client_metadata: Any = None


_CREATE = msgspec.json.Decoder(_Create)


class _Created(msgspec.Struct):
    id: str | None = None


class _Event(msgspec.Struct):
    response: _Created | None = None


_EVENT = msgspec.json.Decoder(_Event)


@dataclass(eq=False)
class Conversation:
    """What is said on one socket. `opened` is the request for it."""

    opened: Answer
    log: Log
    _running: deque[Answer] = field(default_factory=deque)  # the oldest is answered first
    _warming: dict[int, bytes] = field(default_factory=dict)  # request: body
    _warm: OrderedDict[str, bytes] = field(default_factory=OrderedDict)  # response id: body

    @property
    def idle(self) -> bool:
        """Whether nothing is being answered."""
        return not self._running

    def count(self, kind: str) -> None:
        """Counts a frame that is part of no request."""
        counts = self.opened.frames
        if kind not in counts and len(counts) >= _KINDS:
            kind = kind.partition(" ")[0] + " other"
        counts[kind] = counts.get(kind, 0) + 1

    def asked(self, data: bytes) -> None:
        """A message of the agent's."""
        try:
            told = _CREATE.decode(data)
        except (msgspec.DecodeError, RecursionError):
            told = _Create()
        if told.type != "response.create":
            self.count(f"agent {(told.type or 'text')[:64]}")
            return
        opened, log = self.opened.request, self.log
        body, warmed = bytes(data), told.generate is False
        before = self._warm.get(told.previous_response_id or "")
        if before is not None:
            body = _behind(before, body)
        asked = Request(
            log.next_number(),
            log.clock.at_us(),
            log.clock.wall_us(),
            # No model generates for a warm-up: no reader takes it for one that did.
            "WARM" if warmed else "POST",
            opened.upstream,
            opened.path,
            opened.headers | _said_inside(told.client_metadata),
            body,
            None,
            opened.masks,
            socket=opened.number,
        )
        asked.noted = True
        log.ask(asked)
        if warmed:
            self._warming[asked.number] = body
        self._running.append(Answer(asked, status=SWITCHED, chunks=[]))

    def told(self, data: bytes) -> asyncio.Future[None] | None:
        """A message of the upstream's; when it ends an answer, what is done when that is in the
        log's file."""
        try:
            told = _TOLD.decode(data)
        except (msgspec.DecodeError, RecursionError):
            told = _Told()
        kind = told.type or "text"
        streamed = kind == "error" or kind.startswith("response.")
        if not self._running or not streamed:
            self.count(f"upstream {kind[:64]}")
            return None
        answer, now = self._running[0], self.log.clock.at_us()
        if answer.first_us is None:
            answer.first_us = now
        lines = bytes(data).splitlines()
        answer.chunks.append((now, b"data: " + b"\ndata: ".join(lines) + b"\n\n"))
        if kind not in _ENDS:
            return None
        self._running.popleft()
        if kind == "error" and isinstance(told.status, int):
            answer.status = told.status
        body = self._warming.pop(answer.request.number, None)
        if body is not None and kind == "response.completed":
            self._warmed(data, body)
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        note(answer, self.log, done)
        return done

    def _warmed(self, data: bytes, body: bytes) -> None:
        with suppress(msgspec.DecodeError, RecursionError):
            event = _EVENT.decode(data)
            if event.response is not None and event.response.id is not None:
                self._warm[event.response.id] = body
                if len(self._warm) > _WARM:
                    self._warm.popitem(last=False)

    def cut(self, side: str) -> None:
        """Requests in flight come to no end."""
        while self._running:
            answer = self._running.popleft()
            answer.cut = side
            answer.error = None if side == "agent" else _LOST
            note(answer, self.log)


def _behind(before: bytes, body: bytes) -> bytes:
    """A request with what its warm-up brought in front, going on from what that went on from."""
    try:
        warm, fields = _FIELDS.decode(before), _FIELDS.decode(body)
        items = [*_items(warm.get("input")), *_items(fields.get("input"))]
    except (msgspec.DecodeError, RecursionError):
        return body
    fields.pop("previous_response_id", None)
    if "previous_response_id" in warm:
        fields["previous_response_id"] = warm["previous_response_id"]
    for name in ("instructions", "tools"):
        if name in warm:
            fields.setdefault(name, warm[name])
    fields["input"] = Raw(b"[" + b",".join(bytes(item) for item in items) + b"]")
    return msgspec.json.encode(fields)


def _items(raw: Raw | None) -> list[Raw]:
    if raw is None or bytes(raw).strip() == b"null":
        return []
    if bytes(raw).lstrip().startswith(b'"'):  # a text alone is what a user says
        told = b'{"type":"message","role":"user","content":%b}' % bytes(raw)
        return [Raw(told)]
    return _LIST.decode(raw)


def _said_inside(metadata: object) -> dict[str, str]:
    """What an agent says of itself in a message, where a request of its own has headers."""
    if not isinstance(metadata, Mapping):
        return {}
    texts = {key: value for key, value in metadata.items() if isinstance(value, str)}
    raws = ((key.encode("latin-1", "replace"), value.encode()) for key, value in texts.items())
    return written(raws)
