"""Exports replayed by the real inference-perf against a mock engine, request by request."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import graphs
import harness
import mock_engine
import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import export, inference_perf
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

VERSION = "0.7.0"
SESSION = "x-session"
# What inference-perf infers of the files: what each request waits for, and how long.
INFERRED = """
import json, sys
from pathlib import Path
from inference_perf.datagen.replay.otel_trace_to_replay_graph import build_graph, build_raw_calls

found = {}
for path in Path(sys.argv[1]).iterdir():
    calls, _ = build_raw_calls(json.loads(path.read_text())["spans"])
    graph = build_graph(calls)
    spans = {name: event.call.call_id for name, event in graph.events.items()}
    found[path.stem] = {
        spans[name]: ([spans[one] for one in event.predecessor_event_ids], event.wait_ms)
        for name, event in graph.events.items()
    }
print(json.dumps(found))
"""


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of the inference-perf command. It asks for Python 3.12 and runs on 3.11."""
    return harness.environment(
        f"inference-perf-{VERSION}",
        f"--ignore-requires-python --no-deps inference-perf=={VERSION}",
        "aiohttp pydantic numpy>=2.2.2 datasets>=3.3.2 transformers==5.13.0 jinja2 "
        "google-cloud-storage pyyaml boto3 uvloop tqdm aiofiles tiktoken rich av pillow "
        "prometheus-client",
    )


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("small") / "dataset"
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@pytest.fixture(scope="session")
def replay(
    dataset: Dataset, commands: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> graphs.Replay:
    folder = tmp_path_factory.mktemp("inference-perf") / "export"
    report = export(dataset, "inference-perf", folder, LoadOptions(lengths="text"))
    with harness.engine(hub) as engine:
        _run(report.command, folder, engine, hub, commands)
        return graphs.replay(dataset, report, folder, engine.log(), _as_text)


def _run(command: str, folder: Path, engine: harness.Engine, hub: Path, commands: Path) -> None:
    """Runs an export's command with all sessions at a time, and their names on every request."""
    config = folder / inference_perf.CONFIG
    text = config.read_text()
    assert "concurrent_sessions: 1\n" in text
    config.write_text(text.replace("concurrent_sessions: 1\n", "concurrent_sessions: 0\n"))
    command = f"{command} --api.session_id_header_key {SESSION} --load.num_workers 2"
    environment = harness.variables(engine.url, hub, commands)
    # By name it wants a model's config.json too.
    harness.run(command, folder, environment | {"TOKENIZER": str(harness.snapshot(hub))})


def _as_text(request: recorded.Request) -> dict[str, Any]:
    """All that inference-perf must send where answers are forced: tools and reasoning as text."""
    messages = [_message(one) for one in request.messages]
    if request.tools:
        if messages[0]["role"] != "system":
            messages.insert(0, {"role": "system", "content": ""})
        tools = json.dumps(request.tools, separators=(",", ":"), ensure_ascii=False)
        texts = [messages[0]["content"], tools]
        messages[0]["content"] = "\n\n".join(text for text in texts if text)
    return {
        "model": harness.MODEL,
        "messages": messages,
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def _message(message: dict[str, Any]) -> dict[str, Any]:
    made = {key: value for key, value in message.items() if key != "reasoning_content"}
    if reasoning := message.get("reasoning_content"):
        made["content"] = "\n".join(text for text in (reasoning, made["content"]) if text)
    if made["content"] is None:
        del made["content"]  # as inference-perf does; to the API that is the same
    return made


def test_every_answered_request_arrives_once(replay: graphs.Replay) -> None:
    """Bodies are the recorded ones, and there are no others; the engine makes as many tokens as
    the answer had."""
    assert replay.extra == 0
    for key, request in replay.requests.items():
        assert replay.sent[key]["usage"]["completion_tokens"] == request.output_tokens, key


def test_sessions_are_the_trajectories(replay: graphs.Replay) -> None:
    """All requests of a trajectory, sub-agents included, are of one session of inference-perf."""
    for (name, _), entry in replay.sent.items():
        assert entry["headers"][SESSION].endswith(f"_{name}")


def test_requests_wait_for_all_that_they_waited_for(replay: graphs.Replay) -> None:
    """None arrives before its delay has passed since the last of its waits, of any lane, ended."""
    late = replay.lateness_s()
    for key, seconds in late.items():
        assert seconds >= -graphs.EARLY_S, key
    ordered = sorted(late.values())
    print(f"\nlateness: median {ordered[len(late) // 2] * 1e3:.1f} ms, most {ordered[-1]:.2f} s")


def test_inferred_waits_are_the_recorded_ones(replay: graphs.Replay, commands: Path) -> None:
    """What inference-perf infers is what the record says, joins and parallel lanes included: the
    same requests must have ended, directly or not, and then the delay passes."""
    python = [str(commands / "python"), "-c", INFERRED, str(replay.folder / inference_perf.FOLDER)]
    inferred = json.loads(subprocess.run(python, capture_output=True, check=True).stdout)
    assert any(len(request.waits) > 1 for request in replay.requests.values())
    before: dict[graphs.Key, tuple[set[int], set[int]]] = {}
    for (name, turn), request in replay.requests.items():
        parents, wait_ms = inferred[name][f"{turn:06d}"]
        told, known = set(map(int, parents)), set(request.waits)
        for kind, waits in enumerate((set(told), set(known))):
            for wait in waits:
                (told, known)[kind].update(before[name, wait][kind])
        before[name, turn] = told, known
        assert told == known, (name, turn)
        assert wait_ms == (-(-request.delay_us // 1000) if known else 0), (name, turn)


def test_capped_answers_may_end_and_tools_are_sent(
    commands: Path, hub: Path, tmp_path: Path
) -> None:
    """With output `capped` the recorded length is a cap, and tool definitions go as tools."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "inference-perf", folder, LoadOptions(lengths="text", output="capped"))

    def body(request: recorded.Request) -> dict[str, Any]:
        tools = [
            {
                "type": "function",
                # As inference-perf completes a schema.
                "function": tool["function"] | {"parameters": {"type": "object", "properties": {}}},
            }
            for tool in request.tools
        ]
        bare = _as_text(replace(request, tools=[]))
        return bare | {"ignore_eos": False} | ({"tools": tools} if tools else {})

    with harness.engine(hub) as engine:
        _run(report.command, folder, engine, hub, commands)
        replay = graphs.replay(dataset, report, folder, engine.log(), body)
    assert replay.extra == 0
    lengths = [request.output_tokens for request in replay.requests.values()]
    made = [entry["usage"]["completion_tokens"] for entry in replay.sent.values()]
    assert made == [min(length, mock_engine.ENDED_EARLY) for length in lengths]


def test_phases_share_nothing(commands: Path, hub: Path, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there, and nothing else."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "inference-perf", folder, LoadOptions(prefix="aa", phases=2))
    with harness.engine(hub) as engine:
        for phase in report.phases:
            _run(report.command, folder / phase["folder"], engine, hub, commands)
        log = engine.log()
    assert len(log) == 2 * report.counts["requests"]

    def play(entry: dict[str, Any]) -> str:
        return entry["headers"][SESSION].partition("_")[2]

    assert len({play(entry) for entry in log}) == 4
    encode = mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")
    alone = recorded.cached_alone(log, play, encode)
    assert recorded.cached(log) == alone
    assert sum(alone) > 0
