"""Exports replayed by vLLM's own multi-turn script against a mock engine, request by request."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from tokenizers import Tokenizer

import harness
import mock_engine
import recorded
import rows
import test_export_replies as replies
import test_mlperf_endpoints as mlperf
from traj.dataset import Dataset
from traj.exporters import export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

VERSION = "0.28.0"
SCRIPT = "benchmarks/multi_turn"
NEEDS = "aiohttp numpy pandas tqdm transformers==5.19.0 xlsxwriter"


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of a python that has what the script needs."""
    return harness.environment(f"vllm-{VERSION}-multi-turn", NEEDS)


@pytest.fixture(scope="session")
def source(commands: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is needed of vLLM's source. Its package cannot be built here, and need not be: pip
    gives up on that, and leaves what it has unpacked."""
    home = commands.parent / "vllm-source"
    if not home.exists():
        scratch = tmp_path_factory.mktemp("source")
        pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--no-clean"]
        pip += ["--no-binary", "vllm", "--no-build-isolation", f"vllm=={VERSION}"]
        environment = {**os.environ, "TMPDIR": str(scratch)}
        result = subprocess.run(
            pip, capture_output=True, text=True, check=False, env=environment, cwd=scratch
        )
        found = next(scratch.glob(f"**/{SCRIPT}"), None)
        if found is None and harness.NO_NETWORK.search(result.stderr):
            pytest.skip(f"no source of vLLM {VERSION}: {result.stderr.strip()[-500:]}")
        assert found is not None, result.stderr
        shutil.copytree(found, home / SCRIPT)
        shutil.rmtree(scratch)
    return home


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("small") / "dataset"
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@dataclass
class Replay:
    """What arrived, in order, which is that of the conversations."""

    dataset: Dataset
    folder: Path
    log: list[dict[str, Any]]


@pytest.fixture(scope="session")
def replay(
    dataset: Dataset,
    commands: Path,
    source: Path,
    hub: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Replay:
    folder = tmp_path_factory.mktemp("vllm") / "export"
    report = export(dataset, "vllm-multi-turn", folder, LoadOptions(lengths="text"))
    with harness.engine(hub) as engine:
        _run(report.command, folder, engine, hub, commands, source)
        return Replay(dataset, folder, engine.log())


def _run(
    command: str,
    folder: Path,
    engine: harness.Engine,
    hub: Path,
    commands: Path,
    source: Path,
) -> None:
    tokenizer = replies.tokenizer_folder(hub, folder / "tokenizer")
    environment = harness.variables(engine.url, hub, commands)
    own = {"TOKENIZER": str(tokenizer), "VLLM_SOURCE": str(source)}
    harness.run(command, folder, environment | own)


def test_recorded_text_arrives_around_live_replies(replay: Replay, hub: Path) -> None:
    """Every answered turn arrives once, conversation by conversation: its first prompt says what
    the recorded one said; each later one is the one before, the reply to it, and what the recorded
    one added behind its answer. The cap is the tokens of the recorded answer's text."""
    expected = recorded.requests(replay.dataset)
    keys = list(replies.turns(replay.folder))
    tokenizer = Tokenizer.from_file(str(harness.snapshot(hub) / "tokenizer.json"))
    assert len(replay.log) == len(keys) == len(expected)
    earlier: dict[str, Any] = {}
    for entry, (_, _, key, before) in zip(replay.log, keys, strict=True):
        request, body = expected[key], entry["body"]
        if before is None:
            assert mlperf.joined(body["messages"]) == replies.front(request), key
        else:
            count = len(earlier["body"]["messages"])
            said = mock_engine.ANSWER * earlier["usage"]["completion_tokens"]
            assert body["messages"][:count] == earlier["body"]["messages"], key
            assert body["messages"][count] == {"role": "assistant", "content": said}, key
            added = mlperf.joined(body["messages"][count + 1 :])
            assert added == mlperf.joined(request.messages[len(expected[before].messages) + 1 :])
            assert entry["arrived"] >= earlier["completed"] - 0.01
        answer = tokenizer.encode(recorded.said(request.answer), add_special_tokens=False)
        assert body["max_tokens"] == max(1, len(answer.ids))
        assert body.keys() == {"model", "messages", "max_tokens", "stream", "stream_options"}
        assert body["model"] == harness.MODEL
        earlier = entry


def test_phases_share_nothing(commands: Path, source: Path, hub: Path, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there, and nothing else."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "vllm-multi-turn", folder, LoadOptions(prefix="aa", phases=2))
    owners = []
    with harness.engine(hub) as engine:
        for phase in report.phases:
            at = folder / phase["folder"]
            _run(report.command, at, engine, hub, commands, source)
            owners += [(phase["phase"], key[0]) for _, _, key, _ in replies.turns(at)]
        log = engine.log()
    encode = mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")
    assert len(log) == len(owners)
    of = {id(entry): owner for entry, owner in zip(log, owners, strict=True)}
    alone = recorded.cached_alone(log, lambda entry: of[id(entry)], encode)
    assert recorded.cached(log) == alone
    assert sum(alone) > 0
