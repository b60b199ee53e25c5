"""Records that do not fit: tried again field by field, what still does not fit is counted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.sources.lines import UNDECODABLE, T, is_text, lenient, repaired

if TYPE_CHECKING:
    import msgspec

    from traj.events import Session


def decoded(text: bytes, decoder: msgspec.json.Decoder[T], session: Session) -> T | None:
    """A record; None, and counted, for what is no object."""
    if not is_text(text):
        text = repaired(text, session)
    try:
        return decoder.decode(text)
    except UNDECODABLE:
        value = lenient(text, decoder, session)
    if value is None and not text.strip():
        session.lose("malformed_line")
    return value
