"""OpenHands: events of version 0, evaluations' `output.jsonl`, and the events of its SDK.

Version 0 keeps events in a list, or each in a file of its own, or as the history in a row of
`output.jsonl`, whose sums and latencies then stand beside it. The SDK keeps
`<conversation>/events/event-*.json` beside `base_state.json`, sub-agents' conversations below their
parent's; what an agent server sends is a stream of the same events.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from traj.errors import SourceError
from traj.events import Lane, Session, SourceFile
from traj.sources import documents, lines
from traj.sources.about import About
from traj.sources.lines import UNDECODABLE, Head
from traj.sources.located import Located
from traj.sources.openhands import v0, wire
from traj.sources.openhands.sdk import SdkReader
from traj.sources.raw_responses import MEANING
from traj.sources.settled import settle

NAME = "openhands"
ABOUT = About(
    "OpenHands",
    MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="derived",
    seen="real sessions",
    places=(".openhands/conversations", ".openhands/sessions"),
    lacks=(
        "definitions of tools (SDK)",
        "the zone of times, where no response or cost tells it",
        "failed requests that were sent again",
        "prompts of summaries",
        "version 0: the words around recalled knowledge and some results",
        "before 2024-12: figures, times, calls",
    ),
)
_KINDS = ("Event", "Condensation", "CondensationRequest", "Observation")
_EVENTS = "events"
_V0, _SDK, _STATE = "v0", "sdk", "state"  # what a file of a conversation's folder is


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises events, rows of evaluations, and a conversation's state; empty for anything else.

    Raises SourceError for pages of events that repeat what stands beside them.
    """
    listed = [one for _, one in zip(range(2), head, strict=False)]
    first = listed[0] if listed else None
    if isinstance(first, dict) and isinstance(first.get("history"), list) and _is_row(first):
        return [
            Located(path, NAME, session_id, share=size)
            for session_id, (_, size) in _rows(path, path.stat().st_mtime_ns).items()
        ]
    if len(listed) > 1 and _is_sdk(first):
        return [Located(path, NAME, str(listed[0]["id"]))]
    found = head.document
    if isinstance(found, list) and found and _is_v0(found[0]):
        if path.parent.name == "event_cache":
            raise SourceError(
                f"{path}: a page of events that stand in files of their own beside it"
            )
        return [Located(path, NAME, _beginning(found[0]))]
    if not isinstance(found, dict):
        return []
    kind = _V0 if _is_v0(found) else _SDK if _is_sdk(found) else ""
    if not kind and {"id", "agent", "workspace", "persistence_dir"} <= found.keys():
        kind = _STATE
    return [_part(path, kind)] if kind else []


def _is_row(row: dict[str, Any]) -> bool:
    named = "instance_id" in row or "issue" in row
    history = row["history"]
    first = history[0] if history else None
    return named and (not history or (isinstance(first, dict) and _acts(first)))


def _acts(event: dict[str, Any]) -> bool:
    return isinstance(event.get("action"), str) or isinstance(event.get("observation"), str)


def _is_v0(event: object) -> bool:
    return (
        isinstance(event, dict)
        and _acts(event)
        and {"id", "timestamp", "source", "message"} <= event.keys()
    )


def _is_sdk(event: object) -> bool:
    return (
        isinstance(event, dict)
        and isinstance(event.get("kind"), str)
        and event["kind"].endswith(_KINDS)
        and {"id", "timestamp", "source"} <= event.keys()
    )


def _beginning(event: dict[str, Any]) -> str:
    told = repr([event.get(name) for name in ("timestamp", "source", "action", "observation")])
    said = repr(event.get("message"))[:1000]
    return hashlib.sha256((told + said).encode("utf-8", "replace")).hexdigest()[:32]


def _part(path: Path, kind: str) -> Located:
    """A file of a conversation's folder: its own, or below its parent's."""
    folder = path.absolute().parent
    if folder.name == _EVENTS:
        folder = folder.parent
    above = folder.parent
    parent = above.parent.name if above.name == "subagents" else None
    return Located(path, NAME, folder.name, part=f"{kind} {folder.name}/{path.name}", parent=parent)


@lru_cache(maxsize=8)
def _rows(path: Path, _changed_ns: int) -> dict[str, tuple[int, int]]:
    """Where the rows with events begin, and their sizes, by session id."""
    found: dict[str, tuple[int, int]] = {}
    offset = 0
    with path.open("rb") as file:
        for line in file:
            try:
                row = wire.ROW.decode(line)
            except UNDECODABLE:
                row = wire.Row()
            if row.history:
                first = hashlib.sha256(repr(row.instance_id).encode("utf-8", "replace"))
                for raw in row.history[:2]:
                    first.update(bytes(raw))
                found.setdefault(first.hexdigest()[:32], (offset, len(line)))
            offset += len(line)
    if not found:
        raise SourceError(f"{path}: no row of it has events")
    return found


def measure(part: Located) -> SourceFile:
    """What of a file is one session's."""
    data = part.path.read_bytes() if part.share is None else _row(part)
    return SourceFile(part.path.name, hashlib.sha256(data).hexdigest(), len(data))


def _row(part: Located) -> bytes:
    try:
        rows = _rows(part.path, part.path.stat().st_mtime_ns)
        offset, size = rows[part.session_id]
        with part.path.open("rb") as file:
            file.seek(offset)
            return file.read(size)
    except (OSError, KeyError):
        raise SourceError(f"{part.path}: changed while it was read") from None


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session. Raises SourceError."""
    session = Session(NAME, session_id, "OpenHands")
    if parts[0].share is not None:
        _read_row(session, parts[0])
    elif _is_list(parts[0]):
        raws = documents.read_list(parts[0].path, session)
        events = [(0, line, e) for line, e in documents.items(raws, wire.EVENT, session)]
        v0.Reader(session, wire.Row()).read(events)
    else:
        _read_parts(session, session_id, parts)
    settle(session)
    return session


def _is_list(part: Located) -> bool:
    with part.path.open("rb") as file:
        return file.read(64).lstrip().startswith(b"[")


def _read_row(session: Session, part: Located) -> None:
    data = _row(part)
    session.files.append(measure(part))
    row = wire.ROW.decode(data)
    session.title = row.instance_id
    raws = documents.items(row.history or (), wire.EVENT, session)
    v0.Reader(session, row).read([(0, line, event) for line, event in raws])


def _read_parts(session: Session, session_id: str, parts: Sequence[Located]) -> None:
    folders: dict[str, list[Located]] = {}
    for part in sorted(parts, key=lambda part: (part.session_id != session_id, part.path.name)):
        folders.setdefault(part.session_id, []).append(part)
    readers: list[SdkReader] = []
    for own in folders.values():
        stream = next((part for part in own if part.path.name.endswith(lines.LINES)), None)
        if stream is not None:
            file = len(session.files)
            numbered = lines.read(stream.path, wire.SDK_EVENT, session)
            events = [(file, line, event) for line, _, event in numbered]
            readers.append(_conversation(session, wire.BaseState(), events))
            continue
        state = wire.BaseState()
        old: list[tuple[int, int, wire.Event]] = []
        new: list[tuple[int, int, wire.SdkEvent]] = []
        for part in own:
            file, kind = len(session.files), (part.part or "").partition(" ")[0]
            if kind == _STATE:
                state = documents.read(part.path, wire.BASE_STATE, session)
            elif kind == _V0:
                old.append((file, 1, documents.read(part.path, wire.EVENT, session)))
            else:
                new.append((file, 1, documents.read(part.path, wire.SDK_EVENT, session)))
        if old:
            old.sort(key=lambda one: one[2].id or 0)
            v0.Reader(session, wire.Row()).read(old)
        if new or not old:
            readers.append(_conversation(session, state, new))
    _tie(session, readers)


def _conversation(
    session: Session, state: wire.BaseState, events: Sequence[tuple[int, int, wire.SdkEvent]]
) -> SdkReader:
    lane = Lane("subagent" if session.lanes else "main")
    session.lanes.append(lane)
    reader = SdkReader(session, lane, len(session.lanes) - 1, state)
    for _, _, event in events:
        reader.claim(event)
    for file, line, event in events:
        reader.file = file
        reader.event(event, line)
    reader.finish()
    return reader


def _tie(session: Session, readers: Sequence[SdkReader]) -> None:
    """Sub-agents to the calls that gave them their task, and summaries behind all lanes."""
    asked = {text: call for reader in readers for text, call in reader.prompts.items()}
    for reader in readers:
        if reader.first_us is not None:
            before = session.started_us
            session.started_us = reader.first_us if before is None else min(before, reader.first_us)
        lane = reader.talk.lane
        if lane.kind == "subagent":
            call = asked.get(reader.task or "")
            lane.spawned_by = lane.joined_by = call
            session.lose("subagent_without_call", call is None)
    session.lanes += [reader.side.lane for reader in readers if reader.side is not None]
