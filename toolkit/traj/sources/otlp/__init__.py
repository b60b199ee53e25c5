"""OpenTelemetry traces of models and agents: OTLP JSON, a file or a line an export request.

GenAI conventions in their newer and older spellings, OpenInference, OpenLLMetry, and what
`traj export -f otel` writes. A session is a conversation as the spans name it (also over several
traces), else a trace; a file may hold many, and a session may lie in several files.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from traj.errors import SourceError
from traj.events import Repository, Session, SourceFile
from traj.sources.about import About
from traj.sources.lines import Head
from traj.sources.located import Located
from traj.sources.otlp import own, spans, traces, wire, words

NAME = "otlp"
ABOUT = About(
    "any agent that is instrumented",
    words.MEANING,
    lengths="request",
    turn_clock="logged",
    tool_clock="logged",
    seen="fixtures",
    lacks=(
        "text where the instrumentation does not capture it (lengths and times are kept)",
        "retries inside a client library",
        "times of approval",
    ),
)
_URL = ("vcs.repository.url.full", "vcs.repository.url")
_COMMIT = ("vcs.ref.head.revision",)
_BRANCH = ("vcs.ref.head.name",)


def locate(path: Path, head: Head) -> list[Located]:
    """The sessions in a file of export requests; empty for anything else. Raises SourceError for
    traces that have nothing to do with models."""
    first = next(iter(head), None)
    if first is None or "resourceSpans" not in first:
        document = head.document
        first = document[0] if isinstance(document, list) and document else document
    if not isinstance(first, dict) or not isinstance(first.get("resourceSpans"), list):
        return []
    content = spans.content(path)
    if not content.shares:
        raise SourceError(f"{path}: OpenTelemetry spans, but none of a model, an agent or a tool")
    if len(content.shares) == 1:
        return [Located(path, NAME, next(iter(content.shares)), path.name)]
    return [
        Located(path, NAME, session, path.name, share=share.bytes)
        for session, share in content.shares.items()
    ]


def measure(part: Located) -> SourceFile:
    """What of a file is one session's."""
    content = spans.content(part.path)
    share = content.shares.get(part.session_id)
    if part.share is None or share is None:
        return SourceFile(part.path.name, content.sha256, content.data_bytes)
    return share.measured(part.path.name)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session from its shares of one or more files. Raises SourceError."""
    session = Session(NAME, session_id, "unknown")
    found: list[spans.Span] = []
    resource: list[wire.Attribute] = []
    seen = set()
    for part in parts:
        content = spans.content(part.path)
        share = content.shares.get(session_id)
        if share is None:
            raise SourceError(f"{part.path}: changed while it was read: record it again")
        session.files.append(measure(part))
        session.lose("malformed_line", content.malformed)
        session.lose("truncated_line", content.truncated)
        resource = resource or share.resource
        for line, raw in share.spans:
            span = spans.span(line, raw)
            if span is None:
                session.lose("malformed_line")
            elif (span.trace, span.id) not in seen:
                seen.add((span.trace, span.id))
                found.append(span)
    about = wire.attributes(resource)
    _describe(session, found, about)
    if own.is_own(found):
        own.read(session, found, about)
    else:
        traces.read(session, found)
    if not any(lane.steps for lane in session.lanes):
        raise SourceError(f"{parts[0].path}: spans of agents or tools, but no request to a model")
    return session


def _describe(session: Session, found: Sequence[spans.Span], about: dict[str, Any]) -> None:
    agents = (span for span in found if words.kind(span) == "agent")
    named = (words.first(one.attributes, words.AGENT) for one in agents)
    name = words.first(about, ("service.name",)) or next((one for one in named if one), None)
    session.agent_name = name or "unknown"
    session.agent_version = words.first(about, ("service.version",))
    session.started_us = min((s.start_us for s in found if s.start_us is not None), default=None)
    task, known = about.get("traj.task"), about.get("traj.repository")
    session.title = words.first(task, ("title",)) if isinstance(task, dict) else None
    own_words = known if isinstance(known, dict) else {}
    repository = Repository(
        words.first(about, _URL) or words.first(own_words, ("url",)),
        words.first(about, _COMMIT) or words.first(own_words, ("commit",)),
        words.first(about, _BRANCH) or words.first(own_words, ("branch",)),
    )
    session.repository = None if repository == Repository() else repository
