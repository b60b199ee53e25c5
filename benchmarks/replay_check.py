"""`traj replay` beside aiperf: the same load to the same engine, and what both say of it.

The sample sessions go to `tests/mock_engine.py`, which keeps every request with the time at which
it came in and was answered: once by `traj replay`, once as an aiperf export by the real aiperf, in
turn, several times. What is compared is what the engine received (requests, prompts, lengths, waits,
delays; the load's own plays are the measure) and what each harness measured (time to first token,
output speed): how far the two lie apart stands beside how far the runs of each do among themselves.

aiperf spends a delay before the last request of what is waited for where a turn waits for another
lane (`join_delay` of the export): such turns have delays of their own in the tables.
"""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import urllib.request
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import orjson

from benchmarks import corpus, engine_model, measure
from benchmarks.real_engine import hub
from traj.dataset import Dataset
from traj.exporters.whole_prompts import WholePrompts
from traj.workload.load import Load
from traj.workload.options import LoadOptions

AIPERF = "0.13.0"
AGENTS = 4
TOKEN_S = 0.005  # between two tokens of the mock's
LOAD = LoadOptions(tool_time="scaled:0.1", user_time="none", prefix="aa", lengths="text")
OPTIONS = "--tool-time scaled:0.1 --user-time none --prefix aa --lengths text"
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"
MEASURED = ("ttft_ms", "tokens_per_s", "latency_ms")  # by the harness
EARLY_S = 0.002  # timers may ring early
MOCK = (
    "import sys; sys.path.insert(0, 'tests'); import mock_engine; "
    f"mock_engine.PER_TOKEN_S = {TOKEN_S}; mock_engine.main()"
)

Asked = tuple[bytes, int]  # the messages and tools of a request, and how long its answer is to be


@dataclass(slots=True)
class Planned:
    """One request of the load: what it asks, waits for (places in the play), and its delay."""

    asked: Asked
    waits: list[int]
    delay_s: float
    joins: bool  # it waits for another lane


@dataclass(slots=True)
class Received:
    """What one run sent, as the engine saw it, and what its harness measured."""

    requests: int = 0
    not_planned: int = 0
    not_sent: int = 0
    other_length: int = 0
    prompt_tokens: int = 0
    answer_tokens: int = 0
    cached_tokens: int = 0
    before_waits: int = 0
    early: int = 0
    early_joins: int = 0
    answer_ms: list[float] = field(default_factory=list)  # by the engine's clock
    latency_ms: list[float] = field(default_factory=list)
    late_ms: list[float] = field(default_factory=list)
    ttft_ms: list[float] = field(default_factory=list)
    tokens_per_s: list[float] = field(default_factory=list)


def planned(dataset: Dataset) -> list[list[Planned]]:
    """The requests of each play, as `traj.workload` has them: neither harness made this."""
    found = []
    for play in Load(dataset, LOAD, text=True).plays():
        assert play.prompts is not None
        whole, places = WholePrompts(play), {turn: place for place, turn in enumerate(play.sent)}
        lanes = play.turns["lane"]
        requests = []
        for turn in play.sent:
            messages = [play.prompts.message(one) for one in whole.of(turn)]
            waits = play.schedule.waits(turn)
            requests.append(
                Planned(
                    _asked(messages, play.prompts.tools(turn), play.output_tokens(turn)),
                    [places[wait] for wait in waits],
                    play.delay_us(turn) / 1e6,
                    any(lanes[wait] != lanes[turn] for wait in waits),
                )
            )
        found.append(requests)
    return found


def _asked(messages: Any, tools: Any, length: int) -> Asked:
    return orjson.dumps([messages, tools or None], option=orjson.OPT_SORT_KEYS), length


def judge(plan: Sequence[Sequence[Planned]], log: Sequence[dict[str, Any]]) -> Received:
    """What the engine received, beside what was to be sent."""
    waiting: dict[bytes, list[dict[str, Any]]] = defaultdict(list)
    for entry in reversed(log):  # the first to come in is the first to be taken
        body = entry["body"]
        waiting[_asked(body["messages"], body.get("tools"), 0)[0]].append(entry)
    found = Received(requests=len(log))
    for requests in plan:
        taken: list[dict[str, Any] | None] = []
        for one in requests:
            same = waiting[one.asked[0]]
            entry = same.pop() if same else None
            taken.append(entry)
            if entry is None:
                found.not_sent += 1
                continue
            usage = entry["usage"]
            found.answer_ms.append((entry["completed"] - entry["arrived"]) * 1e3)
            found.other_length += usage["completion_tokens"] != one.asked[1]
            found.prompt_tokens += usage["prompt_tokens"]
            found.answer_tokens += usage["completion_tokens"]
            found.cached_tokens += usage["prompt_tokens_details"]["cached_tokens"]
            _times(one, entry, [taken[wait] for wait in one.waits], found)
    found.not_planned = sum(map(len, waiting.values()))
    return found


def _times(
    one: Planned, entry: dict[str, Any], waits: Sequence[dict[str, Any] | None], found: Received
) -> None:
    ends = [wait["completed"] for wait in waits if wait is not None]
    if not ends:
        return
    late_s = entry["arrived"] - max(ends) - one.delay_s
    found.before_waits += entry["arrived"] < max(ends)
    if late_s < -EARLY_S:
        found.early += not one.joins
        found.early_joins += one.joins
    elif not one.joins:
        found.late_ms.append(late_s * 1e3)


@contextmanager
def mock(tokenizer: Path, front: Sequence[str]) -> Iterator[str]:
    """A running mock engine; its URL."""
    command = [*front, sys.executable, "-c", MOCK, "--tokenizer", str(tokenizer)]
    with subprocess.Popen(
        command, cwd=corpus.ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield f"http://127.0.0.1:{process.stdout.readline().strip()}"
        finally:
            process.terminate()


def _log(url: str) -> list[dict[str, Any]]:
    with urllib.request.urlopen(f"{url}/log") as response:  # noqa: S310 - our own engine
        found: list[dict[str, Any]] = orjson.loads(response.read())
    urllib.request.urlopen(  # noqa: S310
        urllib.request.Request(f"{url}/forget", method="POST")  # noqa: S310
    ).close()
    return sorted(found, key=lambda entry: float(entry["arrived"]))


def by_traj(traj: Sequence[str], dataset: Path, url: str, out: Path) -> Received:
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
    return Received(
        ttft_ms=rows["ttft"].to_list(),
        tokens_per_s=rows["speed"].to_list(),
        latency_ms=((rows["end_us"] - rows["sent_us"]) / 1e3).to_list(),
    )


def by_aiperf(aiperf: Path, folder: Path, command: str, url: str, home: Path) -> Received:
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
    return Received(
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
    dataset, model, home = (scratch / name for name in ("dataset", "model", "home"))
    sources = [str(corpus.ROOT / "sample_data" / one) for one in ("claude_code", "codex")]
    measure.run([*traj, "record", *sources, "-o", str(dataset), "--quiet"], accept=(0, 1))
    engine_model.make(model, 1 << 20)
    hub(home, model)
    plan = planned(Dataset.open(dataset))
    runs: dict[str, list[Received]] = {"traj": [], "aiperf": []}
    with mock(model / "tokenizer.json", front) as url:
        for number in range(repeats):
            out = scratch / f"run{number}"
            said = by_traj(traj, dataset, url, out)
            runs["traj"].append(_with(judge(plan, _log(url)), said))
            folder = scratch / f"export{number}"
            export = [*traj, "export", str(dataset), "--format", "aiperf-dag", "-o", str(folder)]
            measure.run([*export, *shlex.split(OPTIONS), "--quiet"], makes=folder)
            command = orjson.loads((folder / "export.json").read_bytes())["command"]
            said = by_aiperf(aiperf, folder, command, url, home)
            runs["aiperf"].append(_with(judge(plan, _log(url)), said))
    return {
        "aiperf": AIPERF,
        "options": OPTIONS,
        "agents": AGENTS,
        "repeats": repeats,
        "planned_requests": sum(map(len, plan)),
        "planned_answer_tokens": sum(one.asked[1] for requests in plan for one in requests),
        "joins": sum(one.joins for requests in plan for one in requests),
        "harnesses": {name: [_figures(run) for run in found] for name, found in runs.items()},
    }


def _with(received: Received, said: Received) -> Received:
    for name in MEASURED:
        setattr(received, name, getattr(said, name))
    return received


def _figures(run: Received) -> dict[str, Any]:
    found = asdict(run)
    for name in ("late_ms", "answer_ms", *MEASURED):
        values = found.pop(name)
        cuts = quantiles(values, n=100, method="inclusive")
        found[name] = {f"p{p}": round(cuts[p - 1], 3) for p in (5, 25, 50, 75, 95)}
        found[name]["count"] = len(values)
    return found


def rows(result: dict[str, Any]) -> list[list[str]]:
    """A row a figure: planned, by `traj replay`, by aiperf."""
    traj, aiperf = result["harnesses"]["traj"], result["harnesses"]["aiperf"]
    counts = {
        "requests that the engine received": ("requests", result["planned_requests"]),
        "of them not in the load, byte for byte": ("not_planned", 0),
        "in the load and not sent": ("not_sent", 0),
        "prompt tokens": ("prompt_tokens", None),
        "cached tokens": ("cached_tokens", None),
        "answers of another length": ("other_length", 0),
        "answer tokens": ("answer_tokens", result["planned_answer_tokens"]),
        "sent before what they wait for had ended": ("before_waits", 0),
        "sent before their delay was over": ("early", 0),
        "the same, of those that join another lane": ("early_joins", 0),
    }
    found = [
        [text, "" if plan is None else f"{plan:,}", *(_all(one, name) for one in (traj, aiperf)), ""]
        for text, (name, plan) in counts.items()
    ]
    for text, name, digits in (
        ("sent after its time, ms", "late_ms", 1),
        ("time to first token, ms", "ttft_ms", 1),
        ("output speed, tokens/s", "tokens_per_s", 2),
        ("from request to end, ms", "latency_ms", 1),
        ("the same by the engine's clock, ms", "answer_ms", 1),
    ):
        for p in ("p5", "p25", "p50", "p75", "p95"):
            sides = [[run[name][p] for run in one] for one in (traj, aiperf)]
            middle = [median(side) for side in sides]
            spread = max(max(side) - min(side) for side in sides)
            shown = [_range(side, digits) for side in sides]
            apart = f"{abs(middle[0] - middle[1]):.{digits}f} (runs: {spread:.{digits}f})"
            found.append([f"{text}, {p}", "", *shown, apart])
    return found


def _all(runs: Sequence[dict[str, Any]], name: str) -> str:
    """A count, or each where the runs differ."""
    values = sorted({run[name] for run in runs})
    return " to ".join(f"{value:,}" for value in (values[0], values[-1])[: len(values)])


def _range(values: Sequence[float], digits: int) -> str:
    return f"{median(values):.{digits}f}"
