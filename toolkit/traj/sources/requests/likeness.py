"""What messages and agents are known again by, from one prompt to another."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from functools import lru_cache

import orjson

from traj.events import Message
from traj.sources.requests.spoken import Exchange, opening

Front = tuple[object, object]  # tools; system prompt, wherever it stands


def opening_of(exchange: Exchange) -> tuple[Message, ...]:
    """The first messages of the prompt, as far as anyone looks at them."""
    return opening(exchange.asked.before, exchange.asked.messages)


def systems(exchange: Exchange) -> int:
    """How many messages of the prompt are instructions, before anything was said."""
    messages = opening_of(exchange)
    return next((i for i, one in enumerate(messages) if one.role != "system"), len(messages))


def front_of(exchange: Exchange) -> Front:
    asked = exchange.asked
    instructions = [message.content for message in opening_of(exchange)[: systems(exchange)]]
    return asked.tools, (asked.system, *instructions)


def alike(front: Front, other: Front) -> bool:
    """Whether two requests may be one agent's: dates and the like change in a system prompt."""
    return front[0] == other[0] or (front[1] == other[1] and front[1] != (None,))


def key_of(message: Message) -> Hashable:
    """What a message is known again by."""
    text = (message.content or "").strip()
    if message.role == "assistant":
        calls = tuple((call.id or call.name, _plain(call.arguments)) for call in message.tool_calls)
        return message.role, text, calls
    return message.role, text, message.tool_call_id, message.attachments


@lru_cache(maxsize=4096)
def _plain(arguments: str) -> str | bytes:
    """Arguments without what is a matter of spelling."""
    try:
        return orjson.dumps(orjson.loads(arguments), option=orjson.OPT_SORT_KEYS)
    except ValueError:
        return arguments


def retold(asked: tuple[str, ...], new: Sequence[Message]) -> bool:
    """Whether a prompt tells the last answer in other words: the same calls."""
    return bool(asked and new) and asked == tuple(call.id for call in new[0].tool_calls)
