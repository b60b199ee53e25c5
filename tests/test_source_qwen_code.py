"""Qwen Code: messages, telemetry and sub-agents; what is read equals what went over the wire."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from traj import events
from traj.sources import find

PLACE = SAMPLES / "qwen_code"
FILES = sorted(PLACE.rglob("*.jsonl"))
TRUTH = json.loads((SAMPLES / "truth" / "qwen_code" / "requests.json").read_text())["requests"]
CORPUS = sorted((SHARED / "corpus" / "qwen_code").rglob("*.jsonl"))


def chat_figures(usage: dict) -> tuple[int, ...]:
    details = usage["completion_tokens_details"]
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"], details["reasoning_tokens"]


def lines(folder: Path, *found: dict, name: str = "s.jsonl") -> Path:
    """A session file of these lines, each of which goes on from the one before it."""
    before = None
    told = []
    for number, line in enumerate(found, start=1):
        stamp = f"2026-03-01T10:00:{number:02d}.000Z"
        whole = {"uuid": f"u{number}", "parentUuid": before, "sessionId": "s", "timestamp": stamp}
        told.append({**whole, **line})
        before = told[-1]["uuid"]
    path = folder / name
    path.write_text("".join(json.dumps(line) + "\n" for line in told))
    return path


def user(text: str, **more: object) -> dict:
    return {"type": "user", "message": {"role": "user", "parts": [{"text": text}]}, **more}


def answer(text: str, prompt: int = 20, output: int = 5, **more: object) -> dict:
    usage = {"promptTokenCount": prompt, "candidatesTokenCount": output}
    usage |= {"cachedContentTokenCount": 8, "thoughtsTokenCount": 2}
    usage["totalTokenCount"] = prompt + output
    told = {"type": "assistant", "model": "m", "usageMetadata": usage}
    return {**told, "message": {"role": "model", "parts": [{"text": text}]}, **more}


def telemetry(name: str, **event: object) -> dict:
    told = {"event.name": f"qwen-code.{name}", "event.timestamp": "2026-03-01T10:00:10.000Z"}
    return {"type": "system", "subtype": "ui_telemetry", "systemPayload": {"uiEvent": told | event}}


def response(prompt: int = 20, output: int = 5, **more: object) -> dict:
    figures = {"input_token_count": prompt, "output_token_count": output, "duration_ms": 900}
    return telemetry("api_response", response_id="r", **figures, **more)


def only(*paths: Path) -> events.Session:
    (session,) = logs.read(*paths, only="qwen_code").values()
    return session


def sent(session: events.Session, lane: int = 0) -> list[list[str | None]]:
    return [[m.content for m in request] for request in logs.sent(session, lane)]


def test_every_request_is_a_turn_with_the_usage_that_was_sent():
    """Each answered request, sub-agents' and those outside the conversation too, has its turn
    under the API's own id; none is there twice."""
    (session,) = logs.read(PLACE).values()
    found = {turn.response_id: turn for turn in logs.turns(session)}
    answered = {r["response_id"]: r for r in TRUTH if r["status"] == 200}
    assert set(found) == set(answered)
    assert len(found) == len(logs.turns(session))
    for name, request in answered.items():
        assert logs.figures(found[name].usage) == chat_figures(request["usage"])
        assert found[name].usage.source == "reported"
    for kind in ("main", "subagent"):
        wanted = [n for n, r in answered.items() if r["kind"] == kind]
        # The memory keeper's requests come with tools, and stand outside the conversation.
        mine = [turn.response_id for turn in logs.turns(session, kind)]
        assert mine == [name for name in wanted if name in mine]


def test_requests_start_and_end_when_the_wire_saw_them():
    """Qwen Code's telemetry gives start, first token and end. Its clock starts before it prepares
    the request, and with the first attempt where one failed."""
    times = {r["response_id"]: r for r in TRUTH if r["response_id"]}
    failed = [r["start"] for r in TRUTH if r["status"] != 200]
    (session,) = logs.read(PLACE).values()
    early = []
    for turn in logs.turns(session):
        truth = times[turn.response_id]
        assert turn.clock == "logged"
        assert abs(turn.end_us / 1e6 - truth["end"]) < 0.1
        assert turn.start_us <= turn.first_token_us <= turn.end_us
        early.append(truth["start"] - turn.start_us / 1e6)
        if early[-1] > 1:
            assert -0.01 < failed.pop() - turn.start_us / 1e6 < 0.6
    assert not failed
    assert min(early) > -0.01
    assert sorted(early)[len(early) // 2] < 0.2


def test_the_background_agent_is_tied_to_its_call_and_its_notification():
    """It is started by the call and joined by the message that brings its report."""
    (session,) = logs.read(PLACE).values()
    lane = next(lane for lane in session.lanes if lane.kind == "subagent")
    (call,) = (
        call.id
        for turn in logs.turns(session, "main")
        for call in turn.answer.tool_calls
        if call.name == "agent"
    )
    assert (lane.spawned_by, lane.joined_by) == (call, f"notification {call}")
    assert session.tool_runs[call].background is True
    brings = [s.brings for s in session.lanes[0].steps if isinstance(s, events.Message)]
    assert brings.count(f"notification {call}") == 1


def test_tools_have_their_own_times():
    """Every tool call of the sample has a logged start and end, of what Qwen Code measured."""
    (session,) = logs.read(PLACE).values()
    calls = [c.id for t in logs.turns(session) if t.answer for c in t.answer.tool_calls]
    assert len(calls) == 10
    for call in calls:
        run = session.tool_runs[call]
        assert run.clock == "logged"
        assert 0 <= run.end_us - run.start_us < 2_000_000
        assert run.status == "ok"


def test_compression_begins_a_context():
    """After /compress the next request holds the summary and what came since."""
    (session,) = logs.read(PLACE).values()
    reasons = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert reasons == ["compaction"]
    last = sent(session)[-1]
    assert len(last) == 4
    assert last[-1].endswith("What did the last commit change?")


def test_samples_record_soundly(tmp_path):
    """Every check of the dataset passes, and two recordings are equal."""
    found = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        rows, losses = logs.sound(tmp_path / name, PLACE)
        assert not losses
        found.append([(r["trajectory_id"], r["content_sha256"]) for r in rows])
    assert found[0] == found[1]


@pytest.mark.usefixtures("shared")
def test_the_captures_requests_are_rebuilt():
    """Each captured body's messages, but for the reminder that is in no log, are what the turns
    say; figures and ids equal the API's."""
    capture = SHARED / "captures" / "qwen-new"
    (session,) = logs.read(capture / "session").values()
    bodies = [json.loads(p.read_text()) for p in sorted((capture / "api").glob("0*.json"))]
    for lane, kind in ((0, "main"), (1, "sub")):
        told = [body for body in bodies if body["kind"] == kind]
        turns = [s for s in session.lanes[lane].steps if isinstance(s, events.Turn)]
        for turn, request, body in zip(turns, logs.sent(session, lane), told, strict=True):
            chunks = [c[1][6:] for c in body["resp_chunks"] if '"usage"' in c[1]]
            truth = json.loads(chunks[-1])
            assert turn.response_id == truth["id"]
            assert logs.figures(turn.usage) == chat_figures(truth["usage"])
            wanted = [wire(m) for m in body["req_body"]["messages"][1:]]
            assert [mine(m) for m in request] == wanted


def wire(message: dict) -> tuple:
    content = message.get("content")
    parts = [content] if isinstance(content, str) else [p["text"] for p in content or ()]
    texts = [text for text in parts if not text.startswith("<system-reminder>")]
    calls = [(c["id"], c["function"]["arguments"]) for c in message.get("tool_calls", ())]
    return message["role"], "\n".join(texts) or None, message.get("reasoning_content"), calls


def mine(message: events.Message) -> tuple:
    calls = [(call.id, call.arguments) for call in message.tool_calls]
    return message.role, message.content, message.reasoning, calls


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem[-20:])
def test_corpus_totals_equal_an_independent_count(path, tmp_path):
    """Figures of each corpus file are those of its answers, once an id."""
    ((row,), _) = logs.sound(tmp_path, path, only="qwen_code")
    found = [json.loads(line) for line in path.read_text().splitlines()]
    answers = {line["uuid"]: line for line in found if line["type"] == "assistant"}
    usages = [line["usageMetadata"] for line in answers.values() if line.get("usageMetadata")]
    assert row["totals"]["turns"] == len(answers)
    sums = (row["totals"]["input_tokens"] or 0, row["totals"]["output_tokens"] or 0)
    assert sums == (
        sum(usage["promptTokenCount"] for usage in usages),
        sum(usage["candidatesTokenCount"] for usage in usages),
    )


@pytest.mark.usefixtures("shared")
def test_ledgers_of_usage_are_refused_with_the_reason():
    """Qwen Code's sums over sessions are no sessions."""
    found = find([SHARED / "captures" / "qwen-new" / "session"])
    assert len(found.sessions) == 1
    assert {reason for _, reason in found.refused} == {
        "Qwen Code's sums over its sessions, none of what was said"
    }


def test_reasoning_is_part_of_the_output_unless_the_total_says_otherwise(tmp_path):
    """OpenAI's figures include it; a Gemini model behind Qwen Code counts it beside."""
    beside = answer("c")
    beside["usageMetadata"]["totalTokenCount"] = 27
    session = only(lines(tmp_path, user("a"), answer("b"), user("x"), beside))
    first, second = logs.turns(session)
    assert logs.figures(first.usage) == (20, 8, 5, 2)
    assert logs.figures(second.usage) == (20, 8, 7, 2)


def test_telemetry_is_matched_by_its_figures(tmp_path):
    """An answer takes the request with its figures; one that nothing answers stands aside."""
    session = only(
        lines(tmp_path, user("a"), response(7, 1, response_text="t"), response(), answer("b"))
    )
    (turn,) = logs.turns(session, "main")
    assert (turn.response_id, turn.clock) == ("r", "logged")
    assert turn.end_us - turn.start_us == 900_000
    (aside,) = logs.turns(session, "side")
    assert logs.figures(aside.usage)[0] == 7
    assert aside.answer.content == "t"


def test_telemetry_behind_its_answer_is_not_counted_again(tmp_path):
    """Where the line stands after the answer, it is the answer's all the same."""
    session = only(lines(tmp_path, user("a"), answer("b"), response(), user("c")))
    (turn,) = logs.turns(session)
    assert (turn.response_id, turn.clock) == ("r", "logged")


def test_a_failed_request_is_a_turn_and_its_answer_another_attempt(tmp_path):
    """An api_error is an error; what comes next tries again."""
    failed = telemetry("api_error", error_message="busy", duration_ms=100, model="m")
    session = only(lines(tmp_path, user("a"), failed, response(), answer("b")))
    assert [(t.status, t.attempt) for t in logs.turns(session)] == [("error", 0), ("ok", 1)]
    assert sent(session) == [["a"], ["a"]]


def test_a_rewind_goes_back_and_costs_stay(tmp_path):
    """A line that goes on from an earlier one begins a new context there."""
    rewind = {"type": "system", "subtype": "rewind", "parentUuid": "u2", "systemPayload": {}}
    session = only(
        lines(
            tmp_path,
            user("a"),
            answer("b"),
            user("wrong"),
            answer("c"),
            rewind,
            user("right"),
            answer("d"),
        )
    )
    assert sent(session)[2] == ["a", "b", "right"]
    assert len(logs.turns(session)) == 3


def test_lines_of_one_id_are_one_answer(tmp_path):
    """A thought on one line and the rest on the next are one turn, its usage counted once."""
    thought = {"role": "model", "parts": [{"text": "hm", "thought": True}]}
    first = {"type": "assistant", "message": thought, "uuid": "x"}
    session = only(lines(tmp_path, user("a"), first, answer("b", uuid="x", parentUuid="u1")))
    (turn,) = logs.turns(session)
    assert (turn.answer.reasoning, turn.answer.content) == ("hm", "b")


def test_calls_on_lines_of_their_own_belong_to_the_answer_before(tmp_path):
    """Sub-agents write what an answer says and each of its calls apart."""
    calls = [
        {"message": {"role": "model", "parts": [{"functionCall": {"id": i, "name": "f"}}]}}
        for i in ("c1", "c2")
    ]
    side = {"isSidechain": True, "agentId": "a-c0", "agentName": "a"}
    told = [user("t"), answer("b", agentRound=1), *({"type": "assistant", **c} for c in calls)]
    told[1].pop("model")
    session = only(lines(tmp_path, *({**line, **side} for line in told)))
    (turn,) = logs.turns(session, "subagent")
    assert [call.id for call in turn.answer.tool_calls] == ["c1", "c2"]
    assert session.losses["main_lane_missing"] == 1


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents, Claude Code's similar lines too, are none of Qwen Code's."""
    assert [one.format for one in find([PLACE]).sessions] == ["qwen_code"]
    others = [SAMPLES / name for name in ("claude_code", "codex", "pi", "gemini_cli")]
    assert not find([*others, SAMPLES / "hand_made"], "qwen_code").sessions


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem[-6:])
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "qwen_code")
