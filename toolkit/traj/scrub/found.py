"""What a scan finds: where, of what kind, and how findings that overlap become one."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from traj.errors import TrajError


class ScrubError(TrajError):
    """Something secret is left, and nothing may be written; the text says where and of what kind,
    never what."""


# Kinds that become a stand-in of their own form; all others become [REDACTED:kind:number].
PERSONAL = frozenset({"email", "host", "ipv4", "ipv6", "user"})
_VAGUE = frozenset({"assigned-secret", "base64", "generic-api-key", "generic-credential-uri"})


@dataclass(frozen=True, slots=True)
class Found:
    """Characters `start` to `stop` of a text are of a kind. The value is the secret itself, free of
    escapes and line breaks: it stays out of every repr."""

    start: int
    stop: int
    kind: str
    value: str = field(repr=False)
    spread: bool = False  # to be replaced wherever else the trajectory has it

    def at(self, start: int, stop: int) -> Found:
        """The same finding at another place."""
        return Found(start, stop, self.kind, self.value, self.spread)


def merged(found: Iterable[Found]) -> list[Found]:
    """Findings in order, without overlaps: those that share characters become one over all of them,
    of the kind that says most; a secret goes before a name, the longest before others."""
    result: list[Found] = []
    for item in sorted(found, key=lambda item: (item.start, -item.stop, item.kind)):
        last = result[-1] if result else None
        if last is None or item.start >= last.stop:
            result.append(item)
            continue
        best = max(last, item, key=_weight)
        start, stop = last.start, max(last.stop, item.stop)
        result[-1] = Found(start, stop, best.kind, best.value, last.spread or item.spread)
    return result


def _weight(found: Found) -> tuple[bool, bool, int]:
    return found.kind not in PERSONAL, found.kind not in _VAGUE, found.stop - found.start
