"""Gemini CLI: documents, lines and streams; what is read equals what went over the wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from traj import events
from traj.sources import find

PLACE = SAMPLES / "gemini_cli"
FILES = sorted(PLACE.rglob("*.jsonl"))
STREAM = SAMPLES / "gemini_cli_stream" / "run0.jsonl"
TRUTH = json.loads((SAMPLES / "truth" / "gemini_cli" / "requests.json").read_text())["requests"]
CORPUS = sorted((SHARED / "corpus").glob("gemini_cli*/**/*.json*"))
HEADER = {"sessionId": "s", "projectHash": "h", "startTime": "2026-03-01T10:00:00.000Z"}


def api_figures(usage: dict) -> tuple[int, ...]:
    """The schema's figures from the API's own names: thoughts are counted apart from the output."""
    thoughts = usage.get("thoughtsTokenCount", 0)
    output = usage["candidatesTokenCount"] + thoughts
    return usage["promptTokenCount"], usage["cachedContentTokenCount"], output, thoughts


def note(name: str, kind: str, text: object, second: int, **more: object) -> dict:
    stamp = f"2026-03-01T10:00:{second:02d}.000Z"
    return {"id": name, "type": kind, "timestamp": stamp, "content": text, **more}


def model(name: str, text: object, second: int, **more: object) -> dict:
    tokens = {"input": 20, "output": 5, "cached": 8, "thoughts": 3, "tool": 0, "total": 28}
    return note(name, "gemini", text, second, **{"model": "g", "tokens": tokens, **more})


def lines(folder: Path, *found: dict) -> Path:
    path = folder / "session-x.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in (HEADER, *found)))
    return path


def only(path: Path) -> events.Session:
    (session,) = logs.read(path, only="gemini_cli").values()
    return session


def sent(session: events.Session) -> list[list[str | None]]:
    return [[m.content for m in request] for request in logs.sent(session)]


def reasons(session: events.Session) -> list[str | None]:
    return [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]


def test_every_request_is_a_turn_with_the_usage_that_was_sent():
    """Main agent and sub-agent, in order, have the figures of the answered requests; the requests
    of compression are in no log."""
    (session,) = logs.read(PLACE).values()
    for kind in ("main", "subagent"):
        wanted = [r["usage"] for r in TRUTH if r["kind"] == kind and r["usage"]]
        found = logs.turns(session, kind)
        assert [logs.figures(turn.usage) for turn in found] == [api_figures(u) for u in wanted]
        assert {turn.usage.source for turn in found} == {"reported"}


def test_answers_end_when_the_wire_saw_them_end():
    """The time of an answer lies within 100 ms of the model's record."""
    (session,) = logs.read(PLACE).values()
    ends = [r["end"] for r in TRUTH if r["kind"] == "main" and r["usage"]]
    for turn, end in zip(logs.turns(session, "main"), ends, strict=True):
        assert turn.clock == "derived"
        assert abs(turn.end_us / 1e6 - end) < 0.1


def test_requests_carry_as_many_messages_as_were_sent():
    """Counted the API's way, runs of one role together, requests are as long as the wire's, those
    after resuming and after compression too."""
    (session,) = logs.read(PLACE).values()
    for lane, kind in ((0, "main"), (1, "subagent")):
        wanted = [r["inputs"] for r in TRUTH if r["kind"] == kind and r["usage"]]
        counts = []
        for request in logs.sent(session, lane):
            roles = ["model" if m.role == "assistant" else "user" for m in request]
            counts.append(sum(a != b for a, b in zip([None, *roles], roles, strict=False)))
        assert counts == wanted


def test_compression_and_resuming_begin_contexts():
    """A resumed session sends its history with tools' results doubled; a compressed one begins
    with a summary."""
    (session,) = logs.read(PLACE).values()
    assert reasons(session) == ["edit", "compaction"]


def test_the_sub_agent_is_tied_to_the_call_that_ran_it():
    """Its file lies in a folder named after the session; the call tells the rest."""
    (session,) = logs.read(PLACE).values()
    lane = session.lanes[1]
    (call,) = (
        call.id
        for turn in logs.turns(session, "main")
        for call in turn.answer.tool_calls
        if call.name == "invoke_agent"
    )
    assert (lane.kind, lane.spawned_by, lane.joined_by) == ("subagent", call, call)


def test_a_sub_agents_file_alone_says_that_its_session_is_missing():
    """Without the main file there is a lane without turns and a loss."""
    (path,) = (p for p in FILES if p.parent.name != "chats")
    session = only(path)
    assert session.losses["main_lane_missing"] == 1
    assert not logs.turns(session, "main")


def test_samples_record_soundly(tmp_path):
    """Every check of the dataset passes, and two recordings are equal."""
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows, _ = logs.sound(tmp_path / name, PLACE)
        found.append([(r["trajectory_id"], r["content_sha256"]) for r in rows])
    assert found[0] == found[1]


@pytest.mark.usefixtures("shared")
def test_the_captures_requests_are_rebuilt_word_for_word():
    """Each captured body's contents, but for thoughts that Gemini CLI does not send again, are
    what the turns say; figures equal the API's."""
    capture = SHARED / "captures" / "gemini"
    (session,) = logs.read(capture / "session").values()
    bodies = [json.loads(p.read_text()) for p in sorted((capture / "api").glob("0*.json"))]
    for turn, request, told in zip(logs.turns(session), logs.sent(session), bodies, strict=True):
        parts = [p for content in told["req_body"]["contents"] for p in content["parts"]]
        assert [wire(part) for part in parts] == [text for m in request for text in mine(m)]
        chunks = [json.loads(c[1][6:]) for c in told["resp_chunks"]]
        assert logs.figures(turn.usage) == api_figures(chunks[-1]["usageMetadata"])


def wire(part: dict) -> str:
    if "functionCall" in part:
        return json.dumps(part["functionCall"]["args"], sort_keys=True)
    if "functionResponse" in part:
        return part["functionResponse"]["response"]["output"]
    return part["text"]


def mine(message: events.Message) -> list[str]:
    texts = [message.content] if message.content is not None else []
    calls = (json.loads(call.arguments) for call in message.tool_calls)
    return texts + [json.dumps(call, sort_keys=True) for call in calls]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem[-20:])
def test_corpus_totals_equal_an_independent_count(path, tmp_path):
    """Figures of each corpus file, once a message, are those of its messages."""
    ((row,), _) = logs.sound(tmp_path, path)
    if path.suffix == ".json":
        found = json.loads(path.read_text())["messages"]
    else:
        found = [json.loads(line) for line in path.read_text().splitlines()]
    answers = {m["id"]: m for m in found if m.get("type") in ("gemini", "model")}
    tokens = [m["tokens"] for m in answers.values() if m.get("tokens")]
    totals = row["totals"]
    assert totals["turns"] == len(answers)
    assert (totals["input_tokens"] or 0) == sum(t["input"] for t in tokens)
    assert (totals["cached_tokens"] or 0) == sum(t["cached"] for t in tokens)
    assert (totals["output_tokens"] or 0) == sum(t["output"] + t["thoughts"] for t in tokens)


def test_thoughts_are_added_to_the_output_and_cached_is_part_of_the_input(tmp_path):
    """Gemini counts thoughts beside its output; what built-in tools add, beside its prompt."""
    tokens = {"input": 20, "output": 5, "cached": 8, "thoughts": 3, "tool": 4}
    path = lines(tmp_path, note("u", "user", "a", 1), model("m", "b", 2, tokens=tokens))
    (turn,) = logs.turns(only(path))
    assert logs.figures(turn.usage) == (24, 8, 8, 3)


def test_a_message_that_grows_is_one_turn(tmp_path):
    """The line with the tool's results takes the place of the one before, usage counted once."""
    call = {"id": "c", "name": "read_file", "args": {"p": 1}, "status": "success"}
    response = {"functionResponse": {"id": "c", "name": "read_file", "response": {"output": "o"}}}
    done = {**call, "result": [response], "timestamp": "2026-03-01T10:00:04.000Z"}
    session = only(
        lines(
            tmp_path,
            note("u", "user", [{"text": "a"}], 1),
            model("m", "b", 2),
            model("m", "b", 2, toolCalls=[done]),
            note("r", "user", [response], 4),
            model("n", "c", 6),
        )
    )
    assert len(logs.turns(session)) == 2
    assert sent(session) == [["a"], ["a", "b", "o"]]
    run = session.tool_runs["c"]
    assert (run.end_us - run.start_us, run.clock, run.status) == (2_000_000, "derived", "ok")


def test_results_that_stand_with_their_calls_alone_are_messages(tmp_path):
    """Documents have no message for a result; it follows its answer all the same, once."""
    response = {"functionResponse": {"id": "c", "name": "f", "response": {"error": "no"}}}
    call = {"id": "c", "name": "f", "args": {}, "status": "error", "result": [response]}
    path = tmp_path / "session-x.json"
    found = [note("u", "user", "a", 1), model("m", "b", 2, toolCalls=[call]), model("n", "c", 3)]
    path.write_text(json.dumps({**HEADER, "messages": found}))
    session = only(path)
    assert sent(session) == [["a"], ["a", "b", "no"]]
    assert session.tool_runs["c"].status == "error"


def test_rewinding_cuts_the_conversation_and_costs_stay(tmp_path):
    """After $rewindTo the next request holds what came before that message."""
    session = only(
        lines(
            tmp_path,
            note("u", "user", "a", 1),
            model("m", "b", 2),
            note("v", "user", "wrong", 3),
            model("n", "c", 4),
            {"$rewindTo": "v"},
            note("w", "user", "right", 5),
            model("o", "d", 6),
        )
    )
    assert sent(session)[2] == ["a", "b", "right"]
    assert len(logs.turns(session)) == 3
    assert reasons(session) == ["rewind"]


def test_a_summary_that_the_agent_puts_in_is_no_turn(tmp_path):
    """Messages in the model's place, without a model, cost nothing and begin a new context."""
    ack = note("k", "gemini", [{"text": "I see."}], 5)
    summary = note("s", "user", [{"text": "so far"}], 5)
    session = only(
        lines(
            tmp_path,
            note("u", "user", "a", 1),
            model("m", "b", 2),
            summary,
            ack,
            {"$set": {"messages": [summary, ack]}},
            note("v", "user", "c", 6),
            model("n", "d", 7),
        )
    )
    assert len(logs.turns(session)) == 2
    assert sent(session)[1] == ["so far", "I see.", "c"]
    assert reasons(session) == ["compaction"]


def test_writing_the_same_history_again_changes_nothing(tmp_path):
    """A resumed session lists its messages once more: the context goes on."""
    old = [note("u", "user", [{"text": "a"}], 1), model("m", [{"text": "b"}], 2)]
    session = only(
        lines(
            tmp_path,
            note("u", "user", "a", 1),
            model("m", "b", 2),
            {"$set": {"messages": old}},
            note("v", "user", "c", 6),
            model("n", "d", 7),
        )
    )
    assert reasons(session) == []
    assert sent(session)[1] == ["a", "b", "c"]


def test_a_stream_has_the_runs_sums_alone():
    """stream-json tells what was said and called; figures are the run's, and said to be so."""
    session = only(STREAM)
    assert session.losses == {"usage_not_per_request": 1}
    turns = logs.turns(session)
    assert len(turns) == 6
    assert all(turn.usage == events.Usage() for turn in turns)
    answered = [r["usage"] for r in TRUTH if r["usage"] and r["index"] <= 9]
    figures = session.usage
    assert figures.source == "partial"
    assert figures.input_tokens == sum(u["promptTokenCount"] for u in answered)
    assert figures.cached_tokens == sum(u["cachedContentTokenCount"] for u in answered)
    calls = [call.name for turn in turns for call in turn.answer.tool_calls]
    assert len(calls) == 8
    assert all(session.tool_runs[c.id].end_us for t in turns for c in t.answer.tool_calls)


def test_a_stream_records_soundly(tmp_path):
    """The dataset made of a stream passes every check."""
    ((row,), _) = logs.sound(tmp_path, STREAM)
    assert row["totals"]["turns"] == 6


def test_a_list_of_prompts_is_refused_with_the_reason(tmp_path):
    """logs.json holds what was typed and no answers."""
    path = tmp_path / "logs.json"
    entry = {"sessionId": "s", "messageId": 0, "type": "user", "message": "a", "timestamp": "t"}
    path.write_text(json.dumps([entry]))
    found = find([path])
    assert not found.sessions
    assert "prompts" in found.refused[0][1]


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents are none of Gemini CLI's, and its own are nobody else's."""
    assert [one.format for one in find([PLACE]).sessions] == ["gemini_cli"]
    others = [SAMPLES / name for name in ("claude_code", "codex", "pi", "qwen_code")]
    assert not find(others, "gemini_cli").sessions


@pytest.mark.parametrize("path", [*FILES, STREAM], ids=lambda path: path.stem[-6:])
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "gemini_cli")


def test_a_damaged_document_never_brings_it_down(tmp_path):
    """The same for the older form, one document."""
    path = tmp_path / "session-x.json"
    found = [note("u", "user", "a", 1), model("m", "b", 2, toolCalls=[{"id": "c", "name": "f"}])]
    path.write_text(json.dumps({**HEADER, "messages": found}))
    logs.survives(path, "gemini_cli")


def test_a_log_that_goes_back_and_forth_is_followed_to_a_limit(tmp_path, monkeypatch):
    """Rewinding after every answer of a long conversation is not followed for ever."""
    monkeypatch.setattr("traj.sources.gemini_cli.conversation.FOLLOWED", 30)
    found = [note(f"u{n}", "user", "a", 1) for n in range(10)]
    for n in range(9):
        found += [model(f"m{n}", "b", 2), {"$rewindTo": f"m{n}"}]
    session = only(lines(tmp_path, *found))
    assert len(logs.turns(session)) == 9
    assert session.losses["branch_not_followed"] > 1
