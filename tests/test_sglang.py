"""Exports replayed by SGLang's own benchmark client against a mock engine, request by request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

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

VERSION = "0.5.23"
# What its client needs; the package as a whole wants an engine's gigabytes.
NEEDS = (
    "aiohttp datasets msgspec numpy orjson pillow psutil pybase64 pyzmq requests tqdm "
    "transformers==5.19.0"
)
# The package's own beginning loads the engine: its client is run without.
CLIENT = """\
import runpy, sys, types
from importlib.metadata import distribution

home = distribution("sglang").locate_file("sglang")
for name in ("", ".srt", ".srt.utils", ".srt.disaggregation"):
    module = sys.modules["sglang" + name] = types.ModuleType("sglang" + name)
    module.__path__ = [str(home.joinpath(*name.split(".")[1:]))]
engine = sys.modules["sglang.srt.disaggregation.utils"] = types.ModuleType("engine")
engine.FAKE_BOOTSTRAP_HOST = "2.2.2.2"
runpy.run_module("sglang.benchmark.serving", run_name="__main__", alter_sys=True)
"""


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of a python that has sglang's client."""
    found = harness.environment(f"sglang-{VERSION}-client", f"--no-deps sglang=={VERSION}", NEEDS)
    (found / "client.py").write_text(CLIENT)
    return found


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("small") / "dataset"
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@dataclass
class Replay:
    """What arrived, in order, which is that of the conversations; and the length of replies."""

    dataset: Dataset
    folder: Path
    log: list[dict[str, Any]]
    reply_tokens: int


@pytest.fixture(scope="session")
def replay(
    dataset: Dataset, commands: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    folder = tmp_path_factory.mktemp("sglang") / "export"
    report = export(dataset, "sglang-agentic", folder, LoadOptions(lengths="text"))
    with harness.engine(hub) as engine:
        _run(report.command, folder, engine, hub, commands)
        log = engine.log()
    return Replay(dataset, folder, log, round(report.percentiles["output_tokens"]["max"]))


def _run(command: str, folder: Path, engine: harness.Engine, hub: Path, commands: Path) -> None:
    client = str(commands / "client.py")
    assert "-m sglang.benchmark.serving" in command
    command = command.replace("-m sglang.benchmark.serving", client)
    tokenizer = replies.tokenizer_folder(hub, folder / "tokenizer")
    environment = harness.variables(engine.url, hub, commands)
    harness.run(command, folder, environment | {"TOKENIZER": str(tokenizer)})


def test_recorded_text_arrives_around_live_replies(replay: Replay) -> None:
    """Every answered turn arrives once, conversation by conversation: its first prompt says what
    the recorded one said; each later one is the one before, the reply to it, and what the recorded
    one added behind its answer. All are asked for the one length, and answered with it."""
    expected = recorded.requests(replay.dataset)
    keys = list(replies.turns(replay.folder))
    assert len(replay.log) == len(keys) == len(expected)
    reply = {"role": "assistant", "content": mock_engine.ANSWER * replay.reply_tokens}
    earlier: dict[str, Any] = {}
    for entry, (_, _, key, before) in zip(replay.log, keys, strict=True):
        request, body = expected[key], entry["body"]
        if before is None:
            assert mlperf.joined(body["messages"]) == replies.front(request), key
        else:
            count = len(earlier["body"]["messages"])
            assert body["messages"][:count] == earlier["body"]["messages"], key
            assert body["messages"][count] == reply, key
            added = mlperf.joined(body["messages"][count + 1 :])
            assert added == mlperf.joined(request.messages[len(expected[before].messages) + 1 :])
            assert entry["arrived"] >= earlier["completed"] - 0.01
        assert body["max_completion_tokens"] == replay.reply_tokens
        assert body["ignore_eos"] is True
        assert body["model"] == harness.MODEL
        assert "tools" not in body
        assert entry["usage"]["completion_tokens"] == replay.reply_tokens
        earlier = entry


def test_phases_share_nothing(commands: Path, hub: Path, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there, and nothing else."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "sglang-agentic", folder, LoadOptions(prefix="aa", phases=2))
    owners = []
    with harness.engine(hub) as engine:
        for phase in report.phases:
            at = folder / phase["folder"]
            _run(report.command, at, engine, hub, commands)
            owners += [(phase["phase"], key[0]) for _, _, key, _ in replies.turns(at)]
        log = engine.log()
    encode = mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")
    assert len(log) == len(owners)
    of = {id(entry): owner for entry, owner in zip(log, owners, strict=True)}
    alone = recorded.cached_alone(log, lambda entry: of[id(entry)], encode)
    assert recorded.cached(log) == alone
    assert sum(alone) > 0
