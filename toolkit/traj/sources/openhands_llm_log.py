"""OpenHands' completion logs: a folder of `<model>-<time>.json`, each one request and its answer.

A session is the requests that name the same conversation; where they name none, those of one folder
that begin with the same words, so that sub-agents and summaries are sessions of their own.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from traj.events import Sampling, Session
from traj.sources import documents, raw_responses
from traj.sources.about import About
from traj.sources.lines import Count, Head
from traj.sources.located import Located
from traj.sources.requests import Answered, Asked, Exchange, chain, chat
from traj.sources.requests import asked as asked_by
from traj.sources.requests.pieces import NOTHING, fit, json_text
from traj.sources.requests.pieces import parts as parts_of

NAME = "openhands_llm_log"
ABOUT = About(
    "OpenHands (completion logs)",
    raw_responses.MEANING,
    lengths="request",
    turn_clock="measured",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "when the first token came",
        "whose sub-agents and summaries they are, where requests do not name a conversation",
        "tool calls where they are text of the answer (models without function calling)",
        "how tools ended",
        "the beginning of a request in logs of version 0",
    ),
)
_KEYS = frozenset(
    (
        *("messages", "tools", "kwargs", "context_window", "raw_messages", "response", "cost"),
        *("timestamp", "latency_sec", "raw_response", "usage_summary", "error", "args", "input"),
        *("instructions", "llm_path", "fncall_messages", "fncall_response", "include", "store"),
        *("gateway_model", "backing_model", "profile_name"),
    )
)
_TAIL = 256 << 10
_ENDS = (
    re.compile(rb'"cost":\s*[-+.\deE]+'),
    re.compile(rb'"timestamp":\s*\d{9,10}(\.\d+)?[,}\s]'),
)

Seconds = Annotated[float, Meta(ge=0, le=1e10)]


class _Metadata(Struct):
    session_id: str | None = None


class _Extra(Struct):
    metadata: _Metadata | None = None


class _Options(Struct):
    """What was asked beside the messages."""

    tools: Raw = NOTHING
    extra_body: Raw = NOTHING
    metadata: Raw = NOTHING
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    max_output_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    stream: bool | None = None


class _Tool(Struct):
    function: Raw = NOTHING
    parameters: Raw = NOTHING


class _Failure(Struct):
    type: str | None = None


class _Log(Struct):
    messages: Raw = NOTHING
    input: Raw = NOTHING
    instructions: Raw = NOTHING
    tools: Raw = NOTHING
    kwargs: Raw = NOTHING
    response: Raw = NOTHING
    raw_response: Raw = NOTHING  # before calls were made of its text
    fncall_response: Raw = NOTHING  # version 0: after that, and `response` is before it
    error: Raw = NOTHING
    timestamp: Seconds | None = None
    latency_sec: Seconds | None = None


_DECODER = msgspec.json.Decoder(_Log)


def locate(path: Path, head: Head) -> list[Located]:
    """Recognises a request by its keys, and in large files by the end; empty for anything else."""
    found = head.document
    if not isinstance(found, dict) or not found.keys() <= _KEYS:
        return []
    asked = found.get("messages", found.get("input"))
    if not isinstance(asked, list) or not asked or not isinstance(asked[0], dict):
        return []
    gateway = "gateway_model" in found and "response" in found
    if not gateway and not _ends_so(path, found):
        return []
    return [Located(path, NAME, _session_id(path, found, asked), part=path.name)]


def _ends_so(path: Path, found: dict[str, Any]) -> bool:
    if isinstance(found.get("kwargs"), dict) and "timestamp" in found and "cost" in found:
        return True
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _TAIL))
        tail = file.read()
    return all(pattern.search(tail) for pattern in _ENDS)


def _session_id(path: Path, found: dict[str, Any], asked: list[Any]) -> str:
    """The conversation's name where the request has it, else a hash of the folder's and of what the
    person said first."""
    named = fit(msgspec.json.encode(found.get("kwargs") or {}), _Options) or _Options()
    for metadata in (
        (fit(named.extra_body, _Extra) or _Extra()).metadata,
        fit(named.metadata, _Metadata),
    ):
        if metadata is not None and metadata.session_id:
            return metadata.session_id
    users = (one for one in asked if isinstance(one, dict) and one.get("role") == "user")
    said: object = next(users, {}).get("content")
    if isinstance(said, list):  # a summary may come behind the person's words, in one message
        said = next((one.get("text") for one in said if isinstance(one, dict)), None)
    beginning = repr((path.absolute().parent.name, said))
    return hashlib.sha256(beginning.encode("utf-8", "replace")).hexdigest()[:32]


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session: a request a file. Raises SourceError."""
    session = Session(NAME, session_id, "OpenHands")
    exchanges = []
    for part in sorted(parts, key=lambda part: part.path.name):
        file = len(session.files)
        log = documents.read(part.path, _DECODER, session)
        exchanges.append(_exchange(session, log, file))
    chain(session, sorted(exchanges, key=lambda one: one.end_us or 0))
    starts = [one.start_us or one.end_us for one in exchanges]
    session.started_us = min((time for time in starts if time is not None), default=None)
    return session


def _exchange(session: Session, log: _Log, file: int) -> Exchange:
    end = None if log.timestamp is None else round(log.timestamp * 1e6)
    start = None
    if end is not None and log.latency_sec is not None:
        start = end - round(log.latency_sec * 1e6)
    said = log.raw_response if bytes(log.raw_response) else log.response
    called = log.fncall_response if bytes(log.fncall_response) else log.response
    as_text = bytes(log.raw_response) or bytes(log.fncall_response)
    if as_text:
        calls = raw_responses.answered(called).message
        session.lose("text_action", len(calls.tool_calls) if calls else 0)
    answered = raw_responses.answered(said)
    if as_text and answered.usage.source == "none":
        answered = replace(answered, usage=raw_responses.answered(called).usage)
    failure = fit(log.error, _Failure)
    if failure is not None:
        answered = Answered(error=failure.type or "error")
    return Exchange(
        _asked(log, has_tools=not as_text),
        answered,
        start,
        end_us=end,
        clock="measured" if start is not None else "derived" if end is not None else "none",
        file=file,
        line=1,
    )


def _asked(log: _Log, *, has_tools: bool) -> Asked:
    options = fit(log.kwargs, _Options) or _Options()
    tools = _declared(log.tools) or _declared(options.tools)
    limits = (options.max_completion_tokens, options.max_tokens, options.max_output_tokens)
    sampling = Sampling(
        next((limit for limit in limits if limit is not None), None),
        options.temperature,
        options.top_p,
        options.reasoning_effort,
        options.stream,
    )
    if bytes(log.input):
        body = msgspec.json.encode({"input": log.input, "instructions": log.instructions or None})
        found = asked_by(raw_responses.RESPONSES, body) or Asked(raw_responses.RESPONSES)
    else:
        found = Asked(raw_responses.CHAT, messages=chat.messages(log.messages))
    return replace(found, tools=tools if has_tools else None, sampling=sampling)


def _declared(raw: Raw) -> str | None:
    """Tools as the request had them; newer logs have the agent's own notes of them instead."""
    listed = parts_of(raw, _Tool)
    sent = any(bytes(one.function) or bytes(one.parameters) for one in listed)
    return json_text(raw) if sent else None
