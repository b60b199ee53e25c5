"""The rules: patterns and allow lists that ship with traj, and a team's own on top of them."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from traj.errors import UsageError
from traj.scrub.checks import CHECKS
from traj.scrub.found import Found

_KIND = re.compile(r"[a-z][a-z0-9.-]{0,39}")
_CONTAINER = re.compile(r"[0-9a-f]{12}")  # the host name that Docker draws by lot
_KEYS = {
    "words": {"kind", "words", "case"},
    "patterns": {"kind", "regex", "marks", "long", "check"},
    "allow": {"values", "patterns", "kinds", "users", "hosts"},
}


@dataclass(frozen=True, slots=True)
class Pattern:
    """A regular expression that is tried where one of its marks stands (no marks: everywhere)."""

    kind: str
    regex: re.Pattern[str] = field(repr=False)  # a team's words are its own
    marks: tuple[str, ...] = field(default=(), repr=False)
    long: bool = False  # its marks stand in long stretches of letters and digits, or right before
    check: Callable[[str, int, int], bool] | None = None

    def find(self, text: str) -> Iterator[Found]:
        """What it finds in a text."""
        groups = self.regex.groupindex or (0,)
        for match in self.regex.finditer(text):
            for name in groups:
                start, stop = match.span(name)
                if start < stop and (self.check is None or self.check(text, start, stop)):
                    kind = str(name) if name in ("user", "host") else self.kind
                    yield Found(start, stop, kind, text[start:stop])


@dataclass(frozen=True, slots=True)
class Rules:
    """What is replaced, and what is left alone. The repr says nothing of a team's words."""

    version: str
    patterns: tuple[Pattern, ...] = field(repr=False)
    helpers: frozenset[str] = field(repr=False)
    values: frozenset[str] = field(repr=False)
    allowed: tuple[re.Pattern[str], ...] = field(repr=False)
    kinds: frozenset[str]  # not looked for
    users: frozenset[str] = field(repr=False)
    hosts: frozenset[str] = field(repr=False)
    words: frozenset[str] = field(repr=False)  # names that are words too
    passwords: frozenset[str] = field(repr=False)

    def allows(self, kind: str, value: str) -> bool:
        """Whether a finding is to be left as it is."""
        if kind in self.kinds or value in self.values:
            return True
        if kind == "user":
            return value.lower() in self.users or value.isdigit() or len(value) == 1
        if kind == "host":
            return value.lower() in self.hosts or _CONTAINER.fullmatch(value) is not None
        if kind in ("url-password", "generic-credential-uri") and value.lower() in self.passwords:
            return True
        return any(pattern.fullmatch(value) for pattern in self.allowed)

    def spreads(self, found: Found) -> bool:
        """Whether a value, once found, is known well enough to be replaced wherever it stands."""
        value = found.value
        if found.kind in ("user", "host"):
            long = len(value) >= 4 or (len(value) == 3 and any(c.isdigit() for c in value))
            return long and value.lower() not in self.words
        return len(value) >= 16 and not any(c.isspace() for c in value)


def load_rules(path: Path | None = None) -> Rules:
    """The rules that ship with traj, with those of a team's own file added.

    Raises UsageError, which quotes nothing of the file but the names of its keys.
    """
    rules = _shipped()
    if path is None:
        return rules
    try:
        data = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise UsageError(f"{path}: not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{path}: not TOML ({_place(error)})") from None
    strange = sorted(data.keys() - _KEYS.keys())
    if strange:
        raise UsageError(f"{path}: unknown key {strange[0]!r}; known are {', '.join(_KEYS)}")
    where = f"{path}: "
    patterns = [_words(table, where) for table in _tables(data, "words", where)]
    patterns += [_pattern(table, where) for table in _tables(data, "patterns", where)]
    allow = _known(data.get("allow", {}), "allow", where)
    return replace(
        rules,
        version=f"{rules.version}+own",
        patterns=(*patterns, *rules.patterns),
        values=rules.values | _strings(allow, "values", where),
        allowed=(*rules.allowed, *_regexes(allow, where)),
        kinds=rules.kinds | _strings(allow, "kinds", where),
        users=rules.users | {name.lower() for name in _strings(allow, "users", where)},
        hosts=rules.hosts | {name.lower() for name in _strings(allow, "hosts", where)},
    )


@cache
def _shipped() -> Rules:
    data = tomllib.loads(files("traj.scrub").joinpath("rules.toml").read_text("utf-8"))
    allow, where = data["allow"], "rules.toml: "
    return Rules(
        version=data["version"],
        patterns=tuple(_pattern(table, where) for table in data["patterns"]),
        helpers=frozenset(data["helpers"]),
        values=frozenset(allow["values"]),
        allowed=_regexes(allow, where),
        kinds=frozenset(allow["kinds"]),
        users=frozenset(allow["users"]),
        hosts=frozenset(allow["hosts"]),
        words=frozenset(allow["words"]),
        passwords=frozenset(allow["passwords"]),
    )


def _tables(data: Mapping[str, Any], key: str, where: str) -> list[dict[str, Any]]:
    tables = data.get(key, [])
    if not isinstance(tables, list):
        raise UsageError(f"{where}{key} must be a list of tables: write [[{key}]]")
    return [_known(table, key, where) for table in tables]


def _known(table: Any, key: str, where: str) -> dict[str, Any]:
    if not isinstance(table, dict):
        raise UsageError(f"{where}{key} must be a table")
    strange = sorted(table.keys() - _KEYS[key])
    if strange:
        known = ", ".join(sorted(_KEYS[key]))
        raise UsageError(f"{where}{key} has an unknown key {strange[0]!r}; known are {known}")
    return table


def _strings(table: Mapping[str, Any], key: str, where: str) -> frozenset[str]:
    values = table.get(key, [])
    if not isinstance(values, list) or not all(isinstance(v, str) and v for v in values):
        raise UsageError(f"{where}{key} must be a list of strings, none empty")
    return frozenset(values)


def _regexes(allow: Mapping[str, Any], where: str) -> tuple[re.Pattern[str], ...]:
    return tuple(_regex(text, where) for text in sorted(_strings(allow, "patterns", where)))


def _regex(text: Any, where: str) -> re.Pattern[str]:
    if not isinstance(text, str):
        raise UsageError(f"{where}a regex must be a string")
    try:
        return re.compile(text)
    except re.error as error:
        raise UsageError(f"{where}a regex does not compile, at its character {error.pos}") from None


def _kind(table: Mapping[str, Any], default: str, where: str) -> str:
    kind = table.get("kind", default)
    if not isinstance(kind, str) or not _KIND.fullmatch(kind):
        raise UsageError(f"{where}a kind must be of small letters, digits, dots and hyphens")
    return kind


def _pattern(table: Mapping[str, Any], where: str) -> Pattern:
    kind = _kind(table, "pattern", where)
    regex = _regex(table.get("regex"), where)
    if regex.match(""):
        raise UsageError(f"{where}a regex of kind {kind!r} matches the empty text")
    if not set(regex.groupindex) <= {"secret", "user", "host"}:
        raise UsageError(f"{where}a regex of kind {kind!r} names groups; known: secret, user, host")
    name = table.get("check")
    if name is not None and name not in CHECKS:
        raise UsageError(f"{where}unknown check; known are {', '.join(CHECKS)}")
    marks = tuple(sorted(_strings(table, "marks", where)))
    check = CHECKS[name] if name else None
    return Pattern(kind, regex, marks, table.get("long", False) is True, check)


def _words(table: Mapping[str, Any], where: str) -> Pattern:
    words = sorted(_strings(table, "words", where), key=lambda word: (-len(word), word))
    if not words:
        raise UsageError(f"{where}[[words]] without words")
    flags = 0 if table.get("case", False) else re.IGNORECASE
    # Word boundaries only where the word itself has a letter or digit at its edge.
    parts = [
        (r"(?<!\w)" if word[0].isalnum() else "")
        + re.escape(word)
        + (r"(?!\w)" if word[-1].isalnum() else "")
        for word in words
    ]
    return Pattern(_kind(table, "word", where), re.compile("|".join(parts), flags))


def _place(error: tomllib.TOMLDecodeError) -> str:
    """Where a TOML file is wrong, without what stands there."""
    found = re.search(r"\((at [^()]*)\)\s*$", str(error))
    return found[1] if found else "syntax"
