"""Files that agents write and that are no sessions: why not, in words that lead on."""

from __future__ import annotations

from traj.sources.lines import Head

AIDER = ".aider.chat.history.md"  # opened in folders too, to be told of
_MESSAGE = {"role", "content"}


def reason(head: Head) -> str:
    """Why no format recognises a file, by its beginning."""
    if b"# aider chat started at" in head.block:
        return "aider's chat history has neither token figures nor times: record it with --live"
    found = head.document
    first = found[0] if isinstance(found, list) and found else None
    if isinstance(first, dict) and first.keys() >= _MESSAGE:
        return "a list of messages, without token figures or times"
    return "not a session log of a known format"
