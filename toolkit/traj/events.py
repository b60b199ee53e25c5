"""What happened in a session, as every source tells it and the build reads it.

A source turns one session's files into one `Session`: lanes, and in each lane the steps in order.
A `Message` joins the lane's context; a `Turn` sends the context as it stands and its answer joins
the context; a `Rebase` puts another context in its place. All times are microseconds since the
Unix epoch, None where the source does not say; all token figures are the provider's, converted to
the schema's meaning (input includes cached, output includes reasoning).

These are msgspec structs, not dataclasses: a session is tens of thousands of them, and they are
made several times faster.
"""

from __future__ import annotations

from msgspec import Struct, field


class ToolCall(Struct, frozen=True, gc=False):
    """A tool call as an answer asks for it; `arguments` is the model's own text."""

    id: str
    name: str
    arguments: str


class Attachment(Struct, frozen=True, gc=False):
    """An image or document; the payload itself stays behind."""

    media_type: str | None
    sha256: str | None
    bytes: int | None


class Message(Struct, frozen=True):
    """One message of a conversation, as a chat-completions request would hold it."""

    role: str  # system, user, assistant, tool
    content: str | None = None
    reasoning: str | None = None
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    attachments: tuple[Attachment, ...] = ()
    time_us: int | None = None
    by_person: bool = False  # typed by a person: the time until it came was spent waiting for them
    brings: str | None = None  # a sub-agent's report, by a name that Lane.joined_by gives
    file: int = 0  # index into Session.files
    line: int | None = None  # from 1; in a document, the number of the item in its list


class Usage(Struct, frozen=True, gc=False):
    """The provider's figures for one request, in the schema's meaning."""

    input_tokens: int | None = None  # cached and newly written parts included
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    output_tokens: int | None = None  # reasoning included
    reasoning_tokens: int | None = None
    source: str = "none"  # reported, partial, none


class Sampling(Struct, frozen=True, gc=False):
    """What a request asked of the sampler; one with nothing known counts as none."""

    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None
    stream: bool | None = None


class Turn(Struct, frozen=True):
    """One request with the lane's context as its input, and its answer.

    With clock `derived` a missing `start_us` is worked out by the build from what the request
    needed; `answer_us` bounds it from above.
    """

    answer: Message | None
    api: str = "unknown"
    model: str | None = None
    response_id: str | None = None
    usage: Usage = Usage()
    start_us: int | None = None
    first_token_us: int | None = None
    answer_us: int | None = None  # first time stamp that belongs to the answer
    end_us: int | None = None
    clock: str = "none"  # measured, logged, derived, none
    system: str | None = None
    tools: str | None = None  # JSON text
    ideal_cached_tokens: int | None = None  # where there is no text: what an ideal cache would hold
    earlier_reasoning: str = "unknown"  # kept, dropped, encrypted, unknown
    stop_reason: str | None = None
    status: str = "ok"  # ok, error, cancelled
    error: str | None = None
    attempt: int = 0
    sampling: Sampling | None = None
    file: int = 0
    line: int | None = None
    logged_usage: Usage | None = None  # what the agent's own log says, beside the wire's figures


class Rebase(Struct, frozen=True):
    """The lane's context is replaced by ranges of messages seen before: (lane, start, stop) each,
    numbered by appearance in that lane. With a reason the next turn begins a new context."""

    reason: str | None  # compaction, clear, rewind, edit, model_switch; None: still the same
    ranges: tuple[tuple[int, int, int], ...] = ()


Step = Message | Turn | Rebase


def numbered(steps: list[Step]) -> list[tuple[int, Message]]:
    """The messages of a lane with their numbers in it, answers included."""
    messages = (
        step.answer if isinstance(step, Turn) else step
        for step in steps
        if not isinstance(step, Rebase)
    )
    return list(enumerate(message for message in messages if message is not None))


class Lane(Struct):
    """One agent's own conversation.

    `spawned_by` is the tool call that started it; `joined_by` the tool call whose result brought
    its report back (for a call that waits, the same one), or what a message says it `brings`.
    Where the source has no calls, `spawned_at` and `joined_at` are the turns, as lane and number of
    the turn in it.
    """

    kind: str  # main, subagent, side
    name: str | None = None
    spawned_by: str | None = None
    joined_by: str | None = None
    spawned_at: tuple[int, int] | None = None
    joined_at: tuple[int, int] | None = None
    steps: list[Step] = field(default_factory=list)


class ToolRun(Struct):
    """What the record says of one tool call's execution."""

    start_us: int | None = None
    end_us: int | None = None
    clock: str = "none"
    permission_us: int | None = None
    status: str = "unknown"  # ok, error, rejected, timeout, interrupted, unknown
    exit_code: int | None = None
    truncated: bool | None = None
    background: bool | None = None


class SourceFile(Struct, frozen=True, gc=False):
    """A file that was read: its name without directories, and the bytes that were read."""

    name: str
    sha256: str
    bytes: int


class Repository(Struct, frozen=True, gc=False):
    """The repository that was worked on, as far as the session itself says."""

    url: str | None = None
    commit: str | None = None
    branch: str | None = None
    license: str | None = None  # SPDX expression
    license_source: str | None = None  # text, manifest
    is_clean: bool | None = None  # as the commit has it, new files included


class Session(Struct):
    """One session with all its sub-agents. Lane 0 is the main agent."""

    format: str
    session_id: str
    agent_name: str
    agent_version: str | None = None
    started_us: int | None = None
    files: list[SourceFile] = field(default_factory=list)
    lanes: list[Lane] = field(default_factory=list)
    tool_runs: dict[str, ToolRun] = field(default_factory=dict)  # by tool call id
    repository: Repository | None = None
    title: str | None = None
    command: str | None = None  # that ran the agent, as a shell would take it
    usage: Usage | None = None  # of the whole session, where the source has no other figures
    is_dated: bool = True  # False: times count from the session's start, on an unknown day
    has_text: bool = True  # False: lengths and times alone, no lane has a message
    recorder: str = "log"  # log: the agent's own record. proxy: the requests on the wire
    losses: dict[str, int] = field(default_factory=dict)  # kind to count

    def lose(self, kind: str, count: int = 1) -> None:
        """Writes down that something the source held will not be in the dataset."""
        if count:
            self.losses[kind] = self.losses.get(kind, 0) + count
