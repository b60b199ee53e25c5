"""`traj replay` against a real engine: does it find in its cache what was predicted?

The sample sessions go twice to one vLLM (on a CPU, random weights, its real prefix cache, which is
never cleared), as phase 0 and as phase 1. Beside the `cached_tokens` of each request's usage stand:

- what the engine must find: the requests laid out by its template, counted with its tokenizer, cut
  into its blocks, in the order in which they were sent; whole blocks, and never the last token.
  Once of all that came before, once of the request's own play alone: what the engine found beyond
  that, another trajectory or phase had left;
- what `traj replay` predicts in each row: tokens of whole messages that the prompt shares with an
  earlier one of its play, which knows neither template nor blocks.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson

from benchmarks import corpus, engine_model, measure
from benchmarks.real_engine import BLOCK, CONTEXT, MODEL, SERVE, VLLM, Cache, engine
from traj.dataset import Dataset
from traj.replay import ReplayOptions
from traj.replay.scripts import scripts
from traj.workload.load import Load
from traj.workload.options import LoadOptions

AGENTS = 4
OPTIONS = "--prefix aa --lengths text --tool-time scaled:0.05 --user-time none --output forced"
LOAD = LoadOptions(
    prefix="aa", lengths="text", tool_time="scaled:0.05", user_time="none", output="forced",
    max_context=CONTEXT,
)  # fmt: skip


def real(
    traj: Sequence[str], vllm: Sequence[str], scratch: Path, sample: int | None
) -> dict[str, Any]:
    """Two phases of `sample` trajectories, or of all."""
    dataset, model = scratch / "dataset", scratch / "model"
    sources = [str(corpus.ROOT / "sample_data" / one) for one in ("claude_code", "codex")]
    measure.run([*traj, "record", *sources, "-o", str(dataset), "--quiet"], accept=(0, 1))
    engine_model.make(model, CONTEXT + 1024)
    tokenizer = model / "tokenizer.json"
    options = f"{OPTIONS} --max-context {CONTEXT}"
    if sample is not None:
        options += f" --sample {sample}"
    runs = []
    with engine(vllm, model, scratch / "engine.log") as (url, _):
        for phase in range(2):
            out = scratch / f"run{phase}"
            command = [
                *traj,
                "replay",
                str(dataset),
                "--url",
                url,
                "--model",
                MODEL,
                "-o",
                str(out),
            ]
            command += ["--agents", str(AGENTS), "--phase", str(phase), "--timeout", "1200"]
            command += ["--tokenizer", str(tokenizer), "--quiet", *shlex.split(options)]
            measure.run(command, accept=(0, 1), makes=out)
            runs.append(out)
    return {
        "vllm": VLLM,
        "serve_command": f"vllm serve MODEL {SERVE}",
        "options": options,
        "agents": AGENTS,
        "block_size": BLOCK,
        "phases": _judge(runs, dataset, tokenizer, sample),
    }


def _judge(
    runs: Sequence[Path], dataset: Path, tokenizer: Path, sample: int | None
) -> list[dict[str, Any]]:
    """Each run beside what it should have found."""
    import polars as pl
    from tokenizers import Tokenizer

    encode = Tokenizer.from_file(str(tokenizer)).encode
    everything, found = Cache(), []
    for phase, out in enumerate(runs):
        options = ReplayOptions("http://engine", MODEL, phase=phase, load=_load(tokenizer, sample))
        load = Load(Dataset.open(dataset), options.load, text=True)
        bodies = {
            (script.place, step.turn): orjson.loads(script.body(step))
            for script in scripts(load, options)
            for step in script.steps
        }
        told = orjson.loads((out / "run.json").read_bytes())
        rows = pl.read_parquet(out / "requests.parquet").sort("sent_us")
        alone: dict[int, Cache] = {}
        sums = dict.fromkeys(("rendered_otherwise", "predicted", "otherwise", "foreign"), 0)
        for row in rows.filter(pl.col("status") == "ok").iter_rows(named=True):
            text = engine_model.render(bodies[row["place"], row["turn"]])
            tokens = encode(text, add_special_tokens=False).ids
            predicted = everything.find(tokens)
            own = alone.setdefault(row["place"], Cache()).find(tokens)
            sums["rendered_otherwise"] += len(tokens) != row["input_tokens"]
            sums["predicted"] += predicted
            sums["otherwise"] += predicted != row["cached_tokens"]
            sums["foreign"] += max(0, row["cached_tokens"] - own)
        summary = told["summary"]
        found.append(
            {
                "requests": rows.height,
                "failed": summary["failed"],
                "lengths_otherwise": rows.filter(
                    pl.col("output_tokens") != pl.col("planned_output_tokens")
                ).height,
                "prompt_tokens": summary["input_tokens"],
                "cached_tokens": int(rows["cached_tokens"].sum()),
                "predicted_tokens": sums["predicted"],
                "predicted_otherwise": sums["otherwise"],
                "rendered_otherwise": sums["rendered_otherwise"],
                "foreign_tokens": sums["foreign"],
                "planned_input_tokens": int(rows["planned_input_tokens"].sum()),
                "replay_predicted_tokens": int(rows["predicted_cached_tokens"].sum()),
                "cached_share": summary["cached_share"],
                "predicted_cached_share": summary["predicted_cached_share"],
                "output_tokens": summary["output_tokens"],
                "events": int(rows["events"].sum()),
                "valid": told["valid"],
                "wall_s": told["duration_us"] / 1e6,
            }
        )
    return found


def _load(tokenizer: Path, sample: int | None) -> LoadOptions:
    return replace(LOAD, tokenizer=str(tokenizer), sample=sample)
