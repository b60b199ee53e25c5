"""Generated sessions: the stand-in where no real corpus lies, and the sessions of growth runs.

Everything follows from a seed: the same call writes the same bytes. The shape follows what real
Claude Code and Codex files show: one line a content block with the usage repeated on each,
place-holder output counts on early lines, tool results between a few bytes and tens of
kilobytes, sub-agents in files of their own, cumulative token counts in Codex.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

_WORDS = (  # noqa: SIM905 - sixty words, one to a line, would fill a screen
    "the a to of in and is for it that with on this as be by file test path line value error "
    "return import class def self None True False list dict string index token cache model turn "
    "request response status config parse write read build check update remove function module "
    "commit branch merge queue worker batch retry timeout header schema column field number"
).split()
_START = datetime(2026, 3, 2, 9, 0, tzinfo=UTC)
_CONTEXT_LIMIT = 180_000
PERIOD = 10  # turns after which the sizes of `lengthened` repeat


@dataclass(slots=True)
class Writer:
    """What one generated session knows while it is written.

    `rng` draws ids and words; `shape` draws sizes and counts, so that both can be told apart.
    """

    rng: random.Random
    shape: random.Random
    session: str
    agent: str | None = None
    parent: str | None = None
    clock: datetime = _START
    context_tokens: int = 12_000
    codex_totals: dict[str, int] = field(default_factory=dict)

    def uuid(self) -> str:
        raw = f"{self.rng.getrandbits(128):032x}"
        return f"{raw[:8]}-{raw[8:12]}-4{raw[13:16]}-a{raw[17:20]}-{raw[20:]}"

    def short(self, prefix: str) -> str:
        return f"{prefix}_01{self.rng.getrandbits(112):028x}"[: len(prefix) + 25]

    def stamp(self, most_seconds: float) -> str:
        self.clock += timedelta(milliseconds=self.rng.randint(20, int(most_seconds * 1000)))
        return self.clock.isoformat(timespec="milliseconds").replace("+00:00", "Z")

    def prose(self, characters: int) -> str:
        words: list[str] = []
        size = 0
        while size < characters:
            word = self.rng.choice(_WORDS)
            if self.rng.random() < 0.12:
                word = f"{word}_{self.rng.randrange(10_000)}"
            words.append(word)
            size += len(word) + 1
            if self.rng.random() < 0.08:
                words.append("\n")
        return " ".join(words)

    def grow(self, tokens: int) -> None:
        self.context_tokens = min(_CONTEXT_LIMIT, self.context_tokens + tokens)

    def size(self, typical: float, most: int) -> int:
        """Lognormal, as the sizes of real lines are: many small, a few very large."""
        return min(most, int(self.shape.lognormvariate(0.0, 1.4) * typical) + 8)


def _line(record: dict[str, Any]) -> bytes:
    return json.dumps(record, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _envelope(w: Writer, kind: str, seconds: float) -> dict[str, Any]:
    record: dict[str, Any] = {
        "parentUuid": w.parent,
        "isSidechain": w.agent is not None,
        "userType": "external",
        "cwd": "/home/dev/project",
        "sessionId": w.session,
        "version": "2.1.100",
        "gitBranch": "main",
        "type": kind,
        "uuid": w.uuid(),
        "timestamp": w.stamp(seconds),
    }
    if w.agent is not None:
        record["agentId"] = w.agent
    w.parent = record["uuid"]
    return record


def _call(w: Writer, blocks: list[dict[str, Any]]) -> Iterator[bytes]:
    """One model call: a line for each block, usage on each, the true output on the last."""
    message, request = w.short("msg"), w.short("req")
    written = w.rng.randint(200, 4_000)
    output = sum(len(json.dumps(block)) for block in blocks) // 4 + 1
    usage = {
        "input_tokens": w.rng.randint(1, 12),
        "cache_creation_input_tokens": written,
        "cache_read_input_tokens": w.context_tokens,
    }
    w.grow(written)
    for number, block in enumerate(blocks, 1):
        last = number == len(blocks)
        record = _envelope(w, "assistant", 6)
        record["requestId"] = request
        record["message"] = {
            "id": message,
            "type": "message",
            "role": "assistant",
            "model": "claude-opus-4-7",
            "content": [block],
            "stop_reason": "tool_use" if block["type"] == "tool_use" else "end_turn",
            "usage": {**usage, "output_tokens": output if last else 1},
        }
        yield _line(record)


def _result(w: Writer, tool_use: str) -> bytes:
    text = w.prose(w.size(900, 60_000))
    record = _envelope(w, "user", 8)
    content = {"type": "tool_result", "tool_use_id": tool_use, "content": text, "is_error": False}
    record["message"] = {"role": "user", "content": [content]}
    record["toolUseResult"] = {"stdout": text, "stderr": "", "interrupted": False}
    return _line(record)


def claude_turn(w: Writer) -> Iterator[bytes]:
    """A prompt, two to five calls with tools, and an answer."""
    prompt = _envelope(w, "user", 40)
    prompt["message"] = {"role": "user", "content": w.prose(w.size(180, 4_000))}
    yield _line(prompt)
    for _ in range(w.shape.randint(2, 5)):
        tool_use = w.short("toolu")
        tool = w.rng.choice(("Bash", "Read", "Grep", "Edit"))
        yield from _call(
            w,
            [
                {"type": "text", "text": w.prose(w.size(150, 4_000))},
                {
                    "type": "tool_use",
                    "id": tool_use,
                    "name": tool,
                    "input": {"command": w.prose(w.size(120, 8_000))},
                },
            ],
        )
        yield _result(w, tool_use)
    yield from _call(w, [{"type": "text", "text": w.prose(w.size(600, 8_000))}])


def claude_session(folder: Path, seed: int, turns: int, *, subagents: int = 0) -> Path:
    """A Claude Code session, its sub-agents in files beside it; returns the main file."""
    w = Writer(random.Random(seed), random.Random(seed), session="")
    w.session = w.uuid()
    path = folder / f"{w.session}.jsonl"
    _write(path, w, turns)
    for _ in range(subagents):
        agent = Writer(w.rng, w.shape, w.session, agent=f"a{w.rng.getrandbits(64):016x}")
        _write(folder / w.session / "subagents" / f"agent-{agent.agent}.jsonl", agent, 2)
    return path


def lengthened(folder: Path, turns: int, *, seed: int = 1) -> Path:
    """One session of so many turns: fresh ids and varied text, but always the same kind of turn.

    The sizes repeat every ten turns, so that sessions of 10, 100 and 1,000 turns hold the same
    bytes a turn. It is never compacted, so each turn comes on top of all the turns before it:
    work that grows with the square of a session's length shows here first.
    """
    w = Writer(random.Random(seed * 1_000_003 + turns), random.Random(), session="")
    w.session = w.uuid()
    path = folder / f"{w.session}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for turn in range(turns):
            if turn % PERIOD == 0:
                w.shape.seed(seed)
            out.writelines(claude_turn(w))
    return path


def _write(path: Path, w: Writer, turns: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        for _ in range(turns):
            out.writelines(claude_turn(w))
