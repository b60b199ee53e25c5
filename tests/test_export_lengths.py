"""Targets that hold lengths and block ids, or whole prompts as text: true to the dataset's rows."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

import recorded
import rows
from test_exporters import Many, Shape, lost, session, shapes
from traj.dataset import Dataset
from traj.exporters import ExportReport, aiperf_baseten, aiperf_mooncake, export
from traj.workload.load import Load
from traj.workload.options import LoadOptions
from traj.workload.prompt_blocks import PromptBlocks

if TYPE_CHECKING:
    from pathlib import Path

LENGTHS = ["aiperf-mooncake", "dynamo-agentic", "dynamo-mooncake", "vllm-timed-trace"]
LINES = {
    "aiperf-mooncake": "mooncake.jsonl",
    "dynamo-agentic": "agentic_mooncake.jsonl",
    "dynamo-mooncake": "mooncake.jsonl",
    "vllm-timed-trace": "timed_trace.jsonl",
}
BLOCKS = {
    "aiperf-mooncake": 512,
    "dynamo-agentic": 64,
    "dynamo-mooncake": 512,
    "vllm-timed-trace": 16,
}


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    return Dataset.open(rows.write(tmp_path / "dataset", rows.small()))


def lines_of(folder: Path, target: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in (folder / LINES[target]).read_text().splitlines()]
    return found[1:] if target == "dynamo-agentic" else found


def by_turn(folder: Path, target: str) -> dict[tuple[str, int], dict[str, Any]]:
    """The line of each turn, by way of sessions.jsonl."""
    sessions = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    lines: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines_of(folder, target):
        lines[line["session_id"]].append(line)
    assert {name: len(found) for name, found in lines.items()} == {
        name: len(turns) for name, turns in sessions.items()
    }
    return {
        turn: line
        for name, turns in sessions.items()
        for turn, line in zip(turns, lines[name], strict=True)
    }


def figures(dataset: Dataset) -> dict[tuple[str, int], int]:
    """The length of each answered turn's prompt."""
    found = {}
    for one in dataset.trajectories(("turns",)):
        for turn in one.turns.to_pylist():
            reported, counted = turn["input_tokens"], turn["counted_input_tokens"]
            if turn["output"] is not None:
                found[one.trajectory_id, turn["turn"]] = counted if reported is None else reported
    return found


@pytest.mark.parametrize("which", ["small", "sample"])
@pytest.mark.parametrize("target", LENGTHS)
def test_every_request_has_its_lengths(
    target: str, which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Each answered turn is there once, with the recorded lengths and as many ids as hold it; where
    lines say what they add, the sum is the prompt, but for those that are counted as longer."""
    dataset: Dataset = request.getfixturevalue(which)
    report = export(dataset, target, tmp_path / "out")
    lines, prompts, answers = (
        by_turn(tmp_path / "out", target),
        figures(dataset),
        recorded.requests(dataset),
    )
    assert lines.keys() == prompts.keys() == answers.keys()
    held: dict[str, int] = defaultdict(int)
    longer = 0
    for turn, line in sorted(lines.items()):
        assert line["output_length"] == answers[turn].output_tokens
        assert len(line["hash_ids"]) == -(-line["input_length"] // BLOCKS[target])
        sent = line["input_length"]
        if target == "aiperf-mooncake":
            sent += held[line["session_id"]]
            held[line["session_id"]] = sent + line["output_length"]
        longer += sent > prompts[turn]
        assert sent >= prompts[turn]
    assert longer == lost(report, "longer")
    if target == "aiperf-mooncake":
        assert report.counts["sessions"] == len(held)


@Many
@given(shape=shapes())
def test_added_lengths_of_any_session(
    shape: Shape, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """aiperf wants one length an id, a first turn without delay and later ones without time; and
    every prompt that does not go on from the one before begins a session."""
    folder = tmp_path_factory.mktemp("any")
    dataset = Dataset.open(rows.write(folder / "dataset", session(shape)))
    report = export(dataset, "aiperf-mooncake", folder / "out")
    lengths: dict[int, int] = {}
    sessions: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for line in lines_of(folder / "out", "aiperf-mooncake"):
        sessions[line["session_id"]].append(line)
        left = line["input_length"]
        for one in line["hash_ids"]:
            length = min(left, aiperf_mooncake.BLOCK)
            assert lengths.setdefault(one, length) == length
            left -= length
        assert left == 0
    for first, *others in sessions.values():
        assert "timestamp" in first
        assert "delay" not in first
        assert all("delay" in line and "timestamp" not in line for line in others)
    fresh, known = 0, set()
    for lane, begins, failed in zip(shape.lanes, shape.fresh, shape.failed, strict=True):
        if begins:
            known.discard(lane)
        if not failed:
            fresh += lane not in known
            known.add(lane)
    assert len(sessions) == fresh == report.counts["sessions"]


@Many
@given(shape=shapes())
def test_agentic_dependencies_of_any_session(
    shape: Shape, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The graph is the record's: each answered turn waits for exactly the answered turns that it
    waited for, with its delay; one that waits for nothing has the time of its start."""
    folder = tmp_path_factory.mktemp("any")
    tables = session(shape)
    dataset = Dataset.open(rows.write(folder / "dataset", tables))
    assume(any(turn["output"] is not None for turn in tables["turns"]))
    export(dataset, "dynamo-agentic", folder / "out")
    lines = by_turn(folder / "out", "dynamo-agentic")
    names = {line["request_id"]: turn for turn, line in lines.items()}
    for turn, request in sorted(recorded.requests(dataset).items()):
        line = lines[turn]
        waits = line.get("dependencies", [])
        assert {names[one["request_id"]][1] for one in waits} == request.waits
        assert line["session_id"].endswith(f".l{request.lane}")
        for one in waits:
            assert one["delay_ms"] == request.delay_us / 1000
            same_lane = shape.lanes[names[one["request_id"]][1]] == request.lane
            assert (one["relation"] == "sequence") == same_lane
        assert line["not_before_ms"] == (0 if waits else request.start_us / 1000)
        assert line["recorded_api_time_ms"] == (request.end_us - request.start_us) / 1000


@Many
@given(shape=shapes())
def test_lanes_keep_the_recorded_time(
    shape: Shape, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """A lane's first request has its time, each next one the time since the one before ended, so
    that requests lie where the delays put them, whatever another lane did in between."""
    folder = tmp_path_factory.mktemp("any")
    dataset = Dataset.open(rows.write(folder / "dataset", session(shape)))
    export(dataset, "dynamo-mooncake", folder / "out")
    export(dataset, "vllm-timed-trace", folder / "timed")
    made = recorded.requests(dataset)
    lines, timed = by_turn(folder / "out", "dynamo-mooncake"), by_turn(folder / "timed", LENGTHS[3])
    expected: dict[tuple[str, int], float] = {}  # when each request ends, in microseconds
    lanes: dict[int, float] = {}
    for turn, request in sorted(made.items()):
        after = [expected[turn[0], wait] for wait in request.waits]
        start = max(after) + request.delay_us if after else request.start_us
        line = lines[turn]
        at = lanes[request.lane] + line["delay"] if request.lane in lanes else line["timestamp"]
        assert at == pytest.approx(start / 1000)
        assert timed[turn]["timestamp"] == pytest.approx(start / 1e6)
        expected[turn] = start + request.end_us - request.start_us
        lanes[request.lane] = expected[turn] / 1000
    times = [line["timestamp"] for line in lines_of(folder / "timed", "vllm-timed-trace")]
    assert times == sorted(times)


@Many
@given(shape=shapes(), block=st.sampled_from([4, 16, 64]))
def test_tails_tell_whole_prompts_apart(
    shape: Shape, block: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Two prompts share the id of what lies behind their whole blocks where they are equal, and it
    is nothing else's id."""
    folder = tmp_path_factory.mktemp("any")
    dataset = Dataset.open(rows.write(folder / "dataset", session(shape)))
    tails: dict[int, tuple[Any, ...]] = {}
    whole: set[int] = set()
    for play in Load(dataset, LoadOptions(lengths="text", plays=2), text=False).plays():
        for prompt in PromptBlocks(play, block):
            whole.update(prompt.ids)
            assert (prompt.tail is None) == (prompt.tokens % block == 0)
            if prompt.tail is not None:
                content = prompt.tokens, *map(tuple, play.turns.ranges(prompt.turn))
                assert tails.setdefault(prompt.tail, content) == content
    assert not whole & tails.keys()


# --- what is shared ---------------------------------------------------------------------------


def cache(dataset: Dataset, target: str, policy: str, folder: Path) -> tuple[ExportReport, Any]:
    options = LoadOptions(prefix=policy, phases=2, plays=2)
    report = export(dataset, target, folder, options)
    assert report.cache is not None
    return report, report.cache.longest_tokens


@pytest.mark.parametrize("target", [*LENGTHS, "aiperf-baseten", "weka"])
def test_fresh_prefixes_share_nothing(sample: Dataset, target: str, tmp_path: Path) -> None:
    """Under `aa` no prompt is found in what another play or an earlier phase sent, while within a
    trajectory all is found that may be, but for answers, which are known once they are sent."""
    report, longest = cache(sample, target, "aa", tmp_path / "out")
    assert longest["across_trajectories"] < 16
    assert longest["across_phases"] < 16
    assert report.cache is not None
    assert report.ideal_hit_rate is not None
    smallest = min(report.cache.hit_tokens)
    within = report.cache.rate(max(16, smallest), "within")
    assert 0.9 * report.ideal_hit_rate < within <= report.ideal_hit_rate


@pytest.mark.parametrize("target", [*LENGTHS, "aiperf-baseten", "weka"])
def test_shared_fronts_stay_shared(sample: Dataset, target: str, tmp_path: Path) -> None:
    """Under `shared-system` plays and phases have the front in common, and under `none` all of it;
    what a harness makes of local ids or of files is a listed loss."""
    front, front_longest = cache(sample, target, "shared-system", tmp_path / "front")
    _, longest = cache(sample, target, "none", tmp_path / "none")
    if target == "weka":
        assert front_longest["across_trajectories"] == front_longest["across_phases"] == 0
        assert lost(front, "local_ids") == front.counts["trajectories"]
        return
    assert longest["across_trajectories"] > front_longest["across_trajectories"] > 10_000
    if target == "aiperf-mooncake":
        assert front_longest["across_phases"] == longest["across_phases"] == 0
        assert lost(front, "phases") == front.counts["trajectories"]
        return
    assert longest["across_phases"] > front_longest["across_phases"] > 10_000


@pytest.mark.parametrize("target", LENGTHS)
def test_text_and_ids_share_the_same(sample: Dataset, target: str, tmp_path: Path) -> None:
    """The block ids of all policies share as much as the texts of the same prompts do."""
    for policy in ("shared-system", "none"):
        text, _ = cache(sample, "aiperf-baseten", policy, tmp_path / f"text-{policy}")
        ids, _ = cache(sample, target, policy, tmp_path / policy)
        assert text.cache is not None
        assert ids.cache is not None
        size = max(64, min(ids.cache.hit_tokens))
        for scope in ("within", "across_trajectories", "across_phases"):
            if scope == "within" or target != "aiperf-mooncake":
                expected = text.cache.rate(size, scope)
                assert ids.cache.rate(size, scope) == pytest.approx(expected, abs=0.02)


@pytest.mark.parametrize("target", [*LENGTHS, "aiperf-baseten", "weka"])
def test_files_read_back_are_what_was_counted(small: Dataset, target: str, tmp_path: Path) -> None:
    """The prompts read back are as many as the report's requests, and as long."""
    report = export(small, target, tmp_path / "out", LoadOptions(prefix="context", phases=2))
    assert report.cache is not None
    assert report.cache.prompts == 2 * report.counts["requests"] == 34
    mean = report.percentiles["input_tokens"]["mean"]
    slack = 0.02 if target == "aiperf-baseten" else 1e-6  # blank lines
    assert report.cache.tokens / report.cache.prompts == pytest.approx(mean, rel=slack)


def test_lines_of_vllm_have_their_lengths(sample: Dataset, tmp_path: Path) -> None:
    """Expanded as vLLM does it, each id to its share of the length and not beyond, the ids of a
    line are just enough: vLLM stops without a word where they run out. Lines of all trajectories
    are in the order of their times: vLLM sleeps from one to the next."""
    export(sample, "vllm-timed-trace", tmp_path / "out", LoadOptions(sample=3))
    lines = lines_of(tmp_path / "out", "vllm-timed-trace")
    assert lines == sorted(lines, key=lambda line: float(line["timestamp"]))
    assert len({line["session_id"] for line in lines[:5]}) > 1
    for line in lines:
        left, used = line["input_length"], 0
        for _ in line["hash_ids"]:
            left -= min(16, left)
            used += 1
            if left <= 0:
                break
        assert (left, used) == (0, len(line["hash_ids"]))


# --- whole prompts as text --------------------------------------------------------------------


def baseten(folder: Path) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    return list(pq.read_table(folder / "baseten.parquet").to_pylist())


@pytest.mark.parametrize("which", ["small", "sample"])
def test_text_prompts_hold_the_recorded_messages(
    which: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """A row's prompt is what its messages say, in order: system, tools, the others."""
    dataset: Dataset = request.getfixturevalue(which)
    export(dataset, "aiperf-baseten", tmp_path / "out", LoadOptions(lengths="text"))
    sessions = recorded.sessions((tmp_path / "out" / "sessions.jsonl").read_text().splitlines())
    made = recorded.requests(dataset)
    sent: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in baseten(tmp_path / "out"):
        sent[row["provided_session_id"]].append(row)
    turns = []
    for name, found in sessions.items():
        turns += found
        for turn, row in zip(found, sent[name], strict=True):
            messages = made[turn].messages
            front = [one for one in messages if one["role"] == "system"]
            tools = made[turn].tools
            texts = [recorded.said(one).replace("\n", "") for one in front]
            texts += [json.dumps(tools, separators=(",", ":"), ensure_ascii=False)] if tools else []
            texts += [
                recorded.said(one).replace("\n", "") for one in messages if one["role"] != "system"
            ]
            assert row["prompt"].replace("\n", "") == "".join(texts).replace("\n", "")
            assert row["output_tokens"] == made[turn].output_tokens
            assert row["block_size"] == 64
            assert len(row["total_hashes"]) == row["input_tokens"] // 64
    assert sorted(turns) == sorted(made)


def test_text_is_held_a_row_group_at_a_time(
    sample: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Row groups end when they hold enough text, and any row's parts can be read again."""
    import pyarrow.parquet as pq

    monkeypatch.setattr(aiperf_baseten, "GROUP_BYTES", 1 << 20)
    out = tmp_path / "out"
    export(sample, "aiperf-baseten", out, LoadOptions(lengths="text"))
    text = sum(len(row["prompt"].encode()) for row in baseten(out))
    assert pq.ParquetFile(out / "baseten.parquet").num_row_groups > text / (1 << 20) / 2
    for prompt in aiperf_baseten.prompts(out, 0):
        for part in prompt.parts[-1:]:
            assert aiperf_baseten.read(out, part.place) == part.texts


def test_text_keeps_what_the_provider_found_cached(sample: Dataset, tmp_path: Path) -> None:
    """The reference column is the dataset's, row by row."""
    export(sample, "aiperf-baseten", tmp_path / "out")
    expected = [
        turn["cached_tokens"]
        for one in sample.trajectories(("turns",))
        for turn in one.turns.to_pylist()
        if turn["output"] is not None
    ]
    assert any(expected)
    assert [row["cached_tokens_reference"] for row in baseten(tmp_path / "out")] == expected
