"""What a phase must see before it says anything, as AA-AgentPerf has it by default."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from traj.errors import UsageError


@dataclass(frozen=True, slots=True)
class Procedure:
    """How capacity is searched for. Times are in seconds."""

    start: int = 2  # agents of the first phase
    most: int = 4096  # agents beyond which nothing is tried
    trajectories: int = 30  # to be played in a phase, at least
    per_agent: int = 3  # and at least so many times the agents
    window_s: float = 600.0  # of steady state
    settle_s: float = 30.0  # all agents active, before requests count
    failures: float = 0.01  # the share of requests that may fail
    resolution: float = 0.0  # stop when the capacity is known to this share; 0: to the agent
    confirmations: int = 2  # more phases at the capacity and just above it

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be meant."""
        if not 1 <= self.start <= self.most:
            raise UsageError(f"a search from {self.start} to {self.most} agents is none")
        if self.window_s <= 0 or self.settle_s < 0 or not 0 <= self.failures < 1:
            raise UsageError("the window must last, and some requests must be answered")
        if self.resolution < 0 or self.confirmations < 0:
            raise UsageError("resolution and confirmations cannot be less than nothing")

    def trajectories_of(self, agents: int) -> int:
        """How many a phase of so many agents must play."""
        return max(self.trajectories, self.per_agent * agents)

    def step(self, agents: int) -> int:
        """Agents between a pass and a failure that are close enough."""
        return max(1, ceil(agents * self.resolution))

    def reduced(self) -> tuple[str, ...]:
        """In what this is less than the published procedure."""
        whole = Procedure()
        short = []
        for name, words in (
            ("trajectories", "trajectories"),
            ("per_agent", "trajectories an agent"),
            ("window_s", "s of steady state"),
            ("settle_s", "s before it"),
        ):
            mine, theirs = getattr(self, name), getattr(whole, name)
            if mine < theirs:
                short.append(f"{mine:g} {words} instead of {theirs:g}")
        return tuple(short)
