"""A mini-swe-agent trajectory, as far as it is needed, in both formats."""

from __future__ import annotations

import msgspec
from msgspec import Raw, Struct, field

from traj.sources.lines import Count, ExitCode
from traj.sources.raw_responses import Seconds
from traj.sources.requests.chat import Spoken
from traj.sources.requests.pieces import NOTHING


class Options(Struct):
    """What every request asks of the sampler."""

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: float | None = None
    top_p: float | None = None
    reasoning_effort: str | None = None


class Model(Struct):
    model_name: str | None = None
    model_kwargs: Options | None = None


class Config(Struct):
    model: Model | None = None


class Info(Struct):
    """The agent, and how the run ended."""

    mini_version: str | None = None
    exit_status: str | None = None
    config: Config | None = None


class Document(Struct):
    info: Raw = NOTHING
    messages: list[Raw] = field(default_factory=list)
    instance_id: str | None = None


class Extra(Struct):
    """What the agent keeps of a message and does not send."""

    response: Raw = NOTHING  # the provider's; text where it could not be written
    timestamp: Seconds | None = None
    returncode: ExitCode | None = None
    exception_info: str | None = None
    interrupt_type: str | None = None
    actions: list[Raw] = field(default_factory=list)


class Detail(Struct):
    type: str | None = None


class Entry(Spoken):
    """A message. With the Responses API an answer is the response itself, and a tool's result is
    an item of that API."""

    object: str | None = None
    call_id: str | None = None
    output: Raw = NOTHING
    reasoning_details: list[Detail] | None = None
    timestamp: Seconds | None = None  # since version 1.16; version 2 has it in `extra`
    extra: Extra | None = None


DOCUMENT = msgspec.json.Decoder(Document)
ENTRY = msgspec.json.Decoder(Entry)
