"""Exports replayed by the real agentic-bench against a mock engine, request by request."""

from __future__ import annotations

import json
import subprocess
from collections import defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest

import harness
import mock_engine
import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import abench, export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

VERSION = "0.2.0"
EARLY_S = 0.002  # the event loop's timers may fire a tick early


@pytest.fixture(scope="session")
def commands() -> Path:
    """The folder of the abench command."""
    return harness.environment(f"agentic-bench-{VERSION}", f"agentic-bench=={VERSION}")


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("small") / "dataset"
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@dataclass
class Replay:
    """What was sent for an export: the logged request of each turn, and the folder."""

    folder: Path
    log: list[dict[str, Any]]
    requests: dict[tuple[str, int], recorded.Request]
    sent: dict[tuple[str, int], dict[str, Any]]

    def sessions(self) -> list[list[tuple[str, int]]]:
        notes = (self.folder / "sessions.jsonl").read_text().splitlines()
        return list(recorded.sessions(notes).values())


@pytest.fixture(scope="session")
def replay(
    dataset: Dataset, commands: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    folder = tmp_path_factory.mktemp("abench") / "export"
    report = export(dataset, "abench", folder, LoadOptions(lengths="text"))
    with harness.engine(hub) as engine:
        _run(report.command, report.counts["sessions"], folder, engine, hub, commands)
        log = engine.log()
    received = defaultdict(list)
    for entry in log:
        received[entry["headers"]["x-smg-routing-key"]].append(entry)
    sessions = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    assert received.keys() == sessions.keys()
    sent = {}
    for name, turns in sessions.items():
        sent |= dict(zip(turns, received[name], strict=True))
    return Replay(folder, log, recorded.requests(dataset), sent)


def _run(
    command: str, sessions: int, folder: Path, engine: harness.Engine, hub: Path, commands: Path
) -> None:
    """Runs an export's command with all sessions at a time, and their names on every request."""
    assert "--max-concurrency 1 " in command
    command = command.replace("--max-concurrency 1 ", f"--max-concurrency {sessions} ")
    environment = harness.variables(engine.url, hub, commands)
    harness.run(f"{command} --routing-key --metrics-interval 0", folder, environment)


def test_every_answered_request_arrives_once(replay: Replay) -> None:
    """No request more and none less than the dataset has answered turns."""
    assert replay.sent.keys() == replay.requests.keys()
    assert len(replay.log) == len(replay.requests)


def test_messages_are_the_recorded_ones(replay: Replay) -> None:
    """All text of every prompt arrives, in order: system prompt and tools first, other roles than
    the assistant's in the user's name; forced to the recorded output length."""
    for key, entry in replay.sent.items():
        request, body = replay.requests[key], entry["body"]
        front, rest = [], request.messages
        while rest and rest[0]["role"] == "system":
            front, rest = [*front, rest[0]], rest[1:]
        if request.tools:
            tools = json.dumps(request.tools, separators=(",", ":"), ensure_ascii=False)
            text = "\n\n".join([*(one["content"] for one in front[:1]), tools])
            front = [{"role": "system", "content": text}, *front[1:]]
        expected = front + [
            {
                "role": "user" if one["role"] == "tool" else one["role"],
                "content": recorded.said(one),
            }
            for one in rest
        ]
        assert body["messages"] == expected, key
        assert body["max_completion_tokens"] == request.output_tokens, key
        assert entry["usage"]["completion_tokens"] == request.output_tokens, key
        assert body["model"] == harness.MODEL


def test_abench_takes_off_exactly_what_was_added(replay: Replay, commands: Path) -> None:
    """The waits that abench itself works out of the file are the dataset's delays, to a nanosecond;
    where a request waited for another lane, the time between it and the one before is kept."""
    script = (
        "import json, sys\n"
        "from abench.core.dataset import NormSession, iter_jsonl_sessions\n"
        "from abench.core.workload import tool_delays_ms\n"
        "sessions = map(NormSession.from_dict, iter_jsonl_sessions([sys.argv[1]]))\n"
        "print(json.dumps([tool_delays_ms(session) for session in sessions]))\n"
    )
    python = [str(commands / "python"), "-c", script, str(replay.folder / abench.FILE)]
    planned = json.loads(subprocess.run(python, capture_output=True, check=True).stdout)
    for turns, delays_ms in zip(replay.sessions(), planned, strict=True):
        gaps_us = recorded.gaps_us(replay.requests, turns)
        for gap_us, delay_ms in zip(gaps_us, delays_ms, strict=True):
            assert abs(delay_ms - gap_us / 1000) < 1e-6, turns
        for before, key, gap_us in zip(turns, turns[1:], gaps_us[1:], strict=False):
            if replay.requests[key].waits == {before[1]}:
                assert gap_us == replay.requests[key].delay_us, key


def test_requests_wait_for_the_one_before(replay: Replay) -> None:
    """A request arrives after the one before it in its session has ended, and the delay later."""
    late = []
    for turns in replay.sessions():
        for before, key in pairwise(turns):
            waited = replay.sent[key]["arrived"] - replay.sent[before]["completed"]
            request = replay.requests[key]
            delay_s = request.delay_us / 1e6 if request.waits == {before[1]} else 0
            assert waited >= delay_s - EARLY_S, key
            late.append(waited - delay_s)
    print(f"\nlateness: median {sorted(late)[len(late) // 2] * 1e3:.1f} ms")


def test_phases_share_nothing(commands: Path, hub: Path, tmp_path: Path) -> None:
    """With fresh prefixes the second phase finds in the cache what its own trajectories' earlier
    requests left there, and nothing else."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    folder = tmp_path / "export"
    report = export(dataset, "abench", folder, LoadOptions(prefix="aa", phases=2))
    with harness.engine(hub) as engine:
        for phase in report.phases:
            at = folder / phase["folder"]
            _run(report.command, report.counts["sessions"], at, engine, hub, commands)
        log = engine.log()
    encode = mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")
    assert len(log) == 2 * report.counts["requests"]

    def play(entry: dict[str, Any]) -> str:
        """Trajectory and phase."""
        return entry["headers"]["x-smg-routing-key"].rpartition(".")[0]

    alone = recorded.cached_alone(log, play, encode)
    assert len({play(entry) for entry in log}) == 4
    assert recorded.cached(log) == alone
    assert sum(alone) > 0
