"""Lengths, and prompts as one text, replayed by the real aiperf against a mock engine.

What the mock received is compared with the dataset's rows. Two phases are replayed one after the
other against one engine that forgets nothing: what the second finds is what its policy promises.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import harness
import mock_engine
import recorded
import rows
from test_export_lengths import figures
from traj.dataset import Dataset
from traj.exporters import ExportReport, export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.harness

TARGETS = ["aiperf-baseten", "aiperf-mooncake", "weka"]
EARLY_S = 0.002  # the event loop's timers may fire a tick early
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"
# aiperf draws text of an id from the seed and a scope: the seed is the same in all runs here.


@pytest.fixture(scope="session")
def aiperf() -> Path:
    """The folder of the aiperf command."""
    return harness.environment("aiperf-0.13.0", "aiperf==0.13.0")


@pytest.fixture(scope="session")
def encode(hub: Path) -> mock_engine.Tokens:
    return mock_engine.from_file(harness.snapshot(hub) / "tokenizer.json")


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return Dataset.open(rows.write(tmp_path_factory.mktemp("small") / "dataset", rows.small()))


@dataclass
class Replay:
    """An export of one phase or several, and what the engine received for each, by arrival."""

    report: ExportReport
    folder: Path
    logs: list[list[dict[str, Any]]]

    def sessions(self, phase: int = 0) -> list[tuple[list[tuple[str, int]], list[dict[str, Any]]]]:
        """The turns of each session, and the requests that were received for it."""
        received: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in self.logs[phase]:
            received[entry["headers"]["x-correlation-id"]].append(entry)
        by_outputs: dict[tuple[int, ...], list[list[dict[str, Any]]]] = defaultdict(list)
        for entries in received.values():
            by_outputs[tuple(_cap(entry) for entry in entries)].append(entries)
        folder = self.folder / self.report.phases[phase]["folder"]
        notes = (folder / "sessions.jsonl").read_text().splitlines()
        found = []
        for name, turns in recorded.sessions(notes).items():
            entries = received.get(f"fixed-schedule-{name}")
            if entries is None:
                # Sessions without a name on the wire are known by the lengths of their answers.
                outputs = tuple(line["output_length"] for line in _lines(folder, name))
                entries = by_outputs[outputs].pop(0)
            found.append((turns, entries))
        assert sum(len(entries) for _, entries in found) == len(self.logs[phase])
        return found


def _lines(folder: Path, session: str) -> list[dict[str, Any]]:
    lines = map(json.loads, (folder / "mooncake.jsonl").read_text().splitlines())
    return [line for line in lines if line["session_id"] == session]


def _cap(entry: dict[str, Any]) -> int:
    body = entry["body"]
    return int(body.get("max_completion_tokens") or body["max_tokens"])


def replay(
    dataset: Dataset,
    target: str,
    options: LoadOptions,
    aiperf: Path,
    hub: Path,
    scratch: Path,
    without: str = "",
) -> Replay:
    """Exports and replays, phase after phase on one engine, with the command that the export names
    but for how many sessions run at a time, and `without` some of its arguments."""
    report = export(dataset, target, scratch / "out", options)
    logs: list[list[dict[str, Any]]] = []
    with harness.engine(hub) as engine:
        for phase in report.phases:
            command = report.command
            if target != "aiperf-mooncake" or report.counts["requests"] > 50:
                command = command.replace("--concurrency 1 ", "--concurrency 30 ")
            if without:
                assert without in command
                command = command.partition(without)[0]
            command += f" {QUIET} --output-artifact-dir '{scratch}/{phase['phase']}'"
            folder = scratch / "out" / phase["folder"]
            harness.run(command, folder, harness.variables(engine.url, hub, aiperf))
            logs.append(engine.log()[sum(map(len, logs)) :])
    return Replay(report, scratch / "out", logs)


@pytest.fixture(scope="session")
def mooncake(
    small: Dataset, aiperf: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    folder = tmp_path_factory.mktemp("mooncake")
    return replay(small, "aiperf-mooncake", LoadOptions(), aiperf, hub, folder)


@pytest.fixture(scope="session")
def baseten(
    small: Dataset, aiperf: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    folder = tmp_path_factory.mktemp("baseten")
    options = LoadOptions(lengths="text")
    return replay(small, "aiperf-baseten", options, aiperf, hub, folder)


@pytest.fixture(scope="session", params=TARGETS)
def phases(
    request: pytest.FixtureRequest,
    sample: Dataset,
    aiperf: Path,
    hub: Path,
    tmp_path_factory: pytest.TempPathFactory,
) -> Replay:
    """Two phases of recorded sessions, under fresh prefixes."""
    options = LoadOptions(prefix="aa", phases=2, sample=6, tool_time="scaled:0.02")
    folder = tmp_path_factory.mktemp(request.param)
    return replay(sample, request.param, options, aiperf, hub, folder)


def text_tokens(entry: dict[str, Any], encode: mock_engine.Tokens) -> int:
    body = entry["body"]
    texts = [message["content"] for message in body.get("messages", ())] or [body["prompt"]]
    return sum(len(encode(text)) for text in texts)


def test_mooncake_prompts_have_the_recorded_lengths(
    small: Dataset, mooncake: Replay, encode: mock_engine.Tokens
) -> None:
    """What a session held, the engine's answers among it, and what a line adds are together as long
    as the prompt was; answers are as long as recorded, in order, none missing."""
    prompts, made = figures(small), recorded.requests(small)
    turns = []
    for session, entries in mooncake.sessions():
        assert [entry["usage"]["completion_tokens"] for entry in entries] == [
            made[turn].output_tokens for turn in session
        ]
        for turn, entry in zip(session, entries, strict=True):
            # Synthetic text may be a token shorter once it is tokenised again.
            assert 0 <= prompts[turn] - text_tokens(entry, encode) <= 1, turn
        roles = [message["role"] for message in entries[-1]["body"]["messages"]]
        assert roles == ["user", "assistant"] * (len(entries) - 1) + ["user"]
        turns += session
    assert sorted(turns) == sorted(made)


def test_mooncake_keeps_the_time_between_turns(small: Dataset, mooncake: Replay) -> None:
    """No request of a session comes earlier than the recorded time after the one before ended."""
    made = recorded.requests(small)
    for session, entries in mooncake.sessions():
        lane = [turn for turn in sorted(made) if _lane(made, turn) == _lane(made, session[0])]
        gaps = dict(zip(lane, recorded.gaps_us(made, lane), strict=True))
        for before, entry, turn in zip(entries, entries[1:], session[1:], strict=False):
            assert entry["arrived"] - before["completed"] >= gaps[turn] / 1e6 - EARLY_S, turn


def test_mooncake_schedule_begins_sessions_at_their_time(
    small: Dataset, aiperf: Path, hub: Path, tmp_path: Path
) -> None:
    """Under aiperf's fixed schedule lanes and contexts begin when they did, beside each other."""
    closed = "--no-fixed-schedule --dataset-sampling-strategy sequential --concurrency 1 "
    found = replay(small, "aiperf-mooncake", LoadOptions(), aiperf, hub, tmp_path, closed)
    made = recorded.requests(small)
    first = found.logs[0][0]["arrived"]
    ended: dict[tuple[str, int], float] = {}  # at the recorded pace, in microseconds
    for (name, turn), request in sorted(made.items()):
        after = [ended[name, wait] + request.delay_us for wait in request.waits]
        ended[name, turn] = max(after, default=request.start_us or 0)
        ended[name, turn] += (request.end_us or 0) - (request.start_us or 0)
    for session, entries in found.sessions():
        took = (made[session[0]].end_us or 0) - (made[session[0]].start_us or 0)
        start_s = (ended[session[0]] - took) / 1e6
        assert entries[0]["arrived"] - first == pytest.approx(start_s, abs=0.1)


def _lane(made: dict[tuple[str, int], recorded.Request], turn: tuple[str, int]) -> tuple[str, int]:
    return turn[0], made[turn].lane


def test_baseten_sends_the_recorded_text(small: Dataset, baseten: Replay) -> None:
    """Each prompt holds what its messages say and nothing else; answers are forced to the recorded
    lengths, and the hints go along."""
    made = recorded.requests(small)
    turns = []
    for session, entries in baseten.sessions():
        for turn, entry in zip(session, entries, strict=True):
            body = entry["body"]
            assert body["min_tokens"] == body["max_tokens"] == made[turn].output_tokens
            assert entry["usage"]["completion_tokens"] == made[turn].output_tokens
            assert body["ignore_eos"] is True
            assert body["block_size"] == 64
            said = [recorded.said(message) for message in made[turn].messages]
            assert sorted(body["prompt"].replace("\n", "")) == sorted(
                "".join([*said, _tools(made[turn].tools)]).replace("\n", "")
            )
            at = [body["prompt"].find(text.split("\n")[0]) for text in said]
            assert at == sorted(at)
            assert at[0] >= 0
        turns += session
    assert sorted(turns) == sorted(made)


def _tools(tools: list[dict[str, Any]]) -> str:
    return json.dumps(tools, separators=(",", ":"), ensure_ascii=False) if tools else ""


def test_baseten_keeps_the_times(small: Dataset, baseten: Replay) -> None:
    """A lane begins at its time after the first of all, and in a lane no request comes earlier than
    the recorded time after the one before ended, milliseconds aside."""
    made = recorded.requests(small)
    first = baseten.logs[0][0]["arrived"]
    for session, entries in baseten.sessions():
        gaps = recorded.gaps_us(made, session)
        for before, entry, gap in zip(entries, entries[1:], gaps[1:], strict=False):
            waited = entry["arrived"] - before["completed"]
            assert waited >= gap / 1e6 - EARLY_S - 0.002, session
        if not made[session[0]].waits:
            started = entries[0]["arrived"] - first
            assert started == pytest.approx((made[session[0]].start_us or 0) / 1e6, abs=0.1)


def test_phases_find_nothing_of_each_other(phases: Replay, encode: mock_engine.Tokens) -> None:
    """Under `aa` each request of the second phase finds what it would have found had the first
    never been: within its phase, and, in each phase, as much as the files say."""
    log = [entry for one in phases.logs for entry in one]
    numbers = {id(entry): number for number, one in enumerate(phases.logs) for entry in one}
    found, alone = (
        recorded.cached(log),
        recorded.cached_alone(log, lambda entry: numbers[id(entry)], encode),
    )
    assert found == alone
    assert [len(one) for one in phases.logs] == [phases.report.counts["requests"]] * 2
    assert phases.report.cache is not None
    size = min(phases.report.cache.hit_tokens)
    predicted = phases.report.cache.rate(size, "within")
    tokens = sum(entry["usage"]["prompt_tokens"] for entry in log)
    print(f"\n{phases.report.target}: cached {sum(found) / tokens:.3f}, predicted {predicted:.3f}")
    assert sum(found) / tokens == pytest.approx(predicted, abs=0.04)


@pytest.mark.parametrize("target", TARGETS)
def test_without_prefixes_text_alone_is_shared_by_phases(
    small: Dataset, target: str, aiperf: Path, hub: Path, tmp_path: Path
) -> None:
    """Under `none` the second phase of text finds all but the last block of each prompt; of ids
    aiperf makes other text in another file or trace, as the losses say."""
    options = LoadOptions(phases=2)
    found = replay(small, target, options, aiperf, hub, tmp_path)
    first, second = (sum(recorded.cached(log)) for log in found.logs)
    tokens = sum(entry["usage"]["prompt_tokens"] for entry in found.logs[1])
    print(f"\n{target}: {first / tokens:.3f}, then {second / tokens:.3f} of {tokens}")
    if target == "aiperf-baseten":
        assert second >= tokens - 16 * len(found.logs[1])
    else:
        assert abs(second - first) <= 16 * len(found.logs[1])
        kinds = {loss["kind"] for loss in found.report.losses}
        assert kinds & {"local_ids", "phases"}
