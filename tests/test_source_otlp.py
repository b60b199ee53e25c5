"""OpenTelemetry traces: figures and messages as they went over the wire, by three conventions."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj.dataset import Dataset
from traj.errors import SourceError
from traj.events import Message, Rebase, Session, Turn
from traj.exporters import export
from traj.pipeline import record
from traj.sources import find
from traj.validation import validate
from traj.workload.options import LoadOptions

FOLDER = SAMPLES / "otlp"
WITH_TEXT = ("openinference", "openllmetry")
CHAT = {"role": "system", "content": "Be brief."}


def read(path: Path) -> Session:
    (session,) = find([path]).sessions
    assert session.format == "otlp"
    return session.read()


def turns(session: Session) -> list[Turn]:
    found = [step for lane in session.lanes for step in lane.steps if isinstance(step, Turn)]
    return sorted(found, key=lambda turn: turn.start_us or 0)


def answered(name: str) -> list[dict]:
    truth = json.loads((SAMPLES / "truth" / "otlp" / f"{name}.json").read_text())["requests"]
    return [one for one in truth if one["status"] == 200]


def prompts(session: Session) -> dict[int, list[tuple]]:
    """What each turn sends, by its start: roles, texts and call ids."""
    found = {}
    for lane in session.lanes:
        context: list[tuple] = []
        for step in lane.steps:
            assert not isinstance(step, Rebase)
            message = step.answer if isinstance(step, Turn) else step
            if isinstance(step, Turn):
                found[step.start_us or 0] = list(context)
            if message is not None:
                calls = [call.id for call in message.tool_calls]
                context.append((message.role, message.content, message.tool_call_id, calls))
    return found


@pytest.mark.parametrize("name", [*WITH_TEXT, "no_content"])
def test_every_request_is_a_turn_with_the_usage_the_server_sent(name):
    """Turn by turn the figures are the server's own; what the spans leave out is unknown."""
    session = read(FOLDER / f"{name}.jsonl")
    truth = answered(name)
    found = turns(session)
    assert len(found) == len(truth)
    for turn, sent in zip(found, truth, strict=True):
        usage, told = sent["response"]["usage"], turn.usage
        assert told.input_tokens == usage["prompt_tokens"]
        assert told.output_tokens == usage["completion_tokens"]
        assert turn.response_id == sent["response"]["id"]
        assert turn.start_us <= sent["start"] * 1e6 < sent["end"] * 1e6 <= turn.end_us
        if name in WITH_TEXT:
            assert told.cached_tokens == usage["prompt_tokens_details"]["cached_tokens"]
            assert told.reasoning_tokens == usage["completion_tokens_details"]["reasoning_tokens"]
            assert told.source == "reported"
        else:
            assert told.cached_tokens is None
            assert told.source == "partial"


@pytest.mark.parametrize("name", WITH_TEXT)
def test_prompts_are_the_requests_that_were_sent(name):
    """Roles, texts, calls and results of each rebuilt prompt equal the request's own messages."""
    session = read(FOLDER / f"{name}.jsonl")
    rebuilt = [prompt for _, prompt in sorted(prompts(session).items())]
    sent = [
        [
            (
                one["role"],
                one.get("content"),
                one.get("tool_call_id"),
                [call["id"] for call in one.get("tool_calls", ())],
            )
            for one in request["request"]["messages"]
        ]
        for request in answered(name)
    ]
    assert rebuilt == sent


@pytest.mark.parametrize("name", [*WITH_TEXT, "no_content"])
def test_a_sub_agent_is_a_lane_that_its_call_started(name):
    """The agent below the tool's span has a lane of its own, joined by that call."""
    session = read(FOLDER / f"{name}.jsonl")
    main, helper = session.lanes
    assert (main.kind, helper.kind, helper.name) == ("main", "subagent", "helper")
    assert helper.spawned_by == helper.joined_by == "call_main_1_0"


@pytest.mark.parametrize("name", WITH_TEXT)
def test_tools_have_their_spans_times(name):
    """A tool that slept 30 ms took 30 ms and not the time between requests."""
    session = read(FOLDER / f"{name}.jsonl")
    runs = session.tool_runs
    assert len(runs) == 5
    assert {run.clock for run in runs.values()} == {"logged"}
    took = runs["call_main_0_1"].end_us - runs["call_main_0_1"].start_us
    assert 30_000 <= took < 60_000


def test_without_text_nothing_is_counted_and_nothing_is_zero(tmp_path):
    """Spans without messages make a sound dataset whose counted lengths are null."""
    report = record([FOLDER / "no_content.jsonl"], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    assert report.messages == 0
    assert report.losses["no_text"] == report.turns == 6
    assert validate(dataset).ok
    for row in dataset.table("turns").to_pylist():
        assert row["input_tokens"] > 0
        for name in ("counted_input_tokens", "counted_cached_tokens", "counted_output_tokens"):
            assert row[name] is None


def test_our_own_export_comes_back(sample, tmp_path):
    """Export and recording keep turns, lengths, times, waits, lanes, contexts, messages, calls."""
    export(sample, "otel", tmp_path / "e", LoadOptions())
    record([tmp_path / "e" / "traces"], tmp_path / "d")
    again = Dataset.open(tmp_path / "d")
    assert validate(again).ok
    kept = {
        "turns": (
            *("turn", "lane", "lane_kind", "lane_name", "context", "context_reason", "wait_for"),
            *("start_us", "first_token_us", "end_us", "delay_us", "tool_us", "user_us", "clock"),
            *("api", "model", "response_id", "system_id", "input", "earlier_reasoning", "output"),
            *("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens"),
            *("reasoning_tokens", "usage_source", "counted_output_tokens", "stop_reason"),
            *("status", "error", "attempt", "sampling"),
        ),
        "messages": ("message", "lane", "role", "sha256", "tokens", "time_us"),
        "tool_calls": (
            *("call", "turn", "lane", "tool_call_id", "name", "category", "start_us", "end_us"),
            *("clock", "permission_us", "status", "exit_code", "truncated", "background"),
            *("argument_tokens", "result_tokens", "result_bytes", "spawned_lane"),
        ),
    }
    for table, columns in kept.items():
        assert rows(again, table, columns) == rows(sample, table, columns)


def rows(dataset: Dataset, table: str, columns: tuple[str, ...]) -> dict[str, list]:
    heads = dataset.table("trajectories", ["trajectory_id", "source"]).to_pylist()
    names = {one["trajectory_id"]: one["source"]["session_id"] for one in heads}
    found: dict[str, list] = {}
    for row in dataset.table(table).to_pylist():
        name = names[row["trajectory_id"]]
        found.setdefault(name, []).append([row[column] for column in columns])
    return found


def test_a_file_of_several_sessions_is_several(tmp_path):
    """Two conversations in one file are two sessions, each the same as from a file of its own."""
    both = tmp_path / "both.jsonl"
    both.write_bytes(b"".join((FOLDER / f"{name}.jsonl").read_bytes() for name in WITH_TEXT))
    sessions = {one.session_id: one for one in find([both]).sessions}
    assert len(sessions) == 2
    for name in WITH_TEXT:
        alone, share = read(FOLDER / f"{name}.jsonl"), sessions[f"conversation-{name}"]
        assert [turn.usage for turn in turns(share.read())] == [t.usage for t in turns(alone)]
        assert share.read().files == share.measured()
    assert sum(one.bytes for one in sessions.values()) < both.stat().st_size
    report = record([both], tmp_path / "d")
    assert report.recorded == 2
    assert record([both], tmp_path / "d").unchanged == 2


def test_a_session_in_several_files_is_one(tmp_path):
    """A collector that begins a new file in the middle of a trace does not cut the session."""
    lines = (FOLDER / "openllmetry.jsonl").read_bytes().splitlines(keepends=True)
    (tmp_path / "1.jsonl").write_bytes(b"".join(lines[:5]))
    (tmp_path / "2.jsonl").write_bytes(b"".join(lines[4:]))  # one span is in both
    session = read(tmp_path)
    whole = read(FOLDER / "openllmetry.jsonl")
    assert [turn.usage for turn in turns(session)] == [turn.usage for turn in turns(whole)]
    assert len(session.files) == 2


def span(name: str, number: int, attributes: dict, **more: object) -> dict:
    listed = [
        {
            "key": key,
            "value": {"intValue": str(one)} if isinstance(one, int) else {"stringValue": one},
        }
        for key, one in attributes.items()
    ]
    return {
        "traceId": "a" * 32,
        "spanId": f"{number:016x}",
        "name": name,
        "startTimeUnixNano": str(1_700_000_000_000_000_000 + number * 10**9),
        "endTimeUnixNano": str(1_700_000_000_500_000_000 + number * 10**9),
        "attributes": listed,
        **more,
    }


def document(path: Path, *spans: dict) -> Path:
    one = {"resource": {}, "scopeSpans": [{"spans": list(spans)}]}
    path.write_text(json.dumps({"resourceSpans": [one]}, indent=1))
    return path


def test_older_spellings_and_figures_beside_the_input(tmp_path):
    """Prompts flattened by index are messages; cached tokens beyond the input are added to it."""
    flat = {
        "llm.request.type": "chat",
        "gen_ai.system": "Anthropic",
        "gen_ai.prompt.0.role": "user",
        "gen_ai.prompt.0.content": "Hello there",
        "gen_ai.completion.0.role": "assistant",
        "gen_ai.completion.0.content": "Hello",
        "gen_ai.usage.prompt_tokens": 10,
        "gen_ai.usage.cache_read_input_tokens": 90,
        "gen_ai.usage.completion_tokens": 5,
    }
    session = read(document(tmp_path / "flat.json", span("anthropic.chat", 1, flat)))
    (turn,) = turns(session)
    assert turn.api == "anthropic_messages"
    assert (turn.usage.input_tokens, turn.usage.cached_tokens) == (100, 90)
    assert session.losses == {"cached_beside_input": 1}
    first = session.lanes[0].steps[0]
    assert isinstance(first, Message)
    assert (first.role, first.content) == ("user", "Hello there")


def test_messages_may_stand_in_a_spans_events(tmp_path):
    """Messages as events of the span, the oldest way, are read too."""
    usage = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7}
    events = [
        {
            "name": "gen_ai.user.message",
            "attributes": [{"key": "content", "value": {"stringValue": "Hi"}}],
        },
        {
            "name": "gen_ai.choice",
            "attributes": [
                {
                    "key": "message",
                    "value": {"stringValue": '{"role": "assistant", "content": "Ho"}'},
                }
            ],
        },
    ]
    session = read(document(tmp_path / "events.json", span("chat", 1, usage, events=events)))
    (turn,) = turns(session)
    assert turn.answer is not None
    assert turn.answer.content == "Ho"
    assert session.lanes[0].steps[0].content == "Hi"


def test_a_request_inside_a_request_is_one(tmp_path):
    """Where a framework and its client both trace a request, the inner span is the request."""
    figures = {"gen_ai.operation.name": "chat", "gen_ai.usage.input_tokens": 7}
    outer = span("chat", 1, figures)
    inner = span("chat", 2, figures, parentSpanId=outer["spanId"])
    assert len(turns(read(document(tmp_path / "x.json", outer, inner)))) == 1


def test_failed_spans_are_failed_requests(tmp_path):
    """A span that ended in an error is a turn of status error, and the next one another attempt."""
    prompt = json.dumps([{"role": "user", "parts": [{"type": "text", "content": "Hi"}]}])
    said = json.dumps([{"role": "assistant", "parts": [{"type": "text", "content": "Ho"}]}])
    asks = {"gen_ai.operation.name": "chat", "gen_ai.input.messages": prompt}
    failed = span("chat", 1, asks | {"error.type": "timeout"}, status={"code": 2})
    good = span("chat", 2, asks | {"gen_ai.output.messages": said})
    first, second = turns(read(document(tmp_path / "x.json", failed, good)))
    assert (first.status, first.error, first.answer) == ("error", "timeout", None)
    assert (second.status, second.attempt) == ("ok", 1)


def test_traces_of_other_things_are_refused(tmp_path, shared):
    """Spans that have nothing to do with models are named as that, those of the corpus too."""
    other = document(tmp_path / "http.json", span("GET /", 1, {"http.method": "GET"}))
    corpus = next((shared / "corpus" / "otlp").rglob("*.json"))
    for path in (other, corpus):
        found = find([path])
        assert not found.sessions
        assert "none of a model" in found.refused[0][1]


def test_only_its_own_files_are_taken():
    """No other sample is a trace, and no trace is anything else."""
    for path in sorted(SAMPLES.rglob("*.json*")):
        for session in find([path]).sessions:
            assert (session.format == "otlp") == (path.parent == FOLDER), path


@pytest.mark.parametrize("name", ["openllmetry", "no_content"])
def test_damaged_traces_give_no_traceback(name):
    """Cut off and overwritten, a trace is read or refused; odd values give sound datasets."""
    survive_bytes(FOLDER / f"{name}.jsonl", "otlp")
    survive_values(FOLDER / f"{name}.jsonl", "otlp")


def test_a_damaged_export_of_ours_gives_no_traceback(sample, tmp_path):
    """Cut off and overwritten, so is what our exporter wrote."""
    export(sample, "otel", tmp_path / "e", LoadOptions())
    least = min((tmp_path / "e" / "traces").iterdir(), key=lambda path: path.stat().st_size)
    survive_bytes(least, "otlp")
    survive_values(least, "otlp")


def test_a_file_that_changes_under_the_reader_is_refused(tmp_path):
    """A session that is gone when it is read is an error of one line."""
    path = document(tmp_path / "x.json", span("chat", 1, {"gen_ai.operation.name": "chat"}))
    (session,) = find([path]).sessions
    document(path, span("chat", 1, {"gen_ai.operation.name": "chat"}) | {"traceId": "b" * 32})
    with pytest.raises(SourceError, match="changed"):
        session.read()
