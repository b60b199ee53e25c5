"""What spans are called under the conventions in use: GenAI, OpenInference, OpenLLMetry.

All three are read by the same questions: what kind of span, which figures, which messages.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import orjson

from traj.events import Sampling, Usage
from traj.sources.about import Meaning
from traj.sources.lines import epoch_us
from traj.sources.otlp.spans import Span
from traj.sources.requests.pieces import stop as _stop

MEANING = Meaning(cached="inside", written="inside", reasoning="inside")
BESIDE = Meaning(cached="beside", written="beside", reasoning="inside")
_KINDS = {
    **dict.fromkeys(("chat", "text_completion", "generate_content", "LLM", "completion"), "chat"),
    **dict.fromkeys(("execute_tool", "TOOL", "tool"), "tool"),
    **dict.fromkeys(("invoke_agent", "create_agent", "AGENT", "agent"), "agent"),
}
_KIND_NAMES = (
    *("gen_ai.operation.name", "openinference.span.kind", "llm.request.type"),
    "traceloop.span.kind",
)
_INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens", "llm.token_count.prompt")
_OUTPUT = (
    *("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens"),
    "llm.token_count.completion",
)
_CACHED = (
    *("gen_ai.usage.cache_read.input_tokens", "gen_ai.usage.cache_read_input_tokens"),
    *("gen_ai.usage.input_tokens.cached", "llm.token_count.prompt_details.cache_read"),
)
_WRITTEN = (
    *("gen_ai.usage.cache_creation.input_tokens", "gen_ai.usage.cache_creation_input_tokens"),
    *("gen_ai.usage.input_tokens.cache_write", "llm.token_count.prompt_details.cache_write"),
)
_REASONING = (
    *("gen_ai.usage.reasoning.output_tokens", "gen_ai.usage.reasoning_tokens"),
    *("gen_ai.usage.output_tokens.reasoning", "llm.token_count.completion_details.reasoning"),
)
MODEL = (*("gen_ai.response.model", "gen_ai.request.model", "llm.model_name", "llm.request.model"),)
AGENT = ("gen_ai.agent.name", "agent.name", "graph.node.name", "traceloop.entity.name")
TOOL = ("gen_ai.tool.name", "tool.name", "tool_call.function.name", "traceloop.entity.name")
CALL_ID = ("gen_ai.tool.call.id", "tool_call.id", "tool.id", "tool.call.id")
RESPONSE_ID = ("gen_ai.response.id", "llm.response.id")
_APIS = {
    "anthropic": "anthropic_messages",
    "gcp.gemini": "gemini",
    "gcp.gen_ai": "gemini",
    "google": "gemini",
}
_LARGEST = 2**53


def kind(span: Span) -> str | None:
    """chat, tool or agent; None for what is none of them."""
    for name in _KIND_NAMES:
        found = _KINDS.get(str(span.attributes.get(name, "")))
        if found is not None:
            return found
    return None


def first(attributes: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of several attributes that is a text."""
    values = (attributes.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value), None)


def figure(attributes: Mapping[str, Any], names: tuple[str, ...]) -> int | None:
    """The first of several attributes that is a number of tokens."""
    for name in names:
        value = attributes.get(name)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _LARGEST:
            return value
    return None


def is_beside(attributes: Mapping[str, Any]) -> bool:
    """Whether a span's cached tokens cannot be part of its input: some instrumentations hand on
    Anthropic's own figures, against the conventions."""
    inside = figure(attributes, _INPUT)
    cached = (figure(attributes, _CACHED) or 0) + (figure(attributes, _WRITTEN) or 0)
    return inside is not None and cached > inside


def usage(attributes: Mapping[str, Any], *, beside: bool) -> Usage:
    """The schema's figures. A span without a cached figure does not say that none was cached."""
    return (BESIDE if beside else MEANING).usage(
        figure(attributes, _INPUT),
        figure(attributes, _CACHED),
        figure(attributes, _OUTPUT),
        written_tokens=figure(attributes, _WRITTEN),
        reasoning_tokens=figure(attributes, _REASONING),
    )


def sampling(attributes: Mapping[str, Any]) -> Sampling:
    """What was asked of the sampler."""
    told = value(attributes.get("llm.invocation_parameters"))
    found = dict(told) if isinstance(told, dict) else {}
    for name in ("max_tokens", "temperature", "top_p", "stream"):
        for prefix in ("gen_ai.request.", "llm.request."):
            found.setdefault(name, attributes.get(prefix + name))
    effort = attributes.get("traj.reasoning_effort") or found.get("reasoning_effort")
    stream = found.get("stream")
    return Sampling(
        figure(found, ("max_tokens",)),
        _number(found.get("temperature")),
        _number(found.get("top_p")),
        effort if isinstance(effort, str) else None,
        stream if isinstance(stream, bool) else None,
    )


def _number(found: Any) -> float | None:
    return float(found) if isinstance(found, int | float) else None


def api(attributes: Mapping[str, Any]) -> str:
    """The API that a request was made to, as far as the provider's name says."""
    names = ("gen_ai.provider.name", "gen_ai.system", "llm.provider", "llm.system")
    return _APIS.get((first(attributes, names) or "").lower(), "unknown")


def first_token_us(span: Span) -> int | None:
    """When the first token came."""
    seconds = span.attributes.get("gen_ai.response.time_to_first_chunk")
    if isinstance(seconds, int | float) and span.start_us is not None and 0 <= seconds < 1e7:
        return span.start_us + round(seconds * 1e6)
    return epoch_us(first(span.attributes, ("gen_ai.completion_start_time",)))


def stop(reason: Any) -> str | None:
    """The schema's word for why an answer ended."""
    return _stop(reason) if isinstance(reason, str) and reason else None


def response_id(attributes: Mapping[str, Any]) -> str | None:
    """The provider's id of the answer, which OpenInference has in the raw body alone."""
    found = first(attributes, RESPONSE_ID)
    if found is None and "llm.output_messages.0.message.role" in attributes:
        body = value(attributes.get("output.value"))
        found = first(body, ("id",)) if isinstance(body, dict) else None
    return found


def value(found: Any) -> Any:
    """A structured value, which attributes often hold as JSON text; None where it is none."""
    if not isinstance(found, str):
        return found
    try:
        return orjson.loads(found)
    except ValueError:
        return None
