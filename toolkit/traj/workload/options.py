"""What a person may ask of a load: which trajectories, how long, how fast, with which prefixes.

The same options drive exports and the reference harness, so that both send the same.
"""

from __future__ import annotations

from dataclasses import dataclass

from traj.errors import UsageError

PREFIX_POLICIES = {
    "aa": "before the system prompt, fresh for every phase, trajectory and play",
    "shared-system": "in the first user message, fresh for every play; the front stays shared",
    "mlperf": "before the system prompt, fresh for every phase; and in the first user message, "
    "fresh for every play",
    "context": "before the system prompt, fresh for every context of every play",
    "none": "nowhere: everything may be found in a cache that an earlier run filled",
}
LENGTHS = {
    "recorded": "each request as long as it was: what the record lacks is filled with words",
    "text": "what the record holds of each request",
}
OUTPUTS = {
    "forced": "answers exactly as long as recorded",
    "capped": "answers at most as long as recorded",
}


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """What is sent. Lengths are in tokens of the dataset's tokenizer, or of `tokenizer`."""

    split: str | None = None
    sample: int | None = None  # this many trajectories, spread over languages, uses and lengths
    model: str | None = None  # the name to ask the engine for, in place of the recorded ones
    tokenizer: str | None = None  # count the text anew with this one
    lengths: str = "recorded"
    output: str = "forced"
    max_context: int | None = None  # input and output of a request together
    tool_time: str = "recorded"
    user_time: str | None = None  # None: as the tool time's policy has it
    prefix: str = "none"
    prefix_tokens: int = 64
    prefix_align: int = 1  # prefix lengths are rounded up to a multiple of this
    phases: int = 1
    plays: int = 1  # times that each trajectory is played in a phase
    run: str = ""  # another run, other prefixes
    seed: str = "0"
    text_free: bool = False  # of an archive that can: leave messages and prompts out

    def __post_init__(self) -> None:
        """Raises UsageError for a value that no option has."""
        _known("prefix policy", self.prefix, PREFIX_POLICIES)
        _known("lengths", self.lengths, LENGTHS)
        _known("output", self.output, OUTPUTS)
        for name in ("sample", "max_context", "prefix_tokens", "prefix_align", "phases", "plays"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name.replace('_', '-')} must be 1 or more, not {value}")


def _known(what: str, value: str, known: dict[str, str]) -> None:
    if value not in known:
        raise UsageError(f"unknown {what} {value!r}: known are {', '.join(known)}")
