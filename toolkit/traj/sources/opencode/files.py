"""OpenCode's sessions in JSON: the tree of files before 1.2, and exports.

In the tree a session is a file in `session/<project>/`, its messages are files in
`message/<session>/`, and their parts files in `part/<message>/`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from traj.errors import SourceError
from traj.events import Session, SourceFile
from traj.sources import documents
from traj.sources.located import Located
from traj.sources.opencode import wire
from traj.sources.opencode.lenience import decoded


def locate(path: Path, name: str, document: Any) -> list[Located]:
    """Recognises a session's own file and an export. Raises SourceError for what is read with its
    session."""
    if not isinstance(document, dict):
        return []
    info = document.get("info")
    if isinstance(info, dict) and isinstance(document.get("messages"), list):
        if not _is_session(info):
            return []
        parent = info.get("parentID")
        return [Located(path, name, info["id"], parent=_name(parent))]
    if "messages" in document:
        return []
    if _is_session(document):
        share = sum(place.stat().st_size for place in _tree(path, document["id"]))
        parent = document.get("parentID")
        return [Located(path, name, document["id"], parent=_name(parent), share=share)]
    session = document.get("sessionID")
    is_part = "messageID" in document or document.get("role") in ("user", "assistant")
    if is_part and isinstance(session, str) and session.startswith("ses_") and "id" in document:
        raise SourceError(f"{path}: part of {session}, and read with its own file")
    return []


def _is_session(info: dict[str, Any]) -> bool:
    """Whether these are the words of a session about itself."""
    name, times = info.get("id"), info.get("time")
    return (
        isinstance(name, str)
        and name.startswith("ses")
        and isinstance(times, dict)
        and "created" in times
        and isinstance(info.get("version"), str)
        and ("directory" in info or "projectID" in info or "title" in info)
    )


def _name(value: object) -> str | None:
    return value if isinstance(value, str) else None


def export(path: Path, session: Session) -> wire.KeptSession:
    """An export's messages in order. Appends the file to the session's."""
    file = len(session.files)
    found = documents.read(path, wire.EXPORTED, session)
    header = decoded(bytes(found.info), wire.HEADER, session)
    kept = wire.KeptSession(header or wire.Header(), [], file)
    for raw in found.messages:
        bundle = decoded(bytes(raw), wire.BUNDLE, session)
        if bundle is None:
            continue
        is_first = bool(bytes(bundle.info))
        head = bytes(bundle.info) if is_first else bytes(raw)
        parts = [bytes(part) for part in bundle.parts] if is_first else None
        kept.messages.append(wire.Kept(_id(head), head, parts))
    return kept


def tree(path: Path, session: Session) -> wire.KeptSession:
    """A session's messages in the order of their making, from their own files."""
    file = len(session.files)
    own = SourceFile(path.name, "", 0)
    header = decoded(_read(path), wire.HEADER, session)
    if header is None or header.id is None:
        raise SourceError(f"{path}: not a JSON object")
    kept = wire.KeptSession(header, [], file)
    order: list[tuple[float, str, wire.Kept]] = []
    for place, parts in _messages(path, header.id):
        head = _read(place)
        message = decoded(head, wire.INFO, Session("", "", ""))
        created = message.time.created if message is not None and message.time else None
        found = [_read(part) for part in parts]
        order.append((created or 0, place.stem, wire.Kept(place.stem, head, found)))
    kept.messages = [message for _, _, message in sorted(order, key=lambda item: item[:2])]
    session.files.append(measured(path, own.name))
    return kept


def measured(path: Path, name: str | None = None) -> SourceFile:
    """A session's files as one: the tree has a file for each part of a message."""
    digest = hashlib.sha256()
    size = 0
    for place in _tree(path, _id(_read(path))):
        text = _read(place)
        digest.update(place.name.encode())
        digest.update(len(text).to_bytes(8, "little"))
        digest.update(text)
        size += len(text)
    return SourceFile(name or path.name, digest.hexdigest(), size)


def _tree(path: Path, session_id: str) -> Iterator[Path]:
    """All files of a session, its own first, always in the same order."""
    yield path
    for message, parts in _messages(path, session_id):
        yield message
        yield from parts


def _messages(path: Path, session_id: str) -> Iterator[tuple[Path, list[Path]]]:
    """The files of a session's messages, each with those of its parts."""
    if "/" in session_id or session_id.startswith("."):
        return
    storage = path.parent.parent.parent
    for message in sorted((storage / "message" / session_id).glob("*.json")):
        yield message, sorted((storage / "part" / message.stem).glob("*.json"))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise SourceError(f"{path}: {error.strerror or error}") from None


def _id(head: bytes) -> str:
    try:
        return wire.HEADER.decode(head).id or ""
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""
