"""Exports replayed by the real agentperf-local against a mock engine, request by request.

It wants a newer Python than the project does: any on this machine will do.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import harness
import mock_engine
import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import export
from traj.workload.options import LoadOptions

pytestmark = pytest.mark.harness

VERSION = "0.3.4"
EARLY_S = 0.002  # the event loop's timers may fire a tick early
VOCABULARY = "https://openaipublic.blob.core.windows.net/encodings/o200k_base.tiktoken"
# Requests come one after the other, so that all of the sample sessions would take long.
QUICK = LoadOptions(lengths="text", tool_time="scaled:0.1", sample=6)


def newer_python() -> str:
    """A Python of 3.12 or later: this one, one of that name, or one installed beside this one."""
    names = [f"python3.{minor}" for minor in range(12, 16)]
    found = [sys.executable, *filter(None, map(shutil.which, names))]
    for name in names:
        found += sorted(map(str, Path(sys.base_prefix).parent.glob(f"*/bin/{name}")))
    for python in found:
        asked = subprocess.run([python, "--version"], capture_output=True, text=True, check=False)
        version = re.match(r"Python 3\.(\d+)", asked.stdout)
        if version and int(version[1]) >= 12:
            return python
    pytest.skip("agentperf-local needs Python 3.12 or later, which is not on this machine")


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of the agentperf-local command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.sys, "executable", newer_python())
        return harness.environment(
            f"agentperf-local-{VERSION}", f"agentperf-local=={VERSION} tiktoken==0.14.0"
        )


@pytest.fixture(scope="session")
def vocabulary(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder where tiktoken finds o200k_base without a network."""
    import toktok

    folder = tmp_path_factory.mktemp("tiktoken")
    encoding = toktok._encoding("o200k_base")
    tokens = (encoding.decode_bytes([rank]) for rank in range(199_998))
    lines = (base64.b64encode(token) + b" %d\n" % rank for rank, token in enumerate(tokens))
    name = hashlib.sha1(VOCABULARY.encode()).hexdigest()
    (folder / name).write_bytes(b"".join(lines))
    return folder


@dataclass
class Harness:
    """What it takes to replay."""

    commands: Path
    vocabulary: Path
    hub: Path

    def run(self, command: str, folder: Path, engine: harness.Engine) -> list[dict[str, Any]]:
        """Replays a folder; gives what the engine received for it, the questions before aside."""
        known = len(engine.log())
        environment = harness.variables(engine.url, self.hub, self.commands)
        environment["TIKTOKEN_CACHE_DIR"] = str(self.vocabulary)
        harness.run(f"{command} --no-power", folder, environment)
        # It first asks twice whether the engine honours ignore_eos.
        asked, log = engine.log()[known : known + 2], engine.log()[known + 2 :]
        assert [entry["body"]["max_tokens"] for entry in asked] == [512, 512]
        return log


@pytest.fixture(scope="session")
def tool(commands: Path, vocabulary: Path, hub: Path) -> Harness:
    return Harness(commands, vocabulary, hub)


@dataclass
class Replay:
    """The dataset's requests in the order in which they must arrive, what arrived, and what
    agentperf-local says of each."""

    keys: list[tuple[str, int]]
    requests: dict[tuple[str, int], recorded.Request]
    log: list[dict[str, Any]]
    turns: list[dict[str, Any]]


@pytest.fixture(scope="session", params=["small", "sample"])
def replay(
    request: pytest.FixtureRequest, tool: Harness, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    scratch = tmp_path_factory.mktemp(f"agentperf-{request.param}")
    if request.param == "small":
        dataset = Dataset.open(rows.write(scratch / "dataset", rows.small()))
        options = LoadOptions(lengths="text")
    else:
        dataset, options = request.getfixturevalue("sample"), QUICK
    folder = scratch / "export"
    report = export(dataset, "agentperf-local", folder, options)
    with harness.engine(tool.hub) as engine:
        log = tool.run(report.command, folder, engine)
    lines = (folder / "results" / "turns.jsonl").read_text().splitlines()
    tasks = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    requests = recorded.requests(dataset)
    keys = sorted(key for key in requests if key[0] in tasks)
    assert len(tasks) == min(report.options["sample"] or 99, len({key[0] for key in requests}))
    return Replay(keys, requests, log, list(map(json.loads, lines)))


def test_requests_arrive_as_recorded(replay: Replay) -> None:
    """Every answered request arrives once, trajectory by trajectory in the order of the record,
    with exactly its messages and tools, forced to the recorded length."""
    assert len(replay.log) == len(replay.keys)
    for key, entry in zip(replay.keys, replay.log, strict=True):
        request, body = replay.requests[key], entry["body"]
        expected = [dict(message) for message in request.messages]
        for message in expected:
            reasoning = message.pop("reasoning_content", None)
            texts = [text for text in (reasoning, message["content"]) if text]
            message["content"] = "\n".join(texts) if reasoning else message["content"]
        assert body["messages"] == expected, key
        assert body.get("tools", []) == request.tools, key
        assert (body["max_tokens"], body["ignore_eos"]) == (request.output_tokens, True), key
        assert entry["usage"]["completion_tokens"] == request.output_tokens, key
        assert body["model"] == harness.MODEL


def test_nothing_is_sent_before_its_time(replay: Replay) -> None:
    """A request arrives when the one before it has ended, which what it waits for has by then."""
    ended: dict[tuple[str, int], float] = {}
    for (_, entry), (key, after) in pairwise(zip(replay.keys, replay.log, strict=True)):
        assert after["arrived"] >= entry["completed"] - EARLY_S, key
    for key, entry in zip(replay.keys, replay.log, strict=True):
        assert all((key[0], wait) in ended for wait in replay.requests[key].waits), key
        ended[key] = entry["completed"]


def test_delays_are_the_dataset_s(replay: Replay) -> None:
    """agentperf-local sleeps the next request's delay, to a nanosecond: as recorded, and scaled
    where that was asked for; what arrives is later by as much."""
    if replay.keys[0][0] not in map(rows.trajectory_id, ("one", "two")):
        pytest.skip("its delays are scaled, tool by tool")
    late = []
    for at, key in enumerate(replay.keys[1:], 1):
        before = replay.turns[at - 1]
        first = key[0] != replay.keys[at - 1][0]
        delay_us = 0 if first else replay.requests[key].delay_us
        assert abs(before["replayed_tool_delay_ms"] - delay_us / 1000) < 1e-6, key
        waited = replay.log[at]["arrived"] - replay.log[at - 1]["completed"]
        assert waited >= delay_us / 1e6 - EARLY_S, key
        late.append(waited - delay_us / 1e6)
    print(f"\nlateness: median {sorted(late)[len(late) // 2] * 1e3:.1f} ms")


def test_phases_share_nothing(tool: Harness, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there; of the first, at most the tools that the mock's template puts before all,
    and less than a block of the template.
    """
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    options = LoadOptions(prefix="aa", phases=2, tool_time="scaled:0.1")
    report = export(dataset, "agentperf-local", tmp_path / "export", options)
    log = []
    with harness.engine(tool.hub) as engine:
        for phase in report.phases:
            folder = tmp_path / "export" / phase["folder"]
            log += tool.run(report.command, folder, engine)
    keys = sorted(recorded.requests(dataset))
    plays = [(key[0], phase["phase"]) for phase in report.phases for key in keys]
    for play, entry in zip(plays, log, strict=True):
        entry["play"] = play
    encode = mock_engine.from_file(harness.snapshot(tool.hub) / "tokenizer.json")
    alone = recorded.cached_alone(log, lambda entry: entry["play"], encode)
    for entry, found, expected in zip(log, recorded.cached(log), alone, strict=True):
        front = mock_engine.render({**entry["body"], "messages": []})
        most = len(encode(front)) + mock_engine.BLOCK - 1
        assert expected <= found <= max(expected, most)
    assert sum(alone) > 0
