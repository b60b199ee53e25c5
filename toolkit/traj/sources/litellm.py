"""LiteLLM's standard logging payloads: an object a request, in lines, a list, or a file each.

Payloads with the same session or trace id are a session; where no two share one, a file is. Here
`prompt_tokens` includes cached tokens, whatever the provider. `cache_hit` is LiteLLM's own cache:
such an answer was not made by a model, and is left out.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import msgspec
import orjson
from msgspec import Raw, Struct
from msgspec.structs import replace

from traj.events import Session, SourceFile, Usage
from traj.sources import documents, lines
from traj.sources.about import About, Meaning
from traj.sources.lines import Count, Head
from traj.sources.located import Located
from traj.sources.remembered import of_file
from traj.sources.requests import Answered, Asked, Exchange, anthropic, asked, chat, responses
from traj.sources.requests.logged import fill
from traj.sources.requests.pieces import NOTHING, fit
from traj.sources.requests.spoken import ANTHROPIC, CHAT, RESPONSES

NAME = "litellm"
ABOUT = About(
    "any agent behind LiteLLM",
    Meaning(cached="inside", written="inside", reasoning="inside"),
    lengths="request",
    turn_clock="measured",
    tool_clock="derived",
    seen="real sessions",
    lacks=(
        "how tools ended, and how long each of several took",
        "text, where LiteLLM was told not to log it",
        "which conversation is whose, where clients give no session id",
    ),
)
_Seconds = Annotated[float, msgspec.Meta(ge=0, le=1e11)]
_MARKS = ("call_type", "response", "messages", "startTime", "model_parameters")


class _Written(Struct):
    """Beside the chat figures: Anthropic's own."""

    cache_creation_input_tokens: Count | None = None
    cache_read_input_tokens: Count | None = None


class _Metadata(Struct):
    usage_object: Raw = NOTHING


class _Failure(Struct):
    error_class: str | None = None
    error_code: str | int | None = None


class _Shape(Struct):
    choices: Raw = NOTHING
    output: Raw = NOTHING
    content: Raw = NOTHING
    usage: Raw = NOTHING


class _Payload(Struct):
    id: str | None = None
    trace_id: str | None = None
    session_id: str | None = None
    call_type: str | None = None
    status: str | None = None
    cache_hit: bool | str | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    startTime: _Seconds | None = None  # noqa: N815 - the format's own names
    endTime: _Seconds | None = None  # noqa: N815
    completionStartTime: _Seconds | None = None  # noqa: N815
    stream: bool | None = None
    model: str | None = None
    messages: Raw = NOTHING
    response: Raw = NOTHING
    metadata: Raw = NOTHING
    model_parameters: Raw = NOTHING
    error_information: Raw = NOTHING


_DECODER = msgspec.json.Decoder(_Payload)


def locate(path: Path, head: Head) -> list[Located]:
    """The sessions in a file of payloads; empty for anything else."""
    first = next(iter(head), None)
    if not _is_payload(first):
        document = head.document
        first = document[0] if isinstance(document, list) and document else document
        if not _is_payload(first):
            return []
    shares = _shares(path, Session(NAME, "", ""))
    if len(shares) == 1:
        return [Located(path, NAME, next(iter(shares)), path.name)]
    return [
        Located(path, NAME, name, path.name, share=sum(size for _, _, size in share))
        for name, share in shares.items()
    ]


def _is_payload(found: Any) -> bool:
    return isinstance(found, dict) and all(mark in found for mark in _MARKS)


def measure(part: Located) -> SourceFile:
    """What of a file is one session's."""
    session = Session(NAME, "", "")
    share = _shares(part.path, session).get(part.session_id, [])
    return _measured(part, session.files[0], share)


def read(session_id: str, parts: Sequence[Located]) -> Session:
    """Reads one session from its share of one or more files. Raises SourceError."""
    session = Session(NAME, session_id, "unknown")
    exchanges: list[Exchange] = []
    seen = set()
    for index, part in enumerate(parts):
        share = _shares(part.path, session).get(session_id, [])
        session.files[index] = _measured(part, session.files[index], share)
        for number, payload, _ in share:
            if payload.id is not None and payload.id in seen:
                session.lose("repeated_line")
                continue
            seen.add(payload.id)
            if payload.cache_hit is True:
                session.lose("answer_from_gateway_cache")
                continue
            made = _exchange(payload, index, number)
            if made.asked.messages:
                exchanges.append(made)
            else:
                session.lose("body_not_logged")
    fill(session, exchanges, str(parts[0].path))
    return session


_Share = list[tuple[int, _Payload, int]]  # number, payload, bytes


def _payloads(path: Path, session: Session) -> _Share:
    found: _Share = []
    if path.name.endswith(lines.LINES):
        for number, raw, payload in lines.read(path, _DECODER, session):
            found.append((number, payload, len(raw)))
    elif path.read_bytes()[:1].strip() == b"[":
        raws = documents.read_list(path, session)
        for number, payload in documents.items(raws, _DECODER, session):
            found.append((number, payload, len(bytes(raws[number - 1]))))
    else:
        payload = documents.read(path, _DECODER, session)
        found.append((1, payload, session.files[-1].bytes))
    return found


@of_file
def _shares(path: Path, session: Session) -> dict[str, _Share]:
    """The payloads of a file by session."""
    payloads = _payloads(path, session)
    for name in ("session_id", "trace_id"):
        ids = [getattr(payload, name) for _, payload, _ in payloads]
        most = max(Counter(one for one in ids if one).values(), default=0)
        if most > 1 or (len(payloads) == 1 and ids[0]):
            break
    else:
        first = payloads[0][1].id if payloads else None
        return {first or "litellm": payloads}
    shares: dict[str, _Share] = {}
    for one, name in zip(payloads, ids, strict=True):
        shares.setdefault(name or "unnamed", []).append(one)
    return shares


def _measured(part: Located, whole: SourceFile, share: _Share) -> SourceFile:
    if part.share is None:
        return whole
    digest = hashlib.sha256()
    for _, payload, _ in share:
        digest.update(msgspec.json.encode(payload))
    return SourceFile(whole.name, digest.hexdigest(), part.share)


def _exchange(payload: _Payload, file: int, line: int) -> Exchange:
    shape = fit(payload.response, _Shape) or _Shape()
    start, end = _us(payload.startTime), _us(payload.endTime)
    first = _us(payload.completionStartTime) if payload.stream else None
    failed = payload.status == "failure"
    said = _answered(payload, shape)
    if failed:
        told = fit(payload.error_information, _Failure) or _Failure()
        said = Answered(error=str(told.error_class or told.error_code or "error"))
    return Exchange(
        _asked(payload, shape),
        said,
        start,
        first,
        None if start is None or end is None else max(start, end),
        "none" if start is None else "measured",
        None,
        file,
        line,
    )


def _asked(payload: _Payload, shape: _Shape) -> Asked:
    """The request, put together as its API would have it."""
    parameters = fit(payload.model_parameters, dict[str, Any]) or {}
    body = {**parameters, "model": payload.model, "stream": payload.stream}
    messages = fit(payload.messages, Any)
    if isinstance(messages, str):
        messages = [{"role": "user", "content": messages}]
    kind = payload.call_type or ""
    api = CHAT
    if "responses" in kind or bytes(shape.output):
        api, body["input"] = RESPONSES, messages
    else:
        api = ANTHROPIC if "anthropic_messages" in kind else CHAT
        body["messages"] = messages
    try:
        text = orjson.dumps(body, default=str)
    except (TypeError, ValueError):
        return Asked(api)
    return asked(api, text) or Asked(api, payload.model)


def _answered(payload: _Payload, shape: _Shape) -> Answered:
    raw = bytes(payload.response)
    if bytes(shape.output):
        found = responses.answered(raw)
    elif bytes(shape.content) and not bytes(shape.choices):
        found = anthropic.answered(raw)
    else:
        found = chat.answered(raw)
    said = found or Answered()
    return replace(said, usage=_usage(payload, shape, said.usage))


def _usage(payload: _Payload, shape: _Shape, said: Usage) -> Usage:
    """The figures: LiteLLM's own form of them, which counts cached tokens in, where it is there."""
    about = fit(payload.metadata, _Metadata) or _Metadata()
    for raw in (about.usage_object, shape.usage):
        found = chat.usage(raw)
        if found.input_tokens is not None:
            beside = fit(raw, _Written) or _Written()
            cached = found.cached_tokens
            return ABOUT.meaning.usage(  # type: ignore[union-attr]
                found.input_tokens,
                beside.cache_read_input_tokens if cached is None else cached,
                found.output_tokens,
                written_tokens=beside.cache_creation_input_tokens or found.cache_write_tokens,
                reasoning_tokens=found.reasoning_tokens,
            )
    if said.source != "none":
        return said
    return (
        Usage(
            payload.prompt_tokens or None,
            None,
            None,
            payload.completion_tokens or None,
            None,
            "partial",
        )
        if payload.prompt_tokens or payload.completion_tokens
        else Usage()
    )


def _us(seconds: float | None) -> int | None:
    return None if seconds is None else round(seconds * 1e6)
