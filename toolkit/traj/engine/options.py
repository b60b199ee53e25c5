"""How a simulated engine is served."""

from __future__ import annotations

from dataclasses import dataclass, field

from traj.build.tokens import DEFAULT
from traj.engine.faults import Faults
from traj.errors import UsageError

ANSWER_TOKENS = 200


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """Where it listens, and what it says."""

    host: str = "127.0.0.1"
    port: int = 0  # 0: any that is free
    model: str | None = None  # the name it answers to; None: the engine's
    tokenizer: str = DEFAULT
    answer_tokens: int = ANSWER_TOKENS  # of an answer that ends by itself
    stream_interval: int = 1  # tokens in an event, beyond the first
    seed: int = 0  # of answers and faults
    faults: Faults = field(default_factory=Faults)

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be meant."""
        for name in ("answer_tokens", "stream_interval"):
            if getattr(self, name) < 1:
                raise UsageError(f"{name.replace('_', '-')} must be 1 or more")
        if not 0 <= self.port < 1 << 16:
            raise UsageError(f"{self.port} is no port")
