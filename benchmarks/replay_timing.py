"""How well `traj replay` keeps its own time: agents by the hundred on the cores that there are.

The engine is `replay_engine.py`, which streams at a fixed pace and needs little; its CPU time is
given, since it shares the cores. The load is that of the sample sessions, played around and around:
prompts of some 11,000 tokens, baseline tool times, prefixes. Since the engine's first token comes
after exactly 0.3 s, what is measured beyond that is the error of both together.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, measure

FIRST_S = 0.3
OPTIONS = ("--tool-time", "baseline", "--user-time", "none", "--prefix", "aa")


@dataclass(frozen=True, slots=True)
class Case:
    """How many agents, in how many client processes; tokens a second of a stream."""

    agents: int
    processes: int
    rate: float
    seconds: int = 60
    ramp_s: int = 10


CASES = (
    Case(500, 1, 20),
    Case(500, 2, 20),
    Case(500, 1, 60),
    Case(2_000, 1, 20, ramp_s=30, seconds=90),
    Case(2_000, 2, 20, ramp_s=30, seconds=90),
    Case(2_000, 1, 100, ramp_s=30, seconds=60),  # too much, which the run has to say itself
)


def timing(
    traj: Sequence[str], scratch: Path, front: Sequence[str], cases: Sequence[Case]
) -> dict[str, Any]:
    """All cases, one after another. `front` stands before both commands: how they are run."""
    dataset = scratch / "dataset"
    sources = [str(corpus.ROOT / "sample_data" / one) for one in ("claude_code", "codex")]
    measure.run([*traj, "record", *sources, "-o", str(dataset), "--quiet"], accept=(0, 1))
    found = [
        _case(case, [*front, *traj], dataset, scratch / f"run{number}", front)
        for number, case in enumerate(cases)
    ]
    return {"options": " ".join(OPTIONS), "first_s": FIRST_S, "cases": found}


def _case(
    case: Case, traj: Sequence[str], dataset: Path, out: Path, front: Sequence[str]
) -> dict[str, Any]:
    import polars as pl

    engine = [*front, sys.executable, "-m", "benchmarks.replay_engine"]
    engine += ["--first", str(FIRST_S), "--rate", str(case.rate)]
    load = os.getloadavg()
    with subprocess.Popen(engine, cwd=corpus.ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            url = f"http://127.0.0.1:{process.stdout.readline().strip()}"
            command = [*traj, "replay", str(dataset), "--url", url, "--model", "m", *OPTIONS]
            command += ["--agents", str(case.agents), "--processes", str(case.processes)]
            command += ["--duration", str(case.seconds), "--ramp", str(case.ramp_s)]
            measure.run([*command, "-o", str(out), "--quiet"], accept=(0, 1), makes=out)
        finally:
            process.terminate()
        engine_cpu_s = float(process.communicate(timeout=60)[0])
    told = orjson.loads((out / "run.json").read_bytes())
    rows = pl.read_parquet(out / "requests.parquet")
    seconds = told["duration_us"] / 1e6
    summary = told["summary"]
    return {
        **asdict(case),
        "load_average": load[0],
        "requests": summary["requests"],
        "answered": summary["answered"],
        "failed": summary["failed"],
        "events_per_s": int(rows["events"].sum()) / seconds,
        "client": told["client"],
        "engine_cpu_share": engine_cpu_s / seconds,
        "ttft_us": summary["ttft_us"],
        "output_tokens_per_s": summary["output_tokens_per_s"],
        "valid": told["valid"],
        "reasons": told["reasons"],
    }
