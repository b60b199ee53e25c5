"""What the APIs have in common: typed events, errors in a stream, forced lengths."""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from traj.replay.outcome import FailedError

_Event = TypeVar("_Event")


def decode(decoder: msgspec.json.Decoder[_Event], data: bytes) -> _Event:
    """An event by its type; what has no name there is passed over. Raises FailedError."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise FailedError("malformed_stream", str(error)) from None


def failed(error: Any) -> FailedError:
    """The engine's own word that it could not go on."""
    return FailedError("error_in_stream", msgspec.json.encode(error).decode())


def forcing(tokens: int, *, forced: bool) -> dict[str, Any]:
    """What makes engines answer at exactly the length that is the most: vLLM's options."""
    return {"min_tokens": tokens, "ignore_eos": True} if forced else {}
