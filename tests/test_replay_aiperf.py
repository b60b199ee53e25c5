"""The reference harness and the real aiperf, given the same load: an engine cannot tell them apart.

What is timing (latencies, speeds, how late a request is) is `benchmarks/replay.py`'s; here it is
what holds on any machine.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

import harness
from traj.dataset import Dataset
from traj.exporters import export
from traj.exporters.whole_prompts import WholePrompts
from traj.replay import ReplayOptions, replay
from traj.workload.load import Load
from traj.workload.options import LoadOptions

pytestmark = pytest.mark.harness

LOAD = LoadOptions(tool_time="scaled:0.05", user_time="none", prefix="aa", lengths="text")
AGENTS = 4
EARLY_S = 0.002  # the event loop's timers may fire a tick early
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"

Log = list[dict[str, Any]]


@dataclass
class Received:
    """What the engine received from each, in order of arrival."""

    dataset: Dataset
    replay: Log
    aiperf: Log


@pytest.fixture(scope="module")
def received(sample: Dataset, hub: Path, tmp_path_factory: pytest.TempPathFactory) -> Received:
    commands = harness.environment("aiperf-0.13.0", "aiperf==0.13.0")
    scratch = tmp_path_factory.mktemp("both")
    report = export(sample, "aiperf-dag", scratch / "export", LOAD)
    command = report.command.replace("--concurrency 1 ", f"--concurrency {AGENTS} ")
    command = f"{command} {QUIET} --output-artifact-dir '{scratch}/artifacts'"
    with harness.engine(hub) as engine:
        run = replay(sample, ReplayOptions(engine.url, "mock", agents=AGENTS, load=LOAD))
        assert run.requests["status"].unique().to_list() == ["ok"]
        ours = engine.log()
        engine.forget()
        harness.run(command, scratch / "export", harness.variables(engine.url, hub, commands))
        return Received(sample, ours, engine.log())


def _asked(body: dict[str, Any]) -> bytes:
    """All of a request that says what is wanted of the engine."""
    length = body.get("max_completion_tokens") or body.get("max_tokens")
    forced = body.get("min_tokens"), body.get("ignore_eos")
    asked = [body["model"], body["messages"], body.get("tools") or None, length, forced]
    return orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)


def test_both_ask_for_the_same(received: Received) -> None:
    """As many requests, with the same prompts, tools and lengths, to the byte."""
    ours = Counter(_asked(entry["body"]) for entry in received.replay)
    theirs = Counter(_asked(entry["body"]) for entry in received.aiperf)
    assert ours.total() > 100
    assert ours == theirs


def test_both_get_the_same(received: Received) -> None:
    """Prompts and answers count the same, and the engine's cache finds as much of both."""
    for name in ("prompt_tokens", "completion_tokens"):
        assert _sum(received.replay, name) == _sum(received.aiperf, name) > 0
    ours, theirs = _cached(received.replay), _cached(received.aiperf)
    assert ours == theirs > 0


def _sum(log: Log, name: str) -> int:
    return sum(entry["usage"][name] for entry in log)


def _cached(log: Log) -> int:
    return sum(entry["usage"]["prompt_tokens_details"]["cached_tokens"] for entry in log)


def test_both_keep_waits_and_delays(received: Received) -> None:
    """No request comes before all that it waits for was answered and its delay was over; where it
    waits for another lane, aiperf has spent the delay before that one's last request."""
    checked = joins = 0
    for ours, log in ((True, received.replay), (False, received.aiperf)):
        waiting = defaultdict(list)
        for entry in log:
            body = entry["body"]
            waiting[orjson.dumps([body["messages"], body.get("tools") or None])].append(entry)
        for play in Load(received.dataset, LOAD, text=True).plays():
            whole, taken = WholePrompts(play), {}
            for turn in play.sent:
                messages = [play.prompts.message(one) for one in whole.of(turn)]
                asked = orjson.dumps([messages, play.prompts.tools(turn) or None])
                entry = taken[turn] = waiting[asked].pop(0)
                waits = play.schedule.waits(turn)
                if not waits:
                    continue
                waited_s = entry["arrived"] - max(taken[wait]["completed"] for wait in waits)
                lanes = {play.turns["lane"][one] for one in (turn, *waits)}
                joins += len(lanes) > 1
                delay_s = play.delay_us(turn) / 1e6 if ours or len(lanes) == 1 else 0.0
                assert waited_s >= delay_s - EARLY_S, (ours, play.name, turn)
                checked += delay_s > 0
        assert not any(waiting.values())
    assert checked > 100
    assert joins
