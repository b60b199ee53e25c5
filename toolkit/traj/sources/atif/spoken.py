"""ATIF's steps as messages and figures of the schema."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import msgspec
from msgspec import Raw, Struct

from traj.events import Attachment, Message, Session, ToolCall, Usage
from traj.sources import documents
from traj.sources.about import Meaning
from traj.sources.atif import wire
from traj.sources.requests.pieces import fit, parts, text_of

MEANING = Meaning(cached="inside", written="inside", reasoning="inside")
_DEEPEST = 64  # sub-agents of sub-agents


class Lane(NamedTuple):
    """A trajectory of the document: the main one, or a sub-agent's."""

    document: wire.Document
    above: int | None  # index of the one that it lies in


class _Media(Struct):
    media_type: str | None = None


class _Part(Struct):
    type: str | None = None
    source: _Media | None = None


def lanes(document: wire.Document, session: Session) -> list[Lane]:
    """The document's trajectory and all that lie in it, parents first."""
    found = [Lane(document, None)]
    depth = {0: 0}
    for index, lane in enumerate(found):
        if depth[index] >= _DEEPEST:
            continue
        below = lane.document.subagent_trajectories or ()
        for _, one in documents.items(below, wire.DOCUMENT, session):
            depth[len(found)] = depth[index] + 1
            found.append(Lane(one, index))
    return found


def attachments(raw: Raw) -> tuple[Attachment, ...]:
    """Images and sounds of a content; they lie in files of their own."""
    if not bytes(raw).lstrip().startswith(b"["):
        return ()
    listed = parts(raw, _Part)
    return tuple(
        Attachment(one.source.media_type, None, None) for one in listed if one.source is not None
    )


def calls(step: wire.Step, session: Session) -> Iterator[tuple[ToolCall, Raw]]:
    """A step's calls, each with what was added to it. Arguments are the model's own text where
    that is there, else their JSON."""
    for _, one in documents.items(step.tool_calls or (), wire.CALL, session):
        own = fit(one.extra, wire.OwnCall)
        text = own.arguments if own else None
        if text is None:
            text = msgspec.json.format(bytes(one.arguments) or b"{}", indent=-1).decode()
        yield ToolCall(one.tool_call_id or "", one.function_name or "", text), one.extra


def results(step: wire.Step, session: Session) -> list[wire.Result]:
    """What came of a step's calls."""
    told = fit(step.observation, wire.Observation)
    listed = told.results if told else ()
    return [one for _, one in documents.items(listed, wire.RESULT, session)]


def references(result: wire.Result) -> list[wire.Reference]:
    """A result's sub-agents: a list, a single one before version 1.2."""
    found = result.subagent_trajectory_ref
    return found if isinstance(found, list) else [] if found is None else [found]


def answer(step: wire.Step, session: Session) -> tuple[Message, list[tuple[ToolCall, Raw]]]:
    """An agent's step as a message, and its calls with what was added to them."""
    asked = list(calls(step, session))
    message = Message(
        "assistant",
        text_of(step.message) or None,
        step.reasoning_content or None,
        tuple(call for call, _ in asked),
        attachments=attachments(step.message),
    )
    return message, asked


def usage(step: wire.Step) -> Usage:
    """The schema's figures of a step. Sums over several requests are partial."""
    told = fit(step.metrics, wire.Metrics)
    if told is None:
        return Usage()
    more = fit(told.extra, wire.Figures) or wire.Figures()
    written = (
        *(more.cache_write_tokens, more.cache_creation_tokens),
        more.cache_creation_input_tokens,
    )
    thought = (more.reasoning_tokens, more.reasoning_output_tokens)
    found = MEANING.usage(
        told.prompt_tokens,
        told.cached_tokens,
        told.completion_tokens,
        written_tokens=next((one for one in written if one is not None), None),
        reasoning_tokens=next((one for one in thought if one is not None), None),
        whole=(step.llm_call_count or 1) == 1,
    )
    if more.usage_source is not None and found.source != "none":
        # Of traj, which knows whether the provider gave all that it could.
        found = msgspec.structs.replace(found, source=more.usage_source)
    return found
