"""Length-only traces: figures, times and shared blocks without any text."""

from __future__ import annotations

import json

import pytest

from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj.dataset import Dataset
from traj.errors import SourceError
from traj.exporters import export
from traj.pipeline import record
from traj.sources import find
from traj.validation import validate
from traj.workload.options import LoadOptions

TRACE = SAMPLES / "hand_made" / "weka_trace.json"


@pytest.fixture(scope="module")
def hand_made(tmp_path_factory) -> Dataset:
    """The trace made by hand, recorded."""
    out = tmp_path_factory.mktemp("weka") / "d"
    record([TRACE], out)
    return Dataset.open(out)


def test_lengths_and_times_are_full_and_messages_are_empty(hand_made):
    """Every figure of the trace is a turn's, nothing unknown is zero, and the dataset is sound."""
    assert validate(hand_made).ok
    assert hand_made.table("messages").num_rows == 0
    assert hand_made.table("tool_calls").num_rows == 0
    turns = hand_made.table("turns").to_pylist()
    assert [(turn["input_tokens"], turn["output_tokens"]) for turn in turns] == [
        *((300, 20), (400, 30), (130, 10), (200, 5), (500, 8))
    ]
    for turn in turns:
        assert turn["usage_source"] == "reported"
        unknown = ("cached_tokens", "reasoning_tokens", "counted_output_tokens", "output")
        assert [turn[name] for name in (*unknown, "tool_us", "user_us")] == [None] * 6
    (head,) = hand_made.table("trajectories").to_pylist()
    assert head["started_at"] is None
    assert head["losses"] == [{"kind": "no_text", "count": 5}]
    assert head["totals"]["input_tokens"] == 1530


def test_shared_blocks_are_what_an_ideal_cache_holds(hand_made):
    """Cached is the common front in whole blocks, of any earlier prompt of the trace."""
    turns = hand_made.table("turns").to_pylist()
    assert [turn["counted_cached_tokens"] for turn in turns] == [0, 256, 0, 128, 384]
    assert [turn["counted_input_tokens"] for turn in turns] == [300, 400, 130, 200, 500]


def test_a_sub_agent_is_a_lane_with_its_start_and_join(hand_made):
    """It waits for the request listed before it, and the first request after its end for it."""
    turns = hand_made.table("turns").to_pylist()
    assert [turn["lane"] for turn in turns] == [0, 0, 1, 1, 0]
    assert [turn["lane_name"] for turn in turns] == [None, None, "Explore", "Explore", None]
    assert [turn["wait_for"] for turn in turns] == [[], [0], [1], [2], [1, 3]]
    seconds = [turn["start_us"] / 1e6 for turn in turns]
    assert seconds == [0, 5, 9, 11, 15]  # the sub-agent's own times count from its entry


def test_an_end_that_is_not_told_follows_from_the_next_think_time(hand_made):
    """Without an api_time the end is the next start less its think time, and called derived."""
    first, second, *_ = hand_made.table("turns").to_pylist()
    assert (first["end_us"], first["clock"]) == (2_000_000, "logged")
    assert (second["end_us"], second["clock"], second["delay_us"]) == (
        8_500_000,
        "derived",
        3_000_000,
    )


def test_our_own_export_comes_back(sample, tmp_path):
    """Requests, lengths, starts and ideal hit rates of an export are those of the recording."""
    export(sample, "weka", tmp_path / "e", LoadOptions())
    out = tmp_path / "d"
    report = record([tmp_path / "e" / "traces"], out)
    assert not report.problems
    again = Dataset.open(out)
    assert validate(again).ok
    names = {
        row["trajectory_id"]: row["source"]["session_id"]
        for row in again.table("trajectories").to_pylist()
    }
    found: dict[str, list] = {}
    for row in again.table("turns").to_pylist():
        found.setdefault(names[row["trajectory_id"]], []).append(row)
    for one in sample.trajectories(("turns",)):
        wanted = [turn for turn in one.turns.to_pylist() if turn["output"] is not None]
        mine = found[one.trajectory_id]
        lengths = sorted((turn["input_tokens"], turn["output_tokens"]) for turn in wanted)
        assert sorted((turn["input_tokens"], turn["output_tokens"]) for turn in mine) == lengths
        assert {t["lane_kind"] for t in mine} <= {"main", "subagent"}
        shares = [
            sum(t["counted_cached_tokens"] for t in rows) / sum(t[whole] for t in rows)
            for rows, whole in ((mine, "input_tokens"), (wanted, "counted_input_tokens"))
        ]
        # Blocks round down, and answers are known to the trace only when they are sent again.
        assert shares[0] == pytest.approx(shares[1], abs=0.12)


def test_the_corpus_is_recorded_with_its_own_totals(shared, tmp_path):
    """Totals equal those that the published traces state themselves, and all is sound."""
    folder = shared / "corpus" / "kvcache_tester"
    record([folder], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    assert validate(dataset).ok
    stated = {}
    for path in folder.rglob("*.json"):
        trace = json.loads(path.read_text())
        stated[trace["id"]] = trace["totals"]
    heads = dataset.table("trajectories").to_pylist()
    assert {head["source"]["session_id"] for head in heads} == set(stated)
    for head in heads:
        told = stated[head["source"]["session_id"]]
        assert head["totals"]["input_tokens"] == told["combined_tokens"]["input"]
        assert head["totals"]["output_tokens"] == told["combined_tokens"]["output"]
        assert head["totals"]["lanes"] == 1 + told["subagent_count"]
        assert head["totals"]["counted_cached_tokens"] <= head["totals"]["input_tokens"]


def test_only_its_own_files_are_taken():
    """No other sample is a trace of lengths."""
    for path in sorted(SAMPLES.rglob("*.json*")):
        for session in find([path]).sessions:
            assert (session.format == "weka") == (path == TRACE), path


def test_an_entry_may_count_from_the_traces_start(tmp_path):
    """If a sub-agent's first request lies after its entry, times count from the trace's start."""
    trace = json.loads(TRACE.read_text())
    (entry,) = (one for one in trace["requests"] if one["type"] == "subagent")
    for one in entry["requests"]:
        one["t"] += entry["t"]
    path = tmp_path / "trace.json"
    path.write_text(json.dumps(trace))
    (here,), (there,) = find([path]).sessions, find([TRACE]).sessions
    assert here.read().lanes[1].steps == there.read().lanes[1].steps


def test_a_trace_without_requests_is_refused(tmp_path):
    """An empty list is named as such, in one line."""
    path = tmp_path / "trace.json"
    path.write_text('{"id": "x", "block_size": 64, "requests": [{"requests": []}]}')
    (session,) = find([path]).sessions
    with pytest.raises(SourceError, match="without a request"):
        session.read()


def test_damaged_traces_give_no_traceback(tmp_path):
    """Cut off, overwritten, with odd values: read soundly, or refused."""
    survive_bytes(TRACE, "weka")
    survive_values(TRACE, "weka")
