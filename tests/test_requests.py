"""Logged requests: bodies of four APIs to turns and lanes, held to what went over the wire."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj.dataset import Dataset
from traj.events import Message, Rebase, Session, Turn
from traj.pipeline import record
from traj.sources import find, requests
from traj.sources.requests import Answered, Asked, Exchange
from traj.sources.requests.logged import session_of
from traj.validation import validate

AGENTS = {
    "aider": 2,
    "cline": 1,
    "codex": 1,
    "gemini": 1,
    "kimi": 2,
    "mini-swe-agent": 1,
    "opencode": 2,
    "pi-new": 1,
    "qwen-new": 2,
}  # lanes of each


def turns(session: Session) -> list[Turn]:
    found = [s for lane in session.lanes for s in lane.steps if isinstance(s, Turn)]
    return sorted(found, key=lambda turn: turn.start_us or 0)


def read(path: Path, form: str) -> Session:
    (session,) = find([path]).sessions
    assert session.format == form
    return session.read()


def prompts(session: Session) -> dict[int, list[Message]]:
    """The messages that each turn sends, by the turn's line."""
    lanes: list[list[Message]] = [[] for _ in session.lanes]
    for messages, lane in zip(lanes, session.lanes, strict=True):
        for step in lane.steps:
            message = step.answer if isinstance(step, Turn) else step
            if isinstance(message, Message):
                messages.append(message)
    found = {}
    for index, lane in enumerate(session.lanes):
        context: list[Message] = []
        number = 0
        for step in lane.steps:
            if isinstance(step, Rebase):
                context = [one for at, a, b in step.ranges for one in lanes[at][a:b]]
                continue
            if isinstance(step, Turn):
                assert step.line is not None
                found[step.line] = list(context)
            if isinstance(step, Message) or step.answer is not None:
                context.append(lanes[index][number])
                number += 1
    return found


# Captured agents, as an archive of their requests.


def archive(folder: Path, out: Path) -> list[dict[str, Any]]:
    """The requests of a capture as a HAR file; gives them as they were captured."""
    captured = [json.loads(path.read_text()) for path in sorted(folder.glob("[0-9]*.json"))]
    entries = []
    for one in captured:
        chunks = one["resp_chunks"]
        text = "".join(chunk[1] for chunk in chunks if isinstance(chunk[1], str))
        seconds = one["t_rel"]
        entries.append(
            {
                "startedDateTime": f"2026-11-22T16:{int(seconds // 60):02d}:{seconds % 60:09.6f}Z",
                "time": one["dur"] * 1000,
                "request": {
                    "method": "POST",
                    "url": f"http://127.0.0.1{one['path']}",
                    "headers": [{"name": a, "value": b} for a, b in one["req_headers"]],
                    "postData": {"text": json.dumps(one["req_body"])},
                },
                "response": {"status": one["status"], "content": {"text": text}},
            }
        )
    log = {"version": "1.2", "creator": {"name": "test", "version": "1"}, "entries": entries}
    out.write_text(json.dumps({"log": log}))
    return captured


def wire_usage(one: dict[str, Any]) -> tuple[int, int, int] | None:
    """Input, cached and output tokens of a captured answer, found in its text: other code."""
    text = "".join(chunk[1] for chunk in one["resp_chunks"] if isinstance(chunk[1], str))
    found = None
    for line in text.splitlines() if "data:" in text else [f"data: {text}"]:
        if not line.startswith("data:") or "[DONE]" in line:
            continue
        event = json.loads(line[5:])
        event = event.get("response", event)
        if usage := event.get("usage"):
            if "prompt_tokens" in usage:
                cached = usage["prompt_tokens_details"]["cached_tokens"]
                found = usage["prompt_tokens"], cached, usage["completion_tokens"]
            elif usage.get("output_tokens"):
                cached = usage["input_tokens_details"]["cached_tokens"]
                found = usage["input_tokens"], cached, usage["output_tokens"]
        if usage := event.get("usageMetadata"):
            made = usage.get("candidatesTokenCount", 0) + usage.get("thoughtsTokenCount", 0)
            found = usage["promptTokenCount"], usage.get("cachedContentTokenCount", 0), made
    return found


@pytest.mark.parametrize("agent", AGENTS)
def test_captured_requests_are_turns_with_the_usage_of_the_wire(agent, shared, tmp_path):
    """Turn by turn, in order: input, cached and output tokens; and as many lanes as agents."""
    captured = archive(shared / "captures" / agent / "api", tmp_path / "x.har")
    session = read(tmp_path / "x.har", "har")
    found = turns(session)
    assert len(found) == len(captured)
    assert len(session.lanes) == AGENTS[agent]
    for turn, one in zip(found, captured, strict=True):
        usage = wire_usage(one)
        told = turn.usage.input_tokens, turn.usage.cached_tokens, turn.usage.output_tokens
        assert told == (usage or (None, None, None))
        assert turn.status == "ok"
    for lane in session.lanes[1:]:
        started = agent in ("kimi", "qwen-new")
        assert (lane.kind, lane.spawned_by is not None) == (
            ("subagent", True) if started else ("side", False)
        )


@pytest.mark.parametrize("agent", AGENTS)
def test_prompts_rebuilt_from_turns_are_the_captured_bodies(agent, shared, tmp_path):
    """Texts of each rebuilt prompt, its system prompt and tools equal the request's own."""
    captured = archive(shared / "captures" / agent / "api", tmp_path / "x.har")
    session = read(tmp_path / "x.har", "har")
    rebuilt = prompts(session)
    by_line = {turn.line: turn for turn in turns(session)}
    for line, one in enumerate(captured, 1):
        body = one["req_body"]
        assert texts_of(rebuilt[line], by_line[line].system) == body_texts(body)
        tools = by_line[line].tools
        assert (json.loads(tools) if tools else None) == (body.get("tools") or None)


def texts_of(messages: list[Message], system: str | None) -> list[str]:
    found = [system] if system else []
    for message in messages:
        if message.content:
            found.append(message.content.strip())
        found += [call.name for call in message.tool_calls]
    return sorted(text.strip() for text in found if text.strip())


def body_texts(body: dict[str, Any]) -> list[str]:
    """What a request's body says, by other code than the source's."""
    found: list[str] = []

    def content(value: Any) -> None:
        if isinstance(value, str):
            found.append(value)
        elif isinstance(value, list):
            parts = [
                p.get("text") for p in value if p.get("text") is not None and not p.get("thought")
            ]
            if parts:
                found.append("\n".join(parts))

    for one in body.get("messages", []):
        content(one.get("content"))
        found += [call["function"]["name"] for call in one.get("tool_calls") or ()]
    if "contents" in body:
        content(body.get("systemInstruction", {}).get("parts"))
        for one in body["contents"]:
            content(one["parts"])
            found += [p["functionCall"]["name"] for p in one["parts"] if "functionCall" in p]
            for p in one["parts"]:
                if "functionResponse" in p:
                    said = p["functionResponse"]["response"]
                    found.append(said.get("output") or json.dumps(said, separators=(",", ":")))
    if "input" in body:
        content(body.get("instructions"))
        for one in body["input"]:
            if one.get("type") in ("function_call", "custom_tool_call"):
                found.append(one["name"])
            elif "output" in one:
                content(one["output"])
            elif one.get("type") != "reasoning":
                content(one.get("content"))
    return sorted(text.strip() for text in found if text.strip())


# What chaining makes of prompts.


def said(text: str, *calls: tuple[str, str]) -> Answered:
    from traj.events import ToolCall

    made = tuple(ToolCall(name, "tool", arguments) for name, arguments in calls)
    return Answered(Message("assistant", text or None, tool_calls=made), stop_reason="end_turn")


def chained(*exchanges: tuple[list[Message], Answered], overlap: bool = False) -> Session:
    session = Session("x", "y", "z")
    made = [
        Exchange(
            Asked(messages=tuple(messages), tools="[1]", system="s"),
            answer,
            number * 1000,
            None,
            number * 1000 + (5000 if overlap else 500),
            "measured",
        )
        for number, (messages, answer) in enumerate(exchanges)
    ]
    requests.chain(session, made)
    return session


USER, MORE = Message("user", "Please mend the pager."), Message("user", "And now the tests.")
FIRST = said("I have mended the pager, and it works.")


def again(answer: Answered) -> Message:
    assert answer.message is not None
    return answer.message


def test_a_prompt_that_goes_on_stays_in_its_context():
    """The second prompt begins with the first and its answer: one lane, nothing twice."""
    session = chained(([USER], FIRST), ([USER, again(FIRST), MORE], said("Done.")))
    (lane,) = session.lanes
    kinds = [type(step) for step in lane.steps]
    assert kinds == [Message, Turn, Message, Turn]


def test_a_failed_request_that_is_sent_again_is_the_next_attempt():
    """Attempts are numbered, and the prompt stands once."""
    session = chained(
        ([USER], Answered(error="529")), ([USER], Answered(error="529")), ([USER], FIRST)
    )
    (lane,) = session.lanes
    assert [type(step) for step in lane.steps] == [Message, Turn, Turn, Turn]
    assert [turn.attempt for turn in turns(session)] == [0, 1, 2]


def test_a_prompt_with_an_earlier_answers_text_is_a_compaction():
    """A shared front is not needed: the summary tells."""
    summary = Message("user", "Summary of before: I have mended the pager, and it works. Go on.")
    session = chained(([USER], FIRST), ([summary, MORE], said("Done.")))
    (lane,) = session.lanes
    assert [step.reason for step in lane.steps if isinstance(step, Rebase)] == ["compaction"]


def test_going_back_is_a_rewind_and_other_changes_are_edits():
    """A user's message in the place of what came after is a rewind, a changed result an edit."""
    call = said("", ("c1", "{}"))
    result, shorter = (Message("tool", text, tool_call_id="c1") for text in ("long output", "cut"))
    start = [USER, again(call)]
    session = chained(
        ([USER], call),
        ([*start, result], FIRST),
        ([*start, shorter, again(FIRST), MORE], said("Done.")),
        ([USER, MORE], said("Anew.")),
    )
    (lane,) = session.lanes
    assert [step.reason for step in lane.steps if isinstance(step, Rebase)] == ["edit", "rewind"]


def test_requests_at_the_same_time_are_lanes_of_their_own():
    """What was sent while an answer was still coming is no continuation of it."""
    session = chained(([USER], FIRST), ([USER, MORE], said("Aside.")), overlap=True)
    assert [lane.kind for lane in session.lanes] == ["main", "side"]
    assert session.lanes[1].steps[0] == Rebase(None, ((0, 0, 1),))


def test_an_agent_begins_with_what_a_call_says():
    """A prompt with a call's text in it is the lane of that call, joined by its result."""
    task = "Find the function that cuts lists into pages."
    call = said("", ("c1", json.dumps({"prompt": task})))
    result = Message("tool", "It is pages().", tool_call_id="c1")
    session = chained(
        ([USER], call),
        ([Message("user", f"<task>{task}</task>")], said("It is pages().")),
        ([USER, again(call), result], FIRST),
    )
    helper = session.lanes[1]
    assert (helper.kind, helper.spawned_by, helper.joined_by) == ("subagent", "c1", "c1")
    assert session.tool_runs["c1"].clock == "derived"


def test_a_conversation_kept_by_the_provider_goes_on():
    """A request that names the response it follows has that one's prompt and answer before it."""
    session = Session("x", "y", "z")
    first = Exchange(Asked(messages=(USER,)), Answered(again(FIRST), response_id="r1"), 0, None, 5)
    second = Exchange(Asked(messages=(MORE,), follows="r1"), said("Done."), 10, None, 15)
    requests.chain(session, [first, second])
    (lane,) = session.lanes
    assert [type(step) for step in lane.steps] == [Message, Turn, Message, Turn]


# Real archives and payloads.


@pytest.mark.parametrize(("form", "name"), [("har", "pager.har"), ("litellm", "pager.jsonl")])
def test_real_logs_are_what_the_server_saw(form, name, tmp_path):
    """mitmproxy's archive and LiteLLM's payloads: each request with its usage, the failed one too,
    and the sub-agent as a lane of its call."""
    path = SAMPLES / form / name
    session = read(path, form)
    truth = json.loads((SAMPLES / "truth" / form / "pager.json").read_text())["requests"]
    found = turns(session)
    assert len(found) == len(truth) == 7
    for turn, sent in zip(found, truth, strict=True):
        if sent["status"] != 200:
            assert (turn.status, turn.answer) == ("error", None)
            continue
        usage = sent["response"]["usage"]
        assert turn.usage.input_tokens == usage["prompt_tokens"]
        assert turn.usage.cached_tokens == usage["prompt_tokens_details"]["cached_tokens"]
        assert turn.usage.output_tokens == usage["completion_tokens"]
        assert turn.usage.source == "reported"
        assert abs(turn.end_us / 1e6 - sent["end"]) < 2
    assert [turn.attempt for turn in found] == [0, 0, 0, 0, 0, 1, 0]
    assert session.lanes[1].spawned_by == session.lanes[1].joined_by == "call_main_1_0"
    record([path], tmp_path / "d")
    assert validate(Dataset.open(tmp_path / "d")).ok
    assert record([path], tmp_path / "d").unchanged == 1


def test_litellm_files_may_be_lists_or_single_objects(tmp_path):
    """The same payloads as lines, as a list, and a file each are the same session."""
    payloads = [
        json.loads(x) for x in (SAMPLES / "litellm" / "pager.jsonl").read_text().splitlines()
    ]
    listed, each = tmp_path / "list.json", tmp_path / "each"
    listed.write_text(json.dumps(payloads))
    each.mkdir()
    for number, payload in enumerate(payloads):
        (each / f"{number}.json").write_text(json.dumps(payload))
    whole = turns(read(SAMPLES / "litellm" / "pager.jsonl", "litellm"))
    for place in (listed, each):
        assert [t.usage for t in turns(read(place, "litellm"))] == [t.usage for t in whole]


def test_pairs_of_claude_trace_are_turns(tmp_path):
    """A pair with a stream and one with a whole body: figures beside each other are added."""
    usage = {"input_tokens": 4, "cache_read_input_tokens": 90, "cache_creation_input_tokens": 6}
    begun = {"id": "m1", "model": "c", "usage": usage | {"output_tokens": 1}}
    delta = {"type": "text_delta", "text": "Hi"}
    events = [
        {"type": "message_start", "message": begun},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": delta},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn"},
            "usage": {"output_tokens": 7},
        },
        {"type": "message_stop"},
    ]
    stream = "".join(f"event: x\ndata: {json.dumps(event)}\n\n" for event in events)
    ask = {"model": "c", "max_tokens": 9, "messages": [{"role": "user", "content": "Hello"}]}
    request = {"timestamp": 1795000000.5, "method": "POST", "url": "https://x/v1/messages"}
    pair = {
        "request": request | {"headers": {}, "body": ask},
        "response": {"timestamp": 1795000001.5, "status_code": 200, "body_raw": stream},
        "logged_at": "2026-11-18T00:00:00Z",
    }
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps(pair) + "\n")
    (turn,) = turns(read(path, "claude_trace"))
    assert (turn.usage.input_tokens, turn.usage.cached_tokens, turn.usage.output_tokens) == (
        100,
        90,
        7,
    )
    assert (turn.stop_reason, turn.end_us - turn.start_us) == ("end_turn", 1_000_000)
    pair["response"]["body_raw"] = stream[: stream.index('event: x\ndata: {"type": "message_delta')]
    path.write_text(json.dumps(pair) + "\n")
    (turn,) = turns(read(path, "claude_trace"))
    assert (turn.status, turn.usage.source) == ("cancelled", "partial")


def test_requests_of_opencodes_sub_agents_are_of_the_session_that_started_them():
    """Its main agent says its own session alone, a sub-agent its parent's too."""
    assert session_of({"x-session-id": "a"}) == "a"
    assert session_of({"x-session-id": "b", "x-parent-session-id": "a"}) == "a"


def test_archives_without_models_are_refused(tmp_path):
    """An archive of other traffic is named as such."""
    entry = {"request": {"url": "https://example.com/"}, "response": {"status": 200}}
    path = tmp_path / "x.har"
    path.write_text(json.dumps({"log": {"version": "1.2", "entries": [entry]}}))
    found = find([path])
    assert not found.sessions
    assert "none of them to a model" in found.refused[0][1]


def test_only_their_own_files_are_taken():
    """No other sample is an archive or a payload."""
    own = {"har": SAMPLES / "har", "litellm": SAMPLES / "litellm"}
    for session in find([SAMPLES]).sessions:
        folder = session.parts[0].path.parent
        for form, mine in own.items():
            assert (session.format == form) == (folder == mine), session.parts[0].path


@pytest.mark.parametrize(("form", "name"), [("har", "pager.har"), ("litellm", "pager.jsonl")])
def test_damaged_logs_give_no_traceback(form, name):
    """Cut off, overwritten, with odd values: read soundly, or refused."""
    survive_bytes(SAMPLES / form / name, form)
    survive_values(SAMPLES / form / name, form)


@pytest.mark.parametrize("agent", ["gemini", "codex", "kimi"])
def test_damaged_bodies_give_no_traceback(agent, shared, tmp_path):
    """So do archives with streams of the other APIs in them."""
    archive(shared / "captures" / agent / "api", tmp_path / "x.har")
    survive_bytes(tmp_path / "x.har", "har", 20)
    survive_values(tmp_path / "x.har", "har", 10)
