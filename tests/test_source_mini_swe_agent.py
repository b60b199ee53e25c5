"""mini-swe-agent: what is read equals what went over the wire; its traps are known."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import traj
from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj import events
from traj.pipeline import record
from traj.sources import SOURCES, find

NAME = "mini_swe_agent"
HERE = SAMPLES / NAME
LOGS = sorted(HERE.glob("*.json"))


def read(path: Path) -> events.Session:
    (found,) = find([path]).sessions
    assert found.format == NAME
    return found.read()


def turns(session: events.Session) -> list[events.Turn]:
    return [step for step in session.lanes[0].steps if isinstance(step, events.Turn)]


def sent(session: events.Session) -> list[list[events.Message]]:
    """The messages of each request, by following the steps."""
    known: list[events.Message] = []
    context: list[int] = []
    found = []
    for step in session.lanes[0].steps:
        if isinstance(step, events.Rebase):
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


def figures(usage: dict) -> tuple:
    if "prompt_tokens" in usage:
        given, inside, outside = "prompt_tokens", "prompt_tokens_details", "completion_tokens"
    else:
        given, inside, outside = "input_tokens", "input_tokens_details", "output_tokens"
    reasoning = (usage.get(f"{outside}_details") or {}).get("reasoning_tokens")
    cached = (usage.get(inside) or {}).get("cached_tokens")
    return usage[given], cached, usage[outside], reasoning


def figures_of(usage: events.Usage) -> tuple:
    assert usage.source == "reported"
    return usage.input_tokens, usage.cached_tokens, usage.output_tokens, usage.reasoning_tokens


@pytest.mark.parametrize("path", LOGS, ids=lambda path: path.name)
def test_every_answered_request_is_one_turn_with_what_the_server_said(path):
    """Ids, figures, number of messages and times equal the scripted model's own record."""
    name = path.name.removesuffix(".traj.json")
    truth = json.loads((SAMPLES / "truth" / NAME / f"{name}.json").read_text())["requests"]
    answered = [request for request in truth if request["status"] == 200]
    session = read(path)
    found = turns(session)
    assert [turn.response_id for turn in found] == [one["response_id"] for one in answered]
    assert [figures_of(turn.usage) for turn in found] == [figures(one["usage"]) for one in answered]
    assert [api.replace("/", "_") for api in {one["api"] for one in truth}] in (
        ["responses"],
        ["chat_completions"],
    )
    for messages, turn, request in zip(sent(session), found, answered, strict=True):
        items = len(messages)
        if turn.api == "openai_responses":  # an answer is as many items as it has parts
            answers = [message for message in messages if message.role == "assistant"]
            parts = (bool(m.content) + bool(m.reasoning) + len(m.tool_calls) for m in answers)
            items += sum(parts) - len(answers)
        assert items == request["inputs"]
        if turn.end_us is not None:
            assert request["end"] <= turn.end_us / 1e6 < request["end"] + 0.5


def test_an_answer_the_agent_could_not_use_costs_tokens_and_is_not_sent_again():
    """A format error's response is a turn; the next prompt has the agent's complaint in its
    place."""
    session = read(HERE / "mini-tools.traj.json")
    prompts, found = sent(session), turns(session)
    wasted = next(n for n, turn in enumerate(found) if not turn.answer.tool_calls)
    answer = found[wasted].answer
    assert answer.content.startswith("It adds one page always")
    assert all(answer not in prompt for prompt in prompts)
    assert prompts[wasted + 1][: len(prompts[wasted])] == prompts[wasted]
    assert prompts[wasted + 1][-1].content.startswith("Please call the tool")
    assert found[wasted].usage.output_tokens


def test_tools_run_from_the_answer_to_the_result_and_end_as_they_did():
    """Status, exit code and time of each call; parallel calls share their span."""
    session = read(HERE / "mini-tools.traj.json")
    runs = list(session.tool_runs.values())
    assert [run.status for run in runs] == [
        *("ok", "ok", "ok", "error", "timeout"),
        *("ok", "ok", "ok", "unknown"),
    ]
    assert [run.exit_code for run in runs] == [0, 0, 0, 2, None, 0, 0, 0, None]
    slept = runs[4]
    assert 2e6 <= slept.end_us - slept.start_us < 3e6
    assert runs[0].start_us == runs[1].start_us
    assert {run.clock for run in runs} == {"derived"}


def test_actions_written_as_text_are_no_tool_calls_but_listed():
    """Version 1: the answers' text holds the command, results are user messages."""
    session = read(HERE / "mini-text.traj.json")
    assert not session.tool_runs
    assert session.losses == {"text_action": 8}
    assert all(turn.answer.reasoning is None or turn.answer.content for turn in turns(session))


def test_reasoning_is_kept_or_dropped_as_the_agent_sends_it():
    """Version 2 sends the whole message again, version 1 its content alone."""
    kept = [turn.earlier_reasoning for turn in turns(read(HERE / "mini-tools.traj.json"))]
    dropped = [turn.earlier_reasoning for turn in turns(read(HERE / "mini-text.traj.json"))]
    assert kept == ["unknown"] * 2 + ["kept"] * 7
    assert dropped == ["unknown"] * 2 + ["dropped"] * 7


def made(tmp_path: Path, messages: list[dict], **info: object) -> Path:
    path = tmp_path / "x.traj.json"
    form = {"info": {"mini_version": "2.0", **info}, "messages": messages}
    path.write_text(json.dumps({**form, "trajectory_format": "mini-swe-agent-1.1"}))
    return path


def answer(usage: dict, **more: object) -> dict:
    choice = {"message": {"role": "assistant", "content": "Yes."}, "finish_reason": "stop"}
    response = {"id": "r1", "choices": [choice], "created": 1_700_000_000, "usage": usage, **more}
    return {"role": "assistant", "content": "Yes.", "extra": {"response": response}}


@pytest.mark.parametrize(
    ("usage", "more", "expected"),
    [
        # LiteLLM and OpenRouter: cached, written and reasoning inside
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 60},
                "cache_creation_input_tokens": 30,
                "cache_read_input_tokens": 60,
                "completion_tokens_details": {"reasoning_tokens": 4},
            },
            {},
            (100, 60, 30, 10, 4),
        ),
        # Portkey before Anthropic: cached and written beside
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 10,
                "total_tokens": 110,
                "cache_creation_input_tokens": 30,
                "cache_read_input_tokens": 60,
            },
            {"provider": "anthropic"},
            (100, 60, 30, 10, None),
        ),
        # Portkey before Google: reasoning beside
        (
            {
                "prompt_tokens": 100,
                "completion_tokens": 10,
                "total_tokens": 110,
                "prompt_tokens_details": {"cached_tokens": 60},
                "completion_tokens_details": {"reasoning_tokens": 40},
            },
            {"provider": "google"},
            (100, 60, None, 50, 40),
        ),
    ],
)
def test_gateways_count_in_ways_of_their_own(usage, more, expected, tmp_path):
    """Input with all that was cached, output with reasoning, whatever stands beside."""
    path = made(tmp_path, [{"role": "user", "content": "Well?"}, answer(usage, **more)])
    (turn,) = turns(read(path))
    found = turn.usage
    assert found.source == "reported"
    assert expected == (
        *(found.input_tokens, found.cached_tokens, found.cache_write_tokens),
        *(found.output_tokens, found.reasoning_tokens),
    )


def test_a_run_that_an_error_ended_has_a_failed_request(tmp_path):
    """The last request of such a run was sent and not answered."""
    told = [{"role": "user", "content": "Well?"}]
    ended = [{"role": "exit", "content": "no", "extra": {"exit_status": "RateLimitError"}}]
    (turn,) = turns(read(made(tmp_path, told + ended, exit_status="RateLimitError")))
    assert (turn.status, turn.error, turn.answer) == ("error", "RateLimitError", None)
    assert not turns(read(made(tmp_path, told, exit_status="LimitsExceeded")))


def test_a_person_who_rejects_a_command_is_seen(tmp_path):
    """The call did not run, and what the person says is theirs."""
    call = {"id": "c1", "type": "function", "function": {"name": "bash", "arguments": "{}"}}
    asked = {"role": "assistant", "content": "", "tool_calls": [call], "extra": {"timestamp": 5.0}}
    not_run = {"returncode": -1, "exception_info": "action was not executed", "timestamp": 9.0}
    result = {"role": "tool", "tool_call_id": "c1", "content": "-1", "extra": not_run}
    no = {"role": "user", "content": "No!", "extra": {"interrupt_type": "UserRejection"}}
    session = read(made(tmp_path, [{"role": "user", "content": "Do"}, asked, result, no]))
    assert session.tool_runs["c1"].status == "rejected"
    assert session.tool_runs["c1"].exit_code is None
    assert session.lanes[0].steps[-1].by_person


def test_no_other_format_is_taken_for_it():
    """Its own samples are recognised, by content alone, and no other file of the samples."""
    found = find(
        [path for path in SAMPLES.rglob("*") if path.is_file() and "make" not in path.parts]
    )
    mine = {part.path for one in found.sessions if one.format == NAME for part in one.parts}
    assert mine == set(LOGS)
    assert NAME in SOURCES


def test_a_session_has_the_same_id_under_any_name_and_when_it_has_grown(tmp_path):
    """The id is the first response's."""
    whole = json.loads(LOGS[0].read_text())
    path = tmp_path / "other.json"
    path.write_text(json.dumps({**whole, "messages": whole["messages"][:4]}))
    assert find([path]).sessions[0].session_id == find([LOGS[0]]).sessions[0].session_id


def test_damaged_files_are_survived():
    """Cut off, overwritten, values of wrong types: a sound dataset or one clear error."""
    survive_bytes(HERE / "mini-tools.traj.json", NAME)
    survive_values(HERE / "mini-tools.traj.json", NAME)
    survive_values(HERE / "mini-responses.traj.json", NAME)


def test_a_capture_equals_its_traffic(shared):
    """Figures and messages of the captured requests, turn by turn."""
    folder = shared / "captures" / "mini-swe-agent"
    session = read(folder / "session" / "traj.json")
    traffic = [json.loads(path.read_text()) for path in sorted((folder / "api").glob("*.json"))]
    replies = [json.loads("".join(text for _, text in one["resp_chunks"])) for one in traffic]
    found = turns(session)
    assert [turn.response_id for turn in found] == [reply["id"] for reply in replies]
    assert [figures_of(t.usage) for t in found] == [figures(reply["usage"]) for reply in replies]
    for messages, request in zip(sent(session), traffic, strict=True):
        body = request["req_body"]["messages"]
        assert [
            (m.role, m.content, m.reasoning, [(c.id, c.name, c.arguments) for c in m.tool_calls])
            for m in messages
        ] == [
            (
                one["role"],
                one["content"],
                one.get("reasoning_content"),
                [
                    (call["id"], call["function"]["name"], call["function"]["arguments"])
                    for call in one.get("tool_calls", [])
                ],
            )
            for one in body
        ]


def test_the_corpus_is_recorded_whole(shared, tmp_path):
    """Every file is a session, sound, with the sums of its responses' figures."""
    paths = sorted((shared / "corpus" / NAME).rglob("*.json"))
    report = record([shared / "corpus" / NAME], tmp_path / "x.traj", source_format=NAME)
    assert (report.recorded, report.problems, report.passed_over) == (len(paths), [], [])
    dataset = traj.load(tmp_path / "x.traj")
    assert traj.validate(dataset).ok
    sums = {}
    for path in paths:
        told = [
            m["extra"]["response"] for m in json.loads(path.read_text())["messages"] if "extra" in m
        ]
        beside = "content_blocks" in told[0]["choices"][0]["message"]  # Portkey's answers
        sums[path.name] = (
            sum(one["usage"]["prompt_tokens"] for one in told),
            sum((one["usage"]["prompt_tokens_details"] or {})["cached_tokens"] for one in told),
            sum(
                one["usage"]["completion_tokens"]
                + beside * one["usage"]["completion_tokens_details"]["reasoning_tokens"]
                for one in told
            ),
        )
    for row in dataset.table("trajectories").to_pylist():
        totals = row["totals"]
        assert sums[row["source"]["files"][0]["name"]] == (
            *(totals["input_tokens"], totals["cached_tokens"]),
            totals["output_tokens"],
        )
