"""OpenHands in its generations: events, evaluations' rows, completion logs; figures and traps."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

import traj
from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj import events
from traj.dataset import Dataset
from traj.pipeline import record
from traj.sources import find
from traj.validation import validate

NAME = "openhands"
LOG = "openhands_llm_log"
HERE = SAMPLES / NAME
LOGS = SAMPLES / LOG
EVENTS = SAMPLES / "hand_made" / "openhands_events.json"
ROWS = SAMPLES / "hand_made" / "openhands_output.jsonl"
STREAM = SAMPLES / "hand_made" / "openhands_stream.jsonl"


def read(*places: Path, only: str = NAME) -> events.Session:
    (found,) = find(places).sessions
    assert found.format == only
    return found.read()


def turns(session: events.Session, lane: int | None = None) -> list[events.Turn]:
    lanes = session.lanes if lane is None else [session.lanes[lane]]
    return [step for one in lanes for step in one.steps if isinstance(step, events.Turn)]


def sent(session: events.Session, lane: int = 0) -> list[list[events.Message]]:
    """The messages of each request of a lane, by following its steps."""
    known: list[events.Message] = []
    context: list[int] = []
    found = []
    for step in session.lanes[lane].steps:
        if isinstance(step, events.Rebase):
            assert all(number == lane for number, _, _ in step.ranges)
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


def truth() -> dict[str, dict]:
    told = json.loads((SAMPLES / "truth" / NAME / "openhands.json").read_text())["requests"]
    return {one["response_id"]: one for one in told if one["status"] == 200}


def figures(usage: dict) -> tuple:
    return (
        usage["prompt_tokens"],
        usage["prompt_tokens_details"]["cached_tokens"],
        usage["completion_tokens"],
        usage["completion_tokens_details"]["reasoning_tokens"],
    )


def figures_of(usage: events.Usage) -> tuple:
    assert usage.source == "reported"
    return usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens


@pytest.mark.parametrize(("place", "only"), [(HERE, NAME), (LOGS, LOG)], ids=[NAME, LOG])
def test_every_answered_request_is_one_turn_with_what_the_server_said(place, only):
    """Events and completion logs of one run: both have each response once, with its figures, at
    its time."""
    known = truth()
    seen = []
    for found in find([place]).sessions:
        assert found.format == only
        for turn in turns(found.read()):
            if turn.status == "ok":
                seen.append(turn.response_id)
                assert figures_of(turn.usage) == figures(known[turn.response_id]["usage"])
                # The first request was long in the making.
                assert 0 <= known[turn.response_id]["start"] - turn.start_us / 1e6 < 2.5
                assert 0 <= turn.end_us / 1e6 - known[turn.response_id]["end"] < 0.5
    assert sorted(seen) == sorted(known)


def test_prompts_are_what_was_sent():
    """Roles and lengths of each prompt's messages, after a compaction too, equal the server's: the
    words around a sub-agent's report, which the log leaves out, aside."""
    session, known = read(HERE), truth()
    for lane, described in enumerate(session.lanes):
        if described.kind == "side":
            continue
        for turn, prompt in zip(turns(session, lane), sent(session, lane), strict=True):
            told: list[list] = []
            for message in prompt:
                if told and told[-1][0] == message.role == "user":  # sent as one
                    told[-1][1] += 1 + len(message.content)
                else:
                    told.append([message.role, len(message.content or "")])
            request = known[turn.response_id]
            assert [role for role, _ in told] == request["roles"]
            differ = [
                place
                for place, (_, size) in enumerate(told)
                if size != request["sizes"][place] and told[place][0] != "system"
            ]
            reports = [place for place, one in enumerate(prompt) if one.name == "task"]
            assert differ == reports


def test_what_one_response_asked_for_is_one_answer():
    """Two calls share a response: one turn with both, and two results."""
    first = turns(read(HERE), 0)[0]
    assert [call.name for call in first.answer.tool_calls] == ["terminal", "terminal"]


def test_a_summary_is_a_request_aside_and_a_new_context():
    """The compaction's request stands in a side lane; the next prompt has the summary where the
    forgotten events were."""
    session = read(HERE)
    (side,) = [lane for lane in session.lanes if lane.kind == "side"]
    (summed,) = [step for step in side.steps if isinstance(step, events.Turn)]
    assert summed.answer.content.startswith("So far:")
    rebases = [step for step in session.lanes[0].steps if isinstance(step, events.Rebase)]
    assert [step.reason for step in rebases] == ["compaction", None]
    after = sent(session)[-2]
    assert [message.role for message in after] == [
        *("system", "user", "user", "assistant", "tool", "assistant", "tool"),
    ]
    assert after[2].content == summed.answer.content


def test_a_sub_agent_is_a_lane_tied_to_the_call_that_gave_it_its_task():
    """Its own folder, found below its parent's, and no session of its own."""
    session = read(HERE)
    (lane,) = [lane for lane in session.lanes if lane.kind == "subagent"]
    calls = {c.id: c.name for turn in turns(session, 0) for c in turn.answer.tool_calls}
    assert calls[lane.spawned_by] == "task"
    assert lane.joined_by == lane.spawned_by


def test_tools_run_from_the_call_to_the_result():
    """Status and exit code as the terminal said."""
    runs = read(HERE).tool_runs
    assert Counter(run.status for run in runs.values()) == {"ok": 9, "error": 1}
    assert next(run.exit_code for run in runs.values() if run.status == "error") == 1
    assert all(run.end_us >= run.start_us for run in runs.values())


def test_a_failed_request_is_in_completion_logs_alone(tmp_path):
    """A log of an error is a failed attempt of the same prompt."""
    for path in LOGS.iterdir():
        shutil.copy(path, tmp_path)
    logs = sorted(tmp_path.iterdir())
    whole = json.loads(logs[1].read_text())
    failed = {key: whole[key] for key in ("messages", "tools", "kwargs", "cost", "context_window")}
    failed |= {"error": {"type": "RateLimitError"}, "latency_sec": 0.1}
    failed["timestamp"] = whole["timestamp"] - whole["latency_sec"] - 0.1
    (tmp_path / f"{logs[1].name[:-5]}-error.json").write_text(json.dumps(failed))
    session = max((one.read() for one in find([tmp_path]).sessions), key=lambda s: len(turns(s)))
    tries = [(turn.status, turn.error, turn.attempt) for turn in turns(session, 0)]
    assert ("error", "RateLimitError", 0) in tries
    assert ("ok", None, 1) in tries


def test_large_requests_are_known_by_their_end(tmp_path):
    """A completion log whose messages fill what is looked at first is recognised by its end."""
    whole = json.loads(min(LOGS.iterdir()).read_text())
    whole["messages"][1]["content"] = [{"type": "text", "text": "x y " * 200_000}]
    path = tmp_path / "x.json"
    path.write_text(json.dumps(whole))
    assert find([path]).sessions[0].format == LOG
    path.write_text(json.dumps({"messages": whole["messages"]}))
    assert not find([path]).sessions


# Version 0


def test_times_without_a_zone_are_set_right_by_the_responses():
    """The agent's clock is local; a response's second of making is UTC."""
    session = read(EVENTS)
    first = turns(session)[0]
    assert first.end_us == 1_760_000_003_500_000
    assert first.clock == "derived"
    assert "zone_unknown" not in session.losses


def test_a_response_is_counted_once_however_many_events_show_it():
    """Two actions and their observations carry one response: one turn, two calls, two results."""
    session = read(EVENTS)
    first, second = turns(session, 0)[:2]
    assert first.response_id != second.response_id
    assert [call.id for call in first.answer.tool_calls] == ["c1", "c2"]
    assert figures_of(first.usage) == (300, 200, 40, None)
    assert first.usage.cache_write_tokens == 90
    assert [message.role for message in sent(session)[1]] == [
        *("system", "user", "assistant", "tool", "tool"),
    ]


def test_delegated_work_is_another_lane_and_permission_is_told_apart():
    """Between a delegation and its end the events are the other agent's; a wait for a person's
    consent is part of the tool's span."""
    session = read(EVENTS)
    main, other = session.lanes
    assert (other.kind, other.spawned_by, other.joined_by) == ("subagent", "c3", "c3")
    assert len(turns(session, 1)) == 1
    assert session.tool_runs["c2"].permission_us == 2_000_000
    assert session.tool_runs["c1"].permission_us is None
    assert [step for step in main.steps if isinstance(step, events.Message)][-1].role == "tool"


def test_rows_of_an_evaluation_are_sessions_with_their_latencies(tmp_path):
    """Each row with events is a session of its own; latency gives the request's beginning; a
    response that no event shows was paid for."""
    found = find([ROWS]).sessions
    assert len(found) == 2
    session = next(one for one in found if one.read().title == "traj-samples__clock-1").read()
    first, lost, *_ = turns(session)
    assert (first.clock, first.end_us - first.start_us) == ("logged", 1_500_000)
    assert (lost.answer, lost.response_id) == (None, "resp-lost")
    assert lost.usage.input_tokens == 150
    assert session.losses["answer_not_recorded"] == 1
    # Recorded again, nothing changed: sizes and hashes are the rows' own.
    assert record([ROWS], tmp_path / "x.traj").recorded == 2
    again = record([ROWS], tmp_path / "x.traj")
    assert (again.recorded, again.unchanged) == (0, 2)


def test_a_stream_of_events_has_figures_as_growing_sums():
    """The difference of two sums is a request's, also of one that no event shows; approval waits
    are the person's."""
    session = read(STREAM)
    lost, first, second = turns(session)
    assert (lost.answer, lost.usage.input_tokens) == (None, 50)
    assert figures_of(first.usage) == (100, 60, 10, 0)
    assert figures_of(second.usage) == (130, 100, 5, 0)
    assert session.tool_runs["s1"].permission_us == 1_000_000
    assert session.tool_runs["s2"].status == "rejected"
    assert session.losses["zone_unknown"] == 1


def test_a_branch_that_was_left_is_paid_for_and_told_no_more(tmp_path):
    """An event that goes on from an earlier one leaves the others out of the context."""
    rows = [json.loads(line) for line in STREAM.read_text().splitlines()]
    ids = [row["id"] for row in rows]
    for before, row in zip(ids, rows[1:], strict=False):
        row["parent_id"] = before
    turn = next(row for row in rows if row["kind"] == "MessageEvent")
    branch = {**turn, "id": "branch", "parent_id": turn["id"], "timestamp": "2026-01-02T09:00:00"}
    branch["llm_message"] = {"role": "user", "content": [{"type": "text", "text": "Rather not."}]}
    action = next(row for row in rows if row["kind"] == "ActionEvent")
    last = {**action, "id": "last", "parent_id": "branch", "llm_response_id": "resp-branch"}
    path = tmp_path / "x.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in [*rows, branch, last]))
    session = read(path)
    assert [m.role for m in sent(session)[-1]] == ["system", "user", "user"]
    assert len(turns(session)) == 4


def test_no_other_format_is_taken_for_it():
    """Their own samples are recognised, and no other file of the samples."""
    files = [path for path in SAMPLES.rglob("*") if path.is_file() and "make" not in path.parts]
    found = find(files)
    parts = {name: set() for name in (NAME, LOG)}
    for session in found.sessions:
        if session.format in parts:
            parts[session.format] |= {part.path for part in session.parts}
    assert parts[NAME] == {EVENTS, ROWS, STREAM, *HERE.rglob("*.json")}
    assert parts[LOG] == set(LOGS.iterdir())


@pytest.mark.parametrize("path", [EVENTS, ROWS, STREAM], ids=lambda path: path.name)
def test_damaged_files_are_survived(path):
    """Cut off, overwritten, values of wrong types: a sound dataset or one clear error."""
    survive_bytes(path, NAME, 40)
    survive_values(path, NAME, 20)


def test_damaged_logs_are_survived():
    """The same for one completion log, and for one event in a file."""
    survive_bytes(min(LOGS.iterdir()), LOG, 20)
    survive_values(min(LOGS.iterdir()), LOG, 20)
    event = next(path for path in HERE.rglob("*.json") if "event-00006" in path.name)
    survive_values(event, NAME, 20)


def test_the_corpus_is_recorded_whole(shared, tmp_path):
    """Every file of events is recorded, sound; figures equal a count of each response once."""
    corpus = shared / "corpus"
    folders = ("openhands_events", "openhands_output_jsonl", "openhands_sdk_events")
    places = [corpus / name for name in folders]
    report = record(places, tmp_path / "x.traj")
    assert (report.recorded, report.problems, report.passed_over) == (8, [], [])
    dataset = traj.load(tmp_path / "x.traj")
    assert traj.validate(dataset).ok
    sums: Counter = Counter()
    for path in (corpus / "openhands_events").rglob("*.json*"):
        text = path.read_text()
        if path.suffix == ".jsonl":
            rows = [json.loads(line) for line in text.splitlines()]
        else:
            rows = [{"history": json.loads(text)}]
        for row in rows:
            calls = [event.get("tool_call_metadata") for event in row["history"]]
            replies = {c["model_response"]["id"]: c["model_response"]["usage"] for c in calls if c}
            for usage in replies.values():
                sums["input"] += usage["prompt_tokens"]
                sums["output"] += usage["completion_tokens"]
                sums["cached"] += (usage["prompt_tokens_details"] or {}).get("cached_tokens") or 0
    heads = dataset.table("trajectories").to_pylist()
    totals = [
        head["totals"] for head in heads if "stream" not in head["source"]["files"][0]["name"]
    ]
    sdk = next(corpus.joinpath("openhands_sdk_events").rglob("*.jsonl")).read_text().splitlines()
    stats = [json.loads(line) for line in sdk if '"stats"' in line][-1]["value"]
    last = stats["usage_to_metrics"]["default"]["accumulated_token_usage"]
    known = [one["input_tokens"] for one in totals if one["input_tokens"] is not None]
    assert sum(known) == sums["input"] + last["prompt_tokens"]
    outputs = [one["output_tokens"] for one in totals if one["output_tokens"] is not None]
    assert sum(outputs) == sums["output"] + last["completion_tokens"]


def test_the_corpus_of_completion_logs_is_recorded(shared, tmp_path):
    """Each request is a turn with its own figures; bare lists of messages are no requests."""
    folder = shared / "corpus" / LOG
    report = record([folder], tmp_path / "x.traj")
    assert sorted(Path(path).name for path, _ in report.passed_over) == [
        "fncall-llm-message.json",
        "nonfncall-llm-message.json",
    ]
    dataset = traj.load(tmp_path / "x.traj")
    assert traj.validate(dataset).ok
    rows = dataset.table("turns").to_pylist()
    told = [json.loads(path.read_text()) for path in folder.rglob("*.json")]
    replies = {one["response"]["id"]: one["response"] for one in told if isinstance(one, dict)}
    assert {row["response_id"] for row in rows} == set(replies)
    for row in rows:
        usage = replies[row["response_id"]]["usage"]
        assert row["input_tokens"] == usage["prompt_tokens"]
        assert row["output_tokens"] == usage["completion_tokens"]


def test_events_and_logs_of_one_run_are_told_to_be_the_same(tmp_path: Path):
    """Recorded into one dataset every answer is there twice, by clocks that differ by a little;
    either alone is sound."""
    for places, doubles in (((HERE, LOGS), len(truth())), ((HERE,), 0), ((LOGS,), 0)):
        out = tmp_path / str(len(places)) / places[0].name
        record(places, out)
        found = [one for one in validate(Dataset.open(out)).findings if "once" in one.check]
        assert sum(one.count for one in found) == doubles
