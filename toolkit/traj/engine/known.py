"""Engines whose capacity is known before anything runs, to hold a search for it to the truth.

Prompts cost nothing, and a step takes `step + sequence * sequences`. Agents that never pause keep
the batch full: who finishes is replaced in the very next step, in which the new prompt is computed.
So with n agents at work all steps take the same time, and that is both the time to the first token
and the time between two tokens of each agent, whatever the lengths:

    TTFT(n)  = step + sequence * n
    speed(n) = 1 / (step + sequence * n)

Both only get worse with n, and the capacity within a limit on each is a division. This is so for
the engine's own scheduler, in virtual time to the last picosecond, as long as all n are at work:
the way to the engine takes no time, and who runs out of trajectories leaves the others faster.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

from traj.engine.forward import Trajectory
from traj.engine.parameters import PS_PER_US, Parameters
from traj.engine.request import Request

AGENTS = 4096  # beyond which it is not what it says


@dataclass(frozen=True, slots=True)
class Known:
    """An engine, and the truth about it. Agents are counted up to `AGENTS`."""

    parameters: Parameters

    def step_us(self, agents: int) -> float:
        """What every step takes."""
        costs = self.parameters.costs()
        return (costs.step + costs.sequence * agents) / PS_PER_US

    def speed(self, agents: int) -> float:
        """Tokens a second, of every request."""
        return 1e6 / self.step_us(agents)

    def ttft_s(self, agents: int) -> float:
        """Seconds to the first token, of every request."""
        return self.step_us(agents) / 1e6

    def capacity(self, speed: float, ttft_s: float) -> int:
        """Most agents whose requests are at least that fast and wait at most that long."""
        costs = self.parameters.costs()
        spare = min(1 / speed, ttft_s) * 1e6 * PS_PER_US - costs.step
        # Half a picosecond, so that limits which were worked out from a step's time hold it.
        return max(0, min(AGENTS, int((spare + 0.5) // costs.sequence)))

    def agents(
        self, count: int, *, trajectories: int | None = None, requests: int = 4, seed: int = 0
    ) -> list[Iterator[Trajectory]]:
        """So many agents that never pause, with so many trajectories each, or without end."""
        seeds = [random.Random(f"{seed} {number}") for number in range(count)]  # noqa: S311
        return [_agent(draw, trajectories, requests) for draw in seeds]


def known(seed: int) -> Known:
    """One of as many engines as there are seeds. Steps take whole microseconds.

    A step alone takes 2 to 20 ms; with 2 to 400 agents, as the seed has it, twice that.
    """
    draw = random.Random(f"known {seed}")  # noqa: S311 - not for secrets
    step_us = draw.randrange(2_000, 20_001)
    parameters = Parameters(
        name=f"known-{seed}",
        source="made so that its capacity is known",
        model=True,
        max_context=1 << 20,
        block_tokens=64,
        kv_blocks=AGENTS << 10,
        max_batch=AGENTS,
        max_batched_tokens=AGENTS << 12,  # all prompts in one step, were they as long as ours are
        step_us=step_us,
        sequence_us=max(1, round(step_us / 2 ** draw.uniform(1, 8.6))),
    )
    return Known(parameters)


def _agent(draw: random.Random, trajectories: int | None, requests: int) -> Iterator[Trajectory]:
    number = 0
    while trajectories is None or number < trajectories:
        number += 1
        lengths = [(draw.randrange(16, 2048), draw.randrange(8, 65)) for _ in range(requests)]
        yield [Request(prompt, answer) for prompt, answer in lengths]
