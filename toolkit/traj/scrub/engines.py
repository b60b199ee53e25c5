"""The two engines that know the forms of secrets, as libraries: they read memory and nothing else.

Both carry the rules of betterleaks; kingfisher adds some of its own, betterleaks finds a few that
kingfisher does not. Traps dealt with here: betterleaks stops at a NUL byte, slows down on long
strings, and lets pass what a comment asks it to let pass.
"""

from __future__ import annotations

import platform
import sys
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from importlib.metadata import version
from typing import TYPE_CHECKING

from traj.scrub.found import Found, ScrubError

if TYPE_CHECKING:
    from kingfisher_sdk import Scanner

Sighting = tuple[str, str, int, int]  # kind, value, and the characters it was seen in

# Fastest on the session corpus: 40 MB/s, where 64 KB give 27 and whole texts 13.
_PIECE = 16_384
_SHORT = 12  # a shorter value is replaced where it was seen, not wherever the text has it
_OVERLAP = 2_048  # longer secrets are private keys, which have a pattern of their own


class Engines:
    """Both engines with their rules compiled: 3 s at first, 0.3 s once kingfisher has them in its
    cache (in the user's cache folder, or where KF_RULE_CACHE_DIR says)."""

    def __init__(self, helpers: AbstractSet[str]) -> None:
        """`helpers` are the rules for halves of pairs that are secret by themselves."""
        import kingfisher_sdk

        # Base64 is decoded by traj, for all detectors alike.
        self.scanner: Scanner = kingfisher_sdk.Scanner(kingfisher_sdk.Rules(), base64=False)
        self._helpers = helpers
        names = ["kingfisher-secret-scanner"]
        self._betterleaks = None
        if not _without_betterleaks():
            import betterleaks

            self._betterleaks = betterleaks.scan_string
            self._failure = betterleaks.BetterleaksError
            names.append("betterleaks-py")
        self.version = " ".join(f"{name.partition('-')[0]}-{version(name)}" for name in names)

    def find(self, text: str, data: bytes, again: bool) -> list[Found]:
        """Secrets in a text, given in UTF-8 too. The same text gives the same findings, whatever
        came before it.

        `again` asks betterleaks too: worth its time where a long stretch looks drawn by lot.
        """
        seen = self._by_kingfisher(data)
        if again and self._betterleaks is not None:
            seen += self._by_betterleaks(text)
        everywhere: set[tuple[str, str]] = set()
        found: list[Found] = []
        for kind, value, start, stop in seen:
            if len(value) < _SHORT or value not in text:
                found += _within(text, kind, value, start, stop)
            elif (kind, value) not in everywhere:
                everywhere.add((kind, value))
                found += _within(text, kind, value, 0, len(text))
        return found

    def _by_kingfisher(self, data: bytes) -> list[Sighting]:
        try:
            findings = self.scanner.scan(data)
        except RuntimeError:
            raise ScrubError("kingfisher gave up on a text: nothing is known of it") from None
        seen: list[Sighting] = []
        for finding in findings:
            kind = _kind(finding.rule_id)
            if finding.visible or kind in self._helpers:
                place = finding.location
                first, end = place["start_offset"], place["end_offset"]
                start = len(data[:first].decode("utf-8", "ignore"))
                stop = start + len(data[first:end].decode("utf-8", "ignore"))
                seen.append((kind, finding.secret, start, stop))
        return seen

    def _by_betterleaks(self, text: str) -> Iterator[Sighting]:
        assert self._betterleaks is not None
        for offset in range(0, max(1, len(text) - _OVERLAP), _PIECE - _OVERLAP):
            # As long as before, so that places stay.
            piece = text[offset : offset + _PIECE].replace("\0", " ")
            piece = piece.replace("leaks:allow", "leaks-allow")
            try:
                leaks = self._betterleaks(piece.encode("utf-8", "replace").decode())
            except self._failure:
                raise ScrubError("betterleaks gave up on a text: nothing is known of it") from None
            for leak in leaks:
                start, stop = _lines(piece, leak.location.start_line, leak.location.end_line)
                yield _kind(leak.rule_id), leak.secret, offset + start, offset + stop
                for pair in leak.component_sets:
                    for part in pair.get("components", ()):
                        kind = _kind(part["rule_id"])
                        if kind in self._helpers:
                            yield kind, part["match"]["value"], offset, offset + len(piece)


def _without_betterleaks() -> bool:
    """Where it has no wheel, and the dependencies leave it out: the version says so."""
    return (sys.platform, platform.machine()) == ("darwin", "x86_64")


def _kind(rule: str) -> str:
    """betterleaks.github-pat.1, veles.secrets/sendgrid: github-pat, sendgrid."""
    name = rule.rpartition("/")[2].removeprefix("betterleaks.")
    head, _, tail = name.rpartition(".")
    return (head if head and tail.isdigit() else name).lower().replace("_", "-")


def _within(text: str, kind: str, value: str, start: int, stop: int) -> Iterator[Found]:
    """A secret wherever these characters have it; all of them, should an engine have changed it."""
    place = text.find(value, start, stop) if value else -1
    if place < 0 and start < stop:
        yield Found(start, stop, kind, text[start:stop])
    while place >= 0:
        yield Found(place, place + len(value), kind, value)
        place = text.find(value, place + len(value), stop)


def _lines(text: str, first: int, last: int) -> tuple[int, int]:
    """Where lines `first` to `last`, numbered from 1, begin and end."""
    start = 0
    for _ in range(first - 1):
        start = text.find("\n", start) + 1
    stop = start
    for _ in range(last - first + 1):
        stop = text.find("\n", stop) + 1 or len(text)
    return start, stop
