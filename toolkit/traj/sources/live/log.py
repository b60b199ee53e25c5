"""A live log as it was written: lines to requests with their bodies, and whose they are."""

from __future__ import annotations

import hashlib
from base64 import b64decode
from binascii import Error as NotBase64
from collections.abc import Iterator
from pathlib import Path

from msgspec import DecodeError, Struct

from traj.errors import SourceError
from traj.events import Session, SourceFile
from traj.sources import lines
from traj.sources.lines import UNDECODABLE
from traj.sources.live import wire
from traj.sources.live.shared import Bodies, Body
from traj.sources.live.who import Who, roots, who


class Asked(Struct):
    """A request of the log, and its answer, None where the log has none."""

    line: int
    ask: wire.Ask
    who: Who
    before: Asked | None = None  # the request whose body its own begins as
    end: wire.End | None = None


def bytes_of(said: wire.Said | None) -> bytes:
    """The bytes that a line holds."""
    if said is None:
        return b""
    if bytes(said.json):
        return bytes(said.json)
    if said.text is not None:
        return said.text.encode("utf-8", "replace")
    try:
        return b64decode(said.base64 or "")
    except (NotBase64, ValueError):
        return b""


class Run:
    """What a log holds. Bodies are found as they are asked for, and what they share only once: all
    of them put together would be the square of a conversation."""

    def __init__(self, begin: wire.Begin) -> None:
        self.begin = begin
        self.asked: list[Asked] = []
        self.parts: dict[str, bytes] = {}
        self.bodies = Bodies(self.parts)
        self._found: dict[int, Body | None] = {}  # by line

    def body(self, one: Asked) -> Body | None:
        """The pieces of a request's body; None where it has none, or lost some."""
        waiting = [one]
        while (before := waiting[-1].before) is not None and before.line not in self._found:
            waiting.append(before)
        for each in reversed(waiting):
            if each.line not in self._found:
                self._found[each.line] = self._body(each)
        return self._found[one.line]

    def _body(self, one: Asked) -> Body | None:
        told = one.ask.pieces
        if told is None:
            return None
        if told.after is None:
            return self.bodies.begun(told.rest)
        before = None if one.before is None else self._found[one.before.line]
        return None if before is None else self.bodies.goes_on(before, told)


def _before(ask: wire.Ask, earlier: dict[int, Asked]) -> Asked | None:
    if ask.pieces is None or ask.pieces.after is None:
        return None
    return earlier.get(ask.pieces.after)


def read(path: Path, session: Session, only: str | None) -> Run:
    """The requests of a log, of one session (`only`) or of all. Counts in `session.losses`; raises
    SourceError."""
    run = Run(wire.Begin(wire.FORMAT, path.stem, 0, ""))
    by_number: dict[int, Asked] = {}
    for number, raw, line in lines.read(path, wire.LINE, session):
        try:
            if line.part is not None:
                part = wire.PART.decode(raw)
                run.parts[part.part] = bytes_of(part.said)
            elif line.ask is not None:
                ask = wire.ASK.decode(raw)
                by_number[ask.ask] = Asked(number, ask, _who(ask), _before(ask, by_number))
            elif line.end is not None:
                end = wire.END.decode(raw)
                if end.end in by_number:
                    by_number[end.end].end = end
            elif line.lost is not None:
                session.lose("unwritten_line", line.lost)
            elif line.traj_live is not None:
                run.begin = wire.BEGIN.decode(raw)
        except UNDECODABLE:
            session.lose("malformed_line")
    if run.begin.traj_live > wire.FORMAT:
        raise SourceError(f"{path}: written by a newer version of traj")
    names = _Names(run.begin.run, [one.who for one in by_number.values()])
    run.asked = [one for one in by_number.values() if only is None or names.of(one.who) == only]
    return run


class _Names:
    """The sessions of a log: an agent's own id at the run's, since a session that was resumed is
    in the logs of several runs. Requests that name none belong to the only one, else to the run."""

    def __init__(self, run: str, found: list[Who]) -> None:
        self._run, self._roots = run, roots(found)
        named = {own for one in found if (own := self._own(one)) is not None}
        self._other = named.pop() if len(named) == 1 else None

    def _own(self, one: Who) -> str | None:
        return self._roots.get(one.session, one.session) if one.session else None

    def of(self, one: Who) -> str:
        own = self._own(one) or self._other
        return f"{own}@{self._run}" if own is not None else self._run


def sessions(path: Path) -> dict[str, SourceFile]:
    """The sessions of a log by their ids, each with what of the file is its own: requests and
    answers. Raises SourceError."""
    found: dict[int, Who] = {}
    digests: dict[int, list[bytes]] = {}
    run = path.stem
    for raw in _raw(path):
        try:
            line = wire.LINE.decode(raw)
            if line.traj_live is not None:
                run = wire.BEGIN.decode(raw).run
            elif line.ask is not None:
                ask = wire.ASK.decode(raw)
                if ask.method == "POST":
                    found[ask.ask] = _who(ask)
                    digests[ask.ask] = [raw]
            elif line.end in digests:
                digests[line.end].append(raw)
        except (DecodeError, *UNDECODABLE):
            continue
    names = _Names(run, list(found.values()))
    shares: dict[str, list[bytes]] = {}
    for number, one in found.items():
        shares.setdefault(names.of(one), []).extend(digests[number])
    return {
        name: SourceFile(
            path.name, hashlib.sha256(b"".join(raws)).hexdigest(), sum(len(raw) for raw in raws)
        )
        for name, raws in shares.items()
    }


def whole(path: Path) -> SourceFile:
    """A log that is one session's. Raises SourceError."""
    try:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return SourceFile(path.name, digest, file.tell())
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def _raw(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            yield from file
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def _who(ask: wire.Ask) -> Who:
    rest = ask.pieces.rest if ask.pieces is not None else []
    return who(ask.headers, "".join(rest[-1:]) + "".join(rest[:1]))
