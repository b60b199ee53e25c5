"""HAR: a browser's or proxy's archive of requests, as mitmproxy, Proxyman and others write it.

One document; of its entries those are read that are requests to a model. A session is one as the
agent names it in its headers (Claude Code, Codex, OpenCode), else the whole file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Raw, Struct

from traj.errors import SourceError
from traj.events import Session, SourceFile
from traj.sources import documents
from traj.sources.about import About
from traj.sources.lines import Head, Milliseconds, epoch_us
from traj.sources.located import Located
from traj.sources.remembered import of_file
from traj.sources.requests import api_of
from traj.sources.requests.logged import Logged, decoded, exchange, fill, session_of

NAME = "har"
ABOUT = About(
    "any agent whose requests were archived",
    None,  # each API's own: see traj.sources.requests.spoken
    lengths="request",
    turn_clock="measured",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "how tools ended, and how long each of several took",
        "usage of chat streams of which the agent did not ask for it",
        "the first token's time",
        "bodies that the archiver left out",
    ),
)


class _Header(Struct):
    name: str = ""
    value: str = ""


class _Body(Struct):
    text: str | None = None
    encoding: str | None = None


class _Request(Struct):
    url: str | None = None
    headers: list[_Header] = []
    postData: _Body | None = None  # noqa: N815 - the format's own names


class _Response(Struct):
    status: Annotated[int, msgspec.Meta(ge=-1, le=999)] | None = None
    content: _Body | None = None


class _Entry(Struct):
    startedDateTime: str | None = None  # noqa: N815
    time: Milliseconds | None = None
    request: _Request | None = None
    response: _Response | None = None


class _Log(Struct):
    entries: list[Raw] = []


class _Archive(Struct):
    log: _Log | None = None


_ARCHIVE = msgspec.json.Decoder(_Archive)
_ENTRY = msgspec.json.Decoder(_Entry)


def locate(path: Path, head: Head) -> list[Located]:
    """The sessions in an archive; empty for anything else. Raises SourceError for an archive
    without a request to a model."""
    log = head.document.get("log") if isinstance(head.document, dict) else None
    if not isinstance(log, dict) or not isinstance(log.get("entries"), list):
        return []
    shares = _shares(path, Session(NAME, "", ""))
    if not shares:
        raise SourceError(f"{path}: an archive of requests, none of them to a model")
    if len(shares) == 1:
        return [Located(path, NAME, next(iter(shares)))]
    return [
        Located(path, NAME, name, share=sum(size for _, _, size in share))
        for name, share in shares.items()
    ]


def measure(part: Located) -> SourceFile:
    """What of an archive is one session's."""
    session = Session(NAME, "", "")
    share = _shares(part.path, session).get(part.session_id)
    return _measured(part, session.files[0], share)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "unknown")
    part = parts[0]
    share = _shares(part.path, session).get(session_id, [])
    session.files = [_measured(part, session.files[0], share)]
    found = (exchange(_logged(entry, number), session) for number, entry, _ in share)
    fill(session, [one for one in found if one is not None], str(part.path))
    for _, entry, _ in share:
        agent = _headers(entry).get("user-agent")
        if agent:
            name, _, version = agent.partition(" ")[0].partition("/")
            session.agent_name, session.agent_version = name, version or None
            break
    return session


_Share = list[tuple[int, _Entry, int]]  # number, entry, bytes


@of_file
def _shares(path: Path, session: Session) -> dict[str, _Share]:
    """The entries of an archive by session."""
    archive = documents.read(path, _ARCHIVE, session)
    raws = archive.log.entries if archive.log is not None else []
    shares: dict[str, _Share] = {}
    unnamed = ""
    for number, entry in documents.items(raws, _ENTRY, session):
        request = entry.request
        if request is None or request.url is None or api_of(request.url) is None:
            continue
        if not unnamed:  # what the file keeps while it grows
            first = f"{entry.startedDateTime} {request.url}".encode()
            unnamed = f"har-{hashlib.sha256(first).hexdigest()[:24]}"
        name = session_of(_headers(entry)) or unnamed
        shares.setdefault(name, []).append((number, entry, len(bytes(raws[number - 1]))))
    return shares


def _measured(part: Located, whole: SourceFile, share: _Share | None) -> SourceFile:
    if part.share is None or share is None:
        return whole
    digest = hashlib.sha256()
    for _, entry, _ in share:
        digest.update(msgspec.json.encode(entry))
    return SourceFile(whole.name, digest.hexdigest(), part.share)


def _headers(entry: _Entry) -> dict[str, str]:
    found = entry.request.headers if entry.request is not None else []
    return {one.name.lower(): one.value for one in found}


def _logged(entry: _Entry, number: int) -> Logged:
    request, response = entry.request or _Request(), entry.response or _Response()
    sent, got = request.postData or _Body(), response.content or _Body()
    start = epoch_us(entry.startedDateTime)
    end = None if start is None or entry.time is None else start + round(entry.time * 1000)
    return Logged(
        request.url or "",
        decoded(sent.text or "", sent.encoding),
        decoded(got.text or "", got.encoding),
        response.status,
        _headers(entry),
        start,
        None,
        end,
        line=number,
    )
