"""A SWE-agent trajectory, as far as it is needed, in all generations."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count
from traj.sources.requests.chat import Spoken
from traj.sources.requests.pieces import NOTHING


class Run(Struct):
    """One attempt at a task; a document is one, or with a retrying agent holds several."""

    trajectory: list[Raw] = field(default_factory=list)
    history: list[Raw] = field(default_factory=list)
    info: Raw = NOTHING
    replay_config: Raw = NOTHING


class Document(Run):
    """The best attempt's parts stand at the top once more, where there are several."""

    attempts: list[Raw] = field(default_factory=list)


class Step(Struct):
    """One answer of the model and what its action gave; `query` is the request, since 1.0."""

    action: str | None = None
    response: str | None = None
    execution_time: float | None = None
    query: list[Raw] = field(default_factory=list)
    reasoning_content: str | None = None


class Thinking(Struct):
    thinking: str | None = None


class Entry(Spoken):
    """A message of the history."""

    agent: str | None = None
    action: str | None = None
    is_demo: bool | None = None
    tool_call_ids: list[str] | None = None
    thinking_blocks: Raw = NOTHING


class Stats(Struct):
    """Sums over the run, counted by the agent itself."""

    tokens_sent: Count | None = None
    tokens_received: Count | None = None


class Info(Struct):
    model_stats: Stats | None = None
    exit_status: str | None = None
    swe_agent_version: str | None = None


class Model(Struct):
    name: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    max_output_tokens: Count | None = None


class Agent(Struct):
    model: Model | None = None


class Repo(Struct):
    github_url: str | None = None
    base_commit: str | None = None


class Env(Struct):
    repo: Repo | None = None


class Problem(Struct):
    id: str | None = None


class Config(Struct):
    """What the run was started with; JSON text within the JSON since 1.0."""

    agent: Agent | None = None
    env: Env | None = None
    problem_statement: Problem | None = None


DOCUMENT = msgspec.json.Decoder(Document)
RUN = msgspec.json.Decoder(Run)
STEP = msgspec.json.Decoder(Step)
ENTRY = msgspec.json.Decoder(Entry)
