"""ATIF: documents of any writer, and traj's own, which give back what was exported."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import traj
from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj import events
from traj.dataset import Dataset
from traj.pipeline import record
from traj.sources import find

NAME = "atif"
HAND_MADE = SAMPLES / "hand_made"
PLAIN = HAND_MADE / "atif_plain.json"
OLD = HAND_MADE / "atif_old.json"
SESSIONS = (SAMPLES / "claude_code", SAMPLES / "codex", SAMPLES / "openhands", HAND_MADE)
# Of these columns everything is given back.
TURNS = (
    *("turn", "lane", "lane_kind", "lane_name", "context", "context_reason", "wait_for", "input"),
    *("output", "start_us", "first_token_us", "end_us", "delay_us", "tool_us", "clock", "api"),
    *("model", "response_id", "input_tokens", "cached_tokens", "cache_write_tokens"),
    *("output_tokens", "reasoning_tokens", "usage_source", "earlier_reasoning", "stop_reason"),
    *("status", "error", "attempt", "sampling", "counted_output_tokens", "user_us"),
)
CALLS = (
    *("call", "turn", "lane", "tool_call_id", "name", "category", "start_us", "end_us", "clock"),
    *("permission_us", "status", "exit_code", "argument_tokens", "result_tokens", "result_bytes"),
    *("truncated", "background", "spawned_lane"),
)
MESSAGES = (
    *("message", "lane", "role", "reasoning", "tool_calls", "tool_call_id", "name", "attachments"),
    *("tokens", "time_us"),
)


def read(path: Path) -> events.Session:
    (found,) = find([path], NAME).sessions
    return found.read()


def turns(session: events.Session, lane: int = 0) -> list[events.Turn]:
    return [step for step in session.lanes[lane].steps if isinstance(step, events.Turn)]


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Dataset, Path]:
    """Samples of several formats, recorded, and the ATIF documents made of them."""
    folder = tmp_path_factory.mktemp("atif")
    record(list(SESSIONS), folder / "one.traj")
    dataset = traj.load(folder / "one.traj")
    traj.export(dataset, NAME, folder / "out")
    return dataset, folder / "out" / "trajectories"


def rows(dataset: Dataset, table: str, columns: tuple[str, ...]) -> dict[str, list[dict]]:
    """A table's rows by trajectory."""
    found: dict[str, list[dict]] = {}
    for row in dataset.table(table).to_pylist():
        kept = {name: row[name] for name in columns}
        found.setdefault(row["trajectory_id"], []).append(kept)
    return found


def test_what_traj_exports_is_read_back(exported, tmp_path):
    """Turns, prompts, times, figures, calls, messages and sub-agents are those of the dataset that
    was exported."""
    before, documents = exported
    report = record([documents], tmp_path / "two.traj")
    assert not report.problems
    after = traj.load(tmp_path / "two.traj")
    assert {f.check for f in traj.validate(after).findings} <= {
        f.check for f in traj.validate(before).findings
    }
    heads = after.table("trajectories").to_pylist()
    ids = {head["source"]["session_id"]: head["trajectory_id"] for head in heads}
    assert len(ids) == before.table("trajectories").num_rows
    # Without messages there are no calls, and ATIF has no other word for who started whom.
    silent = {head["trajectory_id"] for head in before.table("trajectories").to_pylist()}
    silent -= {row["trajectory_id"] for row in before.table("messages").to_pylist()}
    for table, columns in (("turns", TURNS), ("tool_calls", CALLS), ("messages", MESSAGES)):
        old, new = rows(before, table, columns), rows(after, table, columns)
        for trajectory, expected in old.items():
            if trajectory not in silent:
                assert new[ids[trajectory]] == expected, (trajectory, table)


def test_texts_come_back_too(exported, tmp_path):
    """Contents are equal but for the difference between none and an empty one."""
    before, documents = exported
    record([documents], tmp_path / "two.traj")
    after = traj.load(tmp_path / "two.traj")
    texts = [
        sorted((row["content"] or "") for row in dataset.table("messages").to_pylist())
        for dataset in (before, after)
    ]
    assert texts[0] == texts[1]


def test_each_answer_of_any_writer_is_a_request_with_its_figures():
    """Copied and made-up steps are history; sums over several requests are partial; a sub-agent is
    a lane tied to its call."""
    session = read(PLAIN)
    first, second, third = turns(session)
    assert first.usage == events.Usage(400, 300, 60, 30, 12, "reported")
    assert second.usage.source == "partial"
    assert third.model == "other-1"
    assert first.tools is not None
    assert first.sampling == events.Sampling(reasoning_effort="high")
    assert session.losses == {
        "copied_turn": 1,
        "synthetic_message": 1,
        "usage_not_per_request": 1,
        "continued_elsewhere": 1,
    }
    main, other = session.lanes
    assert (other.kind, other.spawned_by, other.joined_by) == ("subagent", "c2", "c2")
    assert [turn.usage.input_tokens for turn in turns(session, 1)] == [70]
    assert main.steps[2].role == "assistant"  # the copied answer


def test_times_of_steps_are_no_times_of_requests():
    """What a step's time is, writers do not agree on: no request is said to have begun."""
    session = read(PLAIN)
    assert {turn.clock for turn in turns(session)} == {"none"}
    assert all(turn.start_us is None and turn.end_us is not None for turn in turns(session))
    assert all(run.start_us is None and run.end_us is None for run in session.tool_runs.values())


def test_old_documents_are_read_and_sums_alone_are_the_sessions():
    """Version 1.0: a session id only, one reference in place of a list, totals in the end."""
    session = read(OLD)
    assert session.session_id == "old-1"
    assert {turn.usage.source for turn in turns(session)} == {"none"}
    assert session.usage == events.Usage(900, 700, None, 80, None, "partial")
    assert session.losses == {"usage_not_per_request": 1, "subagent_elsewhere": 1}


def test_parts_of_one_run_are_sessions_of_their_own(tmp_path):
    """A continuation shares its run's id; what it copied is not counted."""
    whole = json.loads(OLD.read_text())
    copied = [{**step, "is_copied_context": True} for step in whole["steps"][:3]]
    last = {**whole["steps"][2], "step_id": 4, "message": "And on."}
    (tmp_path / "one.json").write_text(json.dumps(whole))
    (tmp_path / "two.json").write_text(json.dumps({**whole, "steps": [*copied, last]}))
    found = find([tmp_path]).sessions
    assert len(found) == 2
    assert sorted(len(turns(one.read())) for one in found) == [1, len(turns(read(OLD)))]


@pytest.mark.parametrize("version", [f"ATIF-v1.{minor}" for minor in range(9)])
def test_all_versions_are_recognised(version, tmp_path):
    """1.0 to 1.8; another format's schema version is none."""
    whole = json.loads(PLAIN.read_text())
    path = tmp_path / "x.json"
    path.write_text(json.dumps({**whole, "schema_version": version}))
    assert [one.format for one in find([path]).sessions] == [NAME]
    path.write_text(json.dumps({**whole, "schema_version": "1.0"}))
    assert not find([path]).sessions


def test_no_other_format_is_taken_for_it():
    """Its own samples are recognised, and no other file of the samples."""
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "make" not in path.parts]
    found = find(files).sessions
    mine = {part.path for one in found if one.format == NAME for part in one.parts}
    assert mine == {PLAIN, OLD}


@pytest.mark.parametrize("path", [PLAIN, OLD], ids=lambda path: path.name)
def test_damaged_files_are_survived(path):
    """Cut off, overwritten, values of wrong types: a sound dataset or one clear error."""
    survive_bytes(path, NAME, 40)
    survive_values(path, NAME, 25)


def test_damaged_exports_are_survived(exported):
    """The same for a document of traj with a sub-agent, whose rows may then be at odds."""
    _, documents = exported
    found = [path for path in documents.iterdir() if '"subagent_trajectories"' in path.read_text()]
    for path in sorted(found, key=lambda path: path.stat().st_size)[:2]:
        survive_values(path, NAME, 25)
    survive_bytes(min(found, key=lambda path: path.stat().st_size), NAME, 15)


def test_the_corpus_is_recorded(shared, tmp_path):
    """The public sample: a request a step of the agent, no figures."""
    (path,) = (shared / "corpus" / NAME).rglob("*.json")
    record([path], tmp_path / "x.traj")
    dataset = traj.load(tmp_path / "x.traj")
    assert traj.validate(dataset).ok
    steps = json.loads(path.read_text())["steps"]
    found = dataset.table("turns").to_pylist()
    assert len(found) == sum(step["source"] == "agent" for step in steps)
    assert {row["usage_source"] for row in found} == {"none"}
