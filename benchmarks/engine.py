"""How fast the simulated engine simulates: agents in virtual time, by engine and by their number.

    python -m benchmarks.engine --json benchmarks/results/engine.json

Agents work through generated trajectories: prompts grow turn by turn from some 8,000 tokens, 6,144
of which all have in common, answers have 50 to 400 tokens, tools take a second on average. Making
them is not counted: they are laid out before, as block ids. One process on one core; rates are by
its CPU time, since the machines that this runs on are shared.
"""

from __future__ import annotations

import argparse
import random
import resource
import time
from array import array
from collections.abc import Iterator
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks import measure
from benchmarks.results import table
from traj.engine.forward import Trajectory, simulate
from traj.engine.parameters import open_parameters
from traj.engine.request import Request

CASES = (
    ("demo", 16),
    ("h100-8b", 32),
    ("h200x8-671b-moe", 250),
    ("gb200-nvl72-671b-moe", 500),
    ("gb200-nvl72-671b-moe", 1_000),
    ("gb200-nvl72-671b-moe", 2_000),
    ("gb200-nvl72-671b-moe", 4_000),
)
TURNS = 20
FRONT_TOKENS = 6_144  # that all trajectories have in common


def trajectory(number: int, block_tokens: int) -> list[Request]:
    """One trajectory of `TURNS` turns."""
    draw = random.Random(number)
    lengths = [draw.randint(7_000, 9_000)]
    lengths += [draw.randint(200, 2_000) for _ in range(TURNS - 1)]
    common = FRONT_TOKENS // block_tokens
    whole = sum(lengths) // block_tokens
    first = (number + 1) << 24
    ids = memoryview(array("q", [*range(common), *range(first, first + whole - common)]))
    requests, tokens = [], 0
    for added in lengths:
        tokens += added
        delay_us = int(draw.expovariate(1e-6)) if requests else 0
        blocks = ids[: tokens // block_tokens]
        requests.append(Request(tokens, draw.randint(50, 400), blocks, delay_us=delay_us))
    return requests


def case(name: str, agents: int) -> dict[str, Any]:
    """Simulates one engine with so many agents, each with one trajectory."""
    parameters = open_parameters(name)
    plays = [trajectory(number, parameters.block_tokens) for number in range(agents)]
    iterators: list[Iterator[Trajectory]] = [iter([play]) for play in plays]
    begun, used = time.perf_counter(), time.process_time()
    found = simulate(parameters, iterators)
    wall_s, cpu_s = time.perf_counter() - begun, time.process_time() - used
    ttft_us, speed = sorted(found.ttft_us()), sorted(found.speed())
    return {
        "engine": name,
        "agents": agents,
        "requests": len(found),
        "steps": found.steps,
        "input_tokens": sum(found.input_tokens),
        "cached_tokens": sum(found.cached_tokens),
        "output_tokens": sum(found.output_tokens),
        "preemptions": sum(found.preemptions),
        "simulated_s": found.end_us / 1e6,
        "wall_s": wall_s,
        "cpu_s": cpu_s,
        "ttft_p95_s": quantiles(ttft_us, n=20)[-1] / 1e6,
        "speed_p25": quantiles(speed, n=4)[0],
    }


def run() -> dict[str, Any]:
    """All cases."""
    return {
        "benchmark": "engine",
        **measure.machine(),
        "turns": TURNS,
        "cases": [case(name, agents) for name, agents in CASES],
        "peak_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def tables(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    header = ("engine", "agents", "requests", "steps", "simulated, s", "wall, s", "CPU, s")
    header += ("requests/s", "steps/s", "cached", "P95 TTFT, s", "P25 speed, tokens/s")
    rows = [
        (
            one["engine"],
            f"{one['agents']:,}",
            f"{one['requests']:,}",
            f"{one['steps']:,}",
            f"{one['simulated_s']:,.0f}",
            f"{one['wall_s']:.2f}",
            f"{one['cpu_s']:.2f}",
            f"{one['requests'] / one['cpu_s']:,.0f}",
            f"{one['steps'] / one['cpu_s']:,.0f}",
            f"{one['cached_tokens'] / one['input_tokens']:.1%}",
            f"{one['ttft_p95_s']:.2f}",
            f"{one['speed_p25']:.1f}",
        )
        for one in result["cases"]
    ]
    peak = f"Peak memory of the process: {result['peak_bytes'] / 1e6:,.0f} MB."
    return f"{table(header, rows)}\n\n{peak}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    options = parser.parse_args()
    result = run()
    if options.json:
        measure.write_json(options.json, result)
    print(tables(result))


if __name__ == "__main__":
    main()
