"""ATIF documents 1.0 to 1.8, as far as they are needed, and what `traj` itself adds to them."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta, Raw, Struct, field

from traj.sources.lines import Count, ExitCode
from traj.sources.requests.pieces import NOTHING


class Call(Struct):
    tool_call_id: str | None = None
    function_name: str | None = None
    arguments: Raw = NOTHING
    extra: Raw = NOTHING


class Reference(Struct):
    """To a sub-agent's trajectory: within the document, or in a file of its own."""

    trajectory_id: str | None = None
    trajectory_path: str | None = None
    session_id: str | None = None


class Result(Struct):
    source_call_id: str | None = None
    content: Raw = NOTHING
    subagent_trajectory_ref: list[Reference] | Reference | None = None
    extra: Raw = NOTHING


class Observation(Struct):
    results: list[Raw] = field(default_factory=list)


class Figures(Struct):
    """What converters put into a step's `metrics.extra`, under whichever name."""

    cache_write_tokens: Count | None = None
    cache_creation_tokens: Count | None = None
    cache_creation_input_tokens: Count | None = None
    reasoning_tokens: Count | None = None
    reasoning_output_tokens: Count | None = None
    usage_source: Literal["reported", "partial"] | None = None  # of ours


class Metrics(Struct):
    """`prompt_tokens` includes cached ones."""

    prompt_tokens: Count | None = None
    completion_tokens: Count | None = None
    cached_tokens: Count | None = None
    extra: Raw = NOTHING


class Step(Struct):
    timestamp: str | None = None
    source: str | None = None
    model_name: str | None = None
    reasoning_effort: str | float | None = None
    message: Raw = NOTHING
    reasoning_content: str | None = None
    tool_calls: list[Raw] | None = None
    observation: Raw = NOTHING
    metrics: Raw = NOTHING
    llm_call_count: Count | None = None
    is_copied_context: bool | None = None
    extra: Raw = NOTHING


class Agent(Struct):
    name: str | None = None
    version: str | None = None
    model_name: str | None = None
    tool_definitions: Raw = NOTHING
    extra: Raw = NOTHING


class Sums(Struct):
    total_prompt_tokens: Count | None = None
    total_completion_tokens: Count | None = None
    total_cached_tokens: Count | None = None


class Document(Struct):
    session_id: str | None = None
    trajectory_id: str | None = None
    agent: Agent | None = None
    steps: list[Raw] = field(default_factory=list)
    final_metrics: Raw = NOTHING
    continued_trajectory_ref: str | None = None
    subagent_trajectories: list[Raw] | None = None
    extra: Raw = NOTHING


# What traj adds: rows of its tables, without what ATIF has a field for

Time = Annotated[int, Meta(ge=0, le=2**53)]
Clock = Literal["measured", "logged", "derived", "none"]


class Sampling(Struct):
    max_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    stream: bool | None = None


class OwnTurn(Struct):
    """A request. Times are from the trajectory's start."""

    turn: Count
    input: list[tuple[Count, Count]]
    lane_kind: Literal["main", "subagent", "side"] | None = None
    lane_name: str | None = None
    context_reason: (
        Literal["start", "compaction", "clear", "rewind", "edit", "model_switch"] | None
    ) = None
    wait_for: list[Count] = field(default_factory=list)
    start_us: Time | None = None
    first_token_us: Time | None = None
    end_us: Time | None = None
    user_us: Time | None = None
    clock: Clock = "none"
    api: Literal["anthropic_messages", "openai_chat", "openai_responses", "gemini", "unknown"] = (
        "unknown"
    )
    response_id: str | None = None
    system_id: str | None = None
    tools_id: str | None = None
    earlier_reasoning: Literal["kept", "dropped", "encrypted", "unknown"] = "unknown"
    output: Count | None = None
    stop_reason: (
        Literal["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause", "other"]
        | None
    ) = None
    status: Literal["ok", "error", "cancelled"] = "ok"
    error: str | None = None
    attempt: Annotated[int, Meta(ge=0, le=2**15 - 1)] = 0
    sampling: Sampling | None = None


class Attached(Struct):
    media_type: str | None = None
    sha256: str | None = None
    bytes: Count | None = None


class OwnMessage(Struct):
    message: Count
    name: str | None = None
    tool_call_id: str | None = None
    attachments: list[Attached] | None = None
    time_us: Time | None = None


class OwnCall(Struct):
    start_us: Time | None = None
    end_us: Time | None = None
    clock: Clock = "none"
    permission_us: Time | None = None
    status: Literal["ok", "error", "rejected", "timeout", "interrupted", "unknown"] = "unknown"
    exit_code: ExitCode | None = None
    truncated: bool | None = None
    background: bool | None = None
    arguments: str | None = None


class OwnExtra(Struct):
    """Of a step or a result."""

    turn: Raw = NOTHING
    message: Raw = NOTHING
    system_id: str | None = None


class Repository(Struct):
    url: str | None = None
    commit: str | None = None
    branch: str | None = None


class Task(Struct):
    title: str | None = None


class Loss(Struct):
    kind: str
    count: Count


class OwnHead(Struct):
    """The trajectory's row."""

    started_at: str | None = None
    duration_us: Time | None = None
    repository: Repository | None = None
    task: Task | None = None
    losses: list[Loss] = field(default_factory=list)


class OwnDocument(Struct):
    lane: Count | None = None
    lane_kind: Literal["main", "subagent", "side"] | None = None
    lane_name: str | None = None
    trajectory: Raw = NOTHING


class OwnAgent(Struct):
    tools_id: str | None = None
    more_tool_definitions: dict[str, Raw] = field(default_factory=dict)


DOCUMENT = msgspec.json.Decoder(Document)
STEP = msgspec.json.Decoder(Step)
RESULT = msgspec.json.Decoder(Result)
CALL = msgspec.json.Decoder(Call)
OWN_TURN = msgspec.json.Decoder(OwnTurn)
OWN_CALL = msgspec.json.Decoder(OwnCall)
