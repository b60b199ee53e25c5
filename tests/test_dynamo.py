"""Exports replayed by the real Dynamo: its simulated engine, with a cache and a clock of its own.

Only the two wheels that replay needs are installed. Dynamo reports when each request arrived and
ended, how long it was and how much of it was cached; that is compared with the dataset's rows.
"""

from __future__ import annotations

import json
import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import harness
import recorded
import rows
from test_export_lengths import figures
from traj.dataset import Dataset
from traj.exporters import ExportReport, export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

VERSION = "1.6.1"
FILES = {"dynamo-agentic": "agentic_mooncake.jsonl", "dynamo-mooncake": "mooncake.jsonl"}
FORMATS = {"dynamo-agentic": "agentic_mooncake", "dynamo-mooncake": "mooncake", "weka": "weka"}
BLOCKS = {"dynamo-agentic": 64, "dynamo-mooncake": 512}
REPLAY = """
import json, sys
from dynamo.replay import run_trace_replay
file, options = sys.argv[1], json.loads(sys.argv[2])
engine = {"engine": {"block_size": 64, "num_gpu_blocks": 1_000_000, "max_num_seqs": 1000}}
report = run_trace_replay(file, extra_engine_args=engine, capture_per_request=True, **options)
print(json.dumps({"summary": report.summary, "requests": report.per_request}))
"""


@pytest.fixture(scope="session")
def dynamo() -> Path:
    """The folder of a Python that has dynamo.replay. Its other dependencies, one of which is on no
    public registry, are not needed."""
    wheels = f"ai-dynamo=={VERSION} ai-dynamo-runtime=={VERSION} typing-extensions==4.15.0"
    return harness.environment(f"ai-dynamo-{VERSION}", f"--no-deps {wheels}")


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    if request.param == "small":
        folder = tmp_path_factory.mktemp("small") / "dataset"
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@dataclass
class Replay:
    """An export and what Dynamo says of it: a summary, and the record of each turn."""

    report: ExportReport
    summary: dict[str, Any]
    sent: dict[tuple[str, int], dict[str, Any]]


def replay(python: Path, file: Path, target: str, **options: Any) -> dict[str, Any]:
    options["trace_format"] = FORMATS[target]
    if target != "dynamo-mooncake":
        options["execution_model"] = "any"
    if target != "weka":
        options["trace_block_size"] = BLOCKS[target]
    arguments = [str(python / "python"), "-c", REPLAY, str(file), json.dumps(options)]
    output = harness.run(shlex.join(arguments), file.parent, dict(os.environ))
    found: dict[str, Any] = json.loads(output.strip().splitlines()[-1])
    return found


def replayed(dataset: Dataset, target: str, python: Path, out: Path, **options: Any) -> Replay:
    report = export(dataset, target, out)
    found = replay(python, out / FILES[target], target, **options)
    sessions = recorded.sessions((out / "sessions.jsonl").read_text().splitlines())
    sent = {}
    for request in found["requests"]:
        turns = sessions[request["session_id"]]
        number = request["turn_index"]
        if number is None:  # of a graph's requests, the turn is in the name
            number = [turn for _, turn in turns].index(int(request["request_id"].split(".t")[1]))
        assert sent.setdefault(turns[number], request) is request
    return Replay(report, found["summary"], sent)


@pytest.fixture(scope="session")
def agentic(dataset: Dataset, dynamo: Path, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replayed(dataset, "dynamo-agentic", dynamo, tmp_path_factory.mktemp("agentic") / "out")


@pytest.fixture(scope="session")
def mooncake(dataset: Dataset, dynamo: Path, tmp_path_factory: pytest.TempPathFactory) -> Replay:
    return replayed(dataset, "dynamo-mooncake", dynamo, tmp_path_factory.mktemp("mooncake") / "out")


@pytest.mark.parametrize("target", FILES)
def test_every_request_arrives_with_its_lengths(
    dataset: Dataset, target: str, request: pytest.FixtureRequest
) -> None:
    """Dynamo completes each answered turn once, as long as the record says, and its sums are the
    dataset's."""
    found: Replay = request.getfixturevalue(target.removeprefix("dynamo-"))
    prompts, made = figures(dataset), recorded.requests(dataset)
    assert found.sent.keys() == made.keys()
    for turn, one in found.sent.items():
        assert one["terminal_status"] == "completed"
        assert one["input_length"] == prompts[turn]
        assert one["output_length"] == made[turn].output_tokens
    assert found.summary["completed_requests"] == found.report.counts["requests"] == len(made)
    assert found.summary["total_input_tokens"] == sum(prompts.values())


def test_agentic_keeps_the_graph_and_its_delays(dataset: Dataset, agentic: Replay) -> None:
    """A request arrives exactly its delay after the last of what it waited for has ended, and one
    that waited for nothing at its recorded time."""
    for (name, turn), request in recorded.requests(dataset).items():
        arrived = agentic.sent[name, turn]["arrival_time_ms"]
        if request.waits:
            ended = max(agentic.sent[name, wait]["terminal_time_ms"] for wait in request.waits)
            assert arrived == pytest.approx(ended + request.delay_us / 1000, abs=1e-3), (name, turn)
        else:
            assert arrived == pytest.approx(request.start_us / 1000, abs=1e-3), (name, turn)


def test_mooncake_keeps_the_order_of_lanes(dataset: Dataset, mooncake: Replay) -> None:
    """In a lane a request arrives the recorded time after the one before has ended; a lane begins
    at its time, counted from the first of all."""
    made = recorded.requests(dataset)
    origin = min(request.start_us for request in made.values() if not request.waits)
    lanes: dict[tuple[str, int], list[tuple[str, int]]] = {}
    for turn, request in sorted(made.items()):
        lanes.setdefault((turn[0], request.lane), []).append(turn)
    for turns in lanes.values():
        for before, turn, gap in zip(
            [None, *turns], turns, recorded.gaps_us(made, turns), strict=False
        ):
            arrived = mooncake.sent[turn]["arrival_time_ms"]
            if before is not None:
                ended = mooncake.sent[before]["terminal_time_ms"]
                assert arrived == pytest.approx(ended + gap / 1000, abs=1e-3), turn
            elif not made[turn].waits:
                start = made[turn].start_us - origin
                assert arrived == pytest.approx(start / 1000, abs=1e-3), turn


@pytest.mark.parametrize("target", [*FILES, "weka"])
@pytest.mark.parametrize("policy", ["aa", "shared-system", "none"])
def test_the_cache_finds_what_was_predicted(
    sample: Dataset, dynamo: Path, target: str, policy: str, tmp_path: Path
) -> None:
    """One trajectory after another, the engine finds as much as the simulation of the files says;
    in Weka traces nothing of other traces."""
    report = export(sample, target, tmp_path / "out", LoadOptions(prefix=policy, plays=2))
    lanes: dict[str, Any] = {} if target == "dynamo-mooncake" else {"agentic_lanes": 1}
    if target == "dynamo-mooncake":
        lanes["replay_concurrency"] = 1
    file = tmp_path / "out" / FILES.get(target, "traces")
    found = replay(dynamo, file, target, **lanes)
    reused = sum(one["reused_input_tokens"] for one in found["requests"])
    assert report.cache is not None
    size = BLOCKS.get(target, 64)
    within, across = (
        report.cache.hit_tokens[size][scope] for scope in ("within", "across_trajectories")
    )
    print(f"\n{target} {policy}: {reused=} {within=} {across=}")
    # What both scopes have is found once. Parallel sub-agents may miss what is under way.
    total = report.cache.tokens
    assert reused <= within + across + 0.001 * total
    assert reused >= max(within, across) - 0.01 * total
    if policy == "aa" or target == "weka":
        assert across == 0


@pytest.mark.parametrize("policy", ["aa", "shared-system", "none"])
def test_phases_find_each_other_as_the_policy_says(
    sample: Dataset, dynamo: Path, policy: str, tmp_path: Path
) -> None:
    """Two phases played on one engine, one after the other: under `aa` the second finds nothing of
    the first, under `shared-system` the fronts, under `none` almost everything."""
    report = export(
        sample, "dynamo-agentic", tmp_path / "out", LoadOptions(prefix=policy, phases=2)
    )
    lines: list[str] = []
    for phase in report.phases:
        folder = tmp_path / "out" / phase["folder"]
        header, *found = (folder / FILES["dynamo-agentic"]).read_text().splitlines()
        shift = len(lines) and report.counts["trajectories"]
        for line in map(json.loads, found):
            line["source_play_ordinal"] += shift
            lines.append(json.dumps(line))
    both = tmp_path / "both.jsonl"
    both.write_text("\n".join([header, *lines]))
    requests = replay(dynamo, both, "dynamo-agentic", agentic_lanes=1)["requests"]
    reused, tokens = [0, 0], [0, 0]
    for request in requests:
        phase = int(request["play_id"].partition(".phase")[2])
        reused[phase] += request["reused_input_tokens"]
        tokens[phase] += request["input_length"]
    print(f"\n{policy}: {[one / total for one, total in zip(reused, tokens, strict=True)]}")
    if policy == "aa":
        assert reused[0] == reused[1]
    if policy == "shared-system":
        assert 1.02 * reused[0] < reused[1] < 0.99 * tokens[1]
    if policy == "none":
        assert reused[1] > 0.99 * tokens[1]


@pytest.mark.parametrize("target", FILES)
def test_the_command_runs(small: Dataset, dynamo: Path, target: str, tmp_path: Path) -> None:
    """The command that the export names prints a summary with every request completed."""
    report = export(small, target, tmp_path / "out")
    variables = {**os.environ, "PATH": f"{dynamo}:{os.environ['PATH']}", "MODEL": "any"}
    summary = json.loads(harness.run(report.command, tmp_path / "out", variables))
    assert summary["completed_requests"] == report.counts["requests"] == 17


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    return Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
