"""Copilot CLI and the transcripts without figures: Cursor, Droid, Hermes, Claude Code's website."""

from __future__ import annotations

import json
import shutil

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from traj import events
from traj.sources import find

HAND = SAMPLES / "hand_made"
FILES = {
    "copilot_events.jsonl": "copilot_cli",
    "cursor_transcript.jsonl": "cursor",
    "droid_session.jsonl": "droid",
    "droid_stream.jsonl": "droid",
    "hermes_session.json": "hermes",
    "claude_web.json": "claude_web",
}
CORPUS = [
    *sorted((SHARED / "corpus" / "copilot_cli").rglob("*.jsonl")),
    *sorted((SHARED / "corpus" / "cursor_transcript").rglob("*.jsonl")),
    *sorted((SHARED / "corpus" / "droid").rglob("*.jsonl")),
    *sorted((SHARED / "corpus" / "stream_json_other").rglob("*.jsonl")),
    *sorted((SHARED / "corpus" / "generic_messages").glob("jazzyalex*/**/*.json")),
    *sorted((SHARED / "corpus" / "generic_messages").glob("simonw*/**/*.json")),
]


def sample(name: str) -> events.Session:
    (session,) = logs.read(HAND / name).values()
    return session


def texts(session: events.Session, lane: int = 0) -> list[list[str | None]]:
    return [[m.content for m in request] for request in logs.sent(session, lane)]


@pytest.mark.parametrize(("name", "form"), FILES.items())
def test_each_sample_is_recognised_by_its_own_source_alone(name, form):
    """What it is, is seen by its content, and no two sources want it."""
    (found,) = find([HAND / name]).sessions
    assert found.format == form


@pytest.mark.parametrize("form", sorted(set(FILES.values())))
def test_nothing_of_other_agents_is_taken(form):
    """Samples of other agents, recorded and made by hand, are none of these sources'."""
    own = {name for name, one in FILES.items() if one == form}
    others = [p for p in SAMPLES.rglob("*.json*") if p.is_file() and p.name not in own]
    others = [p for p in others if "make" not in p.parts and "datasets" not in p.parts]
    assert not find(others, form).sessions


@pytest.mark.parametrize("name", FILES)
def test_each_sample_records_soundly_and_the_same_twice(name, tmp_path):
    """Every check of the dataset passes, and two recordings are equal."""
    found = []
    for place in ("a", "b"):
        (tmp_path / place).mkdir()
        ((row,), _) = logs.sound(tmp_path / place, HAND / name)
        found.append((row["trajectory_id"], row["content_sha256"]))
    assert found[0] == found[1]


@pytest.mark.parametrize(("name", "form"), FILES.items())
def test_damaged_files_never_bring_it_down(name, form):
    """Cut off and overwritten anywhere, each is read or refused."""
    logs.survives(HAND / name, form)


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: "-".join(path.parts[-3:]))
def test_corpus_files_record_with_as_many_answers_as_they_hold(path, tmp_path):
    """Each corpus file is recorded, soundly, with one turn an answer of its own lines."""
    ((row,), _) = logs.sound(tmp_path, path)
    if path.suffix == ".json":
        whole = json.loads(path.read_text())
        found = whole.get("messages") or whole["loglines"]
    else:
        found = [json.loads(line) for line in path.read_text().splitlines() if line]
    wanted = sum(
        "assistant" in (line.get("role"), (line.get("message") or {}).get("role"))
        if isinstance(line.get("message") or {}, dict)
        else False
        for line in found
    )
    wanted += sum(line.get("type") == "assistant.message" for line in found)
    wanted += sum(line.get("type") == "session.error" for line in found)
    if path.parent.name == "droid" and "stream" in path.name:
        wanted = sum(line["type"] in ("tool_call", "completion") for line in found)
    assert row["totals"]["turns"] == wanted


# Copilot CLI


def test_copilots_requests_have_the_output_that_was_told_and_nothing_else():
    """Input and cached tokens are the session's alone: unknown for a request, not zero."""
    session = sample("copilot_events.jsonl")
    turns = logs.turns(session, "main")
    assert [t.usage.output_tokens for t in turns] == [40, None, 5, 4]
    assert {t.usage.input_tokens for t in turns} == {None}
    assert {t.usage.source for t in turns} == {"partial", "none"}
    assert session.losses["usage_not_per_request"] == 1


def test_copilots_sums_are_the_sessions():
    """Over all models, with the cached part inside the input."""
    usage = sample("copilot_events.jsonl").usage
    assert logs.figures(usage) == (2700, 1536, 65, 12)
    assert (usage.cache_write_tokens, usage.source) == (128, "reported")


def test_copilots_sums_of_a_resumed_session_may_be_a_part(tmp_path):
    """A second end of the session: its figures are called partial."""
    path = tmp_path / "events.jsonl"
    found = (HAND / "copilot_events.jsonl").read_text()
    path.write_text(found + found.splitlines()[-1] + "\n")
    (session,) = logs.read(path).values()
    assert session.usage.source == "partial"


def test_copilots_usage_events_are_taken_where_there_are_any(tmp_path):
    """A listener's log has each request's figures; they go to the answer of that API call."""
    lines = (HAND / "copilot_events.jsonl").read_text().splitlines()
    data = {"apiCallId": "api-1", "inputTokens": 900, "outputTokens": 40, "cacheReadTokens": 256}
    told = {"type": "assistant.usage", "id": "u", "data": data}
    path = tmp_path / "events.jsonl"
    path.write_text("\n".join([*lines[:8], json.dumps(told), *lines[8:]]) + "\n")
    (session,) = logs.read(path).values()
    assert logs.figures(logs.turns(session)[0].usage)[:3] == (900, 256, 40)


def test_copilots_tools_have_logged_times_and_the_wait_apart():
    """A call is from its own events, with the person's decision before it as permission time."""
    session = sample("copilot_events.jsonl")
    run = session.tool_runs["c1"]
    assert (run.end_us - run.start_us, run.clock) == (2_600_000, "logged")
    other = session.tool_runs["c2"]
    assert (other.end_us - other.start_us, other.permission_us) == (900_000, None)
    assert (run.permission_us, run.status) == (2_000_000, "error")


def test_copilots_sub_agent_is_a_lane_of_its_call():
    """Events that name a call belong to the sub-agent which it started."""
    session = sample("copilot_events.jsonl")
    lane = session.lanes[1]
    assert (lane.kind, lane.name, lane.spawned_by, lane.joined_by) == (
        "subagent",
        "scout",
        "c2",
        "c2",
    )
    assert [t.answer.content for t in logs.turns(session, "subagent")] == ["The attic is dark."]


def test_copilots_failures_pieces_and_compaction():
    """A failed request is an error, an answer in pieces one turn, a compaction a new context."""
    session = sample("copilot_events.jsonl")
    turns = logs.turns(session, "main")
    assert [(t.status, t.attempt) for t in turns] == [("ok", 0), ("error", 0), ("ok", 1), ("ok", 0)]
    assert turns[2].answer.content == "None is on."
    assert texts(session)[-1] == ["The lamps are off.", "And now?"]
    (aside,) = logs.turns(session, "side")
    assert logs.figures(aside.usage)[:3] == (600, 512, 9)
    assert turns[0].system == "A system prompt of ours."
    assert session.repository.branch == "main"


# Transcripts


def test_cursors_calls_are_named_and_their_results_missing():
    """Calls without ids get their line's; that nothing says what came of them is a loss."""
    session = sample("cursor_transcript.jsonl")
    first, second = logs.turns(session)
    assert [call.id for call in first.answer.tool_calls] == ["line 2, call 1", "line 2, call 2"]
    assert first.answer.reasoning == "A file has them."
    assert (first.usage, first.clock) == (events.Usage(), "none")
    assert second.answer.content == "Red and green."
    assert session.losses == {"tool_result_not_recorded": 2}


def test_cursors_sub_agents_belong_to_the_session_beside_them(tmp_path):
    """A transcript in `subagents` is a lane of the one transcript in the folder above."""
    name = "0b8f4f0e-0000-4000-8000-00000000000a"
    (tmp_path / "x" / "subagents").mkdir(parents=True)
    shutil.copy(HAND / "cursor_transcript.jsonl", tmp_path / "x" / f"{name}.jsonl")
    shutil.copy(HAND / "cursor_transcript.jsonl", tmp_path / "x" / "subagents" / "child.jsonl")
    ((key, session),) = logs.read(tmp_path / "x").items()
    assert key == name
    assert [lane.kind for lane in session.lanes] == ["main", "subagent"]
    assert session.losses["subagent_without_call"] == 1


def test_transcripts_of_one_name_are_not_taken_for_copies(tmp_path):
    """Where a file's name is no id, what it says tells sessions apart."""
    for place, text in (("a", "one"), ("b", "two")):
        (tmp_path / place).mkdir()
        line = {"role": "user", "message": {"content": [{"type": "text", "text": text}]}}
        (tmp_path / place / "chat.jsonl").write_text(json.dumps(line) + "\n")
    assert len(find([tmp_path], "cursor").sessions) == 2


def test_droids_results_find_their_calls():
    """Results that come in another order go to the calls they name, with times of the lines."""
    session = sample("droid_session.jsonl")
    assert texts(session)[1] == ["How many steps?", "I'll count.", "one\ntwo", "2 steps"]
    run = session.tool_runs["t1"]
    assert (run.end_us - run.start_us, run.clock, run.status) == (2_500_000, "derived", "ok")
    assert session.title == "Count the steps"
    assert session.agent_version == "0.81.0"


def test_droids_stream_has_times_in_milliseconds_and_the_runs_sums():
    """Its figures are Anthropic's: what was cached stands beside the input."""
    session = sample("droid_stream.jsonl")
    assert logs.figures(session.usage)[:3] == (280, 200, 12)
    assert session.losses == {"usage_not_per_request": 1}
    first, second = logs.turns(session)
    assert first.end_us == 1_775_120_402_000_000
    assert (first.answer.content, second.answer.content) == ("With the shell.", "One, two.")
    assert texts(session)[1][-1] == "1\n2"


def test_hermes_has_the_prompt_and_the_models_own_arguments():
    """Arguments are the model's text, not its JSON string again."""
    session = sample("hermes_session.json")
    first, second = logs.turns(session)
    assert first.answer.tool_calls[0].arguments == '{"zone": "UTC"}'
    assert first.system == "A system prompt of ours."
    assert json.loads(first.tools)[0]["function"]["name"] == "clock"
    assert texts(session)[1][-1] == "nine"
    assert second.clock == "none"


def test_the_websites_document_is_a_session_with_times():
    """Lines without an envelope: messages, calls and results, and when."""
    session = sample("claude_web.json")
    first, second = logs.turns(session)
    assert second.end_us - first.end_us == 3_000_000
    assert session.tool_runs["w1"].end_us - session.tool_runs["w1"].start_us == 1_000_000


def test_samples_have_no_paths_of_a_machine():
    """Nothing in them points to where they were written."""
    for name in FILES:
        assert not any(part in (HAND / name).read_text() for part in ("/root", "/tmp", "/work"))
