"""What is asked of an engine, and how far it is with it."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, field

from traj.engine.cache import Stretch


@dataclass(frozen=True, slots=True)
class Request:
    """One request, by lengths and block ids: an engine's time does not depend on what is said.

    `blocks` has an id, 0 or more, for each whole block of the prompt, which stands for all tokens
    up to the block's end. `output_blocks` goes on from there, the first one holding the prompt's
    rest: None where nobody will send the answer back, so that its blocks are like no others.
    """

    input_tokens: int
    output_tokens: int
    blocks: Sequence[int] = ()
    output_blocks: Sequence[int] | None = None
    delay_us: int = 0  # from the end of all that it waits for to its being sent
    waits: tuple[int, ...] | None = None  # places in the trajectory; None: the one before
    label: Hashable = None  # of the caller's own


@dataclass(slots=True, eq=False)
class Progress:
    """One request in an engine. Times are the engine's, in picoseconds."""

    request: Request
    arrived_ps: int = 0
    admitted_ps: int | None = None
    first_ps: int | None = None  # when the first token was there
    last_ps: int | None = None
    cached_tokens: int | None = None  # when it was first admitted
    generated: int = 0  # as of its last admission; `Engine.generated` knows better
    preemptions: int = 0
    # The scheduler's own.
    admission: int = 0  # the how-manieth of the engine
    length: int = 0  # tokens to compute before it decodes: the prompt, after a preemption more
    left: int = 0  # of them
    base: int = 0  # the tick at which it would have generated nothing
    last_tick: int = -1  # at which it will have generated everything; -1: it does not decode
    held: Stretch | None = field(default=None, repr=False)
    kept: int = 0  # blocks up to the end of `held`
    private: int = 0  # blocks that it alone has, but for those that decoding has added
    own_ids: Sequence[int] = ()  # of the blocks behind the whole ones of its prompt
