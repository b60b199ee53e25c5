"""The row of the trajectories table: who, where, and totals over the other rows."""

from __future__ import annotations

import hashlib
import tomllib
from collections import Counter as Tally
from datetime import UTC, datetime, timedelta
from functools import cache
from importlib.resources import files
from typing import Any
from urllib.parse import urlsplit

from msgspec import DecodeError, Struct, json

from traj.build.messages import Messages
from traj.build.rows import Columns
from traj.build.tokens import Tokenizer
from traj.events import Repository, Session

_SUMMED = (
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "output_tokens",
    "reasoning_tokens",
    "counted_input_tokens",
    "counted_cached_tokens",
    "counted_output_tokens",
)


def trajectory_id(source_format: str, session_id: str) -> str:
    """The id that a session has in every dataset."""
    return hashlib.sha256(f"{source_format}\0{session_id}".encode()).hexdigest()[:32]


def trajectory(
    session: Session,
    turns: Columns,
    calls: Columns,
    messages: Messages,
    tokenizer: Tokenizer,
    recorder_version: str,
    redactions: int | None = None,
) -> Columns:
    """The one row of a session, with its id."""
    languages = _languages(messages)
    row = {
        "content_sha256": messages.content_sha256() if session.has_text else _content(session),
        "split": None,
        "source": {
            "format": session.format,
            "recorder": session.recorder,
            "recorder_version": recorder_version,
            "session_id": session.session_id,
            "files": [
                {"name": file.name, "sha256": file.sha256, "bytes": file.bytes}
                for file in session.files
            ],
        },
        "agent": {"name": session.agent_name, "version": session.agent_version},
        "command": session.command,
        "models": sorted({model for model in turns["model"] if model}),
        "started_at": _moment(session.started_us if session.is_dated else None),
        "duration_us": _duration(turns, calls, messages, session.started_us),
        "repository": _repository(session.repository),
        "commit_source": "log" if session.repository and session.repository.commit else None,
        "working_tree": _working_tree(session.repository),
        "license_source": session.repository.license_source if session.repository else None,
        "visibility_source": None,
        "language": languages[0] if languages else None,
        "languages": sorted(languages),
        "languages_source": "tools" if languages else None,
        "use_case": None,
        "use_case_source": None,
        "task": {"url": None, "title": session.title} if session.title else None,
        "task_url_source": None,
        "task_title_source": "log" if session.title else None,
        "outcome": "unknown",
        "outcome_source": "none",
        "totals": _totals(turns, calls, messages),
        "session_usage": _session_usage(session),
        "tokenizer": {"name": tokenizer.name, "sha256": tokenizer.sha256},
        "redactions": redactions,
        "losses": sorted(session.losses.items()),
    }
    return Columns.of_rows("trajectories", [row])


def _content(session: Session) -> str:
    """In place of a hash over messages, where there are none: one over the files that were read."""
    lines = sorted(f"{file.sha256}\n" for file in session.files)
    return hashlib.sha256(f"{session.session_id}\n{''.join(lines)}".encode()).hexdigest()


def _moment(time: int | None) -> datetime | None:
    return None if time is None else datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time)


def _duration(turns: Columns, calls: Columns, messages: Messages, base: int | None) -> int | None:
    if base is None:
        return None
    times = [*turns["end_us"], *turns["start_us"], *calls["end_us"], *calls["start_us"]]
    times += [max(0, m.time_us - base) for m in messages.all if m.time_us is not None]
    return max((time for time in times if time is not None), default=None)


def _totals(turns: Columns, calls: Columns, messages: Messages) -> dict[str, Any]:
    totals: dict[str, Any] = {
        "turns": len(turns["turn"]),
        "lanes": len(set(turns["lane"])),
        "contexts": len(set(zip(turns["lane"], turns["context"], strict=True))),
        "messages": len(messages.all),
        "tool_calls": len(calls["call"]),
    }
    for name in _SUMMED:
        known = [value for value in turns[name] if value is not None]
        totals[name] = sum(known) if known else None
    return totals


def _session_usage(session: Session) -> dict[str, int | None] | None:
    usage = session.usage
    if usage is None or usage.source == "none":
        return None
    return {
        "input_tokens": usage.input_tokens,
        "cached_tokens": usage.cached_tokens,
        "cache_write_tokens": usage.cache_write_tokens,
        "output_tokens": usage.output_tokens,
        "reasoning_tokens": usage.reasoning_tokens,
    }


def _repository(known: Repository | None) -> dict[str, Any] | None:
    if known is None:
        return None
    url, host, owner, name = forge(known.url)
    return {
        "host": host,
        "owner": owner,
        "name": name,
        "url": url,
        "commit": known.commit,
        "branch": known.branch,
        "license": known.license,
        "visibility": "unknown",
        "known_by": "log",
    }


def _working_tree(known: Repository | None) -> str | None:
    if known is None or known.is_clean is None:
        return None
    return "clean" if known.is_clean else "changed"


def forge(url: str | None) -> tuple[str | None, str | None, str | None, str | None]:
    """URL without credentials, host, owner and name of a git remote."""
    if not url:
        return None, None, None, None
    if "://" not in url and "@" in url.split(":", 1)[0] and ":" in url:
        url = "ssh://" + url.replace(":", "/", 1)  # git@host:owner/name
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        return None, None, None, None
    path = parts.path.strip("/").removesuffix(".git")
    owner, _, name = path.rpartition("/")
    if not host or not owner:
        return None, host, None, name or None
    scheme = "https" if parts.scheme in ("ssh", "git", "http") else parts.scheme
    return f"{scheme}://{host}/{path}", host, owner, name


class _Paths(Struct):
    """Where the tools' arguments name files."""

    file_path: str | None = None
    path: str | None = None
    notebook_path: str | None = None
    filename: str | None = None


def _languages(messages: Messages) -> list[str]:
    """Programming languages of the files that tools touched, the most touched first."""
    tally: Tally[str] = Tally()
    for message in messages.all:
        for call in message.tool_calls:
            for path in _paths(call.name, call.arguments):
                language = extensions().get(path.rpartition(".")[2].lower())
                if language is not None and "." in path:
                    tally[language] += 1
    return [name for name, _ in sorted(tally.items(), key=lambda item: (-item[1], item[0]))]


def _paths(name: str, arguments: str) -> list[str]:
    if name == "apply_patch" or "*** Begin Patch" in arguments:
        text = arguments.replace("\\n", "\n")
        marks = ("*** Update File: ", "*** Add File: ", "*** Delete File: ")
        return [
            line[len(mark) :].strip()
            for line in text.split("\n")
            for mark in marks
            if line.startswith(mark)
        ]
    if '"file_path"' not in arguments and 'path"' not in arguments:
        return []
    try:
        found = json.decode(arguments.encode(), type=_Paths)
    except (DecodeError, UnicodeEncodeError):
        return []
    paths = (found.file_path, found.path, found.notebook_path, found.filename)
    return [path for path in paths if path]


@cache
def extensions() -> dict[str, str]:
    """Programming languages by file extension."""
    text = files("traj.build").joinpath("languages.toml").read_text("utf-8")
    lists: dict[str, list[str]] = tomllib.loads(text)["extensions"]
    return {extension: language for language, found in lists.items() for extension in found}
