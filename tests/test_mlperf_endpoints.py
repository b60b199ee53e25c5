"""The endpoints benchmark's dataset, read by the rules of its source: it has no published package.

`requests` is those rules once more, written from the benchmark's documentation and not from the
exporter: what it refuses, and which messages each request then holds.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import groupby
from typing import TYPE_CHECKING, Any

import pytest

import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from pathlib import Path

TEXT = LoadOptions(lengths="text")
NEXT = {
    None: {"user"},
    "user": {"assistant"},
    "assistant": {"tool", "user"},
    "tool": {"assistant", "user"},
}


@dataclass
class Sent:
    """A request as the benchmark makes it of the lines."""

    conversation: str
    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    cap: int
    delay_s: float


def requests(path: Path) -> list[Sent]:
    """The requests of a file, in order; fails where the benchmark would refuse it."""
    lines = list(map(json.loads, path.read_text().splitlines()))
    found, names = [], set()
    for name, group in groupby(lines, lambda line: line["conversation_id"]):
        assert name not in names, "lines of a conversation must stand together"
        assert name.isascii()
        assert name.isprintable()
        names.add(name)
        found += _conversation(name, list(group))
    return found


def _conversation(name: str, lines: list[dict[str, Any]]) -> list[Sent]:
    assert [line["turn"] for line in lines] == list(range(1, len(lines) + 1))
    system = lines[0].get("system")
    history = [{"role": "system", "content": system}] if system else []
    first = lines[0].get("tools", [])
    role, called, found = None, False, []
    for line in lines:
        assert line["role"] in NEXT[role], f"{line['role']} after {role}"
        if line["role"] == "assistant":
            called = "tool_calls" in line
            assert line.get("content") or line.get("tool_calls"), "an empty answer"
        elif role == "assistant":
            assert (line["role"] == "tool") == called, "results stand for calls, and only for those"
        role = line["role"]
        history += _messages(line)
        if role == "assistant":
            continue
        tools = line.get("tools", first)
        delay, cap = line.get("delay_seconds", 0), line["max_completion_tokens"]
        found.append(Sent(name, list(history), tools, cap, delay))
    return found


def _messages(line: dict[str, Any]) -> list[dict[str, Any]]:
    if line["role"] == "tool":
        assert line["tool_results"]
        assert all(one["tool_call_id"] for one in line["tool_results"])
        return [{"role": "tool", **one} for one in line["tool_results"]]
    if line["role"] == "user":
        assert line["content"], "an empty user message"
    names = ("role", "content", "tool_calls", "reasoning_content")
    message = {name: line[name] for name in names if name in line}
    if message.get("content") == " ":  # stands for no text, which would be refused
        message["content"] = ""
    return [{"content": None, **message}] if "tool_calls" in message else [message]


def matched(folder: Path) -> dict[tuple[str, int], Sent]:
    """The request of each turn."""
    sessions = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    sent = requests(folder / "conversations.jsonl")
    keys = [
        key for name in dict.fromkeys(one.conversation for one in sent) for key in sessions[name]
    ]
    return dict(zip(keys, sent, strict=True))


def joined(messages: list[dict[str, Any]]) -> str:
    """All that is said, whatever the messages it is divided into."""
    return "\n\n".join(text for one in messages if (text := recorded.said(one)))


@pytest.fixture(params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path: Path) -> Dataset:
    if request.param == "small":
        return Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    return request.getfixturevalue("sample")


def test_requests_are_the_dataset_s(dataset: Dataset, tmp_path: Path) -> None:
    """By the benchmark's rules every answered turn becomes one request with the recorded text,
    tools, delay and cap; but for counted conversations, in the recorded messages."""
    report = export(dataset, "mlperf-endpoints", tmp_path / "out", TEXT)
    lost = {loss["kind"]: loss["count"] for loss in report.losses}
    sent, expected = matched(tmp_path / "out"), recorded.requests(dataset)
    sessions = recorded.sessions((tmp_path / "out" / "sessions.jsonl").read_text().splitlines())
    gaps = {
        key: gap
        for turns in sessions.values()
        for key, gap in zip(turns, recorded.gaps_us(expected, turns), strict=True)
    }
    assert sent.keys() == expected.keys()
    affected = set()
    for key, request in expected.items():
        one = sent[key]
        assert joined(one.messages) == joined(request.messages), key
        assert one.tools == request.tools, key
        assert one.cap == request.output_tokens, key
        assert round(one.delay_s * 1e6) == gaps[key], key
        if one.messages != request.messages:
            affected.add(one.conversation)
    assert lost["output_cap"] == len(expected)
    assert len(affected) < len(sessions)
    assert len(affected) <= lost["flattened"] + lost.get("merged", 0)


def test_whole_history_goes_in_one_message(tmp_path: Path) -> None:
    """A rewind cannot be sent as messages without asking for its answers again: it is one message,
    with the whole text."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    export(dataset, "mlperf-endpoints", tmp_path / "out", TEXT)
    request = recorded.requests(dataset)[rows.trajectory_id("two"), 6]
    (message,) = matched(tmp_path / "out")[rows.trajectory_id("two"), 6].messages
    assert message == {"role": "user", "content": joined(request.messages)}


def test_what_cannot_be_a_line_begins_anew(tmp_path: Path) -> None:
    """Other tools go on in the same conversation; a prompt with someone else's answer in it does
    not, since a conversation's answers are those of its requests."""
    other = '[{"name":"write","input_schema":{"type":"object"}}]'
    tools = [rows.prompt("tools", text) for text in (rows.TOOLS, other)]
    spans = [(0, 1), (0, 3), (0, 5), (0, 8)]
    roles = ("user", "assistant", "user", "assistant", "user", "assistant", "assistant", "user")
    tables = {
        "trajectories": [rows.trajectory("one")],
        "prompts": tools,
        "tool_calls": [],
        "messages": [
            rows.message("one", number, role, f"{role} {number}")
            for number, role in enumerate((*roles, "assistant"))
        ],
        "turns": [
            rows.turn(
                "one",
                number,
                number * 9000,
                number * 9000 + 5000,
                input=[{"start": start, "stop": stop}],
                output=stop,
                tools_id=tools[number == 1]["prompt_id"],
                wait_for=[number - 1] if number else [],
            )
            for number, (start, stop) in enumerate(spans)
        ],
    }
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.complete(tables)))
    export(dataset, "mlperf-endpoints", tmp_path / "out", TEXT)
    sent, expected = matched(tmp_path / "out"), recorded.requests(dataset)
    conversations = [sent[key].conversation for key in sorted(sent)]
    assert conversations[:3] == [conversations[0]] * 3 != [conversations[3]] * 3
    for key in sorted(sent):
        assert sent[key].tools == expected[key].tools
        assert (sent[key].messages == expected[key].messages) == (key[1] < 3)
        assert joined(sent[key].messages) == joined(expected[key].messages)


def test_pandas_keeps_numbers_whole(dataset: Dataset, tmp_path: Path) -> None:
    """The benchmark reads lines with pandas, where a gap in a column would make floats of caps."""
    pandas = pytest.importorskip("pandas")
    export(dataset, "mlperf-endpoints", tmp_path / "out", TEXT)
    frame = pandas.read_json(tmp_path / "out" / "conversations.jsonl", lines=True)
    assert str(frame["max_completion_tokens"].dtype) == "int64"
    assert str(frame["turn"].dtype) == "int64"
    names = (tmp_path / "out" / "sessions.jsonl").read_text().splitlines()
    known = {json.loads(line)["session_id"] for line in names}
    assert set(frame["conversation_id"]) == known


def test_configuration_asks_for_delays_and_no_salt(tmp_path: Path) -> None:
    """benchmark.yaml names the file, has delays slept and the text left alone, and takes URL and
    MODEL from the environment, but for a model that was asked for."""
    yaml = pytest.importorskip("yaml")
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    for model, written in ((None, "${MODEL}"), ('a "b": c', 'a "b": c')):
        out = tmp_path / str(model is None)
        report = export(dataset, "mlperf-endpoints", out, LoadOptions(model=model))
        config = yaml.safe_load((out / "benchmark.yaml").read_text())
        assert report.command.endswith("--config benchmark.yaml")
        assert config["model_params"]["name"] == written
        assert config["endpoint_config"]["endpoints"] == ["${URL}"]
        (used,) = config["datasets"]
        assert used["path"] == "conversations.jsonl"
        assert used["agentic_inference"] == {"inject_tool_delay": True, "enable_salt": False}
