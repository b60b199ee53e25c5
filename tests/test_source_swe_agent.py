"""SWE-agent: requests as its trajectories hold them, sums that are the run's, and its traps."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import traj
from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj import events
from traj.pipeline import record
from traj.sources import find

NAME = "swe_agent"
HERE = SAMPLES / "hand_made"
REQUESTS = HERE / "swe_agent_requests.traj"
HISTORY = HERE / "swe_agent_history.traj"


def read(path: Path) -> events.Session:
    (found,) = find([path]).sessions
    assert found.format == NAME
    return found.read()


def turns(session: events.Session) -> list[events.Turn]:
    return [s for lane in session.lanes for s in lane.steps if isinstance(s, events.Turn)]


def sent(session: events.Session) -> list[list[events.Message]]:
    """The messages of each request, by following the steps of the only lane."""
    known: list[events.Message] = []
    context: list[int] = []
    found = []
    for step in session.lanes[0].steps:
        if isinstance(step, events.Rebase):
            context = [n for _, start, stop in step.ranges for n in range(start, stop)]
            continue
        message = step
        if isinstance(step, events.Turn):
            found.append([known[n] for n in context])
            message = step.answer
        if message is not None:
            context.append(len(known))
            known.append(message)
    return found


def test_each_step_is_a_request_with_the_messages_it_was_sent_with():
    """Prompts equal the logged queries: shortened output and discarded answers included."""
    session = read(REQUESTS)
    steps = json.loads(REQUESTS.read_text())["trajectory"]
    assert [[m.content for m in prompt] for prompt in sent(session)] == [
        [one["content"] for one in step["query"]] for step in steps
    ]
    found = turns(session)
    assert [turn.answer.content for turn in found] == [step["response"] for step in steps]
    calls = [[call.name for call in turn.answer.tool_calls] for turn in found]
    assert calls == [["open"], [], ["edit"], ["submit"]]
    assert {turn.model for turn in found} == {"openai/scripted-1"}
    rebases = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert rebases == ["edit"]


def test_sums_of_the_run_are_no_figures_of_requests():
    """The agent's own counts stand with the session, as partial, and are listed."""
    session = read(REQUESTS)
    assert {turn.usage.source for turn in turns(session)} == {"none"}
    assert session.usage == events.Usage(1210, None, None, 143, None, "partial")
    assert session.losses == {"usage_not_per_request": 1, "tool_duration": 3}


def test_attempts_are_counted_once_though_the_best_stands_twice(tmp_path):
    """A retrying agent's file holds all attempts, and the best one again at its top."""
    whole = json.loads(REQUESTS.read_text())
    other = json.loads(json.dumps(whole))
    other["trajectory"][0]["response"] = "Another beginning."
    path = tmp_path / "x.traj"
    path.write_text(json.dumps({"attempts": [whole, other], **whole}))
    session = read(path)
    assert len(turns(session)) == 8
    assert session.usage.input_tokens == 2 * 1210


def test_demonstrations_and_the_agents_own_last_words_are_no_answers():
    """In a history, what a demonstration says was asked of no model, nor was `Exit due to`."""
    session = read(HISTORY)
    assert [len(prompt) for prompt in sent(session)] == [5, 7]
    assert [m.role for m in sent(session)[0]] == ["system", "user", "assistant", "user", "user"]
    assert session.losses == {"usage_not_per_request": 1, "text_action": 2, "synthetic_message": 1}


def test_a_prompt_that_did_not_fit_is_a_failed_request(tmp_path):
    """The last request of a run that ended so was sent, with all that came before."""
    whole = json.loads(REQUESTS.read_text())
    steps, told = whole["trajectory"][:1], whole["history"][:4]
    words = "Exit due to context window"
    steps.append({**steps[0], "query": [{}], "response": words, "thought": words, "action": ""})
    told.append({"role": "assistant", "content": words, "agent": "main"})
    info = {**whole["info"], "exit_status": "submitted (exit_context)"}
    path = tmp_path / "x.traj"
    path.write_text(json.dumps({**whole, "trajectory": steps, "history": told, "info": info}))
    session = read(path)
    first, failed = turns(session)
    assert (first.status, failed.status, failed.answer) == ("ok", "error", None)
    assert [m.content for m in sent(session)[1]] == [one["content"] for one in told[:4]]


def test_agents_in_one_history_are_lanes_of_their_own(tmp_path):
    """What one agent said, another was not shown."""
    whole = json.loads(HISTORY.read_text())
    other = [{**one, "agent": "helper"} for one in whole["history"][-5:-1]]
    path = tmp_path / "x.traj"
    path.write_text(json.dumps({**whole, "history": whole["history"] + other}))
    session = read(path)
    assert [(lane.kind, lane.name) for lane in session.lanes] == [
        ("main", None),
        ("subagent", "helper"),
    ]


def test_runs_are_told_apart_and_known_again(tmp_path):
    """Where actions were timed the first one makes the id, which a longer file keeps; other runs
    differ by their bytes."""
    whole = json.loads(REQUESTS.read_text())
    (tmp_path / "short.traj").write_text(
        json.dumps({**whole, "trajectory": whole["trajectory"][:2]})
    )
    assert find([tmp_path]).sessions[0].session_id == find([REQUESTS]).sessions[0].session_id
    ids = {find([path]).sessions[0].session_id for path in (REQUESTS, HISTORY)}
    assert len(ids) == 2


def test_no_other_format_is_taken_for_it():
    """Its own samples are recognised, and no other file of the samples."""
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "make" not in path.parts]
    found = find(files)
    mine = {part.path for one in found.sessions if one.format == NAME for part in one.parts}
    assert mine == {REQUESTS, HISTORY}


@pytest.mark.parametrize("path", [REQUESTS, HISTORY], ids=lambda path: path.name)
def test_damaged_files_are_survived(path):
    """Cut off, overwritten, values of wrong types: a sound dataset or one clear error."""
    survive_bytes(path, NAME)
    survive_values(path, NAME)


def test_the_corpus_is_recorded_whole(shared, tmp_path):
    """Every file is a session, sound, with as many turns as its history has answers."""
    paths = sorted((shared / "corpus" / NAME).rglob("*.traj"))
    report = record([shared / "corpus" / NAME], tmp_path / "x.traj", source_format=NAME)
    assert (report.recorded, report.problems, report.passed_over) == (len(paths), [], [])
    dataset = traj.load(tmp_path / "x.traj")
    assert traj.validate(dataset).ok
    answers = [
        sum(one["role"] == "assistant" for one in json.loads(path.read_text())["history"])
        for path in paths
    ]
    found = [row["totals"]["turns"] for row in dataset.table("trajectories").to_pylist()]
    assert sorted(found) == sorted(answers)
