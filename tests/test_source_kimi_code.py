"""Kimi Code: steps, sub-agents, compaction and forks; what is read is what was sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from damaged import survive_values
from traj import events
from traj.pipeline import record
from traj.sources import find

PLACE = SAMPLES / "kimi_code"
FILES = sorted(PLACE.glob("*/*/agents/*/wire.jsonl"))
TRUTH = json.loads((SAMPLES / "truth" / "kimi_code" / "requests.json").read_text())["requests"]
FIRST, FORK = (
    next(r["session_id"] for r in TRUTH),
    next(r["session_id"] for r in reversed(TRUTH)),
)
CAPTURE = SHARED / "captures" / "kimi"


def chat_figures(usage: dict) -> tuple[int, ...]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"]


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
    if message.tool_calls:
        made["tool_calls"] = [
            {"id": c.id, "type": "function", "function": {"name": c.name, "arguments": c.arguments}}
            for c in message.tool_calls
        ]
    if message.reasoning:
        made["reasoning_content"] = message.reasoning
    return made


def log(folder: Path, *lines: dict, agent: str = "main", session: str = "session_s") -> Path:
    """An agent's log of these lines, a tenth of a second apart."""
    head = {"type": "metadata", "protocol_version": "1.5", "created_at": 1000}
    told = [{"agentId": agent, "time": 1000 + 100 * n, **line} for n, line in enumerate(lines)]
    path = folder / session / "agents" / agent / "wire.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(line) + "\n" for line in [head, *told]))
    return path


def user(text: str, kind: str = "user", **origin: object) -> dict:
    message = {"role": "user", "content": [{"type": "text", "text": text}], "toolCalls": []}
    return {
        "type": "context.append_message",
        "message": {**message, "origin": {"kind": kind, **origin}},
    }


def event(kind: str, **more: object) -> dict:
    return {"type": "context.append_loop_event", "event": {"type": kind, "uuid": "u", **more}}


def step(text: str, *calls: str, end: str = "end_turn", **more: object) -> list[dict]:
    """A request answered by a text and tool calls, with results in the reverse order."""
    usage = {"inputOther": 10, "output": 5, "inputCacheRead": 3, "inputCacheCreation": 2}
    request = {"type": "llm.request", "kind": "loop", "provider": "openai", "model": "m"}
    lines = [event("step.begin"), {**request, **more}]
    lines.append(event("content.part", part={"type": "text", "text": text}))
    lines += [event("tool.call", toolCallId=c, name="Bash", args={"command": c}) for c in calls]
    for call in reversed(calls):
        lines.append(event("tool.result", toolCallId=call, result={"output": f"of {call}"}))
    return [*lines, event("step.end", finishReason=end, usage=usage, messageId=f"id-{text}")]


def only(*places: Path) -> events.Session:
    (session,) = logs.read(*places, only="kimi_code").values()
    return session


def contents(messages: list[events.Message]) -> list[str | None]:
    return [message.content for message in messages]


def test_every_answered_request_is_one_turn_with_the_usage_that_was_sent():
    """Main agent, sub-agents and compactions, under the API's own ids where the log has them."""
    read = logs.read(PLACE)
    turns = {turn.response_id: turn for s in read.values() for turn in logs.turns(s)}
    answered = [r for r in TRUTH if r["status"] == 200]
    loops = {r["response_id"]: r for r in answered if r["kind"] != "compaction"}
    assert {name for name in turns if not name.startswith("at-")} == set(loops)
    for name, request in loops.items():
        assert logs.figures(turns[name].usage)[:3] == chat_figures(request["usage"])
    (aside,) = logs.turns(read[FIRST], "side")
    (asked,) = [r for r in answered if r["kind"] == "compaction"]
    assert logs.figures(aside.usage)[:3] == chat_figures(asked["usage"])


def test_a_fork_counts_what_it_copied_once(tmp_path):
    """All requests, the failed one and the compaction too, are in one trajectory alone."""
    report = record([PLACE], tmp_path / "x.traj")
    assert report.turns == len(TRUTH)
    own = [r for r in TRUTH if r["session_id"] == FORK]
    assert report.losses["copied_turn"] == len(TRUTH) - len(own)


def test_requests_are_rebuilt_as_they_were_sent(shared):
    """System prompt, tools and messages equal the captured bodies, sub-agent's too."""
    bodies = [json.loads(p.read_text())["req_body"] for p in sorted(CAPTURE.glob("api/*.json"))]
    name = bodies[0]["prompt_cache_key"]
    session = logs.read(CAPTURE / "session")[name]
    made = [
        (turn.system, json.loads(turn.tools), [as_chat(m) for m in messages])
        for lane in range(len(session.lanes))
        for turn, messages in zip(
            [s for s in session.lanes[lane].steps if isinstance(s, events.Turn)],
            sent(session, lane),
            strict=True,
        )
    ]
    asked = [(b["messages"][0]["content"], b["tools"], b["messages"][1:]) for b in bodies]
    key = json.dumps
    assert sorted(made, key=key) == sorted(asked, key=key)


def test_the_capture_is_recorded_with_the_usage_that_was_sent(shared, tmp_path):
    """By the API's own ids, and sound."""
    sent_usage = {}
    for path in CAPTURE.glob("api/0*.json"):
        chunks = [text for _, text in json.loads(path.read_text())["resp_chunks"]]
        last = next(json.loads(text[6:]) for text in chunks if '"usage":{' in text)
        sent_usage[last["id"]] = chat_figures(last["usage"])
    turns = [turn for s in logs.read(CAPTURE / "session").values() for turn in logs.turns(s)]
    found = {turn.response_id: logs.figures(turn.usage)[:3] for turn in turns}
    assert {name: found[name] for name in sent_usage} == sent_usage
    logs.sound(tmp_path, CAPTURE / "session")


def test_contexts_are_as_long_as_the_log_says():
    """The count of messages that each request names is that of its context, after the compaction,
    where the agent adds a word that is not in the log, and in the fork too."""
    for session in logs.read(PLACE).values():
        for index, lane in enumerate(session.lanes):
            asked = []
            turns = [step for step in lane.steps if isinstance(step, events.Turn)]
            file = turns[0].file
            name = session.files[file].sha256
            (path,) = [p for p in FILES if sha256(p) == name]
            lines = [json.loads(text) for text in path.read_text().splitlines()]
            kind = "compaction" if lane.kind == "side" else "loop"
            found = [n for n in lines if n["type"] == "llm.request" and n["kind"] == kind]
            asked = [line["messageCount"] for line in found]
            assert [len(messages) for messages in sent(session, index)] == asked


def sha256(path: Path) -> str:
    import hashlib

    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_times_are_those_the_server_saw():
    """A request's start, first token and end lie within a fifth of a second of the server's."""
    session = logs.read(PLACE)[FIRST]
    truth = {r["response_id"]: r for r in TRUTH if r["status"] == 200}
    checked = 0
    for turn in logs.turns(session):
        if turn.response_id in truth:
            request = truth[turn.response_id]
            assert turn.clock == "logged"
            assert abs(turn.start_us - request["start"] * 1e6) < 200_000
            assert abs(turn.first_token_us - request["first_token"] * 1e6) < 200_000
            assert abs(turn.end_us - request["end"] * 1e6) < 200_000
            checked += 1
    assert (
        checked == len([r for r in TRUTH if r["status"] == 200 and r["kind"] != "compaction"]) - 2
    )


def test_tools_have_their_own_durations_and_results_stand_in_the_order_of_their_calls():
    """Clock, exit code and status by the log; the order of results is that of the request."""
    session = logs.read(PLACE)[FIRST]
    assert all(run.clock == "logged" for run in session.tool_runs.values())
    failed = [run for run in session.tool_runs.values() if run.status == "error"]
    assert [run.exit_code for run in failed] == [3]
    for messages in sent(session):
        asked = [call.id for message in messages for call in message.tool_calls]
        assert [m.tool_call_id for m in messages if m.role == "tool"] == asked


def test_sub_agents_are_lanes_between_their_call_and_its_result(tmp_path):
    """Two sub-agents of one answer, with their own prompts and fewer tools."""
    session = logs.read(PLACE)[FIRST]
    lanes = [lane for lane in session.lanes if lane.kind == "subagent"]
    calls = {
        c.id: c
        for turn in logs.turns(session, "main")
        if turn.answer
        for c in turn.answer.tool_calls
    }
    assert len(lanes) == 2
    for lane in lanes:
        first = next(s for s in lane.steps if isinstance(s, events.Message))
        assert json.loads(calls[lane.spawned_by].arguments)["prompt"] == first.content
        assert lane.joined_by == lane.spawned_by
        assert (lane.name, first.by_person) == ("coder", False)
    assert len({turn.tools for turn in logs.turns(session)}) == 2
    _, losses = logs.sound(tmp_path, PLACE)
    assert "subagent_without_call" not in losses


def test_a_failed_request_is_a_turn_with_its_error():
    """The server's 503, sent again as a second try."""
    turns = logs.turns(logs.read(PLACE)[FIRST], "main")
    (at,) = [n for n, turn in enumerate(turns) if turn.status == "error"]
    assert turns[at].error == "APIStatusError 503"
    assert (turns[at].attempt, turns[at + 1].attempt, turns[at + 2].attempt) == (0, 1, 0)


# By hand


def test_what_is_said_while_tools_run_stands_behind_their_results(tmp_path):
    """Results in the order of the calls, then the message."""
    lines = step("a", "c1", "c2", end="tool_use")
    lines.insert(5, user("wait", inTurn=True))
    session = only(log(tmp_path, user("go"), *lines, *step("b")))
    assert contents(sent(session)[1]) == ["go", "a", "of c1", "of c2", "wait"]
    (first, _) = logs.turns(session)
    assert logs.figures(first.usage)[:3] == (15, 3, 5)
    assert first.usage.cache_write_tokens == 2


def test_undoing_takes_the_last_prompt_and_its_answers(tmp_path):
    """Undone messages are paid for and leave the context; reminders stay."""
    undo = {"type": "context.undo", "count": 1}
    lines = [user("one"), *step("a"), user("note", "injection"), user("two"), *step("b"), undo]
    session = only(log(tmp_path, *lines, user("three"), *step("c")))
    assert contents(sent(session)[-1]) == ["one", "a", "note", "three"]
    reasons = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert reasons == ["rewind"]
    assert len(logs.turns(session)) == 3


def test_clearing_begins_anew(tmp_path):
    """Nothing of what was said before is sent."""
    lines = [user("one"), *step("a"), {"type": "context.clear"}, user("two"), *step("b")]
    session = only(log(tmp_path, *lines))
    assert contents(sent(session)[-1]) == ["two"]


def test_old_compactions_keep_what_came_last(tmp_path):
    """Without a count of kept messages the first so many are replaced."""
    compaction = {"type": "context.apply_compaction", "summary": "sum", "compactedCount": 2}
    lines = [user("one"), *step("a"), user("two"), compaction, *step("b")]
    session = only(log(tmp_path, *lines))
    assert contents(sent(session)[-1]) == ["sum", "two"]


def test_a_long_conversation_keeps_its_first_and_last_prompts(tmp_path):
    """Of what the person said the middle is left out, with a word in its place."""
    compaction = {"type": "context.apply_compaction", "summary": "s", "contextSummary": "sum"}
    kept = {"compactedCount": 6, "keptUserMessageCount": 2, "keptHeadUserMessageCount": 1}
    lines = [line for name in "abc" for line in (user(name), *step(name.upper()))]
    request = {"type": "llm.request", "kind": "compaction", "model": "m"}
    session = only(log(tmp_path, *lines, request, {**compaction, **kept}, *step("D")))
    assert contents(sent(session)[-1]) == ["a", None, "c", "sum"]
    (aside,) = logs.turns(session, "side")
    assert aside.answer.content == "s"
    assert contents(sent(session, 1)[0]) == ["a", "A", "b", "B", "c", "C", None]


def test_a_sub_agent_in_the_background_reports_by_a_message(tmp_path):
    """The call returns at once; the message of its task brings the report."""
    spawned = {"type": "subagent.spawned", "subagentId": "agent-0", "parentToolCallId": "c1"}
    spawned |= {"runInBackground": True, "taskId": "t1", "subagentName": "coder"}
    lines = step("a", "c1", end="tool_use")
    report = user("done", "task", taskId="t1")
    log(tmp_path, user("go"), *lines[:4], spawned, *lines[4:], report, *step("b"))
    log(tmp_path, user("find", "system_trigger"), *step("found"), agent="agent-0")
    (session,) = logs.read(tmp_path).values()
    (lane,) = [lane for lane in session.lanes if lane.kind == "subagent"]
    assert (lane.spawned_by, lane.joined_by, lane.name) == ("c1", "agent-0", "coder")
    assert [m.brings for m in session.lanes[0].steps if isinstance(m, events.Message)][
        -1
    ] == "agent-0"
    logs.sound(tmp_path, tmp_path)


def test_asking_the_person_is_told_from_running(tmp_path):
    """The wait for an approval is apart; what was refused is rejected."""
    approval = {"type": "permission.record_approval_result", "toolCallId": "c1"}
    lines = step("a", "c1", end="tool_use")
    asked = {**approval, "result": {"decision": "approved"}}
    session = only(log(tmp_path, user("go"), *lines[:4], asked, *lines[4:]))
    assert session.tool_runs["c1"].permission_us == 100_000
    refused = {**approval, "result": {"decision": "rejected"}}
    session = only(log(tmp_path, user("go"), *lines[:4], refused, *lines[4:]))
    assert session.tool_runs["c1"].status == "rejected"


def test_what_a_failed_request_had_said_stays(tmp_path):
    """An answer that an error broke off is sent again: it was cancelled; one that was none is an
    error."""
    request = {"type": "llm.request", "kind": "loop", "model": "m"}
    failed = [event("step.begin"), request, event("step.end", finishReason="error")]
    lines = [user("go"), *step("a", end="error")[:3], event("step.end", finishReason="error")]
    session = only(log(tmp_path, *lines, *failed, *step("b")))
    assert [turn.status for turn in logs.turns(session)] == ["cancelled", "error", "ok"]
    assert contents(sent(session)[-1]) == ["go", "a"]
    logs.sound(tmp_path, tmp_path, only="kimi_code")


def test_a_log_that_ends_within_a_step_is_a_cancelled_request(tmp_path):
    """What had come of the answer is kept, without figures."""
    session = only(log(tmp_path, user("go"), *step("a", "c1")[:4]))
    (turn,) = logs.turns(session)
    assert (turn.status, turn.usage.source, turn.answer.content) == ("cancelled", "none", "a")


def test_a_sub_agents_log_alone_is_recorded(tmp_path):
    """Without the main agent's log the first lane is empty."""
    path = log(tmp_path, user("x"), *step("y"), agent="agent-7")
    session = only(path)
    assert session.losses["main_lane_missing"] == 1
    assert [lane.kind for lane in session.lanes] == ["main", "subagent"]
    logs.sound(tmp_path, path)


def test_a_log_of_the_agent_before_is_refused_by_its_name(tmp_path):
    """kimi-cli's log begins alike and goes on differently."""
    path = tmp_path / "wire.jsonl"
    path.write_text(
        '{"type":"metadata","protocol_version":"1.1"}\n{"timestamp":1.0,"message":{"type":"TurnBegin"}}\n'
    )
    ((_, reason),) = find([path]).refused
    assert "kimi-cli" in reason


# Recognition and damage


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents are none of Kimi Code's, and its own are nobody else's."""
    found = find([PLACE]).sessions
    assert {(s.format, s.session_id) for s in found} == {("kimi_code", FIRST), ("kimi_code", FORK)}
    known = {"kimi_code", "truth", "make", "datasets"}
    others = [place for place in SAMPLES.iterdir() if place.is_dir() and place.name not in known]
    assert not find(others, "kimi_code").sessions


@pytest.mark.parametrize("path", FILES[:3], ids=lambda path: path.parent.name)
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "kimi_code")


@pytest.mark.parametrize("path", FILES[-2:], ids=lambda path: path.parent.name)
def test_odd_values_give_a_sound_dataset_or_one_error(path):
    """Values of other types, missing and repeated lines cost themselves."""
    survive_values(path, "kimi_code")


def test_recording_twice_gives_the_same_ids(tmp_path):
    """Trajectories have the same ids and contents each time."""
    rows = [logs.sound(tmp_path / name, PLACE)[0] for name in ("a", "b")]
    keys = [[(r["trajectory_id"], r["content_sha256"]) for r in found] for found in rows]
    assert keys[0] == keys[1]
