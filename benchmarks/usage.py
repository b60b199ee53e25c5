"""An independent count of the tokens in Claude Code session files, made from raw JSON only.

It shares no code with `traj` or with any peer, so that it can judge them all. The truth taken
here: a model call is one `message.id`; its usage is repeated on every line of the call, and the
output count of early lines may be a place-holder, so the largest output seen is kept. Messages
of the model `<synthetic>` are the client's own and no calls.

The other variants are the mistakes (or choices) seen in the field. A tool whose totals equal a
variant's to the token is known to count that way.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

TRUTH = "truth"


@dataclass(frozen=True, slots=True)
class Tokens:
    """Calls and their tokens; `prompt_tokens` is the whole input, cached parts included."""

    calls: int = 0
    prompt_tokens: int = 0
    cache_read_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0

    def plus(self, other: Tokens) -> Tokens:
        return Tokens(
            self.calls + other.calls,
            self.prompt_tokens + other.prompt_tokens,
            self.cache_read_tokens + other.cache_read_tokens,
            self.cache_write_tokens + other.cache_write_tokens,
            self.output_tokens + other.output_tokens,
        )

    def as_json(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One line of a session that carries usage."""

    message_id: str
    subagent: bool
    beside: bool  # in a sub-agent's file of the old layout, beside its parent
    tokens: Tokens


def usage_lines(files: Iterable[Path]) -> Iterator[UsageLine]:
    """Every usage line of the files, in order; broken lines are passed over."""
    for path in files:
        in_folder = "subagents" in path.parts
        beside = not in_folder and path.name.startswith("agent-")
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                record = _parsed(line)
                found = _usage(record, f"{path}:{number}") if record else None
                if record and found:
                    side = in_folder or beside or bool(record.get("isSidechain"))
                    yield UsageLine(found[0], side, beside, found[1])


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        record = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    return record if isinstance(record, dict) and record.get("type") == "assistant" else None


def _usage(record: dict[str, Any], fallback: str) -> tuple[str, Tokens] | None:
    message = record.get("message")
    if not isinstance(message, dict) or message.get("model") == "<synthetic>":
        return None
    usage = message.get("usage")
    if not isinstance(usage, dict):
        return None
    key = message.get("id") or record.get("requestId") or record.get("uuid") or fallback
    read = usage.get("cache_read_input_tokens") or 0
    write = usage.get("cache_creation_input_tokens") or 0
    prompt = (usage.get("input_tokens") or 0) + read + write
    return str(key), Tokens(1, prompt, read, write, usage.get("output_tokens") or 0)


def counts(files: Iterable[Path]) -> dict[str, Tokens]:
    """The truth and the variants, by name."""
    lines = list(usage_lines(files))
    main = [line for line in lines if not line.subagent]
    no_old = [line for line in lines if not line.beside]
    return {
        TRUTH: _by_message(lines, "max"),
        "the first line's output of each call": _by_message(lines, "first"),
        "the last line's output of each call": _by_message(lines, "last"),
        "every line counted as a call": _summed(lines),
        "no sub-agents of the old layout": _by_message(no_old, "max"),
        "no sub-agents of the old layout, the first line's output": _by_message(no_old, "first"),
        "no sub-agents": _by_message(main, "max"),
        "no sub-agents, the first line's output": _by_message(main, "first"),
        "no sub-agents, the last line's output": _by_message(main, "last"),
        "no sub-agents, every line counted": _summed(main),
    }


def _by_message(lines: list[UsageLine], keep: str) -> Tokens:
    kept: dict[str, Tokens] = {}
    for line in lines:
        known = kept.get(line.message_id)
        if (
            known is None
            or keep == "last"
            or (keep == "max" and line.tokens.output_tokens > known.output_tokens)
        ):
            kept[line.message_id] = line.tokens
    return _total(kept.values())


def _summed(lines: list[UsageLine]) -> Tokens:
    return _total(line.tokens for line in lines)


def _total(each: Iterable[Tokens]) -> Tokens:
    total = Tokens()
    for tokens in each:
        total = total.plus(tokens)
    return total
