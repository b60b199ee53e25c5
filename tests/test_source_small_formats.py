"""Small formats: the Hub's session traces, agentperf-local's recordings, TraceLab's rounds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj.dataset import Dataset
from traj.events import Session, Turn
from traj.exporters import export
from traj.pipeline import record
from traj.sources import find
from traj.validation import validate
from traj.workload.options import LoadOptions

HAND_MADE = SAMPLES / "hand_made"
HUB = HAND_MADE / "hub_session.jsonl"
RECORDING = HAND_MADE / "agentperf_recording.jsonl"
ROUNDS = HAND_MADE / "tracelab_rounds.jsonl"
FILES = {"hub_traces": HUB, "agentperf_local": RECORDING, "tracelab": ROUNDS}


def read(path: Path, form: str) -> Session:
    (session,) = find([path]).sessions
    assert session.format == form
    return session.read()


def turns(session: Session) -> list[Turn]:
    return [s for lane in session.lanes for s in lane.steps if isinstance(s, Turn)]


@pytest.mark.parametrize("form", FILES)
def test_samples_make_sound_datasets_and_are_recorded_once(form, tmp_path):
    """Each sample is recorded, validates, and is unchanged the second time."""
    report = record([FILES[form]], tmp_path / "d")
    assert not report.problems
    assert validate(Dataset.open(tmp_path / "d")).ok
    again = record([FILES[form]], tmp_path / "d")
    assert (again.recorded, again.unchanged) == (0, report.recorded)


def test_only_their_own_files_are_taken():
    """No other sample is one of these, and these are nothing else."""
    for session in find([SAMPLES]).sessions:
        for form, mine in FILES.items():
            assert (session.format == form) == (session.parts[0].path == mine)


@pytest.mark.parametrize("form", FILES)
def test_damaged_files_give_no_traceback(form):
    """Cut off, overwritten, with odd values: read soundly, or refused."""
    survive_bytes(FILES[form], form)
    survive_values(FILES[form], form)


# The Hub's session traces


def test_an_answer_is_a_request_without_figures():
    """Each answer is a turn at its time, its figures are unknown, and tools ran until results."""
    session = read(HUB, "hub_traces")
    found = turns(session)
    assert [turn.usage.source for turn in found] == ["none", "none"]
    assert session.agent_name == "sample-agent"
    assert [turn.end_us - session.started_us for turn in found] == [2_000_000, 6_000_000]
    run = session.tool_runs["c1"]
    assert (run.end_us - run.start_us, run.clock) == (1_500_000, "derived")


def test_our_own_hub_traces_come_back(sample, tmp_path):
    """Texts, calls and results of every lane are the dataset's, and lanes have their calls."""
    export(sample, "hub-traces", tmp_path / "e", LoadOptions())
    record([tmp_path / "e" / "traces"], tmp_path / "d")
    again = Dataset.open(tmp_path / "d")
    assert validate(again).ok
    names = {
        row["trajectory_id"]: row["source"]["session_id"]
        for row in again.table("trajectories").to_pylist()
    }
    found: dict[str, list] = {}
    for row in again.table("messages").to_pylist():
        if row["role"] != "system":
            found.setdefault(names[row["trajectory_id"]], []).append(spoken(row))
    wanted: dict[str, list] = {}
    for row in sample.table("messages").to_pylist():
        if row["role"] != "system":
            wanted.setdefault(row["trajectory_id"], []).append(spoken(row))
    assert {name: sorted(rows) for name, rows in found.items()} == {
        name: sorted(rows) for name, rows in wanted.items()
    }
    sub_agents = [row for row in again.table("turns").to_pylist() if row["lane_kind"] == "subagent"]
    assert {row["lane_name"] for row in sub_agents} >= {"general-purpose"}
    spawned = [row["spawned_lane"] for row in again.table("tool_calls").to_pylist()]
    assert sum(lane is not None for lane in spawned) == 4


def spoken(row: dict) -> str:
    calls = [(call["id"], call["name"], call["arguments"]) for call in row["tool_calls"] or ()]
    return repr((row["role"], row["content"] or "", row["reasoning"], calls, row["tool_call_id"]))


# agentperf-local


def test_recorded_durations_make_the_timeline():
    """Requests one after the other, tools between them, figures as recorded, no date."""
    session = read(RECORDING, "agentperf_local")
    found = turns(session)
    assert [(t.usage.input_tokens, t.usage.output_tokens) for t in found] == [(50, 9), (80, 7)]
    assert [(t.start_us, t.end_us) for t in found] == [(0, 2_000_000), (2_300_000, 3_300_000)]
    assert not session.is_dated
    run = session.tool_runs["c1"]
    assert (run.start_us, run.end_us, run.clock, run.exit_code) == (
        2_000_000,
        2_300_000,
        "logged",
        0,
    )


def test_an_answer_is_what_the_next_prompt_has_behind(tmp_path):
    """The last one is not recorded: its length is known, its text is not."""
    first, last = turns(read(RECORDING, "agentperf_local"))
    assert first.answer is not None
    assert [call.id for call in first.answer.tool_calls] == ["c1"]
    assert last.answer is None
    report = record([RECORDING], tmp_path / "d")
    assert report.losses == {"answer_not_recorded": 1}


def test_our_own_recordings_come_back(sample, tmp_path):
    """Lengths of every request are those of the dataset; delays without a clock are counted."""
    export(sample, "agentperf-local", tmp_path / "e", LoadOptions(lengths="text"))
    report = record([tmp_path / "e" / "traces"], tmp_path / "d")
    again = Dataset.open(tmp_path / "d")
    assert validate(again).ok
    assert report.losses["delay_without_clock"] > 0
    names = {
        row["trajectory_id"]: row["source"]["session_id"]
        for row in again.table("trajectories").to_pylist()
    }
    sent = [
        (row["task_id"], row["recorded_prompt_tokens"], row["recorded_completion_tokens"])
        for path in sorted((tmp_path / "e" / "traces").iterdir())
        for row in map(json.loads, path.read_text().splitlines())
    ]
    found = [
        (names[row["trajectory_id"]], row["input_tokens"], row["output_tokens"])
        for row in again.table("turns").to_pylist()
    ]
    assert sorted(found) == sorted(sent)


# TraceLab


def test_rounds_are_turns_by_session_without_text(tmp_path):
    """Figures and times by session and order of rounds; a repeated round counts once."""
    report = record([ROUNDS], tmp_path / "d")
    assert report.recorded == 2
    assert report.losses == {"no_text": 4, "repeated_line": 1, "tool_run_without_call": 2}
    dataset = Dataset.open(tmp_path / "d")
    assert dataset.table("messages").num_rows == 0
    heads = {
        row["trajectory_id"]: row["source"]["session_id"]
        for row in dataset.table("trajectories").to_pylist()
    }
    found: dict[str, list] = {}
    for row in dataset.table("turns").to_pylist():
        columns = ("input_tokens", "cached_tokens", "output_tokens", "reasoning_tokens", "delay_us")
        found.setdefault(heads[row["trajectory_id"]], []).append([row[one] for one in columns])
        assert row["counted_input_tokens"] is None
    assert found == {
        "s1": [[1000, 0, 50, 10, 0], [1300, 1000, 20, 0, 2_000_000], [1400, 1300, 9, 0, 1_000_000]],
        "s2": [[700, 600, 5, None, 0]],
    }
