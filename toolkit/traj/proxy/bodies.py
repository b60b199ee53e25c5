"""Bodies as the log keeps them: unpacked, without credentials, cut where later ones will be alike.

Nothing here changes what is passed on; it works on copies, after the fact.
"""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
import orjson
from msgspec import Raw

from traj.sources.live.wire import MASK, Said

_LISTS = frozenset((b"messages", b"input", b"contents", b"system"))  # what grows from call to call
_WHOLE = frozenset((b"tools", b"instructions", b"systemInstruction", b"mcp_servers"))
_SMALL = 48  # bytes that are not worth a part of their own
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_LIST = msgspec.json.Decoder(list[Raw])
_SHORTEST, _LONG = 8, 20  # characters of credentials; shorter ones without a digit may be words
_PRIVATE = frozenset(("authorization", "authorization_token", "headers", "api_key", "apikey"))


def unpacked(body: bytes, encoding: str | None) -> tuple[bytes, str | None]:
    """A body without its content encoding, and the encoding that is left where it is unknown or
    the body is damaged. What was cut off is unpacked as far as it goes."""
    found = body
    for name in reversed([part.strip().lower() for part in (encoding or "").split(",")]):
        if name in ("", "identity"):
            continue
        opened = _opened(found, name)
        if opened is None:
            return body, encoding
        found = opened
    return found, None


def _opened(body: bytes, name: str) -> bytes | None:
    if name in ("gzip", "x-gzip", "deflate"):
        windows = (47,) if name != "deflate" else (47, -15)  # some servers send it without a head
        for window in windows:
            opener = zlib.decompressobj(window)
            try:
                return opener.decompress(body)
            except zlib.error:
                continue
        return None
    if name not in ("br", "zstd"):
        return None
    import pyarrow as pa

    codec = {"br": "brotli"}.get(name, name)
    found: list[bytes] = []
    try:
        with pa.CompressedInputStream(pa.BufferReader(body), codec) as stream:
            while block := stream.read(1 << 16):
                found.append(block)
    except (OSError, pa.ArrowException):
        return b"".join(found) or None
    return b"".join(found)


class Masks:
    """The credentials of one request, to be taken out of whatever is written about it."""

    def __init__(self, secrets: Iterable[str]) -> None:
        found = {secret for secret in secrets if _credible(secret)}
        self._secrets = sorted(found, key=len, reverse=True)
        forms = {form for one in self._secrets for form in (one, orjson.dumps(one).decode()[1:-1])}
        self._raw = sorted((form.encode() for form in forms), key=len, reverse=True)

    def bytes(self, data: bytes) -> tuple[bytes, int]:
        """The data without them, and how many stood in it."""
        count = 0
        for secret in self._raw:
            if secret in data:
                count += data.count(secret)
                data = data.replace(secret, MASK.encode())
        return data, count

    def text(self, text: str) -> str:
        """The text without them."""
        for secret in self._secrets:
            text = text.replace(secret, MASK)
        return text


def _credible(secret: str) -> bool:
    """Whether a key is one: people give local engines `anything`, which their text has too."""
    if len(secret) < _SHORTEST:
        return False
    return len(secret) >= _LONG or any(letter.isdigit() for letter in secret)


def cut(body: bytes) -> list[bytes] | None:
    """Pieces of a JSON body that joined give it again; the odd ones are messages and the like,
    which later bodies will have too. None for what is no JSON object."""
    try:
        fields = _OBJECT.decode(body)
        body.decode()
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    pieces: list[bytes] = []
    done = here = 0
    for name, raw in fields.items():
        key, value = name.encode(), bytes(raw)
        start = body.find(value, here)
        if start < 0:
            continue  # a key that stands twice: the first one's value stays literal
        here = start + len(value)
        parts = _parts(value) if key in _LISTS else [value] if key in _WHOLE else []
        at = start
        for part in parts:
            at = body.find(part, at, here)
            if len(part) >= _SMALL:
                pieces += (body[done:at], part)
                done = at + len(part)
            at += len(part)
    pieces.append(body[done:])
    return pieces


def _parts(value: bytes) -> list[bytes]:
    try:
        return [bytes(raw) for raw in _LIST.decode(value)]
    except (msgspec.DecodeError, RecursionError):
        return [value]


def digest(part: bytes) -> str:
    """The name of a part."""
    return hashlib.sha256(part).hexdigest()[:32]


def without_keys(part: bytes) -> tuple[bytes, int]:
    """A list of tools or servers without the credentials that some of them carry, and how many
    there were."""
    if b'url"' not in part:
        return part, 0
    lower = part.lower()
    if not any(f'"{name}"'.encode() in lower for name in _PRIVATE):
        return part, 0
    try:
        found: Any = orjson.loads(part)
    except ValueError:
        return part, 0
    count = 0
    for server in found if isinstance(found, list) else [found]:
        if isinstance(server, dict) and ("server_url" in server or "url" in server):
            for name in [key for key in server if key.lower() in _PRIVATE]:
                server[name] = MASK
                count += 1
    return (orjson.dumps(found), count) if count else (part, 0)


def said(data: bytes, encoding: str | None = None) -> Said:
    """Bytes as a line holds them."""
    if encoding is not None:
        return Said(base64=b64encode(data).decode(), encoding=encoding)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return Said(base64=b64encode(data).decode())
    if data[:1] in (b"{", b"[", b'"') and b"\n" not in data and b"\r" not in data:
        try:
            msgspec.json.decode(data, type=Raw)
        except (msgspec.DecodeError, RecursionError):
            return Said(text=text)
        # Raw is taken to its end of value: white space behind it would be dropped.
        if data[-1:] in (b"}", b"]", b'"'):
            return Said(json=Raw(data))
    return Said(text=text)


def shared(pieces: Sequence[str], earlier: Sequence[str]) -> int:
    """How many pieces two bodies have in common at their beginning."""
    low, high = 0, min(len(pieces), len(earlier))
    while low < high:
        middle = (low + high + 1) // 2
        if pieces[low:middle] == earlier[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
