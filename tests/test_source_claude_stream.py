"""Claude Code's stream-json: what its caller saw, held to what went over the wire."""

from __future__ import annotations

import json

import pytest

from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj.dataset import Dataset
from traj.events import Message, Rebase, Session, Turn
from traj.pipeline import record
from traj.sources import find
from traj.validation import validate

FOLDER = SAMPLES / "claude_stream"
PIECES = FOLDER / "rust.jsonl"  # with --include-partial-messages


@pytest.fixture(scope="module")
def read() -> dict[str, Session]:
    """The sample sessions by the first word of their files' names."""
    found = {}
    for session in find([FOLDER]).sessions:
        assert session.format == "claude_stream"
        name = session.parts[0].path.stem.partition("-")[0]
        found[name] = session.read()
    return found


def turns(session: Session) -> list[Turn]:
    return [s for lane in session.lanes for s in lane.steps if isinstance(s, Turn)]


def total(usage: dict) -> int:
    parts = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(usage[one] for one in parts)


def truth(session: Session) -> list[dict]:
    (path,) = SAMPLES.glob(f"truth/**/{session.session_id}.json")
    return json.loads(path.read_text())["requests"]


def test_runs_that_resume_a_session_are_one(read):
    """Three runs' files are one session with the turns of all, and a file of each."""
    assert set(read) == {"rust", "javascript", "perl"}
    assert len(read["perl"].files) == 3
    assert read["perl"].losses["prompt_not_recorded"] == 3


@pytest.mark.parametrize("name", ["rust", "javascript", "perl"])
def test_every_answered_request_is_one_turn(name, read):
    """By response ids and turn by turn: input, cached and written tokens are the API's own."""
    session = read[name]
    unnamed: list[str] = []
    sent = {
        one["response_id"]: one["usage"]
        for one in truth(session)
        if one["status"] == 200 and one["kind"] != "compaction"
    }
    mine = {turn.response_id: turn.usage for turn in turns(session) if turn.response_id}
    if name == "rust":  # the last answers of sub-agents have no id in what is printed
        last = {lane.steps[-1].answer.content: lane.steps[-1] for lane in session.lanes[1:]}
        unnamed = [key for key in sent if key not in mine]
        assert len(unnamed) == len(last) == 2
        for turn in last.values():
            whole = [one for one in unnamed if total(sent[one]) == turn.usage.input_tokens]
            mine[whole[0]] = turn.usage
    assert set(mine) == set(sent)
    # With --include-partial-messages the main agent's figures are whole.
    main = {turn.response_id for turn in session.lanes[0].steps if isinstance(turn, Turn)}
    final = {one for one in sent if one in main or one in unnamed} if name == "rust" else set()
    for response, usage in sent.items():
        read_tokens, written = (
            usage[f"cache_{kind}_input_tokens"] for kind in ("read", "creation")
        )
        assert mine[response].input_tokens == usage["input_tokens"] + read_tokens + written
        assert mine[response].cached_tokens == read_tokens
        assert mine[response].cache_write_tokens == written
        if response in final:
            assert mine[response].output_tokens == usage["output_tokens"]
            assert mine[response].source == "reported"
        else:  # the figure that the answer began with
            assert mine[response].output_tokens < usage["output_tokens"]
            assert mine[response].source == "partial"


def test_sub_agents_are_lanes_of_the_calls_that_started_them(read):
    """Two sub-agents in one answer: each lane has its call, its name and its own requests."""
    session = read["rust"]
    main, *others = session.lanes
    calls = {c.id for t in turns(session) if t.answer for c in t.answer.tool_calls}
    assert [lane.kind for lane in others] == ["subagent", "subagent"]
    for lane in others:
        assert lane.name == "general-purpose"
        assert lane.spawned_by == lane.joined_by
        assert lane.spawned_by in calls
    kinds = [one["kind"] for one in truth(session)]
    assert len(turns(Session("", "", "", lanes=[main]))) == kinds.count("main")
    assert len(turns(Session("", "", "", lanes=others))) == kinds.count("subagent")


def test_failed_attempts_are_turns(read):
    """Each retry that is printed is a failed request with its kind and the number of its try."""
    session = read["javascript"]
    found = [(turn.status, turn.error, turn.attempt) for turn in turns(session)]
    failed = [one for one in found if one[0] == "error"]
    assert failed == [
        ("error", "overloaded", 0),
        ("error", "server_error", 0),
        ("error", "server_error", 1),
    ]
    assert found[found.index(failed[2]) + 1] == ("ok", None, 2)
    assert [one["status"] for one in truth(session) if one["status"] != 200] == [529, 500, 500]


def test_a_compaction_begins_a_new_context(read):
    """What follows the boundary stands in a context that begins with the summary."""
    (main,) = read["perl"].lanes
    places = [i for i, step in enumerate(main.steps) if isinstance(step, Rebase)]
    assert len(places) == 1
    assert main.steps[places[0]] == Rebase("compaction")
    summary = main.steps[places[0] + 1]
    assert isinstance(summary, Message)
    assert summary.role == "user"


def test_messages_are_those_that_the_log_of_the_same_session_has(read):
    """Answers, calls and results equal those of Claude Code's own log of the same session."""
    name = "d6e73670-a178-4c2f-8bfb-dcec37e08ff6"
    (logged,) = (
        one.read() for one in find([SAMPLES / "claude_code"]).sessions if one.session_id == name
    )

    def spoken(session: Session) -> list[tuple]:
        found = []
        for step in session.lanes[0].steps:
            message = step.answer if isinstance(step, Turn) else step
            if isinstance(message, Message) and message.role in ("assistant", "tool"):
                text = (message.content or "").partition("<system-reminder>")[0].strip()
                found.append((text, message.tool_calls, message.tool_call_id))
        return found

    assert spoken(read["javascript"]) == spoken(logged)
    for call, run in logged.tool_runs.items():
        mine = read["javascript"].tool_runs[call]
        assert (mine.status, mine.exit_code) == (run.status, run.exit_code)
        assert (mine.end_us, mine.clock) == (run.end_us, "derived")


def test_log_and_output_of_a_session_count_its_turns_once(tmp_path):
    """Recorded with its log, the output's turns are known as copies and not counted twice."""
    name = "d6e73670-a178-4c2f-8bfb-dcec37e08ff6"
    (log,) = (SAMPLES / "claude_code").rglob(f"{name}.jsonl")
    report = record([log, FOLDER / "javascript.jsonl"], tmp_path / "d")
    responses = [
        row["response_id"]
        for row in Dataset.open(tmp_path / "d").table("turns").to_pylist()
        if row["response_id"] is not None
    ]
    assert len(responses) == len(set(responses)) == 11
    assert report.losses["copied_turn"] == 11


def test_the_samples_make_a_sound_dataset(tmp_path):
    """All of it is recorded and validates."""
    report = record([FOLDER], tmp_path / "d")
    assert (report.recorded, report.problems) == (3, [])
    assert validate(Dataset.open(tmp_path / "d")).ok


def test_only_its_own_files_are_taken(shared):
    """No other sample or corpus file is taken for it, and its own for nothing else."""
    for place in (SAMPLES, shared / "corpus"):
        for session in find([place]).sessions:
            mine = FOLDER in session.parts[0].path.parents
            assert (session.format == "claude_stream") == mine, session.parts[0].path


def test_old_lines_without_times_are_read(tmp_path):
    """Without time stamps figures and text are there, and times unknown."""
    lines = []
    for line in (FOLDER / "javascript.jsonl").read_text().splitlines():
        row = json.loads(line)
        row.pop("timestamp", None)
        lines.append(json.dumps(row))
    path = tmp_path / "old.jsonl"
    path.write_text("\n".join(lines))
    (session,) = find([path]).sessions
    found = session.read()
    assert found.started_us is None
    assert {turn.clock for turn in turns(found)} == {"none"}
    report = record([path], tmp_path / "d")
    assert not report.problems
    assert validate(Dataset.open(tmp_path / "d")).ok


def test_damaged_output_gives_no_traceback():
    """Cut off, overwritten, with odd values: read soundly, or refused."""
    for name in ("perl-2", "javascript"):
        survive_bytes(FOLDER / f"{name}.jsonl", "claude_stream", 40)
        survive_values(FOLDER / f"{name}.jsonl", "claude_stream")
