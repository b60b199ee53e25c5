"""Exports replayed by the real guidellm against a mock engine, request by request."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

import graphs
import harness
import mock_engine
import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import export, guidellm_graph
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

VERSION = "0.8.1"
# Where each request would start if answers took other times than recorded, by guidellm's own words.
PLANNED = """
import asyncio, json, multiprocessing, random, sys
from guidellm.data.finalizers.generative import GenerativeRequestFinalizer
from guidellm.scheduler import TraceReplayStrategy
from guidellm.scheduler.dag import DAGExecutionState
from guidellm.schemas import RequestInfo
from guidellm.schemas.data.finalizers import GenerativeRequestFinalizerArgs

async def main():
    finalize = GenerativeRequestFinalizer(GenerativeRequestFinalizerArgs())
    strategy = TraceReplayStrategy()
    strategy.init_processes_timings(1, 1, multiprocessing.get_context())
    strategy.init_processes_start(0.0)
    chance, found = random.Random(1), {}
    for line in open(sys.argv[1]):
        graph = finalize([{"conversation_turns_column": [json.loads(line)["conversation_turns"]]}])
        state = DAGExecutionState(graph)
        for node_id in state.topological_order:
            parents = [edge.source_node_id for edge in state._incoming_edges[node_id]]
            info = RequestInfo(
                conversation_id=graph.graph_id, node_id=node_id, parent_node_ids=parents,
                settings=graph.nodes[node_id].settings,
            )
            start = await strategy.resolve_dequeued_target_start(0, 0.0, info.settings, info)
            info.timings.request_end = start + chance.expovariate(0.5)
            strategy.request_completed(info)
            found.setdefault(graph.graph_id, {})[node_id] = start, info.timings.request_end
    print(json.dumps(found))

asyncio.run(main())
"""


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of the guidellm command."""
    return harness.environment(f"guidellm-{VERSION}", f"guidellm=={VERSION}")


@pytest.fixture(scope="session")
def replay(
    sample: Dataset, commands: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> graphs.Replay:
    """The recorded sample sessions, replayed."""
    folder = tmp_path_factory.mktemp("guidellm") / "export"
    report = export(sample, "guidellm-graph", folder, LoadOptions(lengths="text"))
    with harness.engine(hub) as engine:
        _run(report.command, folder, engine, hub, commands)
        return graphs.replay(sample, report, folder, engine.log(), _body)


def _run(command: str, folder: Path, engine: harness.Engine, hub: Path, commands: Path) -> None:
    # Two cores take long to start ten workers.
    environment = harness.variables(engine.url, hub, commands)
    harness.run(command, folder, environment | {"GUIDELLM__MAX_WORKER_PROCESSES": "2"})


def _body(request: recorded.Request) -> dict[str, Any]:
    """All that guidellm must send for a request."""
    tools = {"tools": request.tools, "tool_choice": "auto"} if request.tools else {}
    return {
        "model": harness.MODEL,
        "messages": request.messages,
        "max_completion_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True, "continuous_usage_stats": True},
        **tools,
    }


def test_every_answered_request_arrives_once(replay: graphs.Replay) -> None:
    """Bodies are the recorded ones, tools included, and there are no others; the engine makes as
    many tokens as the answer had."""
    assert replay.extra == 0
    for key, request in replay.requests.items():
        assert replay.sent[key]["usage"]["completion_tokens"] == request.output_tokens, key
    assert any("tools" in entry["body"] for entry in replay.sent.values())


def test_requests_wait_for_all_that_they_waited_for(replay: graphs.Replay) -> None:
    """None arrives before its delay has passed since the last of its waits, of any lane, ended."""
    late = replay.lateness_s()
    for key, seconds in late.items():
        assert seconds >= -graphs.EARLY_S, key
    ordered = sorted(late.values())
    print(f"\nlateness: median {ordered[len(late) // 2] * 1e3:.1f} ms, most {ordered[-1]:.2f} s")


@pytest.mark.parametrize("name", ["small", "sample"])
def test_delays_do_not_depend_on_the_engine(
    name: str, sample: Dataset, commands: Path, tmp_path: Path
) -> None:
    """However long answers take, guidellm's own arithmetic starts a request its delay after the
    last of its waits ended, to a microsecond, joins included."""
    dataset = sample
    if name == "small":
        dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    export(dataset, "guidellm-graph", tmp_path / "export", LoadOptions(lengths="text"))
    path = tmp_path / "export" / guidellm_graph.FILE
    python = [str(commands / "python"), "-c", PLANNED, str(path)]
    planned = json.loads(subprocess.run(python, capture_output=True, check=True).stdout)
    requests = recorded.requests(dataset)
    assert sum(map(len, planned.values())) == len(requests)
    assert any(len(request.waits) > 1 for request in requests.values())
    for (trajectory, turn), request in requests.items():
        nodes = planned[trajectory]
        if request.waits:
            ended = max(nodes[str(wait)][1] for wait in request.waits)
            assert abs(nodes[str(turn)][0] - ended - request.delay_us / 1e6) < 1e-6, turn


def test_capped_answers_may_end(commands: Path, hub: Path, tmp_path: Path) -> None:
    """With output `capped` the recorded length is a cap, under the profile `concurrent` too, which
    sends a request no earlier than the least of the delays after what it waited for."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "guidellm-graph", folder, LoadOptions(lengths="text", output="capped"))
    command = report.command.replace("kind=replay", "kind=concurrent,streams=2")
    with harness.engine(hub) as engine:
        _run(command, folder, engine, hub, commands)
        log = engine.log()
    replay = graphs.replay(
        dataset, report, folder, log, lambda one: _body(one) | {"ignore_eos": False}
    )
    assert replay.extra == 0
    lengths = [request.output_tokens for request in replay.requests.values()]
    made = [entry["usage"]["completion_tokens"] for entry in replay.sent.values()]
    assert made == [min(length, mock_engine.ENDED_EARLY) for length in lengths]
    for (name, turn), request in replay.requests.items():
        siblings = [
            one.delay_us
            for (of, _), one in replay.requests.items()
            if of == name and one.waits & request.waits
        ]
        for wait in request.waits:
            waited = replay.sent[name, turn]["arrived"] - replay.sent[name, wait]["completed"]
            assert waited >= min(siblings) / 1e6 - graphs.EARLY_S, (name, turn)


def test_phases_share_nothing(commands: Path, hub: Path, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there, tool definitions aside."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "guidellm-graph", folder, LoadOptions(prefix="aa", phases=2))
    encode = mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")
    with harness.engine(hub) as engine:
        for phase in report.phases:
            _run(report.command, folder / phase["folder"], engine, hub, commands)
        log = engine.log()
    assert len(log) == 2 * report.counts["requests"]

    def play(entry: dict[str, Any]) -> str:
        """The words that a prompt begins with."""
        return entry["body"]["messages"][0]["content"][:100]

    assert len({play(entry) for entry in log}) == 4
    expected = graphs.fresh(log, play, encode)
    # A block may hold the end of the tools and what a template puts between them and the prefix.
    pairs = zip(recorded.cached(log), expected, strict=True)
    assert all(alone <= found <= alone + mock_engine.BLOCK for found, alone in pairs)
    assert sum(expected) > 0
