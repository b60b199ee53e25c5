"""Other readings of a text, in which secrets stand as they are: without escapes, terminal colours
and line wraps, or decoded from Base64. Each knows where its characters come from."""

from __future__ import annotations

import re
from base64 import b64decode
from binascii import Error
from bisect import bisect_right
from collections.abc import Iterator

from traj.scrub.checks import identifier

_DEPTH = 3  # escapes within escapes
_JSON = re.compile(r'\\(?:["\\/bfnrt]|u[0-9a-fA-F]{4})')
_ANY = re.compile(
    r'\\(?:["\'\\/bfnrt]|u[0-9a-fA-F]{4}|x[0-9a-fA-F]{2})'
    r"|%[2-7][0-9A-Fa-f]|\x1b\[[0-9;?]*[A-Za-z]|\0"
)
_SHORT = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}
# A break between letters, with a line number behind it as tools that show files put it.
_WRAP = re.compile(r"\n(?<=[A-Za-z0-9+/_=.:~\-\\\r]\n)(?:[ \t]*\d{1,6}[\t→|:│])?[A-Za-z0-9+/_=.~-]")
_REST = re.compile(r"[A-Za-z0-9+/_=.~-]{1,64}")
_ODD = re.compile("[0-9]|[a-z][A-Z]")  # not in a plain word
_AROUND = 400  # characters of a line that are kept on both sides of a wrap
_LETTERS = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/_-"
_KINDS = bytes(97 if code in _LETTERS else 32 for code in range(256))
_LONG = b"a" * 20
_BREAK = re.compile(r"\s*\n\s*")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f\x7f]")
_URL_SAFE = str.maketrans("-_", "+/")
_SHORTEST = 22  # characters of Base64: sixteen bytes or more
_HUGE = 4_096  # a run this long that decodes to no text is an image or an archive


class View:
    """A reading of a text, and where each stretch of it comes from."""

    def __init__(self, under: View | None = None) -> None:
        self.text = ""
        self._under = under
        self.parts: list[str] = []
        self._length = 0
        self._at: list[int] = []  # where each stretch begins here
        self._starts: list[int] = []  # and there
        self._stops: list[int] = []

    def add(self, text: str, start: int, stop: int) -> None:
        """Appends a stretch that reads `text`, and stands at `start` to `stop` in what is under."""
        if text:
            self.parts.append(text)
            self._at.append(self._length)
            self._starts.append(start)
            self._stops.append(stop)
            self._length += len(text)

    def done(self) -> View:
        self.text = "".join(self.parts)
        self.parts.clear()
        return self

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Where characters of this view stand in the text itself."""
        if self._at:
            first = bisect_right(self._at, start) - 1
            last = bisect_right(self._at, stop - 1) - 1
            start = self._starts[first] + (start - self._at[first]) * self._straight(first)
            end = self._at[last + 1] if last + 1 < len(self._at) else self._length
            stop = self._stops[last] - (end - stop) * self._straight(last)
        return self._under.place(start, stop) if self._under else (start, stop)

    def _straight(self, index: int) -> bool:
        end = self._at[index + 1] if index + 1 < len(self._at) else self._length
        return end - self._at[index] == self._stops[index] - self._starts[index]


class _Unescaped(View):
    """A reading without escapes. Most texts hold nothing that is to be placed: where things stand
    is worked out when it is asked, and what it says several times faster without."""

    def __init__(self, under: View, escapes: re.Pattern[str], whole: bool) -> None:
        super().__init__(under)
        self._escapes, self._whole, self._raw = escapes, whole, under.text
        if whole:
            self.text = "\\".join([_said(part) for part in self._raw.split("\\\\")])
        else:
            self.text = escapes.sub(_meaning, "".join(_lines(self._raw, escapes)))

    def place(self, start: int, stop: int) -> tuple[int, int]:
        if not self._at:
            said = self.text
            self._locate()
            assert self.text == said
        return super().place(start, stop)

    def _locate(self) -> None:
        """Takes the text apart, escape by escape."""
        text, done = self._raw, 0
        line = len(text) if self._whole else 0  # end of the line that is being taken
        for match in self._escapes.finditer(text):
            start, stop = match.span()
            if start >= line:
                self.add(text[done:line], done, line)
                done = text.rfind("\n", 0, start) + 1
                line = text.find("\n", stop) + 1 or len(text)
            self.add(text[done:start], done, start)
            self.add(_meaning(match), start, stop)
            done = stop
        self.add(text[done:line], done, line)
        self.done()


def _lines(text: str, escapes: re.Pattern[str]) -> Iterator[str]:
    """The lines that have escapes."""
    line = 0
    for match in escapes.finditer(text):
        start = match.start()
        if start >= line:
            begin = text.rfind("\n", 0, start) + 1
            line = text.find("\n", start) + 1 or len(text)
            yield text[begin:line]


def _said(part: str) -> str:
    """JSON text without escaped backslashes, its other escapes resolved."""
    if "\\" not in part:
        return part
    part = part.replace("\\n", "\n").replace('\\"', '"').replace("\\t", "\t")
    return _JSON.sub(_meaning, part) if "\\" in part else part


def _meaning(match: re.Match[str]) -> str:
    escape = match[0]
    if escape[0] == "%":
        return chr(int(escape[1:], 16))
    if escape[0] != "\\":
        return ""
    if len(escape) > 2:
        return chr(int(escape.lstrip("\\ux"), 16))
    return _SHORT.get(escape[1], escape[1])


def plain(text: str) -> View:
    """The text as it is."""
    view = View()
    view.text = text
    return view


def views(text: str, as_json: bool) -> Iterator[View]:
    """The text, or what its JSON strings say; then the lines in which there are escapes without
    them, again for escapes within escapes."""
    view = plain(text)
    if as_json and "\\" in text:
        view = _Unescaped(view, _JSON, whole=True)
    yield view
    for _ in range(_DEPTH):
        text = view.text
        if not ("\\" in text or "%" in text or "\x1b" in text or "\0" in text):
            return
        view = _Unescaped(view, _ANY, whole=False)
        if not view.text:
            return
        yield view


def unwrapped(under: View) -> View | None:
    """The lines that may have been broken within a word, without the breaks; None without any.

    A line may go on in the next where neither has a space at the break, nor indentation, and the
    next does not begin with a word. A third line goes on from a second as long as the first.
    Line numbers, and a backslash at the end, as shells have it, are passed over.
    """
    text = under.text
    view = View(under)
    opened = False  # a line was added that goes on at `start`
    start = width = 0
    for match in _WRAP.finditer(text):
        end, on = match.start(), match.end() - 1
        stop = end - text.endswith(("\r", "\\"), 0, end)
        begin = text.rfind("\n", 0, end) + 1
        if stop - begin < 4 or not _torn(text, on):
            continue
        if opened and begin <= start <= end and end - begin == width <= 2 * _AROUND:
            view.add(text[start:stop], start, stop)
        else:
            if opened:
                _close(view, text, start)
            head = max(begin, stop - _AROUND)
            view.add(text[head:stop], head, stop)
        opened, start, width = True, on, end - begin
    if opened:
        _close(view, text, start)
    return view.done() if opened else None


def _close(view: View, text: str, start: int) -> None:
    """Adds the line that ends a word, and a break."""
    end = text.find("\n", start)
    stop = min(len(text) if end < 0 else end, start + _AROUND)
    view.add(text[start:stop], start, stop)
    view.add("\n", stop, stop + 1)


def _torn(text: str, on: int) -> bool:
    """Whether the letters behind a break are no word, but may be what is left of a secret."""
    rest = _REST.match(text, on)
    return rest is not None and (
        _ODD.search(rest[0]) is not None or not identifier(text, on, rest.end())
    )


def runs(text: str) -> Iterator[tuple[int, int]]:
    """Stretches of at least twenty letters, digits, and +/_-: names, hashes, secrets, Base64."""
    # One byte a character, each `a` or a space: bytes are searched many times faster.
    kinds = text.encode("latin-1", "replace").translate(_KINDS)
    start = kinds.find(_LONG)
    while start >= 0:
        stop = kinds.find(b" ", start)
        stop = len(kinds) if stop < 0 else stop
        yield start, stop
        start = kinds.find(_LONG, stop)


def said_in(text: str, found: list[tuple[int, int]]) -> Iterator[tuple[int, int, str]]:
    """Stretches of Base64 that say something, from `runs`: where they stand, and what they say.

    Lines of one length that follow each other are one stretch. What decodes to no text is given
    with an empty text where it is long enough to be passed over by the scanners.
    """
    groups: list[list[tuple[int, int]]] = []
    for run in found:
        if groups and _follows(text, groups[-1], run):
            groups[-1].append(run)
        else:
            groups.append([run])
    for group in groups:
        start, stop = group[0][0], group[-1][1]
        said = _decoded("".join(text[one:other] for one, other in group))
        if said or stop - start >= _HUGE:
            yield start, stop + text[stop : stop + 2].count("="), said


def _follows(text: str, group: list[tuple[int, int]], run: tuple[int, int]) -> bool:
    start, stop = group[-1]
    width = stop - start
    if width < 40 or width % 4 or run[1] - run[0] > width:
        return False
    if any(end - begin != width for begin, end in group[-2:]):
        return False
    return run[0] - stop < 40 and _BREAK.fullmatch(text, stop, run[0]) is not None


def _decoded(run: str) -> str:
    """What a stretch of Base64 says; nothing where that is no text."""
    # Most runs are names, hashes or paths: they have letters of one case, or both kinds of signs,
    # or the first bytes tell.
    if len(run) < _SHORTEST or run.islower() or run.isupper() or ("_" in run and "/" in run):
        return ""
    run = run.translate(_URL_SAFE)
    if not _text(run[:24]):
        return ""
    return _text(run[: len(run) - (len(run) % 4 == 1)])


def _text(run: str) -> str:
    try:
        data = b64decode(run + "=" * (-len(run) % 4))
    except (Error, ValueError):
        return ""
    said = data.decode("utf-8", "ignore")  # a character may be cut in two at the end
    return "" if len(data) - len(said.encode()) > 3 or _CONTROL.search(said) else said
