"""OpenCode: databases with their logs, the older tree, exports; what is read is what was sent."""

from __future__ import annotations

import json
import shutil
import sqlite3
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from damaged import survive_values
from traj import events
from traj.errors import SourceError
from traj.pipeline import record
from traj.sources import SessionFiles, find
from traj.sources.opencode import database

DATABASE = SAMPLES / "opencode" / "opencode.db"
EXPORT = next((SAMPLES / "opencode_export").glob("*.json"))
TRUTH = json.loads((SAMPLES / "truth" / "opencode" / "requests.json").read_text())["requests"]
MAIN = TRUTH[1]["session_id"]
CAPTURE = SHARED / "captures" / "opencode"
RECORDS = SAMPLES / "hand_made" / "opencode_2.sql"


def chat_figures(usage: dict) -> tuple[int, ...]:
    details = usage["completion_tokens_details"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"], details["reasoning_tokens"]


def sent(session: events.Session, lane: int = 0) -> list[list[events.Message]]:
    """The messages of each request of a lane; a context may hold another lane's."""
    every = {
        index: [message for _, message in events.numbered(one.steps)]
        for index, one in enumerate(session.lanes)
    }
    found: list[list[events.Message]] = []
    context: list[events.Message] = []
    for step in session.lanes[lane].steps:
        if isinstance(step, events.Rebase):
            context = [m for index, start, stop in step.ranges for m in every[index][start:stop]]
            continue
        if isinstance(step, events.Turn):
            found.append(list(context))
        message = step.answer if isinstance(step, events.Turn) else step
        if message is not None:
            context.append(message)
    return found


def as_chat(message: events.Message) -> dict:
    """A message as a chat-completions request holds it."""
    made: dict = {"role": message.role, "content": message.content}
    if message.role == "tool":
        made["tool_call_id"] = message.tool_call_id
    if message.role == "assistant":
        made["reasoning_content"] = message.reasoning or ""
        calls = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
        made |= {"tool_calls": calls} if calls else {}
    return made


def kept(folder: Path, session: str, *messages: tuple[dict, list[dict]], **more: object) -> Path:
    """A session of the old tree, of messages and their parts."""
    home = folder / "session" / "project" / f"{session}.json"
    head = {"id": session, "version": "1.1.0", "projectID": "project", "directory": "/src"}
    write(home, {**head, "title": "t", "time": {"created": 1000, "updated": 2000}, **more})
    for number, (info, parts) in enumerate(messages):
        name = f"msg_{session[4:]}{number:03}"
        head = {"id": name, "sessionID": session, "time": {"created": 1000 * (number + 1)}}
        write(folder / "message" / session / f"{name}.json", {**head, **info})
        for place, part in enumerate(parts):
            own = {"id": f"prt_{place:03}", "messageID": name, "sessionID": session}
            write(folder / "part" / name / f"prt_{place:03}.json", {**own, **part})
    return home


def write(path: Path, value: object) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def user(text: str, **more: object) -> tuple[dict, list[dict]]:
    return {"role": "user"}, [{"type": "text", "text": text, **more}]


def step(*parts: dict, reason: str = "stop", **tokens: int) -> list[dict]:
    figures = {"input": 10, "output": 5, "reasoning": 0, "cache": {"read": 3, "write": 2}, **tokens}
    end = {"type": "step-finish", "reason": reason, "tokens": figures, "cost": 0}
    return [{"type": "step-start"}, *parts, end]


def assistant(*parts: dict, **more: object) -> tuple[dict, list[dict]]:
    info = {"role": "assistant", "modelID": "m", "providerID": "p", "finish": "stop"}
    return {**info, **more}, list(parts)


def text(said: str) -> dict:
    return {"type": "text", "text": said}


def tool(name: str, output: str = "out", start: int = 5000, **state: object) -> dict:
    told = {"status": "completed", "input": {"a": 1}, "output": output, "metadata": {}}
    times = {"start": start, "end": start + 250}
    return {
        "type": "tool",
        "callID": name,
        "tool": "bash",
        "state": {**told, "time": times, **state},
    }


def only(*places: Path) -> events.Session:
    (session,) = logs.read(*places, only="opencode").values()
    return session


def contents(messages: list[events.Message]) -> list[str | None]:
    return [message.content for message in messages]


def test_every_answered_request_but_titles_is_one_turn_with_the_usage_that_was_sent():
    """Turn by turn, in each session and its sub-agents, compactions among them."""
    read = logs.read(DATABASE)
    copied = {turn.response_id for turn in logs.turns(read[MAIN])}
    found = []
    for name, session in read.items():
        own = [t for t in logs.turns(session) if name == MAIN or t.response_id not in copied]
        found += [(t.start_us, *logs.figures(t.usage)) for t in own]
    answered = [r for r in TRUTH if r["status"] == 200 and r["kind"] != "side"]
    assert sorted(f[1:] for f in found) == sorted(chat_figures(r["usage"]) for r in answered)


def test_requests_are_rebuilt_as_they_were_sent(shared):
    """Messages, calls and their arguments equal those of the captured requests."""
    requests = [json.loads(path.read_text()) for path in sorted(CAPTURE.glob("api/*.json"))]
    asked = [r["req_body"]["messages"][1:] for r in requests if "tools" in r["req_body"]]
    (session,) = logs.read(CAPTURE / "session").values()
    rebuilt = [[as_chat(message) for message in messages] for messages in sent(session)]
    assert rebuilt == [
        [{"reasoning_content": "", **m} if m["role"] == "assistant" else m for m in messages]
        for messages in asked
    ]


def test_the_capture_is_recorded_with_the_usage_that_was_sent(shared, tmp_path):
    """Turn by turn, and sound."""
    requests = [json.loads(path.read_text()) for path in sorted(CAPTURE.glob("api/*.json"))]
    usages = []
    for request in requests:
        chunks = [text[6:] for _, text in request["resp_chunks"] if '"usage":{' in text]
        usages += [json.loads(chunks[-1])["usage"]] if "tools" in request["req_body"] else []
    (session,) = logs.read(CAPTURE / "session").values()
    figures = [logs.figures(turn.usage) for turn in logs.turns(session)]
    assert figures == [chat_figures(usage) for usage in usages]
    logs.sound(tmp_path, CAPTURE / "session")


def test_times_lie_where_the_server_saw_the_request():
    """A turn begins before the server got the request and ends about when its answer ended; the
    agent's own clock is said to be the log's."""
    session = logs.read(DATABASE)[MAIN]
    answered = [r for r in TRUTH if r["session_id"] == MAIN and r["status"] == 200]
    spans = [(r["start"] * 1e6, r["end"] * 1e6) for r in answered if r["kind"] == "main"]
    turns = [step for step in session.lanes[0].steps if isinstance(step, events.Turn)]
    assert len(turns) == len(spans)
    for turn, (start, end) in zip(turns, spans, strict=True):
        assert turn.clock == "logged"
        assert turn.start_us <= start + 20_000
        assert abs(turn.end_us - end) < 500_000
        assert turn.start_us <= turn.first_token_us <= turn.end_us


def test_tools_have_their_own_times_and_codes():
    """Start and end by the agent's clock, the exit code, and what was sent back."""
    session = logs.read(DATABASE)[MAIN]
    calls = [call for turn in logs.turns(session) for call in turn.answer.tool_calls]
    assert {call.id for call in calls} == set(session.tool_runs)
    assert all(run.clock == "logged" for run in session.tool_runs.values())
    assert sorted(run.exit_code for run in session.tool_runs.values() if run.exit_code) == [3]
    failed = next(run for run in session.tool_runs.values() if run.exit_code == 3)
    assert failed.status == "error"


def test_sub_agents_are_lanes_between_their_call_and_its_result(tmp_path):
    """Two sub-agents of one answer have a lane each, started and joined by their own calls."""
    session = logs.read(DATABASE)[MAIN]
    lanes = [lane for lane in session.lanes if lane.kind == "subagent"]
    calls = {c.id: c for turn in logs.turns(session, "main") for c in turn.answer.tool_calls}
    assert len(lanes) == 2
    for lane in lanes:
        first = next(s for s in lane.steps if isinstance(s, events.Message))
        assert json.loads(calls[lane.spawned_by].arguments)["prompt"] == first.content
        assert lane.joined_by == lane.spawned_by
        assert not first.by_person
    assert {lane.name for lane in lanes} == {"general"}
    rows, losses = logs.sound(tmp_path, DATABASE)
    assert "subagent_without_call" not in losses
    assert len(rows) == 2


def test_a_compaction_is_a_request_aside_and_a_new_context():
    """The summary is asked for outside the conversation; afterwards the context is the question,
    the summary and what follows, as the server saw it."""
    session = logs.read(DATABASE)[MAIN]
    (aside,) = logs.turns(session, "side")
    (asked,) = [r for r in TRUTH if r["kind"] == "compaction"]
    assert logs.figures(aside.usage) == chat_figures(asked["usage"])
    requests = sent(session)
    after = next(i for i, m in enumerate(requests) if aside.answer in m)
    assert contents(requests[after])[:2] == [None, aside.answer.content]
    seen = [r["inputs"] - 1 for r in TRUTH if r["session_id"] == MAIN and r["kind"] == "main"]
    failed = [r["status"] != 200 for r in TRUTH if r["session_id"] == MAIN and r["kind"] == "main"]
    expected = [n for n, bad in zip(seen, failed, strict=True) if not bad]
    assert [len(messages) for messages in requests] == expected


def test_a_fork_counts_what_it_copied_once(tmp_path):
    """The fork's copies have other ids; the pipeline counts each turn in the first session."""
    report = record([DATABASE], tmp_path / "x.traj")
    answered = [r for r in TRUTH if r["status"] == 200 and r["kind"] != "side"]
    assert report.turns == len(answered)
    assert report.losses["copied_turn"] == len(answered) - 2 - 4  # but its own and sub-agents'


def test_an_export_says_what_the_database_says():
    """The same steps and figures, without the sub-agents, which an export leaves out."""
    exported, stored = only(EXPORT), logs.read(DATABASE)[MAIN]
    main = [i for i, lane in enumerate(stored.lanes) if lane.kind == "main"]
    for index in main:
        mine, theirs = sent(exported, index), sent(stored, index)
        assert [contents(m) for m in mine] == [contents(m) for m in theirs]
    figures = [logs.figures(turn.usage) for turn in logs.turns(exported)]
    assert figures == [
        logs.figures(turn.usage) for turn in logs.turns(stored, "main") + logs.turns(stored, "side")
    ]


def test_the_old_tree_says_what_the_database_says(tmp_path):
    """A session written as files, as it was before there was a database, gives the same steps."""
    opened = sqlite3.connect(f"file:{DATABASE}?immutable=1", uri=True)
    for name, parent in opened.execute("select id, parent_id from session"):
        more = {"parentID": parent} if parent else {}
        write(
            tmp_path / "session" / "p" / f"{name}.json",
            {"id": name, "version": "1.18.33", "projectID": "p", "title": "t", "directory": "/x"}
            | {"time": {"created": 1}, **more},
        )
    for name, session, data in opened.execute("select id, session_id, data from message"):
        own = {"id": name, "sessionID": session, **json.loads(data)}
        write(tmp_path / "message" / session / f"{name}.json", own)
    for name, message, session, data in opened.execute(
        "select id, message_id, session_id, data from part"
    ):
        own = {"id": name, "messageID": message, "sessionID": session, **json.loads(data)}
        write(tmp_path / "part" / message / f"{name}.json", own)
    opened.close()
    found = find([tmp_path])
    tree, stored = {s.session_id: s.read() for s in found.sessions}, logs.read(DATABASE)
    assert tree.keys() == stored.keys()
    for name, session in tree.items():
        assert [lane.spawned_by for lane in session.lanes] == [
            lane.spawned_by for lane in stored[name].lanes
        ]
        for index in range(len(session.lanes)):
            theirs = sent(stored[name], index)
            assert [contents(m) for m in sent(session, index)] == [contents(m) for m in theirs]
    assert all("read with its own file" in reason for _, reason in found.refused)


def test_rows_that_are_in_the_log_alone_are_read_and_nothing_is_written(tmp_path):
    """A database with a write-ahead log, in a folder that may not be written to: all its rows are
    seen, and its files stay as they were, with none beside them."""
    home = tmp_path / "home"
    home.mkdir()
    shutil.copy(DATABASE, home)
    writer = sqlite3.connect(home / "opencode.db")
    assert writer.execute("pragma journal_mode").fetchone() == ("wal",)
    writer.execute("update session set title = 'from the log' where id = ?", (MAIN,))
    writer.commit()
    away = tmp_path / "away"
    away.mkdir()
    for name in ("opencode.db", "opencode.db-wal"):
        shutil.copy(home / name, away)
    writer.close()
    before = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in away.iterdir()}
    away.chmod(0o500)
    try:
        read = logs.read(away / "opencode.db")
        files = {path.name: (path.read_bytes(), path.stat().st_mtime_ns) for path in away.iterdir()}
    finally:
        away.chmod(0o700)
    assert before == files
    assert read[MAIN].title == "from the log"
    assert len(read) == 2


def test_a_database_without_a_log_is_read_without_a_trace():
    """In write-ahead mode and with an empty log nothing appears beside the file."""
    beside = sorted(DATABASE.parent.iterdir())
    logs.read(DATABASE)
    assert sorted(DATABASE.parent.iterdir()) == beside


def test_a_log_that_grows_is_seen_at_the_next_reading(tmp_path):
    """What is kept open of a database is what it is now."""
    copy = shutil.copy(DATABASE, tmp_path / "opencode.db")
    writer = sqlite3.connect(copy)
    titles = []
    for title in ("one", "two"):
        writer.execute("update session set title = ? where id = ?", (title, MAIN))
        writer.commit()
        titles.append(logs.read(Path(copy))[MAIN].title)
    writer.close()
    assert titles == ["one", "two"]


def test_copies_that_do_not_fit_together_are_refused(tmp_path, monkeypatch):
    """A database that changes each time it is looked at is not read half and half."""
    copy = Path(shutil.copy(DATABASE, tmp_path / "opencode.db"))
    moments = iter(range(10**6))

    def restless(path: Path) -> tuple[int, int, bytes] | None:
        return (next(moments), 0, b"") if path.exists() else None

    monkeypatch.setattr(database, "_stamp", restless)
    with pytest.raises(SourceError, match="written to"):
        database.sessions(copy)


def test_recording_again_takes_only_the_session_that_changed(tmp_path):
    """Each session of a database is measured by its own rows."""
    copy = Path(shutil.copy(DATABASE, tmp_path / "opencode.db"))
    out = tmp_path / "x.traj"
    assert record([copy], out).recorded == 2
    again = record([copy], out)
    assert (again.recorded, again.unchanged) == (0, 2)
    writer = sqlite3.connect(copy)
    writer.execute(
        "update part set data = json_set(data, '$.text', hex(zeroblob(200))) where session_id = ?"
        " and json_extract(data, '$.type') = 'text'",
        (MAIN,),
    )
    writer.commit()
    writer.close()
    changed = record([copy], out)
    assert (changed.recorded, changed.unchanged) == (1, 1)


@pytest.mark.parametrize("path", [DATABASE, EXPORT], ids=["database", "export"])
def test_what_is_measured_is_what_is_read(path):
    """The hash that tells a change is that of what was read."""
    for session in find([path]).sessions:
        assert sorted(map(str, session.measured())) == sorted(map(str, session.read().files))


def test_a_session_has_its_share_of_the_database():
    """The shares of all sessions are less than the file."""
    found = find([DATABASE]).sessions
    assert all(isinstance(one, SessionFiles) and one.bytes > 0 for one in found)
    assert sum(one.bytes for one in found) < DATABASE.stat().st_size


# The old tree, by hand


def test_several_requests_of_one_message_are_turns_each(tmp_path):
    """A message of two steps is two turns with their own figures; the second one's prompt has the
    first one's answer and its tool's result."""
    steps = [*step(text("look"), tool("c1"), reason="tool-calls"), *step(text("done"), input=20)]
    session = only(kept(tmp_path, "ses_a", user("go"), assistant(*steps)))
    first, second = logs.turns(session)
    assert logs.figures(first.usage)[:2] == (15, 3)
    assert logs.figures(second.usage)[:2] == (25, 3)
    assert first.usage.cache_write_tokens == 2
    assert [contents(m) for m in sent(session)] == [["go"], ["go", "look", "out"]]
    assert (first.stop_reason, second.stop_reason) == ("tool_use", "end_turn")
    assert first.response_id != second.response_id


@pytest.mark.parametrize(
    ("version", "total", "output"),
    [("1.1.0", None, 9), ("1.18.0", None, 13), ("1.3.0", 24, 9), ("1.3.0", 28, 13)],
)
def test_reasoning_is_inside_the_output_before_1_4_and_beside_it_since(
    tmp_path, version, total, output
):
    """The total tells, where there is one; else the version."""
    figures = {"output": 9, "reasoning": 4} | ({"total": total} if total is not None else {})
    message = assistant(*step(text("x"), **figures))
    session = only(kept(tmp_path, "ses_a", user("go"), message, version=version))
    (turn,) = logs.turns(session)
    assert (turn.usage.output_tokens, turn.usage.reasoning_tokens) == (output, 4)


def test_a_request_that_failed_is_a_turn_and_its_words_are_not_sent_on(tmp_path):
    """Retries and errors are turns of their own; what a failed answer said leaves the context,
    what a broken-off one said stays."""
    retry = {"type": "retry", "attempt": 1, "time": {"created": 2500}}
    retry["error"] = {"name": "APIError", "data": {"message": "x", "statusCode": 529}}
    failed = {"name": "APIError", "data": {"message": "no", "statusCode": 500}}
    aborted = {"name": "MessageAbortedError", "data": {"message": "stop"}}
    session = only(
        kept(
            tmp_path,
            "ses_a",
            user("one"),
            assistant(retry, *step(text("a"))),
            user("two"),
            assistant({"type": "step-start"}, text("half"), error=failed, finish=None),
            user("three"),
            assistant({"type": "step-start"}, text("part"), error=aborted, finish=None),
            user("four"),
            assistant(*step(text("d"))),
        )
    )
    turns = logs.turns(session)
    assert [t.status for t in turns] == ["error", "ok", "error", "cancelled", "ok"]
    assert [t.attempt for t in turns] == [0, 1, 0, 0, 0]
    assert [t.error for t in turns] == ["APIError 529", None, "APIError 500", None, None]
    assert contents(sent(session)[-1]) == ["one", "a", "two", "three", "part", "four"]
    assert turns[3].usage.source == "none"
    assert (turns[2].answer, session.losses["partial_answer"]) == (None, 1)
    logs.sound(tmp_path, tmp_path, only="opencode")


def test_cleared_results_are_empty_from_then_on(tmp_path):
    """A result is what it was until it was cleared; what stands there afterwards is not logged."""
    old = tool("c1", "long", time={"start": 2100, "end": 2200, "compacted": 3500})
    session = only(
        kept(
            tmp_path,
            "ses_a",
            user("one"),
            assistant(*step(old, reason="tool-calls")),
            assistant(*step(text("two"))),
            user("three"),
            assistant(*step(text("four"))),
        )
    )
    requests = [contents(m) for m in sent(session)]
    assert requests == [["one"], ["one", None, "long"], ["one", None, None, "two", "three"]]
    assert session.losses["framing_not_recorded"] == 1


def test_a_compaction_keeps_the_tail_that_it_names(tmp_path):
    """The context is the question, the summary, then the messages from the tail's first on."""
    ask = ({"role": "user"}, [{"type": "compaction", "auto": True, "tail_start_id": "msg_a002"}])
    session = only(
        kept(
            tmp_path,
            "ses_a",
            user("one"),
            assistant(*step(text("two"))),
            user("three"),
            assistant(*step(text("four"))),
            ask,
            assistant(*step(text("sum")), summary=True, parentID="msg_a004"),
            user("five"),
            assistant(*step(text("six"))),
        )
    )
    assert contents(sent(session)[-1]) == [None, "sum", "three", "four", "five"]
    reasons = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert reasons == ["compaction"]


def test_what_a_person_ran_is_no_request(tmp_path):
    """A command that the person ran stands in the history as if the model had called a tool."""
    ran = assistant(tool("c9"), time={"created": 1500, "completed": 1800}, finish=None)
    message = assistant(*step(text("ok")))
    session = only(kept(tmp_path, "ses_a", user("ran", synthetic=True), ran, user("so"), message))
    assert len(logs.turns(session)) == 1
    assert session.losses["synthetic_message"] == 1
    assert contents(sent(session)[0]) == ["ran", None, "out", "so"]


def test_a_sub_agent_in_the_background_reports_by_a_message(tmp_path):
    """Its call returns at once; the message that brings the report joins the lane."""
    told = {"metadata": {"sessionId": "ses_b", "background": True}}
    report = '<task id="ses_b" state="completed">\n<task_result>found</task_result>\n</task>'
    kept(tmp_path, "ses_b", user("find"), assistant(*step(text("found"))), parentID="ses_a")
    home = kept(
        tmp_path,
        "ses_a",
        user("go"),
        assistant(*step(tool("c1", "started", **told), reason="tool-calls")),
        user(report, synthetic=True),
        assistant(*step(text("good"))),
    )
    (session,) = logs.read(tmp_path, only="opencode").values()
    assert home.stem == session.session_id
    (lane,) = [lane for lane in session.lanes if lane.kind == "subagent"]
    brought = [m.brings for m in session.lanes[0].steps if isinstance(m, events.Message)]
    assert (lane.spawned_by, lane.joined_by) == ("c1", "ses_b")
    assert "ses_b" in brought
    assert session.tool_runs["c1"].background
    logs.sound(tmp_path, tmp_path, only="opencode")


def test_a_sub_agent_alone_is_recorded_without_its_main_lane(tmp_path):
    """A sub-agent whose parent is not there is a session with an empty first lane."""
    home = kept(tmp_path, "ses_b", user("x"), assistant(*step(text("y"))), parentID="ses_gone")
    session = only(home)
    assert session.session_id == "ses_gone"
    assert session.losses["main_lane_missing"] == 1
    assert [lane.kind for lane in session.lanes] == ["main", "subagent"]
    rows, _ = logs.sound(tmp_path, home)
    assert len(rows) == 1


def test_files_of_the_agent_that_are_no_session_are_refused_by_a_reason(tmp_path):
    """The live output names where its session is; a message names its session; a database without
    sessions says so."""
    live = tmp_path / "live.jsonl"
    live.write_text('{"type":"step_start","timestamp":1,"sessionID":"ses_a","part":{}}\n')
    kept(tmp_path, "ses_a", user("x"))
    empty = Path(shutil.copy(DATABASE, tmp_path / "empty.db"))
    writer = sqlite3.connect(empty)
    for table in ("part", "message", "session"):
        writer.execute(f"delete from {table}")
    writer.commit()
    writer.close()
    refused = {path.name: reason for path, reason in find([tmp_path]).refused}
    assert "opencode.db" in refused["live.jsonl"]
    assert "without sessions" in refused["empty.db"]
    assert refused["msg_a000.json"].startswith("part of ses_a")
    assert refused["prt_000.json"].startswith("part of ses_a")


# 2.x


@pytest.fixture
def second(tmp_path) -> Path:
    """A database of 2.x, made by hand after its published schema."""
    path = tmp_path / "second" / "opencode.db"
    path.parent.mkdir()
    made = sqlite3.connect(path)
    made.executescript(RECORDS.read_text())
    made.close()
    return path


def test_records_of_2_are_turns_with_their_figures(second, tmp_path):
    """Reasoning is beside the output, cached and written tokens beside the input; a retry is a
    turn before; tools have their times; a compaction is a request aside and a new context."""
    session = logs.read(second)["ses_two"]
    turns = logs.turns(session, "main")
    assert [t.status for t in turns] == ["ok", "error", "ok", "ok", "ok"]
    assert logs.figures(turns[0].usage) == (1_210, 1_000, 45, 5)
    assert turns[0].usage.cache_write_tokens == 10
    assert turns[1].error == "provider.rate-limit"
    (aside,) = logs.turns(session, "side")
    assert logs.figures(aside.usage)[:3] == (1_500, 1_000, 60)
    requests = [contents(m) for m in sent(session)]
    assert requests[0] == ["Where is the ring made?"]
    assert requests[3][-2:] == ["ring.c\nring.h", "It is made in ring.c."]
    assert requests[4] == [
        "The ring is made in ring.c.\n\n[User]: thanks",
        "And where is it freed?",
    ]
    run = session.tool_runs["call_1"]
    assert (run.start_us, run.end_us, run.status) == (
        1_795_000_004_000_000,
        1_795_000_004_200_000,
        "ok",
    )
    assert turns[0].end_us == 1_795_000_003_900_000
    (lane,) = [lane for lane in session.lanes if lane.kind == "subagent"]
    assert lane.spawned_by == lane.joined_by == "call_2"
    logs.sound(tmp_path, second)


def test_both_generations_lie_side_by_side(second):
    """Rows of 1.x that 2.x leaves alone are sessions too; where both have one, 2.x counts."""
    read = logs.read(second)
    assert set(read) == {"ses_two", "ses_one"}
    assert read["ses_one"].agent_version == "1.18.0"
    assert read["ses_two"].agent_version == "2.0.9"
    assert len(logs.turns(read["ses_one"])) == 1


# Recognition and damage


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents are none of OpenCode's, and its own are nobody else's."""
    own = {"opencode", "opencode_export"}
    assert {s.format for s in find([SAMPLES / name for name in own]).sessions} == {"opencode"}
    others = [
        place
        for place in SAMPLES.iterdir()
        if place.is_dir() and place.name not in own | {"truth", "make", "datasets"}
    ]
    assert not find(others, "opencode").sessions


@pytest.mark.parametrize("path", [DATABASE, EXPORT], ids=["database", "export"])
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "opencode")


def test_a_damaged_tree_never_brings_it_down(tmp_path):
    """Messages and parts that are no JSON, no objects or of odd types cost themselves alone."""
    home = kept(tmp_path, "ses_a", user("one"), assistant(*step(text("two"))), user("three"))
    for name, spoilt in (("msg_a001", "{"), ("msg_a002", "[]"), ("msg_a003", '{"role": 3}')):
        (tmp_path / "message" / "ses_a" / f"{name}.json").write_text(spoilt)
    (tmp_path / "part" / "msg_a000" / "prt_000.json").write_bytes(b'{"type":"text","text":"\xff"}')
    session = only(home)
    assert session.losses["malformed_line"] == 2
    assert session.losses["invalid_utf8"] == 1
    assert len(logs.turns(session)) == 0


def test_recording_twice_gives_the_same_ids(tmp_path):
    """Trajectories have the same ids and contents each time."""
    rows = [logs.sound(tmp_path / name, DATABASE)[0] for name in ("a", "b")]
    keys = [[(r["trajectory_id"], r["content_sha256"]) for r in found] for found in rows]
    assert keys[0] == keys[1]


def test_worker_processes_leave_no_copies_behind(tmp_path, monkeypatch):
    """The copy of a database with a log is gone when the recording is done."""
    copy = Path(shutil.copy(DATABASE, tmp_path / "opencode.db"))
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    writer = sqlite3.connect(copy)
    writer.execute("update session set title = 'x' where id = ?", (MAIN,))
    writer.commit()
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setattr("tempfile.tempdir", None)
    record([copy], tmp_path / "x.traj", jobs=2)
    writer.close()
    database._opened.cache_clear()
    assert not [path for path in scratch.iterdir() if path.name.startswith("traj-")]


def test_odd_values_give_a_sound_dataset_or_one_error():
    """Values of other types, missing and repeated ones cost themselves."""
    survive_values(EXPORT, "opencode")


def test_odd_values_in_records_of_2_give_a_sound_dataset_or_one_error(second, tmp_path):
    """The same for records of 2.x, here as an export."""
    opened = sqlite3.connect(second)
    rows = opened.execute("select type, data from session_message where session_id = 'ses_two'")
    messages = [{"type": kind, **json.loads(data)} for kind, data in rows]
    opened.close()
    info = {"id": "ses_two", "title": "t", "version": "2.0.9", "time": {"created": 1}}
    path = tmp_path / "export.json"
    write(path, {"info": info, "messages": messages})
    assert len(logs.turns(only(path), "main")) == 5
    survive_values(path, "opencode")
