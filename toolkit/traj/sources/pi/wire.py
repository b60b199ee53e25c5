"""The lines of a Pi session file, as far as they are needed, in all three versions.

Version 1 is a plain sequence; since version 2 an entry names the one that it follows, so that a
file is a tree. Fields of different kinds of entry stand side by side.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from traj.events import Session
from traj.sources.lines import Count, ExitCode

NOTHING = Raw()
EpochMilliseconds = Annotated[float, msgspec.Meta(ge=0, le=8.64e15)]


class Block(Struct, rename="camel"):
    """A part of a message's content: text, thinking, a tool call or an image."""

    type: str | None = None
    text: str | None = None
    thinking: str | None = None
    id: str | None = None
    name: str | None = None
    arguments: Raw = NOTHING
    data: str | None = None
    mime_type: str | None = None


class RawUsage(Struct, rename="camel"):
    """Here `input` is what was neither read from the cache nor written to it."""

    input: Count | None = None
    output: Count | None = None
    cache_read: Count | None = None
    cache_write: Count | None = None
    reasoning: Count | None = None


class Tool(Struct):
    """A tool's declaration, or just the name of one that is taken away."""

    name: str = ""
    description: str = ""
    parameters: Raw = NOTHING


class Inner(Struct, rename="camel"):
    """A message: system, user, assistant, toolResult, bashExecution or custom."""

    role: str | None = None
    content: list[Block] | str | None = None
    timestamp: EpochMilliseconds | None = None
    # assistant
    api: str | None = None
    model: str | None = None
    usage: RawUsage | None = None
    stop_reason: str | None = None
    error_message: str | None = None
    response_id: str | None = None
    # toolResult
    tool_call_id: str | None = None
    tool_name: str | None = None
    is_error: bool | None = None
    details: Raw = NOTHING
    # system
    sections: dict[str, str | None] | None = None
    tools_added: list[Tool] | None = None
    tools_removed: list[Tool] | None = None
    # bashExecution
    command: str | None = None
    output: str | None = None
    exit_code: ExitCode | None = None
    cancelled: bool | None = None
    truncated: bool | None = None
    exclude_from_context: bool | None = None


class Replacement(Struct):
    """Of a context_edit: what a message says from now on."""

    content: list[Block] | str | None = None


class Entry(Struct, rename="camel"):
    """One line."""

    type: str | None = None
    id: str | None = None
    parent_id: str | UnsetType | None = UNSET
    timestamp: str | None = None
    message: Inner | None = None
    # session
    # and in version 1 model_id and thinking_level
    # model_change, thinking_level_change, usage
    model_id: str | None = None
    thinking_level: str | None = None
    kind: str | None = None
    model: str | None = None
    usage: RawUsage | None = None
    # compaction, branch_summary
    summary: str | None = None
    first_kept_entry_id: str | None = None
    first_kept_entry_index: Count | None = None
    system_message: Inner | None = None
    # custom_message, context_edit, session_info
    content: list[Block] | str | None = None
    target_id: str | None = None
    replacement: Replacement | None = None
    name: str | None = None


class SubagentRun(Struct, rename="camel"):
    """One run of the sub-agent extension, within the details of its call's result."""

    agent: str | None = None
    messages: list[Inner] = []
    model: str | None = None


class SubagentDetails(Struct):
    results: list[SubagentRun] = []


DECODER = msgspec.json.Decoder(Entry)
SUBAGENTS = msgspec.json.Decoder(SubagentDetails)


def raw_text(raw: Raw, session: Session) -> str:
    """A JSON value as its own text. Bytes in it that are no UTF-8 were not looked at when its line
    was decoded: they are replaced, and counted."""
    data = bytes(raw)
    try:
        return data.decode()
    except UnicodeDecodeError:
        session.lose("invalid_utf8")
        return data.decode("utf-8", "replace")
