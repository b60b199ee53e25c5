"""Fresh ids for a copy of a session, so that the copy is another session and not a fork.

Works on bytes, without parsing. An id keeps its length and its kind (a UUID stays a UUID,
`msg_…` stays `msg_…`), and the same id becomes the same fresh id wherever it stands in a
replica: in other lines, in the files of sub-agents, in the names of files and folders. Ids too
short to stay unique at their own length (the `a1` and `s1` of hand-written fixtures) are the one
exception: they grow.

Texts are marked as well: the first four letters of a message, a command or a result are others
in each replica. A reader that stores or counts equal messages once would otherwise read every
replica but the first for nothing, as it could not with real sessions.
"""

from __future__ import annotations

import re
from hashlib import blake2b

_ALPHABET = b"0123456789abcdefghijklmnopqrstuvwxyz"
_HEX = b"0123456789abcdef"
_SHORTEST = 8

# Ids that can be told by their look, wherever they stand, file names included.
_LOOKS = re.compile(
    rb"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b"
    rb"|\b(?:msg|req|toolu|srvtoolu|call|resp)_[A-Za-z0-9]{12,}"
    rb"|\bchatcmpl-tool-[0-9a-f]{12,}"
    rb"|\bagent-[0-9a-z]{7,17}\b"
)
# Ids that only their field's name tells. `id` alone also names to-dos and plans: see _field.
_FIELDS = re.compile(
    rb'"(uuid|parentUuid|logicalParentUuid|leafUuid|headUuid|tailUuid|anchorUuid|messageId'
    rb"|sessionId|session_id|bridgeSessionId|requestId|requestID|request_id|promptId|agentId"
    rb"|toolUseID|parentToolUseID|sourceToolUseID|sourceToolAssistantUUID|tool_use_id|callId"
    rb"|call_id|turn_id|turnId|thread_id|threadId|parent_thread_id|sender_thread_id"
    rb"|receiver_thread_id|new_thread_id|agent_thread_id|forked_from_id|item_id|window_id"
    rb'|id)"(\s*:\s*)"([^"\\]{1,80})"'
)
# The first word of a text, unless it opens with a mark that readers look for (`<`, `[`, `Caveat`).
_TEXTS = re.compile(
    rb'"(text|thinking|content|stdout|stderr|command|prompt|old_string|new_string|originalFile'
    rb'|file_text|output|message|lastPrompt|summary)"(\s*:\s*)'
    rb'"((?:\\[nt]|[ 0-9>|#*.-]|\xe2\x86\x92)*)'
    rb"(?!Caveat|This session|API Error|No response)([A-Za-z]{4})"
)
_PLAIN_NUMBER = re.compile(rb"[0-9]{1,6}$")


class FreshIds:
    """The ids of one replica: the same original always gives the same fresh id."""

    def __init__(self, replica: int) -> None:
        self._key = replica.to_bytes(4, "big")

    def text(self, content: bytes) -> bytes:
        """A file's content with fresh ids and marked texts."""
        marked = _TEXTS.sub(self._mark, content)
        return _LOOKS.sub(self._look, _FIELDS.sub(self._field, marked))

    def name(self, relative: str) -> str:
        """A relative path with fresh ids."""
        return _LOOKS.sub(self._look, relative.encode()).decode()

    def _mark(self, match: re.Match[bytes]) -> bytes:
        name, colon, before, word = match.groups()
        # The same word is marked alike, so that texts that are equal stay equal.
        return b'"%b"%b"%b%b' % (name, colon, before, self._letters(word, 4, _ALPHABET[10:]))

    def _look(self, match: re.Match[bytes]) -> bytes:
        return self._fresh(match.group())

    def _field(self, match: re.Match[bytes]) -> bytes:
        field, colon, value = match.groups()
        # Whatever has an id's look is left to the second pass: fresh once, not twice.
        if _LOOKS.fullmatch(value) or (field == b"id" and _PLAIN_NUMBER.match(value)):
            return match.group()
        if field == b"agentId" and _LOOKS.fullmatch(b"agent-" + value):
            fresh = self._fresh(b"agent-" + value)[len(b"agent-") :]
        else:
            fresh = self._fresh(value)
        return b'"%b"%b"%b"' % (field, colon, fresh)

    def _fresh(self, original: bytes) -> bytes:
        if original.startswith(b"agent-"):
            return b"agent-" + self._letters(original, len(original) - 6, _HEX)
        if len(original) == 36 and original.count(b"-") == 4:
            raw = self._letters(original, 32, _HEX)
            return b"-".join((raw[:8], raw[8:12], b"4" + raw[13:16], b"a" + raw[17:20], raw[20:]))
        head, mark, tail = original.rpartition(b"_")
        length = max(len(tail), _SHORTEST)
        return head + mark + self._letters(original, length, _ALPHABET)

    def _letters(self, original: bytes, length: int, alphabet: bytes) -> bytes:
        number = int.from_bytes(blake2b(original, key=self._key, digest_size=64).digest(), "big")
        letters = bytearray()
        for _ in range(length):
            number, letter = divmod(number, len(alphabet))
            letters.append(alphabet[letter])
        return bytes(letters)
