"""Cline and Roo: sessions of the newer format and tasks; what is read is what was sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import agent_logs as logs
from conftest import SAMPLES, SHARED
from damaged import survive_values
from traj import events
from traj.sources import find

PLACE = SAMPLES / "cline"
MESSAGES = sorted(PLACE.glob("*/*.messages.json"))
TRUTH = json.loads((SAMPLES / "truth" / "cline" / "requests.json").read_text())["requests"]
ANSWERED = [request for request in TRUTH if request["status"] == 200]
CAPTURE = SHARED / "captures" / "cline"
CORPUS = sorted((SHARED / "corpus" / "generic_messages" / "cline+cline").rglob("*.messages.json"))
CLINE = SAMPLES / "hand_made" / "cline_task"
ROO = SAMPLES / "hand_made" / "roo_task"


def chat_figures(usage: dict) -> tuple[int, ...]:
    cached = usage["prompt_tokens_details"]["cached_tokens"]
    return usage["prompt_tokens"], cached, usage["completion_tokens"]


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


def only(*places: Path) -> events.Session:
    (session,) = logs.read(*places, only="cline").values()
    return session


def contents(messages: list[events.Message]) -> list[str | None]:
    return [message.content for message in messages]


def document(folder: Path, *messages: dict, name: str = "s1", **more: object) -> Path:
    """A session of the newer format."""
    path = folder / name / f"{name}.messages.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    head = {"version": 1, "agent": "lead", "sessionId": name}
    told = [{"id": f"m{n}", "ts": 1000 * (n + 1), **m} for n, m in enumerate(messages)]
    path.write_text(json.dumps({**head, "messages": told, **more}))
    return path


def user(*parts: str | dict) -> dict:
    blocks = [{"type": "text", "text": p} if isinstance(p, str) else p for p in parts]
    return {"role": "user", "content": blocks}


def assistant(text: str, *calls: str, **metrics: int) -> dict:
    uses = [{"type": "tool_use", "id": c, "name": "run_commands", "input": {}} for c in calls]
    figures = {"inputTokens": 20, "outputTokens": 5, "cacheReadTokens": 8, "cacheWriteTokens": 2}
    info = {"id": "m", "provider": "anthropic"}
    blocks = [{"type": "text", "text": text}, *uses]
    return {
        "role": "assistant",
        "content": blocks,
        "modelInfo": info,
        "metrics": {**figures, **metrics},
    }


def test_every_answered_request_is_one_turn_with_the_usage_that_was_sent():
    """Main agent and sub-agents, cached tokens inside the input."""
    found = [logs.figures(turn.usage)[:3] for turn in logs.turns(only(PLACE))]
    assert sorted(found) == sorted(chat_figures(request["usage"]) for request in ANSWERED)


def test_requests_are_rebuilt_as_they_were_sent(shared):
    """Messages equal those of the captured bodies."""
    bodies = [json.loads(p.read_text())["req_body"] for p in sorted(CAPTURE.glob("api/0*.json"))]
    read = logs.read(CAPTURE / "session")
    session = max(read.values(), key=lambda session: len(logs.turns(session)))
    made = [[as_chat(message) for message in messages] for messages in logs.sent(session)]
    assert made == [body["messages"][1:] for body in bodies]


def test_the_system_prompt_is_the_sessions_own_and_a_sub_agents_is_its_calls():
    """Each of the sub-agents has the prompt that its call gave it."""
    session = only(PLACE)
    systems = [{turn.system for turn in logs.turns(session, kind)} for kind in ("main", "subagent")]
    assert len(systems[0]) == 1
    assert systems[1] == {
        "You search sources and answer in one line.",
        "You read tests and answer in one line.",
    }


def test_sub_agents_are_lanes_between_their_call_and_its_result(tmp_path):
    """A sub-agent is found by what its call told it to do."""
    session = only(PLACE)
    lanes = [lane for lane in session.lanes if lane.kind == "subagent"]
    calls = {c.id: c for turn in logs.turns(session, "main") for c in turn.answer.tool_calls}
    assert len(lanes) == 2
    for lane in lanes:
        first = next(s for s in lane.steps if isinstance(s, events.Message))
        assert json.loads(calls[lane.spawned_by].arguments)["task"] == first.content
        assert lane.joined_by == lane.spawned_by
    _, losses = logs.sound(tmp_path, PLACE)
    assert "subagent_without_call" not in losses


def test_answers_end_when_the_server_had_sent_them():
    """The time of an answer is its end, to a tenth of a second; tools run until their result."""
    session = only(PLACE)
    ends = sorted(turn.end_us for turn in logs.turns(session))
    served = sorted(request["end"] * 1e6 for request in ANSWERED)
    assert all(abs(end - other) < 100_000 for end, other in zip(ends, served, strict=True))
    assert {turn.clock for turn in logs.turns(session)} == {"derived"}
    assert all(run.end_us >= run.start_us for run in session.tool_runs.values())
    assert [run.exit_code for run in session.tool_runs.values() if run.exit_code] == [3]


def test_the_manifest_says_the_repository():
    """What stands beside the messages is read with them."""
    session = only(PLACE)
    assert session.repository.url == "https://github.com/traj-samples/python-pager.git"
    assert session.agent_version == "3.0.65"
    assert len(session.files) == 4


@pytest.mark.parametrize("path", CORPUS, ids=lambda path: path.stem[:7])
def test_totals_of_the_corpus_equal_a_plain_count(path):
    """By plain json: input has what was cached, unknown figures are none."""
    metrics = [m.get("metrics") for m in json.loads(path.read_text())["messages"]]
    answers = [m for m in json.loads(path.read_text())["messages"] if m["role"] == "assistant"]
    known = [m for m in metrics if m]
    turns = logs.turns(only(path))
    assert len(turns) == len(answers)
    assert sum(t.usage.input_tokens or 0 for t in turns) == sum(m["inputTokens"] for m in known)
    assert sum(t.usage.cached_tokens or 0 for t in turns) == sum(
        m["cacheReadTokens"] for m in known
    )
    assert sum(t.usage.output_tokens or 0 for t in turns) == sum(m["outputTokens"] for m in known)
    assert [t.usage.source for t in turns].count("none") == len(answers) - len(known)


def test_captures_and_corpus_are_recorded_and_sound(shared, tmp_path):
    """Every file of theirs is taken or is what a request said."""
    logs.sound(tmp_path, CAPTURE / "session", *CORPUS)
    assert not find([CAPTURE / "session", *CORPUS]).refused


# The newer format, by hand


def test_a_persons_words_are_sent_without_their_wrapping(tmp_path):
    """What the log puts around a prompt is not sent, but tells who spoke."""
    told = user('<user_input mode="act">go</user_input>')
    session = only(document(tmp_path, told, assistant("a"), user("note"), assistant("b")))
    assert contents(logs.sent(session)[1]) == ["go", "a", "note"]
    assert [m.by_person for m in logs.sent(session)[1]] == [True, False, False]


def test_results_of_parts_and_of_json_are_sent_as_they_are(tmp_path):
    """Texts of parts are joined, other JSON is sent without white space."""
    parts = [{"type": "text", "text": "x"}, {"type": "text", "text": "y"}]
    results = [{"type": "tool_result", "tool_use_id": "c1", "content": parts}]
    results.append({"type": "tool_result", "tool_use_id": "c2", "content": [{"query": "q"}]})
    results.append({"type": "tool_result", "tool_use_id": "c3", "content": "plain"})
    calls = assistant("a", "c1", "c2", "c3")
    session = only(document(tmp_path, user("go"), calls, user(*results), assistant("b")))
    assert contents(logs.sent(session)[1])[2:] == ["x\ny", '[{"query":"q"}]', "plain"]


def test_a_compaction_puts_other_messages_in_place_of_the_first_ones(tmp_path):
    """From the message on that the sidecar counts to."""
    lines = [
        user("one"),
        assistant("a"),
        user("two"),
        assistant("b"),
        user("three"),
        assistant("c"),
    ]
    path = document(tmp_path, *lines)
    state = {"version": 1, "source_message_count": 4, "updated_at": "2026-01-01T00:00:00Z"}
    state["messages"] = [user("sum")]
    (path.parent / "s1.compaction.json").write_text(json.dumps(state))
    session = only(tmp_path)
    assert [contents(m) for m in logs.sent(session)][1:] == [["one", "a", "two"], ["sum", "three"]]
    logs.sound(tmp_path, tmp_path, only="cline")


def test_a_manifest_alone_is_refused_by_a_reason(tmp_path):
    """It holds no messages."""
    own = next(path for path in PLACE.glob("*/*.json") if not path.name.endswith(".messages.json"))
    (session,) = find([own]).sessions
    with pytest.raises(Exception, match="messages are not here"):
        session.read()


# Tasks


def test_a_task_of_cline_has_its_figures_from_what_was_shown(tmp_path):
    """Requests are told to their answers by the history's length: a failed one and a cancelled one
    are turns of their own; cached tokens stand beside the input; what was cut is not sent."""
    session = only(CLINE)
    turns = logs.turns(session)
    assert [t.status for t in turns] == ["ok", "error", "ok", "ok", "cancelled"]
    assert [logs.figures(t.usage)[:3] for t in turns] == [
        (1_210, 1_000, 40),
        (None, None, None),
        (1_330, 1_200, 30),
        (1_120, 900, 20),
        (None, None, None),
    ]
    assert turns[0].usage.cache_write_tokens == 200
    assert turns[0].start_us == 1_790_000_001_000_000
    requests = [contents(m) for m in logs.sent(session)]
    assert len(requests[2]) == 3
    assert requests[3] == [
        "<task>Fix the ring.</task>",
        "Fixed.",
        "<feedback>And the test?</feedback>",
    ]
    assert logs.sent(session)[0][0].by_person
    logs.sound(tmp_path, CLINE)


def test_a_task_of_roo_has_its_input_with_what_was_cached(tmp_path):
    """There no input is less than its cached part; tools are called natively, and a summary
    replaces what names it."""
    session = only(ROO)
    turns = logs.turns(session)
    assert [logs.figures(t.usage)[:3] for t in turns] == [
        (1_500, 1_000, 25),
        (1_700, 1_500, 12),
        (700, None, 9),
    ]
    assert {t.clock for t in turns} == {"logged"}
    assert turns[0].answer.tool_calls[0].name == "execute_command"
    assert session.tool_runs["toolu_1"].clock == "derived"
    assert contents(logs.sent(session)[-1]) == ["The tests of the ring fail.", "Go on."]
    reasons = [s.reason for s in session.lanes[0].steps if isinstance(s, events.Rebase)]
    assert reasons == ["compaction"]
    logs.sound(tmp_path, ROO)


def test_what_was_shown_alone_gives_figures_without_answers(tmp_path):
    """And what was sent alone gives messages without figures."""
    shown = only(CLINE / "ui_messages.json")
    assert [turn.answer for turn in logs.turns(shown)] == [None] * 5
    assert shown.losses["answer_not_recorded"] == 5
    sent = only(CLINE / "api_conversation_history.json")
    assert {turn.usage.source for turn in logs.turns(sent)} == {"none"}
    for number, path in enumerate(sorted(CLINE.iterdir())):
        logs.sound(tmp_path / str(number), path)


# Recognition and damage


def test_its_own_files_are_recognised_and_no_others():
    """Samples of other agents are none of Cline's, and its own are nobody else's."""
    own = {"cline", "hand_made"}
    assert {s.format for s in find([PLACE, CLINE, ROO]).sessions} == {"cline"}
    others = [
        place
        for place in SAMPLES.iterdir()
        if place.is_dir() and place.name not in own | {"truth", "make", "datasets"}
    ]
    assert not find(others, "cline").sessions
    found = find([SAMPLES / "hand_made"], "cline").sessions
    assert {one.session_id for one in found} == {CLINE.name, ROO.name}


FILES = [*MESSAGES, *sorted(CLINE.iterdir()), *sorted(ROO.iterdir())]


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name[-5:]}-{path.name[:9]}")
def test_a_damaged_file_never_brings_it_down(path):
    """Cut off and overwritten anywhere, it is read or refused."""
    logs.survives(path, "cline")


@pytest.mark.parametrize("path", [MESSAGES[0], *FILES[-4:]], ids=lambda path: path.name[:9])
def test_odd_values_give_a_sound_dataset_or_one_error(path):
    """Values of other types, missing and repeated ones cost themselves."""
    survive_values(path, "cline")


def test_recording_twice_gives_the_same_ids(tmp_path):
    """Trajectories have the same ids and contents each time."""
    rows = [logs.sound(tmp_path / name, PLACE, CLINE, ROO)[0] for name in ("a", "b")]
    keys = [[(r["trajectory_id"], r["content_sha256"]) for r in found] for found in rows]
    assert keys[0] == keys[1]
