"""The kind of work of a tool call, by the rules in categories.toml."""

from __future__ import annotations

import re
import shlex
import tomllib
from functools import cache, lru_cache
from importlib.resources import files
from typing import Any

from msgspec import DecodeError, Struct, json

_PARTS = re.compile(r"&&|\|\||[;|\n&]")
_ASSIGNMENT = re.compile(r"\A[A-Za-z_][A-Za-z0-9_]*=")
_HEREDOC = re.compile(r"<<-?\s*['\"]?(\w+)['\"]?.*?\n\1\b", re.DOTALL)
_LONGEST = 4000  # characters of a command that are looked at


class _Arguments(Struct):
    command: str | list[str] | None = None
    cmd: str | list[str] | None = None
    script: str | None = None


def category(name: str, arguments: str) -> str:
    """One of the categories of the schema for a call of tool `name` with JSON `arguments`."""
    rules = _rules()
    lower = name.lower()
    if lower in rules["shell"]:
        command = _command(arguments)
        return _of_command(command) if command else "execute"
    if lower in rules["tools"]:
        return str(rules["tools"][lower])
    for prefix, kind in rules["prefixes"].items():
        if lower.startswith(prefix):
            return str(kind)
    return "other"


def _command(arguments: str) -> str | None:
    try:
        found = json.decode(arguments.encode(), type=_Arguments)
    except (DecodeError, UnicodeEncodeError):
        return None
    command = found.command or found.cmd or found.script
    if isinstance(command, list):
        if len(command) == 3 and command[1] in ("-c", "-lc"):
            return command[2]
        return shlex.join(command)
    return command


@lru_cache(maxsize=20_000)
def _of_command(command: str) -> str:
    rules = _rules()
    text = _HEREDOC.sub(" ", command[:_LONGEST])
    kinds = {kind for part in _PARTS.split(text) if (kind := _of_part(part.strip()))}
    return next((kind for kind in rules["weight"] if kind in kinds), "execute")


def _of_part(part: str) -> str | None:
    """The category of one simple command; None for one that says nothing (cd, export)."""
    rules = _rules()
    words = _words(part)
    if not words:
        return None
    kind = _of_program(words, part)
    if kind == "execute" and any(mark in part for mark in rules["contains"]):
        return "test"
    return kind


def _of_program(words: list[str], part: str) -> str | None:
    rules = _rules()
    program = words[0].rsplit("/", 1)[-1].removesuffix("w" if "gradlew" in words[0] else "")
    by_second = rules["subcommands"].get(program)
    if by_second is not None:
        found = by_second.get(words[1] if len(words) > 1 else "") or by_second.get("")
        if found:
            return "test" if found == "build" and "test" in part else str(found)
    if program in rules["programs"]:
        return str(rules["programs"][program])
    return None if program in rules["silent"] else "execute"


def _words(part: str) -> list[str]:
    """The words of a command without assignments and wrappers in front."""
    rules = _rules()
    words = part.split()
    while words:
        first = words[0].rsplit("/", 1)[-1]
        if _ASSIGNMENT.match(words[0]) or first in rules["wrappers"]:
            words = words[1:]
            while words and (words[0].startswith("-") or words[0].isdigit()):
                words = words[1:]
        elif len(words) > 1 and (first, words[1]) in rules["pairs"]:
            words = words[2:]
        else:
            break
    return words


@cache
def _rules() -> dict[str, Any]:
    data = tomllib.loads(files("traj.build").joinpath("categories.toml").read_text("utf-8"))
    return {
        "weight": data["weight"],
        "tools": _inverted(data["tools"]),
        "prefixes": _inverted(data["prefixes"]),
        "shell": frozenset(data["shell"]["tools"]),
        "programs": _inverted(data["programs"]),
        "subcommands": {name: _inverted(rule) for name, rule in data["subcommands"].items()},
        "wrappers": frozenset(data["wrappers"]["words"]),
        "pairs": frozenset(tuple(pair) for pair in data["wrappers"]["pairs"]),
        "silent": frozenset(data["silent"]["words"]),
        "contains": tuple(data["contains"]["test"]),
    }


def _inverted(lists: dict[str, list[str]]) -> dict[str, str]:
    return {word: kind for kind, words in lists.items() for word in words}
