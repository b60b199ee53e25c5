"""Finds what a text holds, in every reading of it; remembers texts that it has seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache
from hashlib import sha256
from pathlib import Path

from traj.scrub.addresses import addresses
from traj.scrub.assigned import assigned
from traj.scrub.checks import identifier
from traj.scrub.engines import Engines
from traj.scrub.found import PERSONAL, Found, merged
from traj.scrub.rules import Pattern, Rules, load_rules
from traj.scrub.views import View, runs, said_in, unwrapped, views

_KEPT = 400_000  # texts whose findings are remembered; some 50 MB
_BEFORE = 24  # characters in front of a long stretch that may say what it is
_NESTED = 2  # Base64 within Base64


@cache
def open_detector(rules: Path | None = None) -> Detector:
    """The detector of this process, made at the first call. `rules` is a team's own file."""
    known = load_rules(rules)
    return Detector(known, Engines(known.helpers))


class Detector:
    """Findings by text. They depend on the text alone, so that recording again finds the same."""

    def __init__(self, rules: Rules, engines: Engines) -> None:
        self.rules = rules
        self.version = f"{rules.version} {engines.version}"
        self._engines = engines
        self._unmarked = [p for p in rules.patterns if not p.marks]
        self._marks, self._long_marks = (
            _by_mark([p for p in rules.patterns if p.long is long]) for long in (False, True)
        )
        self._known: dict[bytes, tuple[Found, ...]] = {}

    def found(self, text: str, as_json: bool = False) -> tuple[Found, ...]:
        """What is to be replaced in a text, in order and without overlaps. In a JSON text places
        are those of the text, values those of its strings."""
        key = sha256(text.encode("utf-8", "replace") + (b"\0json" if as_json else b"")).digest()
        known = self._known.get(key)
        if known is None:
            known = tuple(self._all(text, as_json, 0)) if len(text) > 5 else ()
            if len(self._known) >= _KEPT:
                self._known.clear()
            self._known[key] = known
        return known

    def across(self, before: str, after: str) -> list[Found]:
        """What stands across the seam of two texts; places count from the seam."""
        seam = len(before)
        return [
            item.at(item.start - seam, item.stop - seam)
            for item in self._scan(before + after, 0)
            if item.start < seam < item.stop and item.kind not in PERSONAL
        ]

    def _all(self, text: str, as_json: bool, depth: int) -> list[Found]:
        found: list[Found] = []
        first: View | None = None
        for view in views(text, as_json):
            found += _placed(view, self._scan(view.text, depth))
            first = first or view
        wrapped = unwrapped(first) if first else None
        if wrapped:
            found += self._torn(
                wrapped, [item.start for item in found if item.kind not in PERSONAL]
            )
        return merged(found)

    def _torn(self, wrapped: View, begun: list[int]) -> Iterator[Found]:
        """Secrets across a line break; not where another one begins after the break: that is a
        list of secrets."""
        for item in self._scan(wrapped.text, _NESTED):
            start, stop = wrapped.place(item.start, item.stop)
            across = stop - start > item.stop - item.start and item.kind not in PERSONAL
            if across and not any(start < other < stop for other in begun):
                yield item.at(start, stop)

    def _scan(self, text: str, depth: int) -> list[Found]:
        """One reading of a text, by all detectors."""
        found: list[Found] = []
        looked_at = text
        odd = [run for run in runs(text) if not identifier(text, *run)]
        for start, stop, said in said_in(text, odd):
            inner = self._all(said, False, depth + 1) if said and depth < _NESTED else []
            if inner:
                single = inner[0] if len(inner) == 1 else None
                kind, value = (single.kind, single.value) if single else ("base64", said)
                found.append(Found(start, stop, kind if kind not in PERSONAL else "base64", value))
            elif not said:
                looked_at = looked_at[:start] + " " * (stop - start) + looked_at[stop:]
        data = looked_at.encode("utf-8", "replace")
        raw = self._engines.find(looked_at, data, again=bool(odd))
        for pattern in self._patterns(looked_at, data, odd):
            raw += pattern.find(looked_at)
        if odd:
            raw += assigned(looked_at, odd)
        raw += addresses(looked_at)
        if raw:
            found += self._kept(raw)
        return found

    def _patterns(self, text: str, data: bytes, odd: list[tuple[int, int]]) -> list[Pattern]:
        """The patterns that may match: those whose marks stand where they should. Bytes are
        searched twice as fast as text that is not ASCII."""
        found = dict.fromkeys(self._unmarked)
        for mark, patterns in self._marks:
            if mark in data:
                found.update(patterns)
        if odd:
            near = " ".join([text[max(0, start - _BEFORE) : stop] for start, stop in odd])
            dense = near.encode("utf-8", "replace")
            for mark, patterns in self._long_marks:
                if mark in dense:
                    found.update(patterns)
        return list(found)

    def _kept(self, found: Iterable[Found]) -> Iterator[Found]:
        rules = self.rules
        for item in found:
            start, stop, value = item.start, item.stop, item.value
            if item.kind in ("user", "host"):
                value = value.rstrip(".-")
                stop = start + len(value)
            if value and not rules.allows(item.kind, value):
                yield Found(start, stop, item.kind, value, rules.spreads(item))


def _placed(view: View, found: list[Found]) -> Iterator[Found]:
    for item in found:
        yield item.at(*view.place(item.start, item.stop))


def _by_mark(patterns: list[Pattern]) -> list[tuple[bytes, dict[Pattern, None]]]:
    marks: dict[bytes, dict[Pattern, None]] = {}
    for pattern in patterns:
        for mark in pattern.marks:
            marks.setdefault(mark.encode(), {})[pattern] = None
    return list(marks.items())
