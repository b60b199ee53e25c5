"""The ways in which an engine is asked and answers: one module for each API's bodies.

`Ask` is what all of them come to, `Said` what they make an answer of. Bodies are decoded by type;
what an engine has no use for is passed over.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

import msgspec

from traj.engine.prompts import Piece

_Body = TypeVar("_Body")


class RefusedError(Exception):
    """A request that gets no answer, as its client is told."""

    def __init__(self, text: str, status: int = 400) -> None:
        super().__init__(text)
        self.status = status


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, whatever the API."""

    model: str | None
    pieces: Sequence[Piece] = ()
    tokens: Sequence[int] | None = None  # a prompt that came as tokens
    most: int | None = None  # tokens of the answer
    least: int = 0
    forced: bool = False  # the answer is as long as it may be
    stream: bool = False
    usage: bool = True  # wanted in a stream
    session: str | None = None


@dataclass(slots=True)
class Said:
    """An answer as far as it is; `input_tokens` and what follows are None where usage is left out.

    `text` is all of it, for answers in one.
    """

    id: str
    model: str
    created: int
    reason: str = "stop"  # or length
    text: str = ""
    input_tokens: int | None = None
    cached_tokens: int | None = None
    output_tokens: int | None = None
    wants_usage: bool = True
    memory: dict[str, Any] = field(default_factory=dict)  # what an API needs to go on


class Wire(Protocol):
    """One API."""

    PATH: str
    ERRORS: str  # whose form errors have: openai or anthropic

    def read(self, body: bytes) -> Ask:
        """What a body asks for. Raises RefusedError."""

    def whole(self, said: Said) -> Any:
        """An answer in one, to be JSON."""

    def opening(self, said: Said) -> bytes:
        """What a stream begins with when the first token is there."""

    def piece(self, said: Said, text: str) -> bytes:
        """What a stream says of some tokens."""

    def closing(self, said: Said) -> bytes:
        """What a stream ends with."""


def decode(body: bytes, kind: type[_Body]) -> _Body:
    """A body by its type."""
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.DecodeError as error:
        raise RefusedError(str(error)) from None
    except UnicodeDecodeError:
        raise RefusedError("the body is not UTF-8") from None


class TextPart(msgspec.Struct):
    """A part of a message's content; parts without text count for nothing."""

    text: str = ""


Content = str | list[TextPart | str] | None


def texts(content: Content) -> tuple[str, ...]:
    """What a message says."""
    if isinstance(content, list):
        return tuple(part if isinstance(part, str) else part.text for part in content)
    return (content,) if content else ()


def tool_piece(tools: Sequence[msgspec.Raw] | None) -> list[Piece]:
    """The tools, before all messages."""
    if not tools:
        return []
    return [Piece("tools", tuple(bytes(tool).decode() for tool in tools))]


def event(data: Any, name: str | None = None) -> bytes:
    """One server-sent event."""
    import orjson

    front = f"event: {name}\n".encode() if name else b""
    return front + b"data: " + orjson.dumps(data) + b"\n\n"
