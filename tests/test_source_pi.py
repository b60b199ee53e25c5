"""Pi: what is read equals what went over the wire; its tree, its compactions and its forks."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from traj import events
from traj.sources import find

PLACE = SAMPLES / "pi"
SESSIONS = sorted(PLACE.rglob("*.jsonl"))
TRUTH = json.loads((SAMPLES / "truth" / "pi" / "requests.json").read_text())["requests"]
CORPUS = sorted((SHARED / "corpus" / "pi").rglob("*.jsonl"))


def chat_figures(usage: dict) -> tuple[int, ...]:
    details = usage["completion_tokens_details"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"], details["reasoning_tokens"]


def write(folder: Path, *entries: dict) -> Path:
    """A session file of these entries, each of which goes on from the one before it."""
    header = {"type": "session", "version": 3, "id": "s", "timestamp": at(0), "cwd": "/home/dev/x"}
    lines, before = [header], None
    for number, entry in enumerate(entries, start=1):
        lines.append({"id": f"e{number}", "parentId": before, "timestamp": at(number), **entry})
        before = lines[-1]["id"]
    path = folder / "s.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def at(second: int) -> str:
    return f"2026-03-01T10:00:{second:02d}.000Z"


def user(text: str) -> dict:
    return {"type": "message", "message": {"role": "user", "content": text}}


def answer(text: str, tokens: int = 10, **more: object) -> dict:
    usage = {"input": tokens, "output": 2, "cacheRead": 5, "cacheWrite": 3, "totalTokens": 0}
    told = {"role": "assistant", "content": [{"type": "text", "text": text}], "usage": usage}
    told |= {"api": "anthropic-messages", "model": "m", "stopReason": "stop"}
    return {"type": "message", "message": {**told, **more}}


def texts(messages: list[events.Message]) -> list[str | None]:
    return [message.content for message in messages]


def only(path: Path) -> events.Session:
    (session,) = logs.read(path, only="pi").values()
    return session


def test_every_request_is_a_turn_with_the_usage_that_was_sent():
    """The two sessions hold each answered request of the scripted model, figure by figure, the
    compaction's own too, and each failed one as an error that is tried again."""
    found: dict[str | None, events.Turn] = {}
    for session in logs.read(PLACE).values():
        found |= {turn.response_id: turn for turn in logs.turns(session)}
    answered = [r for r in TRUTH if r["status"] == 200 and r["kind"] == "main"]
    assert {r["response_id"] for r in answered} <= set(found)
    for request in answered:
        turn = found[request["response_id"]]
        assert logs.figures(turn.usage) == chat_figures(request["usage"])
        assert turn.usage.source == "reported"
        calls = turn.answer.tool_calls if turn.answer else ()
        assert [call.id for call in calls] == request["tool_call_ids"]
    sides = [t for s in logs.read(PLACE).values() for t in logs.turns(s, "side")]
    wanted = {chat_figures(r["usage"]) for r in TRUTH if r["kind"] == "side"}
    assert {logs.figures(turn.usage) for turn in sides} == wanted
    failed = [turn for turn in found.values() if turn.status == "error"]
    assert len(failed) == sum(r["status"] == 503 for r in TRUTH) == 1
    assert Counter(turn.attempt for turn in found.values())[1] == 1


def test_requests_start_and_end_when_the_wire_saw_them():
    """Pi's own times lie within 60 ms of the model's record, a first connection apart."""
    starts = {r["response_id"]: (r["start"], r["end"]) for r in TRUTH if r["response_id"]}
    for session in logs.read(PLACE).values():
        for turn in logs.turns(session, "main")[1:]:
            if turn.response_id in starts:
                start, end = starts[turn.response_id]
                assert turn.clock == "logged"
                assert -0.01 < start - turn.start_us / 1e6 < 0.06
                assert abs(turn.end_us / 1e6 - end) < 0.06


def test_requests_carry_as_many_messages_as_were_sent():
    """System prompt and messages of each rebuilt request are as many as the wire had."""
    inputs = {r["response_id"]: r["inputs"] for r in TRUTH if r["response_id"]}
    for session in logs.read(PLACE).values():
        requests = logs.sent(session)
        for turn, messages in zip(logs.turns(session, "main"), requests, strict=True):
            if turn.status == "ok":
                assert turn.system
                assert len(messages) + 1 == inputs[turn.response_id]


def test_a_forks_copied_turns_are_counted_once(tmp_path):
    """Both sessions together have as many turns and tokens as requests were answered."""
    rows, losses = logs.sound(tmp_path, PLACE)
    assert losses["copied_turn"] == 8
    answered = [r["usage"] for r in TRUTH if r["usage"]]
    assert sum(row["totals"]["turns"] for row in rows) == len(TRUTH)
    for place, name in enumerate(logs.FIGURES):
        assert sum(row["totals"][name] for row in rows if row["totals"][name]) == sum(
            chat_figures(usage)[place] for usage in answered
        )


@pytest.mark.usefixtures("shared")
def test_the_captures_requests_are_rebuilt_word_for_word():
    """Each captured body, tools and system prompt included, is what the turns say."""
    capture = SHARED / "captures" / "pi-new"
    (session,) = logs.read(capture / "session").values()
    bodies = [json.loads(p.read_text()) for p in sorted((capture / "api").glob("0*.json"))]
    requests = logs.sent(session)
    for turn, messages, told in zip(logs.turns(session), requests, bodies, strict=True):
        body = told["req_body"]
        first, *rest = body["messages"]
        assert turn.system == first["content"]
        assert json.loads(turn.tools or "") == body["tools"]
        assert [wire(message) for message in rest] == [mine(message) for message in messages]
        usage = [json.loads(c[1][6:]) for c in told["resp_chunks"] if '"usage"' in c[1]][-1]
        assert logs.figures(turn.usage) == chat_figures(usage["usage"])
        assert turn.response_id == usage["id"]
        assert turn.sampling.reasoning_effort == body["reasoning_effort"]


def wire(message: dict) -> tuple:
    content = message.get("content")
    text = content if isinstance(content, str) else "\n".join(p["text"] for p in content or ())
    calls = [(c["id"], c["function"]["arguments"]) for c in message.get("tool_calls", ())]
    return message["role"], text, message.get("reasoning_content"), calls


def mine(message: events.Message) -> tuple:
    calls = [(call.id, call.arguments) for call in message.tool_calls]
    return message.role, message.content, message.reasoning, calls


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem[-20:])
def test_corpus_totals_equal_an_independent_count(path, tmp_path):
    """Figures, tool results and failures of each corpus file are those of its lines."""
    ((row,), _) = logs.sound(tmp_path, path)
    objects = [json.loads(line) for line in path.read_text().splitlines()]
    messages = [line["message"] for line in objects if line["type"] == "message"]
    answers = [m for m in messages if m["role"] == "assistant"]
    assert row["totals"]["turns"] == len(answers)
    usages = [m["usage"] for m in answers if any(v for v in m.get("usage", {}).values() if v != {})]
    total = sum(u["input"] + u["cacheRead"] + u["cacheWrite"] for u in usages)
    assert (row["totals"]["input_tokens"] or 0) == total
    assert (row["totals"]["cached_tokens"] or 0) == sum(u["cacheRead"] for u in usages)
    assert (row["totals"]["output_tokens"] or 0) == sum(u["output"] for u in usages)


def test_cached_and_written_tokens_stand_beside_the_input(tmp_path):
    """Pi's input is the uncached part: the schema's is the sum."""
    session = only(write(tmp_path, user("a"), answer("b", 10)))
    (turn,) = logs.turns(session)
    assert (turn.usage.input_tokens, turn.usage.cached_tokens) == (18, 5)
    assert turn.usage.cache_write_tokens == 3


def test_figures_that_are_all_zero_are_unknown(tmp_path):
    """A request that was broken off says zero for everything; that is no figure."""
    nothing = {"input": 0, "output": 0, "cacheRead": 0, "cacheWrite": 0}
    stopped = answer("", stopReason="aborted", usage=nothing, content=[])
    (turn,) = logs.turns(only(write(tmp_path, user("a"), stopped)))
    assert turn.status == "cancelled"
    assert turn.answer is None
    assert turn.usage == events.Usage()


def test_an_abandoned_branch_costs_what_it_cost(tmp_path):
    """Going back begins a new context with the messages before the branch; all turns count."""
    path = write(
        tmp_path,
        user("first"),
        answer("one"),
        user("wrong way"),
        answer("two"),
        {**user("right way"), "parentId": "e2"},
        answer("three"),
    )
    session = only(path)
    assert [texts(request) for request in logs.sent(session)] == [
        ["first"],
        ["first", "one", "wrong way"],
        ["first", "one", "right way"],
    ]
    reasons = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert reasons == ["rewind"]


def test_what_was_broken_off_is_not_sent_again(tmp_path):
    """An aborted answer stands in the record and in no later request."""
    stopped = answer("half a", stopReason="aborted")
    session = only(write(tmp_path, user("a"), stopped, user("b"), answer("c")))
    first, second = logs.turns(session)
    assert first.answer.content == "half a"
    assert (first.status, first.usage.source) == ("cancelled", "partial")
    assert texts(logs.sent(session)[1]) == ["a", "b"]
    assert second.status == "ok"


def test_compaction_keeps_what_it_names(tmp_path):
    """The context is the summary and what follows from the first kept entry on."""
    told = {"type": "compaction", "summary": "so far", "firstKeptEntryId": "e3", "tokensBefore": 9}
    session = only(
        write(
            tmp_path, user("a"), answer("b"), user("c"), answer("d"), told, user("e"), answer("f")
        )
    )
    assert texts(logs.sent(session)[-1]) == ["so far", "c", "d", "e"]
    (rebase,) = [s for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert rebase.reason == "compaction"


def test_a_compaction_that_names_itself_keeps_nothing(tmp_path):
    """Its own id as the first kept entry means that all before it is gone."""
    told = {"type": "compaction", "summary": "so far", "firstKeptEntryId": "e3"}
    session = only(write(tmp_path, user("a"), answer("b"), told, user("e"), answer("f")))
    assert texts(logs.sent(session)[-1]) == ["so far", "e"]
    assert "compaction_history_unknown" not in session.losses


def test_an_edit_of_the_context_leaves_out_or_replaces_a_message(tmp_path):
    """Later requests hold what the edit says; the messages before stay as they were sent."""
    session = only(
        write(
            tmp_path,
            user("a"),
            answer("b"),
            {"type": "context_edit", "targetId": "e1", "replacement": {"content": "short"}},
            user("c"),
            answer("d"),
            {"type": "context_edit", "targetId": "e2", "replacement": None},
            user("e"),
            answer("f"),
        )
    )
    assert [texts(request) for request in logs.sent(session)] == [
        ["a"],
        ["short", "b", "c"],
        ["short", "c", "d", "e"],
    ]


def test_system_messages_patch_the_prompt_by_section(tmp_path):
    """A later system message changes sections and tools; nothing of it is a message."""
    tool = {"name": "read", "description": "reads", "parameters": {"type": "object"}}
    first = {"role": "system", "content": "", "sections": {"a": "A", "b": "B"}}
    later = {"role": "system", "content": "", "sections": {"b": None, "c": "C"}}
    session = only(
        write(
            tmp_path,
            {"type": "message", "message": {**first, "toolsAdded": [tool]}},
            user("x"),
            answer("y"),
            {"type": "message", "message": {**later, "toolsRemoved": [{"name": "read"}]}},
            user("z"),
            answer("w"),
        )
    )
    one, two = logs.turns(session)
    assert (one.system, two.system) == ("A\n\nB", "A\n\nC")
    assert json.loads(one.tools)[0]["input_schema"] == {"type": "object"}
    assert two.tools is None
    assert texts(logs.sent(session)[1]) == ["x", "y", "z"]


def test_sub_agents_of_the_extension_are_lanes(tmp_path):
    """The runs within a result's details are lanes that the call started and joined."""
    call = {"type": "toolCall", "id": "c1", "name": "subagent", "arguments": {"task": "t"}}
    inner = [user("t")["message"], answer("done", 40)["message"]]
    result = {"role": "toolResult", "toolCallId": "c1", "toolName": "subagent", "content": "done"}
    details = {"mode": "single", "results": [{"agent": "scout", "messages": inner}]}
    session = only(
        write(
            tmp_path,
            user("a"),
            answer("", content=[call], stopReason="toolUse"),
            {"type": "message", "message": {**result, "details": details}},
            answer("b"),
        )
    )
    lane = session.lanes[1]
    assert (lane.kind, lane.name, lane.spawned_by, lane.joined_by) == (
        "subagent",
        "scout",
        "c1",
        "c1",
    )
    assert [t.usage.input_tokens for t in logs.turns(session, "subagent")] == [48]


def test_the_first_version_is_a_plain_sequence(tmp_path):
    """Without ids each line goes on from the one before; the header has the model."""
    header = {"type": "session", "id": "old", "timestamp": at(0), "cwd": "/x", "modelId": "m1"}
    lines = [header, {**user("a"), "timestamp": at(1)}, {**answer("b"), "timestamp": at(2)}]
    lines += [
        {"type": "compaction", "summary": "s", "firstKeptEntryIndex": 2, "timestamp": at(3)},
        {**user("c"), "timestamp": at(4)},
        {**answer("d"), "timestamp": at(5)},
    ]
    path = tmp_path / "old.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    session = only(path)
    assert texts(logs.sent(session)[1]) == ["s", "b", "c"]


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents are none of Pi's, and its own are nobody else's."""
    assert [one.format for one in find([PLACE]).sessions] == ["pi", "pi"]
    assert not find([SAMPLES / "claude_code", SAMPLES / "codex"], "pi").sessions
    assert not find([SAMPLES / "gemini_cli", SAMPLES / "qwen_code"], "pi").sessions


def test_a_session_of_the_hubs_own_format_is_not_taken(tmp_path):
    """Its header names a harness; Pi's never does."""
    path = tmp_path / "x.jsonl"
    path.write_text('{"type":"session","harness":"pi","id":"a","timestamp":"t","cwd":"/"}\n')
    assert not find([path], "pi").sessions


def test_recording_twice_gives_the_same(tmp_path):
    """Ids and totals of two recordings are equal."""
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first, _ = logs.sound(tmp_path / "a", PLACE)
    second, _ = logs.sound(tmp_path / "b", PLACE)
    assert [(r["trajectory_id"], r["content_sha256"]) for r in first] == [
        (r["trajectory_id"], r["content_sha256"]) for r in second
    ]


@pytest.mark.parametrize("path", SESSIONS, ids=lambda path: path.stem[-6:])
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "pi")


def test_entries_that_name_themselves_or_nobody_do_no_harm(tmp_path):
    """Damaged parents, to an entry itself, a later one or none, are passed over."""
    path = write(
        tmp_path,
        {**user("a"), "parentId": "e1"},
        {**answer("b"), "parentId": "e3"},
        {**user("c"), "parentId": "nobody"},
        {**answer("d"), "parentId": 7},
        {"type": "compaction", "summary": "s", "firstKeptEntryId": "nobody"},
        answer("e"),
    )
    session = only(path)
    assert len(logs.turns(session)) == 3
    assert session.losses["malformed_field"] == 1
    assert session.losses["compaction_history_unknown"] == 1


def test_a_log_that_goes_back_and_forth_is_followed_to_a_limit(tmp_path, monkeypatch):
    """Each line going on from another branch would cost the square of the log: past a limit it is
    read as a plain sequence, and that is counted."""
    monkeypatch.setattr("traj.sources.chains.RANGES", 50)
    entries = [{**answer(str(n)), "parentId": f"e{max(1, n - 2)}"} for n in range(40)]
    session = only(write(tmp_path, user("a"), *entries))
    assert len(logs.turns(session)) == 40
    assert session.losses["branch_not_followed"] > 1
    parts = sum(len(s.ranges) for s in session.lanes[0].steps if isinstance(s, events.Rebase))
    assert parts <= 50
