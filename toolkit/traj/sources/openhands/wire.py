"""OpenHands' events, as far as they are needed: version 0, and the SDK's."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count, ExitCode
from traj.sources.raw_responses import Seconds
from traj.sources.requests.chat import Spoken
from traj.sources.requests.pieces import NOTHING

# Version 0


class Call(Struct):
    """Which response asked for an action, and by which of its calls."""

    function_name: str | None = None
    tool_call_id: str | None = None
    model_response: Raw = NOTHING


class Args(Struct):
    """What an action is about."""

    content: str | None = None
    thought: str | None = None
    command: str | None = None
    code: str | None = None
    tools: Raw = NOTHING
    openhands_version: str | None = None
    agent_class: str | None = None
    forgotten_event_ids: list[int] | None = None
    forgotten_events_start_id: int | None = None
    forgotten_events_end_id: int | None = None
    summary: str | None = None
    summary_offset: Count | None = None


class CommandEnd(Struct):
    """How a command ended, and what the model is told of it."""

    exit_code: ExitCode | None = None
    prefix: str | None = None
    suffix: str | None = None
    working_dir: str | None = None
    py_interpreter_path: str | None = None


class Extras(Struct):
    """What an observation is about."""

    metadata: CommandEnd | None = None
    exit_code: ExitCode | None = None
    agent_state: str | None = None
    formatted_output_and_error: str | None = None
    repo_instructions: str | None = None
    additional_agent_instructions: str | None = None
    microagent_knowledge: list[Raw] = field(default_factory=list)


class Event(Args):
    """An action or an observation. Before 2024-12 there were no ids and times, and what now stands
    in `args` stood in the event itself."""

    id: int | None = None
    timestamp: str | None = None
    source: str | None = None
    action: str | None = None
    observation: str | None = None
    cause: int | None = None
    tool_call_metadata: Call | None = None
    args: Args | None = None
    extras: Extras | None = None
    success: bool | None = None
    exit_code: ExitCode | None = None


class Latency(Struct):
    latency: Seconds | None = None
    response_id: str | None = None


class Cost(Struct):
    timestamp: Seconds | None = None


class TokenUsage(Struct):
    """One request's figures, or their sum."""

    model: str | None = None
    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cache_read_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    per_turn_token: Count | None = None
    response_id: str | None = None


class Metrics(Struct):
    """What a model's requests took and used, in order."""

    accumulated_token_usage: TokenUsage | None = None
    costs: list[Raw] = field(default_factory=list)
    response_latencies: list[Latency] = field(default_factory=list)
    token_usages: list[TokenUsage] = field(default_factory=list)


class LlmConfig(Struct):
    model: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: Count | None = None
    reasoning_effort: str | None = None


class Metadata(Struct):
    llm_config: LlmConfig | None = None


class Row(Struct):
    """A line of `output.jsonl`: a session with its task and sums."""

    instance_id: str | None = None
    history: list[Raw] | None = None
    metrics: Raw = NOTHING
    metadata: Raw = NOTHING


# SDK


class Tool(Struct):
    """A tool call as the model made it."""

    id: str | None = None
    name: str | None = None
    arguments: str | None = None


class Thinking(Struct):
    thinking: str | None = None


class Action(Struct):
    prompt: str | None = None
    tasks: dict[str, str] | None = None


class Observed(Struct):
    content: Raw = NOTHING
    is_error: bool | None = None
    exit_code: ExitCode | None = None
    timeout: bool | None = None
    metadata: CommandEnd | None = None
    kind: str | None = None


class Prompt(Struct):
    text: str | None = None


class LlmMessage(Spoken):
    thinking_blocks: Raw = NOTHING


class SdkEvent(Struct):
    """An event. Which it is, `kind` says."""

    kind: str | None = None
    id: str | None = None
    parent_id: str | None = None
    timestamp: str | None = None
    source: str | None = None
    system_prompt: Prompt | None = None
    dynamic_context: Prompt | None = None
    llm_message: Raw = NOTHING
    extended_content: Raw = NOTHING
    llm_response_id: str | None = None
    thought: Raw = NOTHING
    reasoning_content: str | None = None
    thinking_blocks: Raw = NOTHING
    tool_name: str | None = None
    tool_call_id: str | None = None
    tool_call: Tool | None = None
    action: Raw = NOTHING
    observation: Raw = NOTHING
    rejection_reason: str | None = None
    error: str | None = None
    code: str | None = None
    forgotten_event_ids: list[str] = field(default_factory=list)
    summary: str | None = None
    summary_offset: Count | None = None
    key: str | None = None
    value: Raw = NOTHING


class Stats(Struct):
    usage_to_metrics: dict[str, Metrics] = field(default_factory=dict)


class SdkAgent(Struct):
    llm: LlmConfig | None = None


class BaseState(Struct):
    """What stands beside a conversation's events."""

    agent: SdkAgent | None = None
    stats: Raw = NOTHING


EVENT = msgspec.json.Decoder(Event)
ROW = msgspec.json.Decoder(Row)
SDK_EVENT = msgspec.json.Decoder(SdkEvent)
BASE_STATE = msgspec.json.Decoder(BaseState)
