"""`traj replay --workers`: the same run from several machines, here two nodes of a Ray cluster."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import polars as pl
import pytest

import mock_engine
from conftest import ROOT, SAMPLES
from harness import environment
from served import Served
from traj.dataset import Dataset
from traj.errors import TrajError
from traj.pipeline import record
from traj.replay.part import Part
from traj.replay.results import frame
from traj.replay.workers import _offset

RAY = "2.60.0"
NO_CLUSTER = 77
PLANNED = ("place", "trajectory_id", "phase", "play", "turn", "lane", "delay_us")
PLANNED += ("planned_input_tokens", "predicted_cached_tokens", "planned_output_tokens", "status")

# Runs inside the environment that has Ray. Two nodes on this machine, each with a core.
SCRIPT = """
import json, sys, threading, time
import ray
from ray.cluster_utils import Cluster
from traj.cli import main

todo = json.loads(sys.argv[1])
try:
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    cluster.add_node(num_cpus=1)
    ray.init(address=cluster.address, log_to_driver=False)
except Exception as error:
    print(error, file=sys.stderr)
    sys.exit(77)
if todo["kill"]:
    def kill():
        import psutil
        workers = lambda: [one for one in psutil.process_iter(["cmdline"])
                           if "".join(one.info["cmdline"] or ()).startswith("ray::_work")]
        while len(workers()) < 2:
            time.sleep(0.1)
        time.sleep(3)
        workers()[0].kill()
    threading.Thread(target=kill, daemon=True).start()
sys.argv = ["traj", *todo["command"]]
try:
    main()
finally:
    ray.shutdown()
    cluster.shutdown()
"""


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("small") / "small.traj"
    record([SAMPLES / "claude_code" / "-home-dev-src-rust-duration"], out)
    record(sorted((SAMPLES / "codex").rglob("*.jsonl"))[:2], out)
    return Dataset.open(out)


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0)
    served = Served(mock_engine.Engine().app())
    yield served.url
    served.stop()


def run(
    dataset: Dataset, url: str, out: Path, *, workers: bool, kill: bool = False
) -> subprocess.CompletedProcess[str]:
    command = ["replay", str(dataset.path), "--url", url, "--model", "m", "--agents", "2"]
    # A run that loses a worker lasts longer than anything before that takes.
    scale = 3 if kill else 0.2
    command += ["--tool-time", f"scaled:{scale}", "--prefix", "aa", "--run", "x", "-o", str(out)]
    command += ["--workers" if workers else "--processes", "2"]
    if not workers:
        whole = [sys.executable, "-m", "traj", *command]
    else:
        python = environment(f"ray-{RAY}", f"{ROOT}[replay]", f"ray=={RAY} psutil") / "python"
        todo = json.dumps({"command": command, "kill": kill})
        whole = [str(python), "-c", SCRIPT, todo]
    done = subprocess.run(
        whole,
        capture_output=True,
        text=True,
        check=False,
        timeout=180,
        env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(ROOT / "toolkit")},
    )
    if done.returncode == NO_CLUSTER:
        pytest.skip(f"Ray cannot start here: {done.stderr[-300:]}")
    return done


@pytest.mark.harness
def test_workers_send_what_processes_send(small: Dataset, engine: str, tmp_path: Path) -> None:
    """Two workers on two nodes list the same requests in the same order, with the same prefixes and
    delays, as two processes here; how far their clocks may be apart is part of the result."""
    for name in ("workers", "processes"):
        done = run(small, engine, tmp_path / name, workers=name == "workers")
        assert done.returncode in (0, 1), done.stderr[-2000:]
    one, two = (
        pl.read_parquet(tmp_path / name / "requests.parquet") for name in ("workers", "processes")
    )
    assert one.height > 10
    assert one.select(PLANNED).equals(two.select(PLANNED))
    assert one["status"].unique().to_list() == ["ok"]
    assert one["sent_us"].min() >= 0
    told = json.loads((tmp_path / "workers" / "run.json").read_text())
    assert told["client"]["processes"] == 2
    assert 0 <= told["client"]["clock_error_us"] < 1_000_000
    assert (
        json.loads((tmp_path / "processes" / "run.json").read_text())["client"]["clock_error_us"]
        is None
    )


@pytest.mark.harness
def test_a_lost_worker_is_told_and_the_rest_is_kept(
    small: Dataset, engine: str, tmp_path: Path
) -> None:
    """A worker that is killed takes its part with it: the run is there, and is not valid."""
    done = run(small, engine, tmp_path / "run", workers=True, kill=True)
    assert done.returncode == 1, done.stderr[-2000:]
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["valid"] is False
    assert any("was lost" in reason for reason in told["reasons"])
    rows = pl.read_parquet(tmp_path / "run" / "requests.parquet")
    assert rows["agent"].unique().len() == 1


def test_times_of_another_clock_become_the_runs_own(small: Dataset) -> None:
    """The clock's difference is the quickest answer's, and rows are moved by it."""
    ours = iter((1_000, 5_000, 10_000, 10_200))
    theirs = iter((50_000, 57_100))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("traj.replay.workers.now_us", lambda: next(ours))
        patch.setattr("traj.replay.workers._ASKED", 2)
        assert _offset(lambda: next(theirs)) == (47_000, 100)
    assert frame([(-5, []), (7, [])]).height == 0
    assert Part([], 0, 0, [], 0.0, 0, None, hopeless=False, interrupted=False).clock_offset_us == 0


def test_without_ray_it_is_one_line(small: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    """The extra is named."""
    from traj.replay import ReplayOptions, replay

    monkeypatch.setitem(sys.modules, "ray", None)
    options = ReplayOptions("http://127.0.0.1:9", "m", agents=2, processes=2, on_ray=True)
    with pytest.raises(TrajError, match=r"traj-toolkit\[ray\]"):
        replay(small, options)
