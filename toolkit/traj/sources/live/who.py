"""Whose a request is: what agents say of themselves in headers and bodies.

                session                          agent in it              its parent
Codex           session-id                       thread-id                parent thread in metadata
Claude Code     x-claude-code-session-id         x-claude-code-agent-id   -
OpenCode        x-session-id, or its parent's    x-session-id             x-parent-session-id
Kimi Code       prompt_cache_key of the body     -                        -
others          -                                -                        -
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import orjson
from msgspec import Struct

_AGENTS = (
    (re.compile(r"claude-cli/(\S+)"), "claude_code"),
    (re.compile(r"codex[\w-]*/(\S+)"), "codex"),
    (re.compile(r"opencode/(\S+)"), "opencode"),
    (re.compile(r"QwenCode/(\S+)"), "qwen_code"),
    (re.compile(r"GeminiCLI[\w-]*/([^/\s]+)"), "gemini_cli"),
    (re.compile(r"kimi-code-cli/(\S+)"), "kimi_code"),
    (re.compile(r"Cline/(\S+)"), "cline"),
    (re.compile(r"pi(?:/([\d.]+)| \()"), "pi"),
)
_COMMANDS = {
    "mini": "mini_swe_agent",
    "mini-swe-agent": "mini_swe_agent",
    "aider": "aider",
    "cline": "cline",
    "pi": "pi",
    "claude": "claude_code",
    "codex": "codex",
    "opencode": "opencode",
    "qwen": "qwen_code",
    "gemini": "gemini_cli",
    "kimi": "kimi_code",
}
_CACHE_KEY = re.compile(r'"prompt_cache_key"\s*:\s*"([^"\\]{1,200})"')


class Who(Struct, frozen=True):
    """Whose a request is, as far as it says."""

    session: str | None = None
    agent: str | None = None  # None: the main one, or unknown
    parent: str | None = None  # session or agent that started this one
    helper: bool = False  # says that it is a sub-agent's
    compacts: bool = False  # says that it asks for a summary to go on from


def who(headers: Mapping[str, str], tail: str = "") -> Who:
    """What a request says of itself. `tail` is the part of its body behind the conversation."""
    if "x-claude-code-session-id" in headers:
        agent = headers.get("x-claude-code-agent-id")
        return Who(headers["x-claude-code-session-id"], agent, None, agent is not None)
    if "thread-id" in headers or "session-id" in headers:
        return _codex(headers)
    if "x-session-id" in headers:
        own, parent = headers["x-session-id"], headers.get("x-parent-session-id")
        return Who(own, own, parent, parent is not None)
    key = _CACHE_KEY.search(tail) if tail else None
    return Who(key[1]) if key and "kimi" in headers.get("user-agent", "").lower() else Who()


def _codex(headers: Mapping[str, str]) -> Who:
    thread = headers.get("thread-id") or headers.get("session-id")
    session = headers.get("session-id") or thread
    try:
        told: Any = orjson.loads(headers.get("x-codex-turn-metadata", "{}"))
    except ValueError:
        told = {}
    told = told if isinstance(told, dict) else {}
    parent = told.get("parent_thread_id")
    helper = isinstance(parent, str) or thread != session or "x-openai-subagent" in headers
    compacts = told.get("request_kind") == "compaction"
    return Who(session, thread, parent if isinstance(parent, str) else None, helper, compacts)


def roots(found: Iterable[Who]) -> dict[str, str]:
    """The session at the top of each: sub-agents' sessions are part of the one that began."""
    parents = {one.session: one.parent for one in found if one.session and one.parent}
    top: dict[str, str] = {}
    for session in parents:
        root, seen = session, {session}
        while (above := parents.get(root)) and above not in seen:
            seen.add(above)
            root = above
        top[session] = root
    return top


def agent_of(headers: Mapping[str, str], command: list[str] | None) -> tuple[str, str | None]:
    """The agent's name and version."""
    told = headers.get("user-agent", "")
    for pattern, name in _AGENTS:
        found = pattern.match(told)
        if found:
            return name, found[1] or None
    for word in (command or [])[:3]:
        name = word.replace("\\", "/").rpartition("/")[2].lower()
        if name in _COMMANDS:
            return _COMMANDS[name], None
    return "unknown", None
