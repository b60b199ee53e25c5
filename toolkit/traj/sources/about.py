"""What a source can say: how its figures are meant, how its times are known, what it leaves out.

`Meaning` is the one place where a provider's token figures become the schema's. Each source states
its own in ABOUT, the docs print it, and its `usage` does the sum, so the three cannot differ.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from traj.events import Usage

Place = Literal["inside", "beside"]
Clock = Literal["measured", "logged", "derived", "none"]


class Meaning(Struct, frozen=True):
    """Where a format's figures stand to each other; None where it has no such figure."""

    cached: Place | None  # cached tokens: inside the input figure, or beside it
    written: Place | None  # tokens newly written to the cache: likewise
    reasoning: Place | None  # reasoning tokens: inside the output figure, or beside it

    def usage(
        self,
        input_tokens: int | None,
        cached_tokens: int | None,
        output_tokens: int | None,
        *,
        written_tokens: int | None = None,
        reasoning_tokens: int | None = None,
        whole: bool = True,
    ) -> Usage:
        """The schema's figures of one request: input with all that was cached, output with
        reasoning. `whole` is False where the log may not hold the last figures.

        Figures that are all zero come from gateways that do not count: unknown, not zero. Figures
        that contradict each other are partial.
        """
        given = (input_tokens, cached_tokens, written_tokens, output_tokens, reasoning_tokens)
        if not any(given):
            return Usage()
        inputs = [input_tokens]
        if self.cached == "beside":
            inputs.append(cached_tokens)
        if self.written == "beside":
            inputs.append(written_tokens)
        outputs = [output_tokens]
        if self.reasoning == "beside":
            outputs.append(reasoning_tokens)
        needed = [*inputs, output_tokens]
        if self.cached is not None:
            needed.append(cached_tokens)
        whole_input, whole_output = _sum(inputs), _sum(outputs)
        # Parts that are larger than their whole: some figure is not what it is called.
        stored, thought = (cached_tokens or 0) + (written_tokens or 0), reasoning_tokens or 0
        fits = (whole_input is None or stored <= whole_input) and (
            whole_output is None or thought <= whole_output
        )
        return Usage(
            whole_input,
            cached_tokens,
            written_tokens,
            whole_output,
            reasoning_tokens,
            "reported" if whole and fits and None not in needed else "partial",
        )


class About(Struct, frozen=True):
    """A source in figures and words, for `traj sources`, `--discover` and the docs."""

    agents: str  # whose sessions these are
    meaning: Meaning | None  # None where the format has no token figures
    lengths: Literal["request", "session", "none"]  # what its token figures are of
    turn_clock: Clock  # the best clock of a request that it can have
    tool_clock: Clock  # and of a tool call
    seen: Literal["real sessions", "fixtures", "documentation"]  # what it was tried on
    places: tuple[str, ...] = ()  # where the agent keeps them, under the home directory
    lacks: tuple[str, ...] = ()  # what cannot be recovered, in a few words each


def _sum(parts: list[int | None]) -> int | None:
    known = [part for part in parts if part is not None]
    return sum(known) if known else None
