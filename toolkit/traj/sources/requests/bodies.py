"""Bodies of requests and responses, whatever the API: which it is, what was asked and answered."""

from __future__ import annotations

from urllib.parse import urlsplit

import msgspec
from msgspec import Raw

from traj.sources.requests import anthropic, chat, gemini, responses, streams
from traj.sources.requests.pieces import NOTHING, fit, parts
from traj.sources.requests.spoken import ANTHROPIC, CHAT, GEMINI, RESPONSES, Answered, Asked

_ENDS = {
    "/messages": ANTHROPIC,
    "/chat/completions": CHAT,
    "/responses": RESPONSES,
    ":generateContent": GEMINI,
    ":streamGenerateContent": GEMINI,
}


class _Shape(msgspec.Struct):
    """What tells bodies apart."""

    messages: Raw = NOTHING
    contents: Raw = NOTHING
    input: Raw = NOTHING
    system: Raw = NOTHING
    tools: Raw = NOTHING


class _Tool(msgspec.Struct):
    input_schema: Raw = NOTHING


def api_of(url: str | None, body: bytes = b"") -> str | None:
    """The API that a request was made to, by its URL, else by its body; None for what is no
    request to a model (token counts, lists of models, telemetry)."""
    if url is not None:
        try:
            path = urlsplit(url).path.rstrip("/")
        except ValueError:
            return None
        return next((api for end, api in _ENDS.items() if path.endswith(end)), None)
    shape = fit(body, _Shape) or _Shape()
    if bytes(shape.contents):
        return GEMINI
    if bytes(shape.messages):
        tools = any(bytes(tool.input_schema) for tool in parts(shape.tools, _Tool))
        return ANTHROPIC if bytes(shape.system) or tools else CHAT
    return RESPONSES if bytes(shape.input) else None


def asked(api: str, body: bytes, url: str | None = None) -> Asked | None:
    """What a request's body asks; None where it is no request."""
    if api == ANTHROPIC:
        return anthropic.asked(body)
    if api == CHAT:
        return chat.asked(body)
    if api == RESPONSES:
        return responses.asked(body)
    found = gemini.asked(body)
    if found is not None and found.model is None and url is not None:
        model = url.rpartition("/models/")[2].partition(":")[0]  # it stands in the path alone
        found = msgspec.structs.replace(found, model=model or None)
    return found


def answered(api: str, body: bytes, request: bytes | gemini.Calls = b"") -> Answered | None:
    """What a response's body answers, streamed or not; None where it is none. `request` is the
    body that it answers, or the calls in it, which Gemini's calls are numbered by."""
    complete = True
    if streams.is_stream(body):
        body, complete = streams.whole(api, body)
    elif api == GEMINI and body.lstrip().startswith(b"["):  # streamed, but not as events
        body, complete = streams.whole(api, _as_events(body))
    if api == ANTHROPIC:
        return anthropic.answered(body, complete=complete)
    if api == CHAT:
        return chat.answered(body, complete=complete)
    if api == RESPONSES:
        return responses.answered(body, complete=complete)
    calls = gemini.calls_of(request) if isinstance(request, bytes) else request
    return gemini.answered(body, calls, complete=complete)


def _as_events(body: bytes) -> bytes:
    found = fit(body, list[Raw]) or []
    return b"".join(b"data: " + bytes(one).replace(b"\n", b" ") + b"\n\n" for one in found)
