"""One trajectory's replacements: equal secrets get equal placeholders, numbered as they appear.

First every text is learned, so that what one text gives away is replaced in all of them; then
each is cleaned, and scanned again until nothing is left. A text's clean form depends on the text
and the trajectory alone: equal messages stay equal, and prompts that extend one another still do.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator

from msgspec import DecodeError, json

from traj.scrub.detector import Detector
from traj.scrub.found import PERSONAL, Found, ScrubError, merged
from traj.scrub.views import is_rest

_ROUNDS = 4  # replacing can uncover something: a value that ended where another began
_PLACEHOLDER = re.compile(r"\[REDACTED:[a-z0-9.-]+:\d+\]")
_STAND_IN = {
    "user": re.compile(r"user\d+"),
    "host": re.compile(r"host\d+"),
    "email": re.compile(r"person\d+@example\.com"),
}
_ESCAPE = re.compile(r"(?:\\[nrtbf]|\\u[0-9a-fA-F]{4}|%[0-9A-Fa-f]{2}|\x1b\[[0-9;]*m)\Z")
_LITERAL = re.compile(r'"(?:[^"\\]|\\.)*"')
_NETWORKS = ("192.0.2", "198.51.100", "203.0.113")  # RFC 5737: for documents, nobody's
_SPREAD = 1_000  # values that are looked for in all texts: more of them would cost too much
_EDGE = 300  # characters on either side of a seam


class Redaction:
    """The state of one trajectory: what is known of it, and what stands for what."""

    def __init__(self, detector: Detector, where: str) -> None:
        self._detector = detector
        self._where = where
        # All that were learned: whether they are JSON, and what is in them.
        self._texts: dict[str, tuple[bool, tuple[Found, ...]]] = {}
        self._spread: dict[str, Found] = {}
        self._seams: dict[str, list[Found]] = {}
        self._stand_ins: dict[str, str] = {}
        self._numbers: Counter[str] = Counter()
        self._taken: dict[str, set[str]] = {}  # names of our form that the texts had before
        self._clean: dict[str, tuple[str, Counter[str]]] = {}
        self.replaced: Counter[str] = Counter()  # pieces of text, by kind

    def learn(self, text: str) -> None:
        """Takes note of a text; all of a trajectory's, in order, before the first is cleaned."""
        if text in self._texts:
            return
        form = _is_json(text)
        found = self._detector.found(text, form)
        self._texts[text] = form, found
        for item in found:
            if item.spread and len(self._spread) < _SPREAD:
                self._spread.setdefault(item.value, item)

    def learn_seam(self, before: str, after: str) -> None:
        """Takes note of texts that follow each other, the first of which may have been cut off
        within a secret that goes on in the second."""
        if not before[-1:].isalnum() or not is_rest(after, 0):
            return
        for item in self._detector.across(before[-_EDGE:], after[:_EDGE]):
            tail = item.at(len(before) + item.start, len(before))
            self._seams.setdefault(before, []).append(tail)
            self._seams.setdefault(after, []).append(item.at(0, item.stop))

    def clean(self, text: str, what: str) -> str:
        """A learned text without its secrets. Raises ScrubError where some cannot be removed;
        `what` names the field for it."""
        known = self._clean.get(text)
        if known is None:
            known = self._clean[text] = self._cleaned(text, what)
        if known[1]:
            self.replaced.update(known[1])
        return known[0]

    def check(self, text: str, what: str) -> None:
        """Looks at a text that is about to be written. Raises ScrubError where something is left:
        a field that nobody cleaned."""
        for item in self._left(text, self._detector.found(text, _is_json(text))):
            raise ScrubError(f"{self._where}: {what}: holds a secret of kind {item.kind}")

    def _cleaned(self, text: str, what: str) -> tuple[str, Counter[str]]:
        as_json, found = self._texts[text]
        tally: Counter[str] = Counter()
        left = self._left(text, (*found, *self._seams.get(text, ())))
        kind = ""
        for _ in range(_ROUNDS):
            if not left:
                return text, tally
            kind = left[0].kind
            text = self._replace(text, left, as_json, tally)
            left = self._left(text, self._detector.found(text, as_json))
        raise ScrubError(f"{self._where}: {what}: a secret of kind {kind} could not be removed")

    def _left(self, text: str, found: Iterable[Found]) -> list[Found]:
        """What is to be replaced, with what is known from other texts."""
        items = [*found, *locate(text, self._spread.values())]
        return [item for item in merged(items) if not is_stand_in(item)] if items else items

    def _replace(self, text: str, found: list[Found], as_json: bool, tally: Counter[str]) -> str:
        literals = [match.span() for match in _LITERAL.finditer(text)] if as_json else []
        parts: list[str] = []
        done = place = 0
        for item in found:
            stand_in = self._stand_in(item)
            tally[item.kind] += 1
            pieces = [(item.start, item.stop)]
            if as_json:
                while place < len(literals) and literals[place][1] <= item.start:
                    place += 1
                pieces = _inside(literals, place, item)
            if not pieces:  # a number
                start, stop = _token(text, item)
                parts += (text[done:start], f'"{stand_in}"')
                done = stop
            for start, stop in pieces:
                parts += (text[done:start], stand_in)
                done = stop
        return "".join((*parts, text[done:]))

    def _stand_in(self, found: Found) -> str:
        known = self._stand_ins.get(found.value)
        if known is None:
            known = self._stand_ins[found.value] = self._new(found.kind)
        return known

    def _new(self, kind: str) -> str:
        while True:
            self._numbers[kind] += 1
            number = self._numbers[kind]
            if kind not in ("user", "host"):
                return _written(kind, number)
            # A session may know a user1 already.
            name = f"{kind}{number}"
            if kind not in self._taken:
                named = re.compile(f"{kind}[0-9]+")
                self._taken[kind] = {name for text in self._texts for name in named.findall(text)}
            if name not in self._taken[kind]:
                return name


def locate(text: str, values: Iterable[Found]) -> Iterator[Found]:
    """Where known values stand in a text: names as whole words, secrets anywhere."""
    for item in values:
        value, word = item.value, item.kind in PERSONAL
        start = text.find(value)
        while start >= 0:
            stop = start + len(value)
            escape = text[max(0, start - 8) : start]
            # \nick is a line break and a name that is not Nick's.
            torn = value[0] in "nrtbfu" and (len(escape) - len(escape.rstrip("\\"))) % 2
            if not torn and not (word and (_joined(escape) or text[stop : stop + 1].isalnum())):
                yield item.at(start, stop)
            start = text.find(value, stop)


def _joined(before: str) -> bool:
    """Whether a word goes on from what stands before it, which may end in an escape."""
    return before[-1:].isalnum() and _ESCAPE.search(before) is None


def is_stand_in(found: Found) -> bool:
    """Whether a finding is only what was put in a secret's place."""
    form = _STAND_IN.get(found.kind)
    if form is not None and form.fullmatch(found.value):
        return True
    rest, count = _PLACEHOLDER.subn("", found.value)
    return count > 0 and sum(c.isalnum() for c in rest) < 8


def _written(kind: str, number: int) -> str:
    if kind == "email":
        return f"person{number}@example.com"
    if kind == "ipv4" and number <= 254 * len(_NETWORKS):
        network, host = divmod(number - 1, 254)
        return f"{_NETWORKS[network]}.{host + 1}"
    if kind == "ipv6":
        return f"2001:db8::{number:x}" if number < 0x10000 else f"[REDACTED:ipv6:{number}]"
    return f"[REDACTED:{kind}:{number}]"


def _inside(literals: list[tuple[int, int]], place: int, item: Found) -> list[tuple[int, int]]:
    """The parts of a finding that lie within strings of a JSON text: it stays JSON."""
    pieces = []
    while place < len(literals) and literals[place][0] < item.stop:
        start, stop = literals[place]
        start, stop = max(start + 1, item.start), min(stop - 1, item.stop)
        if start < stop:
            pieces.append((start, stop))
        place += 1
    return pieces


def _token(text: str, item: Found) -> tuple[int, int]:
    """The whole of a JSON text's number of which a finding is a part."""
    start, stop = item.start, item.stop
    while start and (text[start - 1].isalnum() or text[start - 1] in "+-."):
        start -= 1
    while stop < len(text) and (text[stop].isalnum() or text[stop] in "+-."):
        stop += 1
    return start, stop


def _is_json(text: str) -> bool:
    """Whether a text is a JSON object or list, and to stay one."""
    if text[:1] not in ("{", "["):
        return False
    try:
        json.decode(text.encode())
    except (DecodeError, UnicodeEncodeError):
        return False
    return True
