"""The search: double until a tier fails, halve between, confirm. It knows phases, not engines.

What is known of a number of agents is the majority of the phases run with it, and a tie is a
failure: so a capacity is never claimed on the strength of half.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from traj.capacity.phase import Phase
from traj.capacity.procedure import Procedure
from traj.capacity.tiers import Tier

RunPhase = Callable[[int, int], Phase]  # agents, and the number of the phase
_PHASES = 400  # a search that comes to no end is none


@dataclass(frozen=True, slots=True)
class Found:
    """What a tier's search came to: `agents` passed, `above` failed (None: nothing that was tried
    did). Of the phases at each, how many passed, in all."""

    tier: Tier
    agents: int
    above: int | None
    passed: tuple[int, int]
    passed_above: tuple[int, int]
    missed: str | None  # in what the phases above failed


class Search:
    """One search over all tiers; phases serve every tier."""

    def __init__(self, run: RunPhase, tiers: Sequence[Tier], procedure: Procedure) -> None:
        self._run, self._tiers, self._procedure = run, tiers, procedure
        self.phases: list[Phase] = []

    def find(self) -> list[Found]:
        """Agents a tier."""
        agents = self._procedure.start
        while agents <= self._procedure.most:
            if all(self._misses(tier, agents) for tier in self._tiers):
                break
            agents *= 2
        return [self._settle(tier) for tier in self._tiers]

    def _settle(self, tier: Tier) -> Found:
        """Halves, then confirms, until what is confirmed is what was found."""
        while len(self.phases) < _PHASES:
            low, high = self._bounds(tier)
            following = self._following(low, high)
            if following is not None:
                self._misses(tier, following)
                continue
            unsure = next((n for n in (low, high) if n and self._lacks(n)), None)
            if unsure is None:
                break
            self._again(unsure)
        low, high = self._bounds(tier)
        return Found(
            tier,
            low,
            high,
            self._tally(tier, low),
            self._tally(tier, high) if high is not None else (0, 0),
            self._why(tier, high),
        )

    def _bounds(self, tier: Tier) -> tuple[int, int | None]:
        """The fewest agents that are known to fail, and the most below them that pass."""
        tried = sorted({phase.agents for phase in self.phases})
        high = next((n for n in tried if self._misses(tier, n)), None)
        low = max((n for n in tried if high is None or n < high), default=0)
        return low, high

    def _following(self, low: int, high: int | None) -> int | None:
        """The number of agents to try next; None where the two are close enough."""
        procedure = self._procedure
        if high is None:
            more = min(max(procedure.start, low * 2), procedure.most)
            return more if more > low else None
        return (low + high) // 2 if high - low > procedure.step(low) else None

    def _misses(self, tier: Tier, agents: int) -> bool:
        """Whether so many agents are too many, by the majority of phases; runs one if there is
        none yet."""
        if not self._of(agents):
            self._again(agents)
        passed, tried = self._tally(tier, agents)
        return passed * 2 <= tried

    def _tally(self, tier: Tier, agents: int) -> tuple[int, int]:
        phases = self._of(agents)
        failures = self._procedure.failures
        return sum(phase.misses(tier, failures) is None for phase in phases), len(phases)

    def _why(self, tier: Tier, agents: int | None) -> str | None:
        if agents is None:
            return None
        reasons = (phase.misses(tier, self._procedure.failures) for phase in self._of(agents))
        return next((reason for reason in reasons if reason is not None), None)

    def _lacks(self, agents: int) -> bool:
        return len(self._of(agents)) <= self._procedure.confirmations

    def _again(self, agents: int) -> None:
        self.phases.append(self._run(agents, len(self.phases)))

    def _of(self, agents: int) -> list[Phase]:
        return [phase for phase in self.phases if phase.agents == agents]
