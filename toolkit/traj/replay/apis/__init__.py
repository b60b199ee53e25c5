"""How engines are asked and what their streams say: one module for each API.

A prompt is written as pieces of bytes, one after another, each with whatever must stand between it
and the piece before: so prompts that share a front share its bytes, and a request is a few slices
of what its play holds. `before` is where the pieces so far have led; "" at the start.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from traj.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from traj.replay.outcome import Outcome

APIS = ("chat", "responses", "messages")


class Api(Protocol):
    """One API."""

    PATH: str  # below /v1

    def head(self, model: str, output_tokens: int, *, forced: bool) -> bytes:
        """The beginning of a request; `forced`: the answer is to be exactly so long."""

    def tools(self, tools: Sequence[dict[str, Any]]) -> bytes:
        """Definitions, from their chat form."""

    def message(self, message: dict[str, Any], before: str) -> tuple[bytes, str]:
        """A message, from its chat form; and where that leads."""

    def close(self, before: str) -> bytes:
        """The end of a request."""

    def event(self, data: bytes, at_us: int, outcome: Outcome, parts: list[str]) -> bool:
        """Takes one event of a stream that came in at `at_us`; its text is put to the others. True
        for the last. Raises FailedError for what cannot be read, or says that it went wrong."""


def open_api(name: str) -> Api:
    """Raises UsageError for an API that is not known."""
    if name == "chat":
        from traj.replay.apis.chat import Chat

        return Chat()
    if name == "responses":
        from traj.replay.apis.responses import Responses

        return Responses()
    if name == "messages":
        from traj.replay.apis.messages import Messages

        return Messages()
    raise UsageError(f"{name!r} is no API that is known: {', '.join(APIS)}")
