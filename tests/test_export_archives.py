"""Archives: the record in other formats, read back and held to the dataset's rows."""

from __future__ import annotations

import json
import tracemalloc
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from typer.testing import CliRunner

import rows
import traj
from test_exporters import Many, Shape, long_session, lost, session, shapes
from traj import schema
from traj.cli import app
from traj.dataset import TRAJECTORY_TABLES, Dataset
from traj.errors import UsageError
from traj.exporters import export, exporter
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Row = dict[str, Any]
ARCHIVES = ("atif", "hub-traces", "openai-jsonl", "otel", "parquet")
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
STARTED = datetime(2026, 3, 1, 12, 30, 15, 123456, tzinfo=UTC)


def rich() -> rows.Tables:
    """`rows.small` with what an archive could lose besides: a date, other arguments, times, a
    result that nothing asked for, a sub-agent that was woken again, and one of a sub-agent's own.
    """
    tables = rows.small()
    one, two = tables["trajectories"]
    one |= {"started_at": STARTED, "task": {"url": None, "title": "Pager"}}
    one["agent"] = {"name": "tester", "version": None}
    turns = {(row["trajectory_id"], row["turn"]): row for row in tables["turns"]}
    first = turns[one["trajectory_id"], 0]
    first |= {"first_token_us": 40_000, "stop_reason": "tool_use", "response_id": "r-1"}
    first["sampling"] = {
        "max_tokens": 1000,
        "temperature": 0.5,
        "top_p": None,
        "reasoning_effort": "high",
        "stream": True,
    }
    turns[one["trajectory_id"], 2]["stop_reason"] = "pause"
    for number in (0, 2):
        turns[two["trajectory_id"], number] |= {"start_us": None, "end_us": None, "clock": "none"}
    calls = [row for row in tables["tool_calls"] if row["trajectory_id"] == one["trajectory_id"]]
    calls[0] |= {"start_us": 100_000, "end_us": 250_000, "clock": "logged", "exit_code": 0}
    calls[3] |= {"start_us": 505_000, "end_us": 595_000, "clock": "measured", "status": "error"}
    calls[4]["spawned_lane"] = 1
    calls[3]["spawned_lane"] = 2
    calls[4] |= {"start_us": 1_305_000, "clock": "logged", "status": "interrupted"}
    calls[2]["spawned_lane"] = None
    texts = {0: '{"a": 1}', 4: "not json", 5: '{"b":[1,2]}', 3: "[1]"}
    mine = [row for row in tables["messages"] if row["trajectory_id"] == one["trajectory_id"]]
    asked = {call["id"]: call for row in mine for call in row["tool_calls"] or ()}
    for number, text in texts.items():
        asked[calls[number]["tool_call_id"]]["arguments"] = text
    mine[0]["time_us"] = 0
    mine[1]["time_us"] = 95_000
    strays = [row for row in tables["messages"] if row["trajectory_id"] == two["trajectory_id"]]
    strays[12]["tool_call_id"] = "nobody asked"
    return tables


@pytest.fixture(params=["rich", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    """A dataset made by hand, and a recorded one."""
    if request.param == "sample":
        return request.getfixturevalue("sample")
    return Dataset.open(rows.write(tmp_path / "dataset", rich()))


def tables_of(dataset: Dataset) -> dict[str, dict[str, list[Row]]]:
    """The rows of each trajectory, by table."""
    return {
        found.trajectory_id: {name: table.to_pylist() for name, table in found.tables.items()}
        for found in dataset.trajectories()
    }


def known(row: Row) -> Row:
    """A row as archives hold it: unknown is left out, and so is what the trajectory says."""
    left_out = ("schema_version", "trajectory_id")
    return {key: plain(x) for key, x in row.items() if x is not None and key not in left_out}


def plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: plain(one) for key, one in value.items() if one is not None}
    if isinstance(value, list):
        return [plain(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value


def spoken(row: Row) -> Row:
    """A message, in which no text and an empty one are the same."""
    return known(row) | {"content": row["content"] or ""}


# --- ATIF -------------------------------------------------------------------------------------


def documents(document: Row) -> Iterator[Row]:
    yield document
    for below in document.get("subagent_trajectories", ()):
        yield from documents(below)


def from_atif(document: Row) -> dict[str, list[Row]]:
    """The rows that a document holds."""
    found: dict[str, list[Row]] = {"turns": [], "messages": [], "tool_calls": []}
    for one in documents(document):
        asked: set[str] = set()
        for step in one["steps"]:
            extra = step.get("extra", {})
            ids = {call["tool_call_id"] for call in step.get("tool_calls", ())}
            asked |= ids
            if "turn" in extra:
                found["turns"].append(atif_turn(step, extra))
            if "message" in extra:
                role = "assistant" if step["source"] == "agent" else step["source"]
                message = {"role": role, "content": step["message"]} | extra["message"]
                if "reasoning_content" in step:
                    message["reasoning"] = step["reasoning_content"]
                if "tool_calls" in step:
                    message["tool_calls"] = [atif_call(call) for call in step["tool_calls"]]
                found["messages"].append(message)
            for call in step.get("tool_calls", ()) if "turn" in extra else ():
                row = {"tool_call_id": call["tool_call_id"], "name": call["function_name"]}
                row |= call["extra"] | {"lane": one["extra"]["lane"]}
                row.pop("arguments", None)
                found["tool_calls"].append(row)
            for result in step.get("observation", {}).get("results", ()):
                # A result is at the step that asked for it, or nothing asked for it.
                assert result["source_call_id"] in ids or result["source_call_id"] not in asked
                if "content" in result:
                    message = {"role": "tool", "content": result["content"]}
                    message["tool_call_id"] = result["source_call_id"]
                    found["messages"].append(message | result["extra"]["message"])
    for name, key in rows.KEYS.items():
        found[name].sort(key=lambda row, key=key: row[key])
    return found


def atif_turn(step: Row, extra: Row) -> Row:
    metrics = step.get("metrics", {})
    turn = extra["turn"] | metrics.get("extra", {})
    turn["input"] = [{"start": start, "stop": stop} for start, stop in turn["input"]]
    names = {"prompt_tokens": "input_tokens", "completion_tokens": "output_tokens"}
    names["cached_tokens"] = "cached_tokens"
    turn |= {names[name]: value for name, value in metrics.items() if name != "extra"}
    if "model_name" in step:
        turn["model"] = step["model_name"]
    if "reasoning_effort" in step:
        effort = {"reasoning_effort": step["reasoning_effort"]}
        turn["sampling"] = turn.get("sampling", {}) | effort
    return turn


def atif_call(call: Row) -> Row:
    text = json.dumps(call["arguments"], separators=(",", ":"), ensure_ascii=False)
    text = call.get("extra", {}).get("arguments", text)
    return {"id": call["tool_call_id"], "name": call["function_name"], "arguments": text}


def check_atif(dataset: Dataset, out: Path) -> None:
    export(dataset, "atif", out)
    for trajectory_id, tables in tables_of(dataset).items():
        document = json.loads((out / "trajectories" / f"{trajectory_id}.json").read_text())
        found = from_atif(document)
        found = plain(found)
        assert found["turns"] == [known(row) for row in tables["turns"]]
        assert found["tool_calls"] == [known(row) for row in tables["tool_calls"]]
        assert found["messages"] == [spoken(row) for row in tables["messages"]]
        (head,) = tables["trajectories"]
        about = known(head)
        if about.get("started_at"):
            about["started_at"] = about["started_at"].replace("+00:00", "Z")
        told = plain(document["extra"]["trajectory"])
        assert told | {"agent": about["agent"]} == about
        assert document["session_id"] == head["source"]["session_id"]


def test_atif_holds_every_row(dataset: Dataset, tmp_path: Path) -> None:
    """Turns, messages, calls and the trajectory's own row can be read back from the documents."""
    check_atif(dataset, tmp_path / "out")


@Many
@given(shape=shapes())
def test_atif_of_any_session(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever waits for whatever, and whatever failed: the rows can be read back."""
    folder = tmp_path_factory.mktemp("any")
    check_atif(Dataset.open(rows.write(folder / "dataset", session(shape))), folder / "out")


def test_atif_sub_agents_lie_below_who_started_them(tmp_path: Path) -> None:
    """A sub-agent's document is in that of its caller, whose results refer to it: also where it is
    woken again, and where a sub-agent has its own."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rich()))
    export(dataset, "atif", tmp_path / "out")
    name = rows.trajectory_id("one")
    main = json.loads((tmp_path / "out" / "trajectories" / f"{name}.json").read_text())
    below = {one["trajectory_id"]: one for one in main["subagent_trajectories"]}
    assert set(below) == {f"{name}.l1", f"{name}.l3", f"{name}.l4"}
    (nested,) = below[f"{name}.l1"]["subagent_trajectories"]
    assert nested["trajectory_id"] == f"{name}.l2"
    assert references(main) == [("a1", f"{name}.l1"), ("a3", f"{name}.l1")]
    assert references(below[f"{name}.l1"]) == [("b0", f"{name}.l2")]
    assert nested["extra"] == {"lane": 2, "lane_kind": "subagent", "lane_name": "Explore"}


def references(document: Row) -> list[tuple[str, str]]:
    return [
        (result["source_call_id"], one["trajectory_id"])
        for step in document["steps"]
        for result in step.get("observation", {}).get("results", ())
        for one in result.get("subagent_trajectory_ref", ())
    ]


def test_atif_of_calls_that_start_each_other_in_a_circle(tmp_path: Path) -> None:
    """Damaged rows, of lanes that started each other: all lanes are there, below the main one."""
    tables = rich()
    for row in tables["tool_calls"]:
        if row["lane"] == 1:
            row["spawned_lane"] = 1
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    check_atif(dataset, tmp_path / "out")


def test_atif_sums_are_those_of_the_steps(sample: Dataset, tmp_path: Path) -> None:
    """A document's totals are the sums over its own steps, and all documents' those of the
    trajectory; a figure that no step has is not there."""
    export(sample, "atif", tmp_path / "out")
    for trajectory_id, tables in tables_of(sample).items():
        path = tmp_path / "out" / "trajectories" / f"{trajectory_id}.json"
        totals: Counter[str] = Counter()
        for one in documents(json.loads(path.read_text())):
            totals.update(one["final_metrics"])
            assert one["final_metrics"]["total_steps"] == len(one["steps"])
        expected = tables["trajectories"][0]["totals"]
        assert totals["total_prompt_tokens"] == (expected["input_tokens"] or 0)
        assert totals["total_cached_tokens"] == (expected["cached_tokens"] or 0)
        assert totals["total_completion_tokens"] == (expected["output_tokens"] or 0)


# --- OpenTelemetry ----------------------------------------------------------------------------

USAGE = {
    "gen_ai.response.id": "response_id",
    "gen_ai.usage.input_tokens": "input_tokens",
    "gen_ai.usage.cache_read.input_tokens": "cached_tokens",
    "gen_ai.usage.cache_creation.input_tokens": "cache_write_tokens",
    "gen_ai.usage.output_tokens": "output_tokens",
    "gen_ai.usage.reasoning.output_tokens": "reasoning_tokens",
    "gen_ai.response.model": "model",
    "gen_ai.request.model": "model",
}


def value(given: Row) -> Any:
    (kind, found), *more = given.items()
    assert not more
    match kind:
        case "intValue":
            assert isinstance(found, str)
            return int(found)
        case "arrayValue":
            return [value(one) for one in found["values"]]
        case "kvlistValue":
            return attributes(found["values"])
    return found


def attributes(given: list[Row]) -> Row:
    found = {one["key"]: value(one["value"]) for one in given}
    assert len(found) == len(given)
    return found


def spans_of(out: Path, trajectory_id: str) -> tuple[Row, list[Row]]:
    """A trace's resource attributes and its spans, attributes decoded."""
    (line,) = (out / "traces" / f"{trajectory_id}.jsonl").read_text().splitlines()
    (trace,) = json.loads(line)["resourceSpans"]
    (scope,) = trace["scopeSpans"]
    spans = [span | {"attributes": attributes(span["attributes"])} for span in scope["spans"]]
    return attributes(trace["resource"]["attributes"]), spans


def of_kind(spans: list[Row], kind: str) -> list[Row]:
    return [span for span in spans if span["attributes"]["gen_ai.operation.name"] == kind]


def own(span: Row) -> Row:
    """The columns that stand under their own names."""
    named = span["attributes"].items()
    found = {key.removeprefix("traj."): x for key, x in named if key.startswith("traj.")}
    return {key: x for key, x in found.items() if key not in ("start", "end")}


def times(span: Row, started: datetime | None) -> Row:
    since = EPOCH if started is None else started
    since_us = (since - EPOCH) // timedelta(microseconds=1)
    return {
        f"{edge}_us": int(span[f"{edge}TimeUnixNano"]) // 1000 - since_us
        for edge in ("start", "end")
        if span["attributes"].get(f"traj.{edge}") != "unknown"
    }


def check_otel(dataset: Dataset, out: Path) -> None:
    export(dataset, "otel", out)
    fronts = {row["prompt_id"]: row["content"] for row in dataset.table("prompts").to_pylist()}
    for trajectory_id, tables in tables_of(dataset).items():
        (head,) = tables["trajectories"]
        resource, spans = spans_of(out, trajectory_id)
        assert {span["traceId"] for span in spans} == {trajectory_id}
        ids = {span["spanId"]: span for span in spans}
        assert len(ids) == len(spans)
        (root,) = (span for span in spans if "parentSpanId" not in span)
        assert root["attributes"]["traj.lane"] == 0
        for span in spans:
            assert span is root or span["parentSpanId"] in ids
            assert int(span["startTimeUnixNano"]) <= int(span["endTimeUnixNano"])
        chats = of_kind(spans, "chat")
        assert [otel_turn(span, chats, head) for span in chats] == [
            known(row) for row in tables["turns"]
        ]
        tools = of_kind(spans, "execute_tool")
        assert [otel_tool(span, head) for span in tools] == [
            known(row) for row in tables["tool_calls"]
        ]
        told = [one for span in spans for one in otel_messages(span)]
        told.sort(key=lambda row: row["message"])
        assert told == [known(row) for row in tables["messages"]]
        about = {key: x for key, x in known(head).items() if key != "agent"}
        assert {key[5:]: x for key, x in resource.items() if key.startswith("traj.")} == about
        told_systems = [span["attributes"].get("gen_ai.system_instructions") for span in chats]
        used = {row["system_id"] for row in tables["turns"]} - {None}
        assert sorted(json.loads(one)[0]["content"] for one in told_systems if one) == sorted(
            fronts[one] for one in used
        )


def otel_turn(span: Row, chats: list[Row], head: Row) -> Row:
    given = span["attributes"]
    turn = own(span) | {column: given[name] for name, column in USAGE.items() if name in given}
    ranges = json.loads(turn["input"])
    turn["input"] = [{"start": start, "stop": stop} for start, stop in ranges]
    turn |= times(span, head["started_at"])
    numbers = {one["spanId"]: number for number, one in enumerate(chats)}
    turn["wait_for"] = [numbers[link["spanId"]] for link in span.get("links", ())]
    sampling = {
        name: given[f"gen_ai.request.{name}"]
        for name in ("max_tokens", "temperature", "top_p", "stream")
        if f"gen_ai.request.{name}" in given
    }
    if "reasoning_effort" in turn:
        sampling["reasoning_effort"] = turn.pop("reasoning_effort")
    if sampling:
        turn["sampling"] = sampling
    if "gen_ai.response.time_to_first_chunk" in given:
        seconds = given["gen_ai.response.time_to_first_chunk"]
        turn["first_token_us"] = turn["start_us"] + round(seconds * 1e6)
    assert ("status" in span) == (turn["status"] != "ok")
    return turn


def otel_tool(span: Row, head: Row) -> Row:
    given = span["attributes"]
    call = own(span) | {"name": given["gen_ai.tool.name"]}
    call["tool_call_id"] = given["gen_ai.tool.call.id"]
    call |= times(span, head["started_at"])
    assert ("status" in span) == (call["status"] not in ("ok", "unknown"))
    return call


def otel_messages(span: Row) -> Iterator[Row]:
    given = span["attributes"]
    for name in ("gen_ai.input.messages", "gen_ai.output.messages", "traj.unsent"):
        for message in json.loads(given.get(name, "[]")):
            yield otel_message(message)


def otel_message(message: Row) -> Row:
    row = {"role": message["role"], **message["traj"]}
    if "name" in message:
        row["name"] = message["name"]
    for part in message["parts"]:
        match part["type"]:
            case "text":
                row["content"] = part["content"]
            case "reasoning":
                row["reasoning"] = part["content"]
            case "tool_call":
                text = part["arguments"]
                if isinstance(text, dict):
                    text = json.dumps(text, separators=(",", ":"), ensure_ascii=False)
                call = {"id": part["id"], "name": part["name"]}
                call["arguments"] = part.get("text", text)
                row.setdefault("tool_calls", []).append(call)
            case "tool_call_response":
                row["tool_call_id"] = part["id"]
                if part["response"] is not None:
                    row["content"] = part["response"]
            case "attachment":
                row.setdefault("attachments", []).append(
                    {key: x for key, x in part.items() if key != "type"}
                )
            case other:
                pytest.fail(f"no such part: {other}")
    return row


def test_otel_holds_every_row(dataset: Dataset, tmp_path: Path) -> None:
    """Turns, calls with their times, messages (each once) and the trajectory's row can be read back
    from the spans; waits are links, and parents are there."""
    check_otel(dataset, tmp_path / "out")


@Many
@given(shape=shapes())
def test_otel_of_any_session(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever waits for whatever, and whatever failed: the rows can be read back."""
    folder = tmp_path_factory.mktemp("any")
    check_otel(Dataset.open(rows.write(folder / "dataset", session(shape))), folder / "out")


def test_otel_sub_agents_lie_below_their_calls(tmp_path: Path) -> None:
    """An agent's span has its turns and calls below it, and lies below the call that started it;
    side lanes lie below the main agent; what a tool returned stands at its span."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rich()))
    export(dataset, "otel", tmp_path / "out")
    _, spans = spans_of(tmp_path / "out", rows.trajectory_id("one"))
    agents = {span["attributes"]["traj.lane"]: span for span in of_kind(spans, "invoke_agent")}
    calls = {
        span["attributes"]["gen_ai.tool.call.id"]: span
        for span in spans
        if "execute_tool" in span["name"]
    }
    assert set(agents) == {0, 1, 2}
    assert agents[1]["parentSpanId"] == calls["a1"]["spanId"]
    assert agents[2]["parentSpanId"] == calls["b0"]["spanId"]
    assert agents[1]["name"] == "invoke_agent Explore"
    for span in of_kind(spans, "chat") + of_kind(spans, "execute_tool"):
        lane = span["attributes"]["traj.lane"]
        assert span["parentSpanId"] == agents[lane if lane in agents else 0]["spanId"]
    result = rows.words(150, "file")
    assert calls["a0"]["attributes"]["gen_ai.tool.call.result"] == result
    assert calls["a0"]["attributes"]["gen_ai.tool.call.arguments"] == '{"a": 1}'
    assert times(calls["b0"], STARTED) == {"start_us": 505_000, "end_us": 595_000}
    for agent in agents.values():
        inside = [span for span in spans if span.get("parentSpanId") == agent["spanId"]]
        for name, side in (("startTimeUnixNano", min), ("endTimeUnixNano", max)):
            edge = side(int(span[name]) for span in [*inside, agent])
            assert edge == int(agent[name])


def test_results_of_a_call_id_that_is_used_twice(tmp_path: Path) -> None:
    """Where an agent gives an id again, each call has the result that came after it."""
    tables = rows.small()
    one = rows.trajectory_id("one")
    for name in ("messages", "tool_calls"):
        for row in tables[name]:
            if row["trajectory_id"] == one and row["tool_call_id"] == "a3":
                row["tool_call_id"] = "a0"
    tables["messages"][6]["tool_calls"][0]["id"] = "a0"
    expected = [rows.words(150, "file"), tables["messages"][7]["content"]]
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    export(dataset, "otel", tmp_path / "otel")
    _, spans = spans_of(tmp_path / "otel", one)
    calls = [span["attributes"] for span in of_kind(spans, "execute_tool")]
    twice = [call for call in calls if call["gen_ai.tool.call.id"] == "a0"]
    assert [call["gen_ai.tool.call.result"] for call in twice] == expected
    export(dataset, "atif", tmp_path / "atif")
    document = json.loads((tmp_path / "atif" / "trajectories" / f"{one}.json").read_text())
    found = [
        result["content"]
        for step in document["steps"]
        for result in step.get("observation", {}).get("results", ())
        if any(call["tool_call_id"] == "a0" for call in step["tool_calls"])
    ]
    assert found == expected


def test_otel_says_what_has_no_time(tmp_path: Path) -> None:
    """Turns and calls without times, and sessions without a date, are counted."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rich()))
    report = export(dataset, "otel", tmp_path / "out")
    tables = rich()
    timed = [row for name in ("turns", "tool_calls") for row in tables[name]]
    unknown = sum(row["start_us"] is None or row["end_us"] is None for row in timed)
    assert lost(report, "no_clock") == unknown
    assert lost(report, "no_date") == 1
    assert lost(report, "tool_definition") == 1


# --- Hub traces -------------------------------------------------------------------------------


def check_hub(dataset: Dataset, out: Path) -> None:
    export(dataset, "hub-traces", out)
    files = {path.name for path in (out / "traces").iterdir()}
    for trajectory_id, tables in tables_of(dataset).items():
        models = {row["output"]: row["model"] for row in tables["turns"]}
        lanes = {0, *(row["lane"] for row in tables["messages"])}
        for lane in lanes:
            name = f"{trajectory_id}.l{lane}" if lane else trajectory_id
            files.remove(f"{name}.jsonl")
            lines = (out / "traces" / f"{name}.jsonl").read_text().splitlines()
            header, *told = map(json.loads, lines)
            assert (header["type"], header["id"], header["lane"]) == ("session", name, lane)
            assert isinstance(header["harness"], str)
            assert ("parent" in header) == bool(lane)
            assert {line["type"] for line in told} <= {"message"}
            messages = [line["message"] for line in told]
            systems = {row["system_id"] for row in tables["turns"] if row["lane"] == lane} - {None}
            rest = [one for one in messages if one["role"] != "system"]
            expected = [row for row in tables["messages"] if row["lane"] == lane]
            assert [{**one, "timestamp": 0} for one in rest] == [
                hub_message(row, models) for row in expected if row["role"] != "system"
            ]
            late = sum(row["role"] == "system" for row in expected)
            assert len(messages) - len(rest) == late + len(systems)
    assert not files


def hub_message(row: Row, models: dict[int, str | None]) -> Row:
    found: Row = {"role": row["role"], "content": row["content"] or "", "timestamp": 0}
    if row["reasoning"] is not None:
        found["reasoningContent"] = row["reasoning"]
    if row["tool_call_id"] is not None:
        found["toolCallId"] = row["tool_call_id"]
    if row["tool_calls"]:
        found["toolCalls"] = [
            {"id": one["id"], "function": {"name": one["name"], "arguments": one["arguments"]}}
            for one in row["tool_calls"]
        ]
    if models.get(row["message"]) is not None:
        found["model"] = models[row["message"]]
    return found


def test_hub_traces_hold_every_message(dataset: Dataset, tmp_path: Path) -> None:
    """A file a lane, with the lane's messages once and in order, in the Hub's own fields."""
    check_hub(dataset, tmp_path / "out")


@Many
@given(shape=shapes())
def test_hub_traces_of_any_session(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever waits for whatever, and whatever failed: each message once and in order."""
    folder = tmp_path_factory.mktemp("any")
    check_hub(Dataset.open(rows.write(folder / "dataset", session(shape))), folder / "out")


def test_hub_traces_say_when_and_what_they_lack(tmp_path: Path) -> None:
    """Times are milliseconds since 1970, an answer's the end of its request; what the format cannot
    hold is counted."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rich()))
    report = export(dataset, "hub-traces", tmp_path / "out")
    path = tmp_path / "out" / "traces" / f"{rows.trajectory_id('one')}.jsonl"
    header, _, asked, answer, *_ = map(json.loads, path.read_text().splitlines())
    assert header["name"] == "Pager"
    since = (STARTED - EPOCH) // timedelta(milliseconds=1)
    assert asked["message"]["timestamp"] == since
    assert answer["message"]["timestamp"] == since + 100
    counts = {loss["kind"]: loss["count"] for loss in report.losses}
    assert counts == {
        "attachment": 1,
        "context": 2,
        "failed_turn": 1,
        "timing": 19,
        "tools": 1,
        "usage": 10,
        "waits": 7,
    }


# --- OpenAI -----------------------------------------------------------------------------------


def check_openai(dataset: Dataset, out: Path) -> None:
    report = export(dataset, "openai-jsonl", out)
    lines = [json.loads(line) for line in (out / "conversations.jsonl").read_text().splitlines()]
    notes = [json.loads(line) for line in (out / "lines.jsonl").read_text().splitlines()]
    fronts = {row["prompt_id"]: row["content"] for row in dataset.table("prompts").to_pylist()}
    assert [note["line"] for note in notes] == list(range(len(lines)))
    assert report.counts["requests"] == len(lines)
    where = {
        (note["trajectory_id"], note["turn"]): line for note, line in zip(notes, lines, strict=True)
    }
    left = 0
    for trajectory_id, tables in tables_of(dataset).items():
        last = {}
        held: set[int] = set()
        for turn in tables["turns"]:
            if turn["output"] is not None:
                last[turn["lane"], turn["context"]] = turn
        for turn in last.values():
            line = where.pop((trajectory_id, turn["turn"]))
            numbers = [n for span in turn["input"] for n in range(span["start"], span["stop"])]
            held |= {*numbers, turn["output"]}
            expected = [openai_message(tables["messages"][n]) for n in [*numbers, turn["output"]]]
            if turn["system_id"]:
                expected.insert(0, {"role": "system", "content": fronts[turn["system_id"]]})
            assert line["messages"] == expected
            assert ("tools" in line) == bool(turn["tools_id"])
            assert set(line) <= {"messages", "tools"}
        left += len(tables["messages"]) - len(held)
    assert not where
    assert left == lost(report, "answer") + lost(report, "unsent")


def openai_message(row: Row) -> Row:
    found: Row = {"role": row["role"], "content": row["content"] or ""}
    if row["role"] == "tool":
        found["tool_call_id"] = row["tool_call_id"]
    if row["tool_calls"]:
        found["content"] = row["content"]
        found["tool_calls"] = [
            {
                "id": call["id"],
                "type": "function",
                "function": {"name": call["name"], "arguments": call["arguments"]},
            }
            for call in row["tool_calls"]
        ]
    return found


def test_openai_lines_are_the_contexts(dataset: Dataset, tmp_path: Path) -> None:
    """A line a context: the prompt of its last answered turn, then the answer; what no line holds
    is counted."""
    check_openai(dataset, tmp_path / "out")


@Many
@given(shape=shapes())
def test_openai_of_any_session(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever waits for whatever, and whatever failed: a line a context, and all is counted."""
    folder = tmp_path_factory.mktemp("any")
    check_openai(Dataset.open(rows.write(folder / "dataset", session(shape))), folder / "out")


def test_openai_lines_say_what_openai_would_refuse(tmp_path: Path) -> None:
    """Of each line it is said how many calls no result follows; the last answer's do not count."""
    tables = rows.small()
    two = rows.trajectory_id("two")
    (result,) = (row for row in tables["messages"] if row["tool_call_id"] == "c0")
    result["tool_call_id"] = "another"
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    export(dataset, "openai-jsonl", tmp_path / "out")
    notes = map(json.loads, (tmp_path / "out" / "lines.jsonl").read_text().splitlines())
    found = {(one["trajectory_id"], one["turn"]): one["unanswered_calls"] for one in notes}
    assert {key: count for key, count in found.items() if count} == {(two, 5): 1, (two, 6): 1}


def test_openai_loads_as_a_dataset(
    sample: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`datasets` gives back every line: tools with unlike parameters, and calls, too."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    export(sample, "openai-jsonl", tmp_path / "out")
    file = tmp_path / "out" / "conversations.jsonl"
    loaded = datasets.load_dataset(
        "json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache")
    )
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    assert loaded.to_list() == [{"tools": None} | line for line in lines]


# --- datasets of their own --------------------------------------------------------------------


def test_whole_dataset_is_exported_as_it_is(sample: Dataset, tmp_path: Path) -> None:
    """A recorded dataset's export has its very files, byte for byte, and its manifest."""
    export(sample, "parquet", tmp_path / "out")
    found = Dataset.open(tmp_path / "out")
    assert found.manifest == sample.manifest
    for file in sample.manifest.files:
        assert (found.path / file.path).read_bytes() == (sample.path / file.path).read_bytes()


def halved() -> rows.Tables:
    """`rows.small` with one trajectory public and one private."""
    tables = rows.small()
    for row, split in zip(tables["trajectories"], ("public", "private"), strict=True):
        row["split"] = split
    return tables


FACTS = {"splits": {name: {"canary": f"canary {name}"} for name in ("public", "private")}}


@pytest.mark.parametrize("split", ["public", "private"])
@pytest.mark.parametrize("text_free", [False, True])
def test_split_is_exported_as_a_dataset(tmp_path: Path, split: str, text_free: bool) -> None:
    """A split opens, validates and has the source's rows, its prompts alone, and its canary."""
    counts = dict.fromkeys(schema.TABLES, 0)
    source = Dataset.open(rows.write(tmp_path / "dataset", halved(), **FACTS))
    for name in TRAJECTORY_TABLES:
        counts[name] = len(source.table(name, split=split))
    report = export(
        source, "parquet", tmp_path / "out", LoadOptions(split=split, text_free=text_free)
    )
    found = Dataset.open(tmp_path / "out")
    verdict = traj.validate(found)
    assert verdict.ok, verdict.findings
    for name in TRAJECTORY_TABLES:
        if text_free and name == "messages":
            assert not found.files(name)
        else:
            assert found.table(name).equals(source.table(name, split=split))
    prompts = found.table("prompts").to_pylist()
    used = {
        one
        for row in found.table("turns").to_pylist()
        for one in (row["system_id"], row["tools_id"])
    }
    assert {row["prompt_id"] for row in prompts} == (set() if text_free else used - {None})
    assert found.manifest.canary == f"canary {split}"
    assert set(found.manifest.splits) == {split}
    assert found.manifest.splits[split]["canary"] == f"canary {split}"
    assert found.manifest.splits[split]["rows"]["turns"] == counts["turns"]
    assert lost(report, "text") == (counts["messages"] if text_free else 0)


def test_both_splits_stay_apart(tmp_path: Path) -> None:
    """Without --split each split has its own files and facts."""
    source = Dataset.open(rows.write(tmp_path / "dataset", halved(), **FACTS))
    export(source, "parquet", tmp_path / "out")
    found = Dataset.open(tmp_path / "out")
    assert traj.validate(found).ok
    for split in ("public", "private"):
        for name in TRAJECTORY_TABLES:
            assert found.table(name, split=split).equals(source.table(name, split=split))


@pytest.mark.parametrize(
    ("options", "kept"),
    [({}, True), ({"split": "public"}, True), ({"text_free": True}, False), ({"sample": 1}, None)],
)
def test_commitment_is_to_the_whole_private_split(
    tmp_path: Path, options: dict[str, Any], kept: bool | None
) -> None:
    """It goes along with the whole private split, or without any of it, and else is counted."""
    split = {"commitment": {"root": "00", "counts": {"turns": 7}}}
    source = Dataset.open(rows.write(tmp_path / "dataset", halved(), **FACTS, **split))
    report = export(source, "parquet", tmp_path / "out", LoadOptions(**options))
    found = Dataset.open(tmp_path / "out")
    if kept is None:  # which of the two trajectories it is, the seed says
        (head,) = found.table("trajectories").to_pylist()
        kept = head["split"] == "public" or len(source.table("trajectories", split="private")) == 1
    assert bool(found.manifest.commitment) == kept
    assert lost(report, "commitment") == (not kept)
    assert traj.validate(found).ok


# --- what they have in common -----------------------------------------------------------------


@pytest.mark.parametrize("target", ARCHIVES)
def test_archives_refuse_what_would_change_the_record(
    sample: Dataset, tmp_path: Path, target: str
) -> None:
    """Prefixes, tool times, other lengths and the like are refused by name; loads refuse an
    archive's option."""
    for options in (
        LoadOptions(prefix="aa"),
        LoadOptions(tool_time="none"),
        LoadOptions(max_context=1000),
        LoadOptions(phases=2),
        LoadOptions(model="other"),
    ):
        with pytest.raises(UsageError, match=f"{target} does not take --"):
            export(sample, target, tmp_path / "out", options)
    with pytest.raises(UsageError, match="weka does not take --text-free"):
        export(sample, "weka", tmp_path / "out", LoadOptions(text_free=True))
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", ARCHIVES)
def test_archives_take_a_sample(sample: Dataset, tmp_path: Path, target: str) -> None:
    """A sample is as large as asked for, and the same for the same seed; nothing is replayed."""
    options = LoadOptions(sample=3, seed="x")
    report = export(sample, target, tmp_path / "out", options)
    assert report.counts["trajectories"] == 3
    assert report.command == ""
    assert exporter(target).TEXT is False


def test_archives_have_every_turn(sample: Dataset, tmp_path: Path) -> None:
    """Failed requests are in the archives that can hold them, and counted where not."""
    failed = sum(row["output"] is None for row in sample.table("turns").to_pylist())
    assert failed
    for target in ARCHIVES:
        report = export(sample, target, tmp_path / target)
        holds = target in ("atif", "otel", "parquet")
        assert lost(report, "failed_turn") == (0 if holds else failed)
        if target != "openai-jsonl":
            assert report.counts["requests"] == len(sample.table("turns"))


@pytest.mark.parametrize("target", ["atif", "hub-traces", "otel"])
def test_archives_grow_with_the_session(tmp_path: Path, target: str) -> None:
    """Twice the turns are twice the bytes: nothing is written again with each prompt."""
    sizes = []
    for turns in (100, 200):
        dataset = Dataset.open(rows.write(tmp_path / str(turns), long_session(turns)))
        report = export(dataset, target, tmp_path / f"{target}-{turns}")
        sizes.append(sum(file["bytes"] for file in report.files))
    assert sizes[1] < 2.1 * sizes[0]


@pytest.mark.parametrize("target", ["atif", "hub-traces", "openai-jsonl", "otel"])
def test_memory_is_that_of_a_trajectory(tmp_path: Path, target: str) -> None:
    """Ten times the trajectories need no more memory, Arrow's included, but for a few numbers a
    request."""
    import pyarrow as pa

    peaks = []
    for count in (4, 40):
        tables: rows.Tables = {name: [] for name in schema.TABLES}
        for number in range(count):
            name = f"session {number}"
            text = rows.words(3, name) * 8000
            tables["trajectories"].append(rows.trajectory(name))
            tables["messages"].append(rows.message(name, 0, "user", text))
            tables["messages"].append(rows.message(name, 1, "assistant", "yes"))
            over = {"input": [{"start": 0, "stop": 1}], "output": 1}
            tables["turns"].append(rows.turn(name, 0, 0, 10, **over))
        dataset = Dataset.open(rows.write(tmp_path / str(count), rows.complete(tables)))
        export(dataset, target, tmp_path / f"warm-{count}")
        whole = pa.default_memory_pool()
        counted = pa.proxy_memory_pool(whole)
        pa.set_memory_pool(counted)
        tracemalloc.start()
        try:
            export(dataset, target, tmp_path / f"out-{count}")
            peaks.append((tracemalloc.get_traced_memory()[1], counted.max_memory()))
        finally:
            tracemalloc.stop()
            pa.set_memory_pool(whole)
    for few, many in zip(*peaks, strict=True):
        assert 0 < many < 1.5 * few


def test_command_line_exports_without_text(sample: Dataset, tmp_path: Path) -> None:
    """`traj export --format parquet --text-free` writes a dataset that has no text, and prints no
    command to replay it with."""
    out = tmp_path / "out"
    command = ["export", str(sample.path), "--format", "parquet", "--text-free", "-o", str(out)]
    result = CliRunner().invoke(app, command)
    assert result.exit_code == 0, result.output
    assert "replay" not in result.output
    tables = {file.table for file in Dataset.open(out).manifest.files}
    assert tables == {"trajectories", "turns", "tool_calls"}
