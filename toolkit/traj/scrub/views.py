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
_LEAST = 16  # characters that a torn secret has
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
    """A reading of a text: what it says, and which of the text's characters are missing or stand
    for others. Between those the places only shift."""

    def __init__(self, text: str, under: View | None = None) -> None:
        self.text = text
        self._under = under
        self._ends: list[int] = []  # places here, behind what is another there
        self._shifts: list[int] = []  # how much further on from there a place there is
        self._says: list[bool] = []  # whether it says a character here

    def place(self, start: int, stop: int) -> tuple[int, int]:
        """Where characters of this view stand in the text itself."""
        first = bisect_right(self._ends, start)
        last = bisect_right(self._ends, stop - 1)
        start += self._shifts[first - 1] if first else 0
        if last < len(self._ends) and self._ends[last] == stop and self._says[last]:
            stop += self._shifts[last]
        else:
            stop += self._shifts[last - 1] if last else 0
        return self._under.place(start, stop) if self._under else (start, stop)

    def skip(self, end: int, shift: int, says: bool = False) -> None:
        """From `end` on, places are `shift` further on in what is under this."""
        self._ends.append(end)
        self._shifts.append(shift)
        self._says.append(says)


class _Unescaped(View):
    """A reading without escapes. Most texts hold nothing that is to be placed: where things stand
    is worked out when it is asked."""

    def __init__(self, under: View, escapes: re.Pattern[str], whole: bool) -> None:
        raw = under.text
        if whole:
            said = "\\".join([_said(part) for part in raw.split("\\\\")])
        else:
            said = escapes.sub(_meaning, "".join(_lines(raw, escapes)))
        super().__init__(said, under)
        self._escapes, self._whole, self._raw = escapes, whole, raw

    def place(self, start: int, stop: int) -> tuple[int, int]:
        if not self._ends:
            self._locate()
        return super().place(start, stop)

    def _locate(self) -> None:
        text, shift = self._raw, 0
        line = len(text) if self._whole else 0  # end of the line that is being read
        for match in self._escapes.finditer(text):
            start, stop = match.span()
            if start >= line:
                begin = text.rfind("\n", 0, start) + 1
                self.skip(line - shift, shift + begin - line)
                shift += begin - line
                line = text.find("\n", stop) + 1 or len(text)
            says = text[start] in "\\%"
            shift += stop - start - says
            self.skip(stop - shift, shift, says)


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


def views(text: str, as_json: bool) -> Iterator[View]:
    """The text, or what its JSON strings say; then the lines in which there are escapes without
    them, again for escapes within escapes."""
    view = View(text)
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
    pieces: list[tuple[int, int, str]] = []  # of the text, and what is put behind them
    width = 0
    for match in _WRAP.finditer(text):
        end, on = match.start(), match.end() - 1
        if not is_rest(text, on):
            continue
        stop = end - text.endswith(("\r", "\\"), 0, end)
        begin = text.rfind("\n", 0, end) + 1
        if len(text[begin:stop][-_LEAST:].split(" ")[-1]) + len(_word(text, on)) < _LEAST:
            continue
        if pieces and pieces[-1][1] >= stop and end - begin == width <= _AROUND:
            pieces[-1] = (pieces[-1][0], stop, "")
        else:
            pieces.append((max(begin, stop - _AROUND), stop, ""))
        close = text.find("\n", on, on + _AROUND)
        pieces.append((on, close if close >= 0 else min(len(text), on + _AROUND), "\n"))
        width = end - begin
    if not pieces:
        return None
    view = View("".join([text[start:stop] + mark for start, stop, mark in pieces]), under)
    at = 0
    for start, stop, mark in pieces:
        view.skip(at, start - at)
        at += stop - start + len(mark)
    return view


def _word(text: str, start: int) -> str:
    return text[start : start + _LEAST].partition("\n")[0].partition(" ")[0]


def is_rest(text: str, start: int) -> bool:
    """Whether the letters here begin no word, but may be what is left of a secret."""
    rest = _REST.match(text, start)
    return rest is not None and (
        _ODD.search(rest[0]) is not None or not identifier(text, start, rest.end())
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
