"""A provider's response as agents keep it in their logs: answer, figures, and its time.

It is a response of chat completions or of the Responses API, whoever the provider was. The figures
are OpenAI's, but gateways translate them in ways of their own, which the response betrays:

- LiteLLM and OpenRouter: all inside, as with OpenAI; newly written tokens under LiteLLM's names
- Portkey, Anthropic's models: cached and written tokens beside `prompt_tokens`
- Portkey, Google's models: reasoning tokens beside `completion_tokens`
"""

from __future__ import annotations

from base64 import b64decode
from typing import Annotated

from msgspec import Meta, Raw, Struct
from msgspec.structs import replace

from traj.events import Usage
from traj.sources.about import Meaning
from traj.sources.lines import Count
from traj.sources.requests import MEANINGS, Answered
from traj.sources.requests import answered as answered_by
from traj.sources.requests.pieces import NOTHING, fit

CHAT = "openai_chat"
RESPONSES = "openai_responses"
MEANING = MEANINGS[CHAT]
_CACHED_BESIDE = Meaning(cached="beside", written="beside", reasoning="inside")
_REASONING_BESIDE = Meaning(cached="inside", written="inside", reasoning="beside")
_PORTKEY_GOOGLE = ("google", "vertex-ai")  # OpenRouter's names begin with a capital

Seconds = Annotated[float, Meta(ge=0, le=1e10)]


class _Shape(Struct):
    choices: Raw = NOTHING
    output: Raw = NOTHING
    created: Seconds | None = None
    created_at: Seconds | None = None
    provider: str | None = None
    usage: Raw = NOTHING


class _Prompt(Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    cache_creation_tokens: Count | None = None


class _Completion(Struct):
    reasoning_tokens: Count | None = None


class _Usage(Struct):
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    total_tokens: Count | None = None
    prompt_tokens_details: _Prompt | None = None
    completion_tokens_details: _Completion | None = None
    prompt_cache_hit_tokens: Count | None = None  # DeepSeek's own
    cache_read_input_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None


def api_of(raw: Raw) -> str:
    """The API that a response is of; a response of neither API is `unknown`."""
    shape = fit(raw, _Shape)
    if shape is None:
        return "unknown"
    return CHAT if bytes(shape.choices) else RESPONSES if bytes(shape.output) else "unknown"


def answered(raw: Raw) -> Answered:
    """What a response answers; empty for what is no response."""
    api = api_of(raw)
    found = None if api == "unknown" else answered_by(api, bytes(raw))
    if found is None:
        return Answered()
    if api == CHAT:
        return replace(found, usage=usage(raw))
    return replace(found, response_id=_own_id(found.response_id))


def _own_id(response_id: str | None) -> str | None:
    """The provider's id within the one that LiteLLM makes of it."""
    packed = (response_id or "").removeprefix("resp_")
    try:
        told = b64decode(packed + "=" * (-len(packed) % 4)).decode()
    except ValueError:
        return response_id
    name, _, own = told.rpartition(";response_id:")
    return own if own and name.startswith("litellm:") else response_id


def usage(raw: Raw) -> Usage:
    """The schema's figures of a response of chat completions."""
    shape = fit(raw, _Shape) or _Shape()
    told = fit(shape.usage, _Usage)
    if told is None:
        return Usage()
    prompt = told.prompt_tokens_details or _Prompt()
    completion = told.completion_tokens_details or _Completion()
    cached = _first(
        prompt.cached_tokens, told.cache_read_input_tokens, told.prompt_cache_hit_tokens
    )
    written = _first(
        told.cache_creation_input_tokens, prompt.cache_write_tokens, prompt.cache_creation_tokens
    )
    meaning = MEANING
    if shape.provider in _PORTKEY_GOOGLE:
        meaning = _REASONING_BESIDE
    elif _sum_needs(told, (cached or 0) + (written or 0)):
        meaning = _CACHED_BESIDE
    return meaning.usage(
        told.prompt_tokens,
        cached,
        told.completion_tokens,
        written_tokens=written,
        reasoning_tokens=completion.reasoning_tokens,
    )


def created_us(raw: Raw) -> int | None:
    """When the response was made, microseconds since the epoch, in whole seconds mostly.

    Providers note the beginning of the request; gateways its end where the provider notes none.
    """
    shape = fit(raw, _Shape)
    if shape is None:
        return None
    seconds = shape.created if shape.created is not None else shape.created_at
    return round(seconds * 1e6) if seconds else None


def _first(*figures: int | None) -> int | None:
    return next((figure for figure in figures if figure is not None), None)


def _sum_needs(told: _Usage, cache: int) -> bool:
    """Whether the total is only right with the cache's tokens added."""
    figures = (told.total_tokens, told.prompt_tokens, told.completion_tokens)
    if not cache or None in figures:
        return False
    total, prompt, completion = (figure or 0 for figure in figures)
    return total == prompt + completion + cache
