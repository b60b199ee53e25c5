"""Session logs to events: one module a format.

A source is a module with four names: NAME; ABOUT, what it can say; `locate(path, head)`, which
recognises a file by its beginning and names the sessions in it; and `read(session_id, parts)`,
which reads one session from its files. Where a file holds many sessions that change apart (a
database), `measure(part)` says what of it is one session's. Adding a source is that module, its
line in SOURCES, and its samples.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

from msgspec import to_builtins

from traj.errors import SourceError, UsageError
from traj.events import Session, SourceFile
from traj.sources.about import About
from traj.sources.lines import LINES, Head
from traj.sources.located import HISTORY, LIVE, Located, placed
from traj.sources.refused import AIDER, reason

SOURCES = {
    "atif": "traj.sources.atif",
    "claude_code": "traj.sources.claude_code",
    "claude_stream": "traj.sources.claude_stream",
    "claude_trace": "traj.sources.claude_trace",
    "codex": "traj.sources.codex",
    "live": "traj.sources.live",
    "otlp": "traj.sources.otlp",
    "agentperf_local": "traj.sources.agentperf_local",
    "hub_traces": "traj.sources.hub_traces",
    "tracelab": "traj.sources.tracelab",
    "weka": "traj.sources.weka",
    "copilot_cli": "traj.sources.copilot_cli",
    "claude_web": "traj.sources.claude_web",
    "cursor": "traj.sources.cursor",
    "droid": "traj.sources.droid",
    "har": "traj.sources.har",
    "litellm": "traj.sources.litellm",
    "hermes": "traj.sources.hermes",
    "gemini_cli": "traj.sources.gemini_cli",
    "mini_swe_agent": "traj.sources.mini_swe_agent",
    "openhands": "traj.sources.openhands",
    "openhands_llm_log": "traj.sources.openhands_llm_log",
    "cline": "traj.sources.cline",
    "kimi_code": "traj.sources.kimi_code",
    "opencode": "traj.sources.opencode",
    "pi": "traj.sources.pi",
    "qwen_code": "traj.sources.qwen_code",
    "swe_agent": "traj.sources.swe_agent",
}
SUFFIXES = (*LINES, ".json", ".db", ".traj", ".har", AIDER)  # of files that are opened in folders
PASSED_OVER = frozenset((".git", "node_modules", "__pycache__"))
COMPANIONS = ".meta.json"  # of Claude Code's sub-agents: what they say stands in the sessions


@dataclass(frozen=True, slots=True)
class SessionFiles:
    """The files of one session, its own first; `logs` are the agent's own of a live one."""

    format: str
    session_id: str
    parts: tuple[Located, ...]
    logs: tuple[SessionFiles, ...] = ()

    def read(self) -> Session:
        """Reads the session, and what its logs tell of it. Raises SourceError."""
        session: Session = _source(self.format).read(self.session_id, self.parts)
        if self.logs:
            self._join(session)
        return session

    def _join(self, session: Session) -> None:
        from traj.sources.joining import join
        from traj.sources.joining.pairing import span

        run = span(self.parts[0].path)
        for log in self.logs:
            try:
                join(session, log.read(), run)
            except SourceError:
                session.lose("log_not_read")

    @property
    def bytes(self) -> int:
        """How much there is to read."""
        own = sum(part.bytes for part in self.parts)
        return own + sum(log.bytes for log in self.logs)

    def measured(self) -> list[SourceFile]:
        """What `read` would put into the session's files, without reading what they say."""
        measure = getattr(_source(self.format), "measure", _measure)
        own = [measure(part) for part in self.parts]
        return own + [file for log in self.logs for file in log.measured()]

    @property
    def paths(self) -> list[Path]:
        """Its files, each once."""
        parts = [*self.parts, *(part for log in self.logs for part in log.parts)]
        return list(dict.fromkeys(part.path for part in parts))


@dataclass(frozen=True, slots=True)
class Found:
    """What lies in the given places: sessions, and files that are none (with the reason)."""

    sessions: tuple[SessionFiles, ...]
    refused: tuple[tuple[Path, str], ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        sessions = [
            {
                "format": session.format,
                "session_id": session.session_id,
                "files": list(map(str, session.paths)),
                "bytes": session.bytes,
            }
            for session in self.sessions
        ]
        refused = [{"file": str(path), "reason": reason} for path, reason in self.refused]
        return {"sessions": sessions, "refused": refused}


def discover(home: Path, variables: Mapping[str, str]) -> list[Path]:
    """The folders in which the known agents keep their sessions: under a home directory, or where
    the variables of an environment put them."""
    names = (Path(place) for known in describe() for place in known.about.places)
    places = (placed(home, name, variables) for name in names)
    return [place for place in dict.fromkeys(places) if place.exists()]


def find(places: Iterable[Path], only: str | None = None, *, join: bool = True) -> Found:
    """The sessions in files and folders. A file given by name that is no session is refused; in a
    folder, only files that look like logs are opened. An agent's own log of a session that is here
    as a live recording, too, is part of that, but where `join` is false.

    Raises UsageError for a place that does not exist or an unknown format name.
    """
    if only is not None and only not in SOURCES:
        raise UsageError(f"unknown format {only!r}; known: {', '.join(sorted(SOURCES))}")
    names = (only,) if only else tuple(SOURCES)
    located: list[Located] = []
    refused: list[tuple[Path, str]] = []
    for path in _files(places):
        try:
            located += _locate(path, names)
        except (SourceError, UsageError) as error:
            refused.append((path, str(error).removeprefix(f"{path}: ")))
    sessions, doubles = _grouped(located)
    if join and any(session.format == LIVE for session in sessions):
        from traj.sources.joining.pairing import pair

        sessions = pair(sessions, SOURCES)
        joined = {path for session in sessions for log in session.logs for path in log.paths}
        own = {path.name for path in joined}
        # The copy beside the live log and the agent's own file are no two sessions.
        doubles = [one for one in doubles if one[0].name not in own]
    return Found(tuple(sessions), tuple(refused + doubles))


def _files(places: Iterable[Path]) -> list[Path]:
    found: dict[Path, None] = {}
    for place in places:
        if place.is_dir():
            found.update(dict.fromkeys(sorted(inside(place))))
        elif place.exists():
            found[place] = None
        else:
            raise UsageError(f"{place}: no such file or folder")
    return list(found)


def inside(place: Path) -> Iterator[Path]:
    """The files in a folder that may be sessions."""
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name not in PASSED_OVER]
        logs = (name for name in names if name.endswith(SUFFIXES))
        yield from (Path(folder) / name for name in logs if not name.endswith(COMPANIONS))


def _locate(path: Path, names: Sequence[str]) -> list[Located]:
    if not path.is_file():
        raise UsageError(f"{path}: not a regular file")
    beginning = Head(path)
    matches: list[list[Located]] = []
    for name in names:
        found = _source(name).locate(path, beginning)
        if found:
            matches.append(found)
    if len(matches) > 1:
        both = " and ".join(match[0].format for match in matches)
        raise UsageError(f"{path}: looks like {both}; say which with --format")
    if not matches:
        raise SourceError(reason(beginning) if beginning.block else "empty file")
    return matches[0]


def _grouped(located: list[Located]) -> tuple[list[SessionFiles], list[tuple[Path, str]]]:
    """Sessions with all their parts. Of several files for the same part the largest is taken."""
    parents = {(p.format, p.session_id): p.parent for p in located if p.parent is not None}
    groups: dict[tuple[str, str], dict[str | None, Located]] = {}
    doubles: list[tuple[Path, str]] = []
    for part in located:
        root, name = _root(part, parents)
        group = groups.setdefault((part.format, root), {})
        copies = [part, *([group[name]] if name in group else [])]
        copies.sort(key=lambda p: (-p.bytes, str(p.path)))
        group[name] = copies[0]
        doubles += [
            (p.path, f"the same session as {copies[0].path.name}, which holds more")
            for p in copies[1:]
        ]
    files = {(part.format, part.session_id): part for part in located if part.part is None}
    sessions = [
        SessionFiles(form, session, (*group.values(), *_histories(group.values(), files)))
        for (form, session), group in groups.items()
    ]
    return sessions, doubles


def _histories(parts: Iterable[Located], files: dict[tuple[str, str], Located]) -> list[Located]:
    """The files of the sessions that these went on from, as far as they are here."""
    found: dict[str, Located] = {}
    for part in parts:
        before = files.get((part.format, part.history or ""))
        while before is not None and before.session_id not in found:
            found[before.session_id] = before._replace(part=HISTORY)
            before = files.get((before.format, before.history or ""))
    return list(found.values())


def _root(part: Located, parents: dict[tuple[str, str], str]) -> tuple[str, str | None]:
    """The session at the top of a chain of sub-agents, and the part's name within it."""
    if part.parent is None:
        return part.session_id, part.part
    root: str = part.parent
    seen = {part.session_id}
    while (above := parents.get((part.format, root))) and root not in seen:
        seen.add(root)
        root = above
    return root, part.part or part.session_id


def _measure(part: Located) -> SourceFile:
    with part.path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        return SourceFile(part.path.name, digest, os.fstat(file.fileno()).st_size)


@cache
def _source(name: str) -> ModuleType:
    return import_module(SOURCES[name])


@dataclass(frozen=True, slots=True)
class Described:
    """A format: its name, the first sentence of its module, and what it can say."""

    format: str
    reads: str
    about: About

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"format": self.format, "reads": self.reads, **to_builtins(self.about)}


def describe() -> list[Described]:
    """The formats, in the order of their names."""
    found = []
    for name in sorted(SOURCES):
        module = _source(name)
        summary = " ".join((module.__doc__ or "").partition("\n\n")[0].split())
        found.append(Described(name, summary, module.ABOUT))
    return found
