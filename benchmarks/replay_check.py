"""`traj replay` beside aiperf: the same load to the same engine, and what both say of it.

The sample sessions go to `replay_engine.py`, which keeps every request with the time at which it
came in and was answered: once by `traj replay`, once as an aiperf export by the real aiperf, in
turn, several times, with a new engine each time. Two things are compared:

- what the engine received: requests, prompts, lengths, waits, delays. The load's own plays are the
  measure, and what a prefix cache would find of the prompts in the order of their arrival;
- what each harness measured: time to first token, output speed, latency. Beside it stands what the
  engine knows of the same requests, so that a harness's own error shows, and not the machine's.

aiperf spends a delay before the last request of what is waited for where a turn waits for another
lane (`join_delay` of the export): such turns stand by themselves in the table.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import msgspec
import orjson

from benchmarks import corpus, engine_model, measure
from benchmarks.real_engine import hub
from benchmarks.replay_engine import Exchange
from benchmarks.replay_received import Planned, judge, planned
from benchmarks.replay_tables import MEASURED, PERCENTILES
from traj.dataset import Dataset
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from tokenizers import Tokenizer

AIPERF = "0.13.0"
AGENTS = 4
ENGINE = ("--first", "0.2", "--rate", "100", "--varied")
LOAD = LoadOptions(tool_time="scaled:0.1", user_time="none", prefix="aa", lengths="text")
OPTIONS = "--tool-time scaled:0.1 --user-time none --prefix aa --lengths text"
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"


@dataclass(slots=True)
class Measured:
    """Latencies and speeds, of the requests in any order."""

    ttft_ms: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)
    latency_ms: list[float] = field(default_factory=list)

    def figures(self) -> dict[str, Any]:
        return {name: _percentiles(getattr(self, name)) for name in MEASURED}


def by_engine(log: Sequence[Exchange]) -> Measured:
    """What the engine knows of the answers that it gave."""
    return Measured(
        [(one.first_s - one.arrived_s) * 1e3 for one in log],
        [(one.tokens - 1) / (one.last_s - one.first_s) for one in log if one.tokens > 1],
        [(one.last_s - one.arrived_s) * 1e3 for one in log],
    )


@contextmanager
def engine(log: Path, front: Sequence[str]) -> Iterator[str]:
    """A running engine; its URL. The log is there when it has ended."""
    command = [*front, sys.executable, "-m", "benchmarks.replay_engine", *ENGINE]
    with subprocess.Popen(
        [*command, "--log", str(log)], cwd=corpus.ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()
            process.communicate(timeout=60)


def _read(log: Path) -> list[Exchange]:
    return msgspec.json.decode(log.read_bytes(), type=list[Exchange])


def by_traj(traj: Sequence[str], dataset: Path, url: str, out: Path) -> Measured:
    """What `traj replay` measured."""
    import polars as pl

    command = [*traj, "replay", str(dataset), "--url", url, "--model", "mock", "--quiet"]
    command += ["--agents", str(AGENTS), "-o", str(out), *shlex.split(OPTIONS)]
    # Where the machine was busy the run is stamped invalid, which the tables say too.
    measure.run(command, accept=(0, 1), makes=out / "run.json")
    rows = pl.read_parquet(out / "requests.parquet").filter(pl.col("status") == "ok")
    spent_us = pl.col("last_token_us") - pl.col("first_token_us")
    rows = rows.filter(pl.col("output_tokens") > 1).with_columns(
        ((pl.col("first_token_us") - pl.col("sent_us")) / 1e3).alias("ttft"),
        ((pl.col("output_tokens") - 1) * 1e6 / spent_us).alias("speed"),
    )
    return Measured(
        ttft_ms=rows["ttft"].to_list(),
        tokens_per_s=rows["speed"].to_list(),
        latency_ms=((rows["end_us"] - rows["sent_us"]) / 1e3).to_list(),
    )


def by_aiperf(aiperf: Path, folder: Path, command: str, url: str, home: Path) -> Measured:
    """What aiperf measured."""
    variables = {
        **os.environ,
        "PATH": f"{aiperf.parent}{os.pathsep}{os.environ['PATH']}",
        "URL": url,
        "MODEL": "mock",
        "TOKENIZER": "traj/engine",
        "HF_HOME": str(home),
        "HF_HUB_OFFLINE": "1",
    }
    done = subprocess.run(  # noqa: S602 - as a person would run it
        command.replace("--concurrency 1 ", f"--concurrency {AGENTS} ")
        + f" {QUIET} --output-artifact-dir artifacts",
        shell=True,
        cwd=folder,
        env=variables,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise measure.CommandFailedError(f"{command}\n{(done.stdout + done.stderr)[-3_000:]}")
    lines = (folder / "artifacts" / "profile_export.jsonl").read_bytes().splitlines()
    metrics = [orjson.loads(line)["metrics"] for line in lines]
    return Measured(
        ttft_ms=[one["time_to_first_token"]["value"] for one in metrics],
        latency_ms=[one["request_latency"]["value"] for one in metrics],
        tokens_per_s=[
            1e3 / one["inter_token_latency"]["value"]
            for one in metrics
            if "inter_token_latency" in one
        ],
    )


def check(
    traj: Sequence[str], aiperf: Path, scratch: Path, repeats: int, front: Sequence[str]
) -> dict[str, Any]:
    """Both, in turn, so many times. `front` stands before the engine's command: how it is run."""
    from tokenizers import Tokenizer

    dataset, model, home = (scratch / name for name in ("dataset", "model", "home"))
    sources = [str(corpus.ROOT / "sample_data" / one) for one in ("claude_code", "codex")]
    measure.run([*traj, "record", *sources, "-o", str(dataset), "--quiet"], accept=(0, 1))
    engine_model.make(model, 1 << 20)
    hub(home, model)
    plan = planned(Dataset.open(dataset), LOAD)
    tokenizer = Tokenizer.from_file(str(model / "tokenizer.json"))
    runs: dict[str, list[dict[str, Any]]] = {"traj": [], "aiperf": []}
    for number in range(repeats):
        log = scratch / f"log{number}"
        with engine(log, front) as url:
            said = by_traj(traj, dataset, url, scratch / f"run{number}")
        runs["traj"].append(_figures(plan, _read(log), tokenizer, said))
        folder = scratch / f"export{number}"
        export = [*traj, "export", str(dataset), "--format", "aiperf-dag", "-o", str(folder)]
        measure.run([*export, *shlex.split(OPTIONS), "--quiet"], makes=folder)
        command = orjson.loads((folder / "export.json").read_bytes())["command"]
        with engine(log, front) as url:
            said = by_aiperf(aiperf, folder, command, url, home)
        runs["aiperf"].append(_figures(plan, _read(log), tokenizer, said))
    return {
        "aiperf": AIPERF,
        "options": OPTIONS,
        "engine": " ".join(ENGINE),
        "agents": AGENTS,
        "repeats": repeats,
        "planned_requests": sum(map(len, plan)),
        "planned_answer_tokens": sum(one.tokens for requests in plan for one in requests),
        "joins": sum(one.joins for requests in plan for one in requests),
        "harnesses": runs,
    }


def _figures(
    plan: Sequence[Sequence[Planned]], log: Sequence[Exchange], tokenizer: Tokenizer, said: Measured
) -> dict[str, Any]:
    received = asdict(judge(plan, log, tokenizer))
    late_ms = _percentiles(received.pop("late_ms"))
    return {
        **received,
        "late_ms": late_ms,
        "measured": said.figures(),
        "engine": by_engine(log).figures(),
    }


def _percentiles(values: Sequence[float]) -> dict[str, float]:
    cuts = quantiles(values, n=100, method="inclusive")
    return {f"p{p}": round(cuts[p - 1], 3) for p in PERCENTILES}
