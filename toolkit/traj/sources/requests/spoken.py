"""What one request asked and what came back, in the words of `traj.events`, whatever the API."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Protocol

from msgspec import Struct
from msgspec.structs import replace

from traj.events import Message, Sampling, Usage
from traj.sources.about import Meaning

ANTHROPIC = "anthropic_messages"
CHAT = "openai_chat"
RESPONSES = "openai_responses"
GEMINI = "gemini"

# Where each API's figures stand to each other.
MEANINGS: Mapping[str, Meaning] = MappingProxyType(
    {
        ANTHROPIC: Meaning(cached="beside", written="beside", reasoning="inside"),
        CHAT: Meaning(cached="inside", written="inside", reasoning="inside"),
        RESPONSES: Meaning(cached="inside", written="inside", reasoning="inside"),
        GEMINI: Meaning(cached="inside", written=None, reasoning="beside"),
    }
)


ROLES = ("system", "user", "assistant", "tool")


def proper(message: Message, role: str | None = None) -> Message:
    """A message as the schema has it: one of four roles (or the one given), calls and reasoning in
    answers alone, names and ids of calls at results alone. Logs hold others."""
    known = role or message.role
    if known not in ROLES:
        known = "user"
    if role is None and known != "tool" and (message.tool_calls or message.reasoning is not None):
        known = "assistant"
    asks, tells = known == "assistant", known == "tool"
    if message.role == known and (asks or not message.tool_calls) and (tells or not message.name):
        return message
    return replace(
        message,
        role=known,
        reasoning=message.reasoning if asks else None,
        tool_calls=message.tool_calls if asks else (),
        tool_call_id=message.tool_call_id if tells else None,
        name=message.name if tells else None,
    )


class Names(Protocol):
    """Names of calls by their ids, as far as a prompt has been read."""

    def get(self, call: str, /) -> str | None:
        """A call's name, None where it is not known."""

    def update(self, calls: Iterable[tuple[str, str]], /) -> None:
        """Adds ids and names; later ones count."""


class Prompt:
    """The beginning of a prompt, which other prompts may share: what came before, and messages."""

    __slots__ = ("before", "messages", "opening", "reasoned")

    def __init__(self, before: Prompt | None, messages: tuple[Message, ...]) -> None:
        self.before, self.messages = before, messages
        self.opening = opening(before, messages)
        self.reasoned = reasoned(before, messages)


_OPENING = 4  # messages that are always looked at


def opening(before: Prompt | None, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The first messages of a prompt: all instructions that it begins with, and four or more."""
    if before is None:
        return messages
    known = before.opening
    if len(known) >= _OPENING and any(one.role != "system" for one in known):
        return known
    return known + messages


def reasoned(before: Prompt | None, messages: tuple[Message, ...]) -> bool:
    """Whether a prompt brings earlier answers' reasoning."""
    return (before is not None and before.reasoned) or any(one.reasoning for one in messages)


class Asked(Struct, frozen=True):
    """A request's body. `messages` are what was sent, in its order; a system prompt that the API
    has a place of its own for is `system`. Where prompts of a log share their beginnings as
    objects, `before` is it, and `messages` what is behind it."""

    api: str = "unknown"
    model: str | None = None
    messages: tuple[Message, ...] = ()
    system: str | None = None
    tools: str | None = None  # JSON text
    sampling: Sampling | None = None
    follows: str | None = None  # id of the response whose conversation this goes on with
    encrypted: bool = False  # it brings earlier reasoning in a form that cannot be read
    before: Prompt | None = None


class Answered(Struct, frozen=True):
    """A response's body. `message` is None where the model said nothing."""

    message: Message | None = None
    model: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    stop_reason: str | None = None
    error: str | None = None  # its kind
    complete: bool = True  # False for a stream that was cut off


class Exchange(Struct, frozen=True):
    """A request with its answer, and when it was. Times are epoch microseconds."""

    asked: Asked
    answered: Answered
    start_us: int | None = None
    first_token_us: int | None = None
    end_us: int | None = None
    clock: str = "none"
    thread: str | None = None  # whose it is, where the log tells agents apart
    file: int = 0
    line: int | None = None
    compacts: bool = False  # it asks for a summary to go on from, as the agent says
