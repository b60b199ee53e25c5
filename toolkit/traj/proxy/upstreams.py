"""Where requests may go: the upstreams of a proxy, and the addresses that agents are given.

An agent's base URL is the upstream's own with its beginning replaced:

    https://api.example.com/v1   becomes   http://127.0.0.1:PORT/s/RUN/NAME/v1

`/s/RUN` and `/NAME` may be left out: the run is then the proxy's own, and the upstream the one
that speaks the API of the path. A proxy with a token wants `/t/TOKEN` before all of it.
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from traj.errors import UsageError

# Variables by which agents and their libraries are told where to go; the first that is set counts.
VARIABLES: Mapping[str, tuple[str, ...]] = {
    "anthropic": ("ANTHROPIC_BASE_URL", "ANTHROPIC_API_BASE"),
    "openai": ("OPENAI_BASE_URL", "OPENAI_API_BASE"),
    "gemini": ("GOOGLE_GEMINI_BASE_URL", "GEMINI_API_BASE"),
}
_USUAL = {
    "anthropic": "https://api.anthropic.com",
    "openai": "https://api.openai.com/v1",
    "gemini": "https://generativelanguage.googleapis.com",
}
_NAME = re.compile(r"[a-z][a-z0-9_-]+")
_RUN = re.compile(r"[A-Za-z0-9._-]{1,64}")
_VERSION = re.compile(r"v\d\w*")
_SPEAKS = (
    (re.compile(r"/messages(/|$)"), "anthropic"),
    (re.compile(r":(generateContent|streamGenerateContent|countTokens|embedContent)$"), "gemini"),
    (re.compile(r"/(chat/completions|responses|completions|embeddings)(/|$)"), "openai"),
)


@dataclass(frozen=True, slots=True)
class Upstream:
    """A place that requests may go to. `path` has no slash at its end."""

    name: str
    origin: str  # scheme, host, port, and user where the address has one
    path: str

    def target(self, rest: str) -> str:
        """The address of what an agent asks for, always below the upstream's own."""
        inside = rest == self.path or rest.startswith(f"{self.path}/")
        return self.origin + (rest if inside else self.path + rest)

    def below(self, rest: str) -> str:
        """The path behind the upstream's own."""
        return rest.removeprefix(self.path) if rest.startswith(f"{self.path}/") else rest


@dataclass(frozen=True, slots=True)
class Way:
    """Where a request goes: its run (None: the proxy's own), its upstream, the rest of its path."""

    run: str | None
    upstream: Upstream
    rest: str


class Upstreams:
    """The upstreams of a proxy, by name."""

    def __init__(self, found: Iterable[Upstream], token: str | None = None) -> None:
        self._by_name = {one.name: one for one in found}
        self.token = token

    def __iter__(self) -> Iterator[Upstream]:
        return iter(self._by_name.values())

    def way(self, path: str) -> Way | None:
        """The way of a request's path; None where there is none, or the token is missing."""
        segments = path.split("/")[1:]
        if any(unquote(one) in (".", "..") for one in segments):
            return None
        if self.token is not None:
            given = segments[1] if len(segments) > 1 and segments[0] == "t" else ""
            if not hmac.compare_digest(given.encode(), self.token.encode()):
                return None
            segments = segments[2:]
        run = None
        if len(segments) > 1 and segments[0] == "s":
            run, segments = segments[1], segments[2:]
            if not _RUN.fullmatch(run) or run.startswith("."):
                return None
        if segments and segments[0] in self._by_name:
            upstream = self._by_name[segments[0]]
            return Way(run, upstream, "".join(f"/{one}" for one in segments[1:]))
        rest = "/" + "/".join(segments)
        found = self._speaking(rest)
        return None if found is None else Way(run, found, rest)

    def _speaking(self, rest: str) -> Upstream | None:
        if len(self._by_name) == 1:
            return next(iter(self._by_name.values()))
        for pattern, name in _SPEAKS:
            if pattern.search(rest):
                return self._by_name.get(name)
        return None

    def bases(self, address: str, run: str | None) -> dict[str, str]:
        """Base URLs for agents, by upstream. `address` is the proxy's own."""
        token = f"/t/{self.token}" if self.token is not None else ""
        below = f"/s/{run}" if run is not None else ""
        return {
            one.name: f"{address}{token}{below}/{one.name}{one.path}"
            for one in self._by_name.values()
        }


def upstreams(
    named: Iterable[str], environment: Mapping[str, str], token: str | None = None
) -> Upstreams:
    """The upstreams of `NAME=URL` options, and for the other known names those of the agent's
    own environment, else the providers' usual addresses. Raises UsageError."""
    found: dict[str, str] = {}
    for option in named:
        name, equals, url = option.partition("=")
        if not equals:
            raise UsageError(f"--upstream {_shown(option)}: say NAME=URL")
        if name in found:
            raise UsageError(f"--upstream {name}: given twice")
        found[name] = url
    for name, variables in VARIABLES.items():
        told = (environment[one] for one in variables if environment.get(one))
        found.setdefault(name, next(told, _USUAL[name]))
    return Upstreams([upstream(name, url) for name, url in found.items()], token)


def upstream(name: str, url: str) -> Upstream:
    """Raises UsageError for what is no address or no name."""
    if not _NAME.fullmatch(name) or _VERSION.fullmatch(name):
        raise UsageError(f"--upstream {_shown(name)}: names are small letters, digits, - and _")
    try:
        parts = urlsplit(url)
        parts.port  # noqa: B018 - raises for what is none
    except ValueError:
        parts = urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query:
        raise UsageError(f"--upstream {name}: not an address like https://host/v1")
    return Upstream(name, f"{parts.scheme}://{parts.netloc}", parts.path.rstrip("/"))


def variables_of(name: str) -> tuple[str, ...]:
    """The variables by which an agent is told an upstream's base URL."""
    upper = name.upper().replace("-", "_")
    return VARIABLES.get(name, (f"{upper}_BASE_URL", f"{upper}_API_BASE"))


def _shown(text: str) -> str:
    return text.partition("=")[0][:40]  # what is behind may be a key
