"""Messages to rows: numbering over all lanes, canonical hashes, token counts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import orjson

from traj.build.lanes import since
from traj.build.rows import Columns
from traj.build.tokens import Counter
from traj.events import Message, Rebase, Session, Turn


class Messages:
    """All messages of a session, numbered lane by lane in order of first appearance."""

    def __init__(self, session: Session) -> None:
        self.all: list[Message] = []
        self.lanes: list[int] = []
        self.first: list[int] = []  # number of each lane's first message
        for lane, steps in enumerate(lane.steps for lane in session.lanes):
            self.first.append(len(self.all))
            for step in steps:
                message = step.answer if isinstance(step, Turn) else step
                if message is not None and not isinstance(message, Rebase):
                    self.all.append(message)
                    self.lanes.append(lane)
        self.digests: list[bytes] = []
        self.counts: list[tuple[int, ...]] = []
        self.tokens: list[int] = []
        self.reasoning_tokens: list[int] = []
        self.unmatched = 0  # results of calls that no earlier message asks for
        self._results: dict[str, list[int]] = {}  # tool call id to the messages that answer it
        asked: set[str] = set()
        for number, message in enumerate(self.all):
            if message.role == "tool":
                call = message.tool_call_id or ""
                self._results.setdefault(call, []).append(number)
                self.unmatched += call not in asked
            asked.update(call.id for call in message.tool_calls)

    def count(self, counter: Counter) -> None:
        """Hashes and counts every message."""
        self.digests = [hashlib.sha256(canonical(message)).digest() for message in self.all]
        self.counts = counter.count(self.digests, lambda number: texts(self.all[number]))
        for message, counts in zip(self.all, self.counts, strict=True):
            self.tokens.append(sum(counts))
            thought = message.reasoning is not None
            self.reasoning_tokens.append(counts[message.content is not None] if thought else 0)

    def result(self, call: str, after: int) -> int | None:
        """The message that answers a call: the first with its id after the one that asked, since
        some providers use an id again."""
        return next((n for n in self._results.get(call, ()) if n > after), None)

    def argument_tokens(self, number: int, call: int) -> int:
        """Tokens of the arguments of one tool call of a message."""
        message = self.all[number]
        skip = (message.content is not None) + (message.reasoning is not None)
        return self.counts[number][skip + 2 * call + 1]

    def columns(self, started_us: int | None) -> Columns:
        """The rows of the messages table."""
        messages = self.all
        columns: dict[str, Sequence[Any]] = {
            "message": range(len(messages)),
            "lane": self.lanes,
            "role": [m.role for m in messages],
            "content": [m.content for m in messages],
            "reasoning": [m.reasoning for m in messages],
            "tool_calls": [
                [(c.id, c.name, c.arguments) for c in m.tool_calls] if m.tool_calls else None
                for m in messages
            ],
            "tool_call_id": [m.tool_call_id for m in messages],
            "name": [m.name for m in messages],
            "attachments": [
                [(a.media_type, a.sha256, a.bytes, None) for a in m.attachments]
                if m.attachments
                else None
                for m in messages
            ],
            "tokens": self.tokens,
            "reasoning_tokens": self.reasoning_tokens,
            "sha256": [digest.hex() for digest in self.digests],
            "time_us": [since(m.time_us, started_us) for m in messages],
            "source_file": [None if m.line is None else m.file for m in messages],
            "source_line": [m.line for m in messages],
        }
        return Columns.of("messages", columns)

    def content_sha256(self) -> str:
        """Hash over all messages, as the schema defines it for trajectories."""
        return hashlib.sha256(
            b"".join(digest.hex().encode() + b"\n" for digest in self.digests)
        ).hexdigest()


def canonical(message: Message) -> bytes:
    """The canonical form that a message's sha256 is taken of: see schema/v1/messages.toml."""
    form: dict[str, Any] = {}
    if message.attachments:
        form["attachments"] = [
            {
                key: value
                for key, value in (
                    ("bytes", item.bytes),
                    ("media_type", item.media_type),
                    ("sha256", item.sha256),
                )
                if value is not None
            }
            for item in message.attachments
        ]
    if message.content is not None:
        form["content"] = message.content
    if message.name is not None:
        form["name"] = message.name
    if message.reasoning is not None:
        form["reasoning"] = message.reasoning
    form["role"] = message.role
    if message.tool_call_id is not None:
        form["tool_call_id"] = message.tool_call_id
    if message.tool_calls:
        form["tool_calls"] = [
            {"arguments": call.arguments, "id": call.id, "name": call.name}
            for call in message.tool_calls
        ]
    return orjson.dumps(form)  # keys are in order already


def texts(message: Message) -> list[str]:
    """The texts of a message that tokens are counted of, each by itself: content, reasoning, then
    name and arguments of each tool call."""
    found = [text for text in (message.content, message.reasoning) if text is not None]
    for call in message.tool_calls:
        found += (call.name, call.arguments)
    return found
