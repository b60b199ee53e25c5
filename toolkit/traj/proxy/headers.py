"""Which headers are passed on, which are written, and where the credentials of a request stand.

What is written is a list of names, not everything but some: a header that nobody thought of stays
out of the log.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from urllib.parse import parse_qsl, unquote

from traj.sources.live.wire import MASK

Raw = Iterable[tuple[bytes, bytes]]

# Of one connection, not of the message.
HOP_BY_HOP = frozenset(
    (
        *("connection", "keep-alive", "proxy-authenticate", "proxy-authorization"),
        *("proxy-connection", "te", "trailer", "transfer-encoding", "upgrade"),
    )
)
_WRITTEN = frozenset(
    (
        # who is asking
        *("user-agent", "originator", "x-app", "x-title", "http-referer"),
        *("session-id", "thread-id", "x-client-request-id", "x-codex-window-id"),
        *("x-codex-turn-metadata", "x-codex-beta-features", "x-openai-subagent"),
        *("x-claude-code-session-id", "x-claude-code-agent-id"),
        *("x-session-id", "x-parent-session-id", "x-session-affinity"),
        *("x-stainless-retry-count", "x-stainless-timeout", "x-stainless-package-version"),
        # what was asked for
        *("accept", "accept-encoding", "content-type", "content-encoding", "content-length"),
        *("anthropic-version", "anthropic-beta", "openai-beta", "upgrade"),
        # what came back
        *("request-id", "x-request-id", "retry-after", "retry-after-ms", "x-should-retry"),
        *("openai-processing-ms", "openai-model", "server", "date"),
    )
)
_LONGEST = 8192  # characters of a header that is written
_SECRET = re.compile(r"auth|key|token|secret|cookie|passw|credential|signature", re.IGNORECASE)
_PLAIN_QUERY = frozenset(("alt", "beta", "api-version", "pageSize"))


def passed_on(headers: Raw, *, drop: frozenset[str] = frozenset()) -> Iterator[tuple[str, str]]:
    """The headers of the message itself, in their order and spelling."""
    found = [(name.decode("latin-1"), value) for name, value in headers]
    named = {
        one.strip().lower()
        for name, value in found
        if name.lower() == "connection"
        for one in value.decode("latin-1").split(",")
    }
    for name, value in found:
        lower = name.lower()
        if lower not in HOP_BY_HOP and lower not in named and lower not in drop:
            yield name, value.decode("utf-8", "replace")


def written(headers: Raw) -> dict[str, str]:
    """What the log has of them, by their names in small letters."""
    found: dict[str, str] = {}
    for name, value in headers:
        lower = name.decode("latin-1").lower()
        if lower in _WRITTEN:
            found[lower] = value.decode("utf-8", "replace")[:_LONGEST]
    return found


def credentials(headers: Raw, query: str) -> Iterator[str]:
    """The secrets that came with a request, as they may stand elsewhere too."""
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("utf-8", "replace")
        if name in _WRITTEN or not _SECRET.search(name):
            continue
        if name == "cookie":
            yield from (one.partition("=")[2].strip() for one in value.split(";"))
            continue
        yield value.strip()
        yield value.strip().rpartition(" ")[2]
    for name, value in parse_qsl(query):
        if name not in _PLAIN_QUERY:
            yield value


def plain_path(path: str, query: str) -> str:
    """Path and query as they are written: only the values of parameters that are known to be none
    of a credential's."""
    if not query:
        return path
    kept = []
    for one in query.split("&"):
        name, equals, value = one.partition("=")
        known = not equals or unquote(name) in _PLAIN_QUERY
        kept.append(one if known else f"{name}={MASK}" if value else one)
    return f"{path}?{'&'.join(kept)}"
