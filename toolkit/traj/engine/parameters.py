"""What an engine can do, as data: how much it holds, and what each part of a step takes.

A step's time is linear in what the step does, so that the figures of a real engine can be had from
a log of its steps by least squares:

    step + sequence * sequences + prefill * new prompt tokens + context * tokens read by decoding
         + pair * (new prompt token, token before it or itself) pairs

Inside they are whole picoseconds: sums of them are exact, so that many steps can be taken at once
and end where they would have ended one by one.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
from msgspec import Meta

from traj.errors import UsageError

PS_PER_US = 1_000_000

_Count = Annotated[int, Meta(ge=1)]
_Time = Annotated[float, Meta(ge=0)]
_More = Annotated[float, Meta(gt=0)]


class StepCosts(NamedTuple):
    """Picoseconds, each for one of what it is named after."""

    step: int
    sequence: int
    prefill: int
    context: int
    pair: int


class Parameters(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """One engine. All but `accelerators` and `power_w` are of one replica of it."""

    name: str
    source: str  # where the figures come from, in a sentence
    model: bool  # worked out from data sheets, not measured
    accelerators: _Count = 1  # of all replicas together
    power_w: _More | None = None  # of all accelerators, as stated
    replicas: _Count = 1  # engines that share nothing, behind one address
    max_context: _Count  # prompt and answer of a request, in tokens
    block_tokens: _Count
    kv_blocks: _Count
    max_batch: _Count  # sequences that run at once
    max_batched_tokens: _Count  # of a step: decoding ones first, prompts get what is left
    step_us: _More
    sequence_us: _Time = 0.0  # for each sequence in the step
    prefill_us: _Time = 0.0  # for each prompt token that the cache does not hold
    context_ns: _Time = 0.0  # for each token of a decoding sequence's context
    pair_ps: _Time = 0.0  # for each pair of a new prompt token and one that it attends to
    arrive_us: _Time = 0.0  # from the client's send to the engine's queue
    reply_us: _Time = 0.0  # from the end of a step to the client

    def __post_init__(self) -> None:
        """Raises ValueError, which decoding turns into its own error."""
        if self.max_batched_tokens < self.max_batch:
            raise ValueError("max_batched_tokens must be at least max_batch: each has one a step")
        if self.costs().step < 1:
            raise ValueError("step_us must be at least a picosecond")

    def costs(self) -> StepCosts:
        """In picoseconds, rounded."""
        return StepCosts(
            round(self.step_us * PS_PER_US),
            round(self.sequence_us * PS_PER_US),
            round(self.prefill_us * PS_PER_US),
            round(self.context_ns * 1_000),
            round(self.pair_ps),
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it."""
        return msgspec.structs.asdict(self)

    def refusal(self, input_tokens: int, output_tokens: int) -> str | None:
        """Why a request can never be served, in a line; None where it can."""
        if input_tokens < 1 or output_tokens < 1:
            return "a request has at least one token of prompt and one of answer"
        if (length := input_tokens + output_tokens) > self.max_context:
            return f"{length} tokens are more than the context of {self.max_context}"
        # The last token of an answer is never computed on.
        if length - 1 > self.kv_blocks * self.block_tokens:
            return f"{length} tokens are more than the cache of {self.kv_blocks} blocks holds"
        return None


def shipped() -> dict[str, Parameters]:
    """The engines that come with the package, by name."""
    folder = resources.files("traj.engine") / "models"
    files = sorted((file for file in folder.iterdir() if file.name.endswith(".toml")), key=str)
    return {
        found.name: found for found in (_decode(file.read_bytes(), str(file)) for file in files)
    }


def open_parameters(name: str) -> Parameters:
    """A shipped engine by its name, or one's own by the path of its file.

    Raises UsageError where there is none, and for a file that does not describe an engine.
    """
    if not name.endswith(".toml"):
        known = shipped()
        if name not in known:
            names = ", ".join(known)
            raise UsageError(f"unknown engine {name!r}: give a .toml file, or one of {names}")
        return known[name]
    try:
        data = Path(name).read_bytes()
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from None
    return _decode(data, name)


def _decode(data: bytes, name: str) -> Parameters:
    try:
        return msgspec.toml.decode(data, type=Parameters)
    except (msgspec.DecodeError, ValueError) as error:
        raise UsageError(f"{name}: no parameters of an engine: {error}") from None
