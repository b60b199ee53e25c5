"""Addresses: e-mail, IP, and the names in prompts. Looked for from the sign that few words have,
`@`, `.` between numbers, `::`, which is several times faster than from their first letter."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib.resources import files

from traj.scrub.checks import ipv4, ipv6
from traj.scrub.found import Found

_DOMAIN = re.compile(r"(?:[^\W_](?:[\w-]{0,61}[^\W_])?\.)+([A-Za-z]{2,24})(?![A-Za-z0-9(])")
# name@host:~/src$   [name@host src]$   name@host src %
_PROMPT = re.compile(
    r"([A-Za-z0-9][\w.-]{0,63})"
    r"(?::[~/][^\n$#%]{0,200}[$#%]|(?P<bracket> [^\]\n]{1,80}\][$#])| [^\s%]{1,80} % )"
)
_NUMBERS = re.compile(r"\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}(?!\.?\w)(?!-[A-Za-z])")
_GROUPS = re.compile(r":[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){1,6}(?!\w)")
_PROGRAM = re.compile(r"(?:[\w.^~]|==|\w-|[A-Za-z]/)\Z")  # what stands in front of a version


def addresses(text: str) -> Iterator[Found]:
    """All of them."""
    if "@" in text:
        yield from _at(text)
    for match in _NUMBERS.finditer(text):
        start, stop = match.span()
        begin = start
        while begin > start - 3 and text[begin - 1 : begin].isdecimal():
            begin -= 1
        if begin < start and _stands_alone(text, begin) and ipv4(text, begin, stop):
            yield Found(begin, stop, "ipv4", text[begin:stop])
    for match in _GROUPS.finditer(text):
        begin, stop = match.start() - 4, match.end()
        stop -= text.endswith(":", begin, stop) and not text.endswith("::", begin, stop)
        known = begin >= 0 and text[begin] in "23"  # 2000::/3 is all that is given out
        if known and _stands_alone(text, begin) and ipv6(text, begin, stop):
            yield Found(begin, stop, "ipv6", text[begin:stop])


def _stands_alone(text: str, begin: int) -> bool:
    """Whether a number begins here, and not the version of something."""
    return _PROGRAM.search(text, max(0, begin - 2), begin) is None


def _at(text: str) -> Iterator[Found]:
    """E-mail addresses with a top-level domain that exists, or one of those used within a network;
    users and hosts where a shell's prompt begins a line."""
    at = text.find("@")
    while at >= 0:
        begin = _begin(text, at)
        if begin < at:
            front = text[max(0, begin - 1) : begin]
            prompt = _PROMPT.match(text, at + 1)
            domain = _DOMAIN.match(text, at + 1)
            if prompt and (front == "[" if prompt["bracket"] else front in ("", "\n", " ", '"')):
                yield Found(begin, at, "user", text[begin:at])
                yield Found(*prompt.span(1), "host", prompt[1])
            # In a URL it is the password that stands before the @.
            elif domain and domain[1].lower() in _top_level() and front not in (":", "/"):
                yield Found(begin, domain.end(), "email", text[begin : domain.end()])
        at = text.find("@", at + 1)


def _begin(text: str, at: int) -> int:
    """Where the part before the @ begins; `at` itself where there is none."""
    window = max(0, at - 64)
    begin = at
    while begin > window and (text[begin - 1].isalnum() or text[begin - 1] in "._%+'-"):
        begin -= 1
    if begin < at and begin and text[begin - 1] == "\\":
        begin += 1  # the letter belongs to an escape: \n@app.get
    while begin < at and not text[begin].isalnum():
        begin += 1
    return begin


@cache
def _top_level() -> frozenset[str]:
    lines = files("traj.scrub").joinpath("domains.txt").read_text("utf-8").splitlines()
    return frozenset(word for line in lines if not line.startswith("#") for word in line.split())
