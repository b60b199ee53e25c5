"""The lines of a live log, as the proxy writes them and the source reads them.

One JSON object a line, told apart by its first key:

    traj_live   the run: when it began, what was run, where
    part        a piece of a request's body, under its hash; before the first body that has it
    ask         a request: where to, when, its body as pieces
    end         its answer: status, when each chunk came, the body
    lost        so many lines could not be written (a full disk)
    closed      the run ended in order

A body is a list of pieces, literal text and parts in turn, that joined give its bytes again. Of a
growing conversation only what is new is written: a body begins with the first `kept` pieces of the
body of request `after`. Times are microseconds: `at_us` on the monotonic clock since the run began,
`wall_us` since the epoch.
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.json import Decoder

FORMAT = 1
NOTHING = Raw()
MASK = "[credential]"  # stands where a credential stood
Microseconds = Annotated[int, Meta(ge=0, le=2**53)]  # sums of them stay within the schema's range


class Said(Struct, frozen=True, omit_defaults=True):
    """Bytes as a line holds them: as JSON where they are JSON on one line, else as text, else in
    base64. `encoding` is what could not be unpacked."""

    json: Raw = NOTHING
    text: str | None = None
    base64: str | None = None
    encoding: str | None = None


class Pieces(Struct, omit_defaults=True):
    """A request's body: `kept` pieces of an earlier one, then these. Even ones are literal."""

    after: int | None = None
    kept: int = 0
    rest: list[str] = []


class Checkout(Struct, omit_defaults=True):
    """The repository in the working directory when the run began."""

    url: str | None = None
    commit: str | None = None
    branch: str | None = None
    clean: bool | None = None
    license: str | None = None  # SPDX
    license_source: str | None = None  # text, manifest


class Begin(Struct):
    """The run."""

    traj_live: int
    run: str
    wall_us: Microseconds
    traj: str
    command: list[str] | None = None
    checkout: Checkout | None = None


class Part(Struct, omit_defaults=True):
    """A piece of a body."""

    part: str
    said: Said = Said()


class Ask(Struct, omit_defaults=True):
    """A request. `path` is what follows the upstream's own address, credentials taken out. One on a
    WebSocket is told as the POST it stands for, `socket` being the request for that; a warm-up,
    for which no model generates, has the method WARM."""

    ask: int
    at_us: Microseconds
    wall_us: Microseconds
    method: str
    upstream: str
    path: str
    headers: dict[str, str] = {}
    pieces: Pieces | None = None
    said: Said | None = None  # in place of pieces, for what is no text
    masked: int = 0
    socket: int | None = None


class End(Struct, omit_defaults=True):
    """An answer. `chunks` are (microseconds since the request, bytes as they came) each; `cut`
    says who broke it off: agent, upstream or proxy. The end of a WebSocket itself counts the frames
    that were passed on and are part of no request, by their sender and kind."""

    end: int
    at_us: Microseconds
    status: int | None = None  # None where no answer began
    first_us: Microseconds | None = None  # when the answer's headers came
    headers: dict[str, str] = {}
    chunks: list[tuple[Microseconds, int]] = []
    said: Said | None = None
    cut: str | None = None
    error: str | None = None  # kind of what went wrong, where something did
    masked: int = 0
    frames: dict[str, int] = {}


class Lost(Struct):
    """Lines that are missing here."""

    lost: int
    at_us: Microseconds


class Closed(Struct):
    """The end of a run."""

    closed: int  # requests in it
    at_us: Microseconds
    exit_code: int | None = None


class Line(Struct):
    """Any line, by what only one kind of them has."""

    traj_live: int | None = None
    part: str | None = None
    ask: int | None = None
    end: int | None = None
    lost: int | None = None
    closed: int | None = None


LINE = Decoder(Line)
BEGIN = Decoder(Begin)
PART = Decoder(Part)
ASK = Decoder(Ask)
END = Decoder(End)
LOST = Decoder(Lost)
