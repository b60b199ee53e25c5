"""What a regular expression cannot say of a finding: whether it is a secret or an address, or only
looks like one. Patterns name these in rules.toml."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable
from ipaddress import IPv4Address, IPv6Address, ip_address
from math import log2

_UUID = re.compile(r"[0-9A-Fa-f]{8}-(?:[0-9A-Fa-f]{4}-){3}[0-9A-Fa-f]{12}")
# Words, abbreviations and short numbers, however joined: a name in a program. It never goes back,
# for there are a great many ways to cut a name.
_IDENTIFIER = re.compile(r"(?:[A-Z]?+[a-z]{2,}+|[A-Z]{2,}+|[0-9]{1,4}+(?![A-Z]{2})|[_\-/.~+=])++")
_BODY = re.compile(r"[A-Za-z0-9+/]{32}")
_VERSION = re.compile(r"(?i)\bv(?:er|ersion)?s?\W{0,4}$|version\W{1,6}$")


def identifier(text: str, start: int, stop: int) -> bool:
    """Whether these characters are a name in a program, or a path."""
    return _IDENTIFIER.fullmatch(text, start, stop) is not None


def random(text: str, start: int, stop: int) -> bool:
    """Whether these characters look drawn by lot: no identifier, no UUID, 3.2 bits a character."""
    value = text[start:stop]
    tally = Counter(value)
    if len(tally) < 10 or sum(value.count(digit) for digit in "0123456789") < 2:
        return False
    if _UUID.fullmatch(value) or identifier(text, start, stop):
        return False
    return -sum(n / len(value) * log2(n / len(value)) for n in tally.values()) >= 3.2


def mixed(text: str, start: int, stop: int) -> bool:
    """Whether there are letters of both cases, and many different ones."""
    value = text[start:stop].rpartition("_")[2]
    return value != value.lower() and value != value.upper() and len(set(value)) >= 10


def key_body(text: str, start: int, stop: int) -> bool:
    """Whether something like a key stands between the two lines that frame it."""
    return _BODY.search(text, start, stop) is not None


def password(text: str, start: int, stop: int) -> bool:
    """Whether a URL's password is one, and no variable or stars in its place."""
    value = text[start:stop]
    return value[0] not in "$<{%[(" and len(set(value)) > 1 and not value.startswith("...")


def ipv4(text: str, start: int, stop: int) -> bool:
    """Whether four numbers are a public address. Four one-digit numbers are taken for a version."""
    parts = text[start:stop].split(".")
    if any((len(part) > 1 and part[0] == "0") or int(part) > 255 for part in parts):
        return False
    if all(len(part) == 1 for part in parts) or parts[1:] == ["0", "0", "0"]:
        return False
    if _VERSION.search(text, max(0, start - 16), start):
        return False
    return _public(text[start:stop])


def ipv6(text: str, start: int, stop: int) -> bool:
    """Whether groups of hexadecimal digits are a public address."""
    return _public(text[start:stop])


def _public(value: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(value)
    except ValueError:
        return False
    return address.is_global and not address.is_multicast


CHECKS: dict[str, Callable[[str, int, int], bool]] = {
    check.__name__: check for check in (random, mixed, key_body, password)
}
