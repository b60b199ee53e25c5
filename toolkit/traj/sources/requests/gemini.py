"""Google's generateContent: bodies to messages and figures.

Calls have no ids there (newer agents send some): they are numbered in the order of the prompt, so
that the same call has the same id in every later prompt.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from msgspec import Raw, Struct

from traj.events import Attachment, Message, Sampling, ToolCall, Usage
from traj.sources.lines import Count
from traj.sources.requests.pieces import (
    NOTHING,
    arguments,
    fit,
    joined,
    json_text,
    parts,
    payload,
    stop,
    text_of,
)
from traj.sources.requests.spoken import GEMINI, MEANINGS, Answered, Asked


class _Call(Struct):
    id: str | None = None
    name: str | None = None
    args: Raw = NOTHING


class _Result(Struct):
    id: str | None = None
    name: str | None = None
    response: Raw = NOTHING


class _Blob(Struct):
    mimeType: str | None = None  # noqa: N815 - the API's own name
    data: str | None = None


class _Part(Struct):
    text: str | None = None
    thought: bool | None = None
    functionCall: _Call | None = None  # noqa: N815
    functionResponse: _Result | None = None  # noqa: N815
    inlineData: _Blob | None = None  # noqa: N815


class Content(Struct):
    """A role and its parts."""

    role: str | None = None
    parts: Raw = NOTHING


class _Config(Struct):
    maxOutputTokens: Count | None = None  # noqa: N815
    temperature: float | None = None
    topP: float | None = None  # noqa: N815


class _Request(Struct):
    model: str | None = None
    contents: Raw = NOTHING
    systemInstruction: Raw = NOTHING  # noqa: N815
    tools: Raw = NOTHING
    generationConfig: Raw = NOTHING  # noqa: N815


class _Usage(Struct):
    promptTokenCount: Count | None = None  # noqa: N815
    cachedContentTokenCount: Count | None = None  # noqa: N815
    candidatesTokenCount: Count | None = None  # noqa: N815
    thoughtsTokenCount: Count | None = None  # noqa: N815


class _Candidate(Struct):
    content: Raw = NOTHING
    finishReason: str | None = None  # noqa: N815


class _Error(Struct):
    status: str | None = None
    code: int | None = None


class _Response(Struct):
    responseId: str | None = None  # noqa: N815
    modelVersion: str | None = None  # noqa: N815
    candidates: Raw = NOTHING
    usageMetadata: Raw = NOTHING  # noqa: N815
    error: Raw = NOTHING


class _Output(Struct):
    output: str | None = None


class Calls:
    """The calls of one conversation so far: they count its ids. Of those before, their number is
    enough, and `earlier`, which gives the id of each."""

    def __init__(
        self, before: int = 0, told: int = 0, earlier: Callable[[int], str] | None = None
    ) -> None:
        self._before, self._earlier = before, earlier
        self.own: list[str] = []  # ids of those that came since
        self.told = told

    @property
    def asked(self) -> int:
        """How many there are."""
        return self._before + len(self.own)

    def ask(self, call: _Call) -> ToolCall:
        """A call that has come."""
        name = call.name or ""
        made = ToolCall(call.id or f"{name}-{self.asked}", name, arguments(call.args))
        self.own.append(made.id)
        return made

    def answer(self, result: _Result) -> str:
        """The id of the call that a result is of: results come in the order of their calls."""
        found = result.id
        if found is None and self.told < self.asked:
            place = self.told - self._before
            if place >= 0:
                found = self.own[place]
            elif self._earlier is not None:
                found = self._earlier(self.told)
        self.told += 1
        return found or ""


def asked(body: bytes) -> Asked | None:
    """The request of a body; None where it is none."""
    request = fit(body, _Request)
    if request is None:
        return None
    messages, _ = conversation(request.contents)
    config = fit(request.generationConfig, _Config) or _Config()
    system = fit(request.systemInstruction, Content)
    return Asked(
        GEMINI,
        request.model,
        tuple(messages),
        text_of(system.parts) if system else None,
        json_text(request.tools),
        Sampling(config.maxOutputTokens, config.temperature, config.topP),
    )


def calls_of(body: bytes) -> Calls:
    """The calls in a request's body."""
    request = fit(body, _Request)
    return conversation(request.contents)[1] if request is not None else Calls()


def conversation(raw: Raw | bytes) -> tuple[list[Message], Calls]:
    """The messages of a list of contents, and their calls."""
    calls = Calls()
    return told(parts(raw, Raw), calls), calls


def told(items: Iterable[Raw | bytes], calls: Calls) -> list[Message]:
    """Items of a list of contents as messages; those of another shape are left out."""
    found: list[Message] = []
    for item in items:
        content = fit(item, Content)
        if content is not None:
            found += _messages(content, calls)
    return found


def _messages(content: Content, calls: Calls) -> list[Message]:
    pieces = parts(content.parts, _Part)
    if content.role == "model":
        return [said(pieces, calls)]
    found: list[Message] = []
    texts: list[str] = []
    images: list[Attachment] = []
    for piece in pieces:
        if piece.functionResponse is not None:
            result = piece.functionResponse
            plain = fit(result.response, _Output)
            text = plain.output if plain and plain.output is not None else None
            text = json_text(result.response) if text is None else text
            found.append(Message("tool", text, tool_call_id=calls.answer(result), name=result.name))
        elif piece.inlineData is not None:
            images.append(payload(piece.inlineData.data, piece.inlineData.mimeType))
        elif piece.text is not None:
            texts.append(piece.text)
    if texts or images:
        found.append(Message("user", joined(texts), attachments=tuple(images)))
    return found


def said(pieces: list[_Part], calls: Calls) -> Message:
    """An answer's parts as one message. Parts of a stream are pieces of one text."""
    texts = [one.text for one in pieces if one.text is not None and not one.thought]
    thoughts = [one.text for one in pieces if one.text is not None and one.thought]
    made = tuple(calls.ask(one.functionCall) for one in pieces if one.functionCall is not None)
    return Message("assistant", "".join(texts) or None, "".join(thoughts) or None, made)


def usage(raw: Raw | bytes, *, whole: bool = True) -> Usage:
    """The schema's figures. What is zero is left out of Google's answers: no part was cached."""
    figures = fit(raw, _Usage)
    if figures is None:
        return Usage()
    return MEANINGS[GEMINI].usage(
        figures.promptTokenCount,
        figures.cachedContentTokenCount or 0,
        figures.candidatesTokenCount,
        reasoning_tokens=figures.thoughtsTokenCount,
        whole=whole,
    )


def answered(body: bytes, calls: Calls | None = None, *, complete: bool = True) -> Answered | None:
    """The answer of a body; None where it is none. `calls` are those of its prompt."""
    response = fit(body, _Response)
    if response is None:
        return None
    error = fit(response.error, _Error)
    if error is not None:
        return Answered(error=error.status or str(error.code or "error"))
    candidate = next(iter(parts(response.candidates, _Candidate)), None)
    content = fit(candidate.content, Content) if candidate else None
    message = None
    if content is not None:
        message = said(parts(content.parts, _Part), calls or Calls())
    reason = stop(candidate.finishReason) if candidate else None
    if message is not None and message.tool_calls and reason == "end_turn":
        reason = "tool_use"
    return Answered(
        message,
        response.modelVersion,
        response.responseId,
        usage(response.usageMetadata, whole=complete),
        reason,
        complete=complete,
    )
