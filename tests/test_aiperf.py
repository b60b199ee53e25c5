"""Exports replayed by the real aiperf against a mock engine, request by request.

aiperf is installed once, in an environment of its own below `.venvs`; nothing else needs a network.
What the mock received is compared with the dataset's rows, not with what the exporter wrote.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

import harness
import rows
from traj.dataset import Dataset
from traj.exporters import ExportReport, export
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.harness

LENGTHS = {"aiperf-dag": "text", "weka": "recorded"}
EARLY_S = 0.002  # the event loop's timers may fire a tick early
QUIET = "--ui-type none --no-gpu-telemetry --no-server-metrics --workers-max 2 --random-seed 1"


@pytest.fixture(scope="session")
def aiperf() -> Path:
    """The folder of the aiperf command."""
    return harness.environment("aiperf-0.13.0", "aiperf==0.13.0")


@pytest.fixture(scope="session", params=["small", "sample"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset, and the recorded sample sessions."""
    folder = tmp_path_factory.mktemp(request.param) / "dataset"
    if request.param == "small":
        return Dataset.open(rows.write(folder, rows.small()))
    return request.getfixturevalue("sample")


@dataclass
class Replay:
    """A dataset, its export, and what the engine received for it."""

    dataset: Dataset
    report: ExportReport
    folder: Path
    log: list[dict[str, Any]]  # in order of arrival

    def trajectories(self) -> Iterator[tuple[str, list[dict[str, Any]], list[dict[str, Any]]]]:
        """Id, turns and messages of each trajectory."""
        for found in self.dataset.trajectories(("turns", "messages")):
            yield found.trajectory_id, found.turns.to_pylist(), found.messages.to_pylist()

    def sessions(self) -> dict[str, list[dict[str, Any]]]:
        """The received requests by aiperf's session, in order of arrival."""
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for entry in self.log:
            found[entry["headers"]["x-correlation-id"]].append(entry)
        return found


@pytest.fixture(scope="session")
def dag(
    dataset: Dataset, aiperf: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    return _replay(dataset, "aiperf-dag", aiperf, hub, tmp_path_factory.mktemp("dag"))


@pytest.fixture(scope="session")
def weka(
    dataset: Dataset, aiperf: Path, hub: Path, tmp_path_factory: pytest.TempPathFactory
) -> Replay:
    return _replay(dataset, "weka", aiperf, hub, tmp_path_factory.mktemp("weka"))


def _replay(dataset: Dataset, target: str, aiperf: Path, hub: Path, scratch: Path) -> Replay:
    """Exports and replays with the command that the export names, all trajectories at a time."""
    folder = scratch / "export"
    report = export(dataset, target, folder, LoadOptions(lengths=LENGTHS[target]))
    trajectories = report.counts["trajectories"]
    command = report.command.replace("--concurrency 1 ", f"--concurrency {trajectories} ")
    command = f"{command} {QUIET} --output-artifact-dir '{scratch}/artifacts'"
    with harness.engine(hub) as engine:
        harness.run(command, folder, harness.variables(engine.url, hub, aiperf))
        return Replay(dataset, report, folder, engine.log())


def _waits(turns: list[dict[str, Any]]) -> list[set[int]]:
    """What each turn waits for, failed turns replaced by what those waited for."""
    found: list[set[int]] = []
    for turn in turns:
        waits: set[int] = set()
        for wait in turn["wait_for"]:
            waits |= {wait} if turns[wait]["output"] is not None else found[wait]
        found.append(waits)
    return found


def _delay_s(turn: dict[str, Any], turns: list[dict[str, Any]], waits: set[int]) -> float:
    """The recorded time between what a turn waited for and the turn."""
    if waits == set(turn["wait_for"]):
        return float(turn["delay_us"] or 0) / 1e6
    return float(max(0, turn["start_us"] - max(turns[wait]["end_us"] for wait in waits))) / 1e6


def _output(turn: dict[str, Any]) -> int:
    counted = turn["counted_output_tokens"]
    if turn["output_tokens"] is None:
        return max(1, counted)
    return max(1, turn["output_tokens"], counted if turn["usage_source"] == "partial" else 0)


def _body(
    turn: dict[str, Any], messages: list[dict[str, Any]], prompts: dict[str, str]
) -> dict[str, Any]:
    """The part of a request's body that the dataset determines."""
    sent = [] if turn["system_id"] is None else [_plain("system", prompts[turn["system_id"]])]
    for span in turn["input"]:
        for message in messages[span["start"] : span["stop"]]:
            front = all(one["role"] == "system" for one in sent)
            sent.append(_message(message, front, turn["earlier_reasoning"] == "kept"))
    tools = [
        {"type": "function", "function": {**kept, "parameters": schema}}
        for tool in json.loads(prompts.get(turn["tools_id"], "[]"))
        if (schema := tool.get("input_schema")) is not None
        for kept in [{key: tool[key] for key in ("name", "description") if key in tool}]
    ]
    length = _output(turn)
    caps = {"max_completion_tokens": length, "min_tokens": length, "ignore_eos": True}
    return {"model": harness.MODEL, "messages": sent, **caps} | ({"tools": tools} if tools else {})


def _plain(role: str, content: str | None) -> dict[str, Any]:
    return {"role": role, "content": content or ""}


def _message(message: dict[str, Any], front: bool, reasoning: bool) -> dict[str, Any]:
    role, content = message["role"], message["content"]
    if role == "tool":
        return {**_plain(role, content), "tool_call_id": message["tool_call_id"]}
    if role != "assistant":
        return _plain("user" if role == "system" and not front else role, content)
    sent = _plain(role, content)
    if message["tool_calls"]:
        sent["content"] = content
        sent["tool_calls"] = [
            {"id": call["id"], "type": "function", "function": _function(call)}
            for call in message["tool_calls"]
        ]
    if reasoning and message["reasoning"] is not None:
        sent["reasoning_content"] = message["reasoning"]
    return sent


def _function(call: dict[str, str]) -> dict[str, str]:
    return {"name": call["name"], "arguments": call["arguments"]}


def _key(body: dict[str, Any]) -> str:
    added = ("stream", "stream_options", "temperature")
    return json.dumps({key: body[key] for key in sorted(body) if key not in added}, sort_keys=True)


@pytest.fixture(scope="session")
def matched(dag: Replay) -> dict[tuple[str, int], dict[str, Any]]:
    """The received request of each turn: sessions are matched by all bodies, in their order."""
    prompts = {row["prompt_id"]: row["content"] for row in dag.dataset.table("prompts").to_pylist()}
    bodies = {
        (name, turn["turn"]): _key(_body(turn, messages, prompts))
        for name, turns, messages in dag.trajectories()
        for turn in turns
        if turn["output"] is not None
    }
    received: dict[tuple[str, ...], list[list[dict[str, Any]]]] = defaultdict(list)
    for entries in dag.sessions().values():
        received[tuple(_key(entry["body"]) for entry in entries)].append(entries)
    found: dict[tuple[str, int], dict[str, Any]] = {}
    for line in (dag.folder / "sessions.jsonl").read_text().splitlines():
        session = json.loads(line)
        turns = [(session["trajectory_id"], turn) for turn in session["turns"]]
        same = received[tuple(bodies[turn] for turn in turns)]
        assert same, f"no session was received as recorded: {session}"
        found |= dict(zip(turns, same.pop(0), strict=True))
    assert found.keys() == bodies.keys()
    assert not any(received.values())
    return found


def test_dag_sends_every_answered_request_as_recorded(
    dag: Replay, matched: dict[tuple[str, int], dict[str, Any]]
) -> None:
    """Messages, tool calls, tools and caps of every request body are the dataset's, none is more
    and none is missing, and in a session they come in order."""
    assert len(dag.log) == len(matched) == dag.report.counts["requests"]


def test_dag_forces_the_recorded_output_lengths(
    dag: Replay, matched: dict[tuple[str, int], dict[str, Any]]
) -> None:
    """The engine makes as many tokens as the answer had."""
    for name, turns, _ in dag.trajectories():
        for turn in turns:
            if turn["output"] is not None:
                made = matched[name, turn["turn"]]["usage"]["completion_tokens"]
                assert made == _output(turn)


def test_dag_keeps_the_order(dag: Replay, matched: dict[tuple[str, int], dict[str, Any]]) -> None:
    """No request comes before what it waited for is complete: spawns and joins included."""
    for name, turns, _ in dag.trajectories():
        for turn, waits in zip(turns, _waits(turns), strict=True):
            for wait in waits if turn["output"] is not None else ():
                before, after = matched[name, wait], matched[name, turn["turn"]]
                assert after["arrived"] >= before["completed"], (name, wait, turn["turn"])


def test_dag_keeps_the_delays(dag: Replay, matched: dict[tuple[str, int], dict[str, Any]]) -> None:
    """No request comes earlier than its delay after what it waits for; where it waits for another
    lane, no earlier than if that lane had answered in no time."""
    late = []
    for name, turns, _ in dag.trajectories():
        waits = _waits(turns)
        for turn in turns:
            number = turn["turn"]
            if turn["output"] is None or not waits[number]:
                continue
            arrived = matched[name, number]["arrived"]
            ended = max(matched[name, wait]["completed"] for wait in waits[number])
            delay = _delay_s(turn, turns, waits[number])
            inner = [wait for wait in waits[number] if turns[wait]["lane"] != turn["lane"]]
            if inner and turn["context_reason"] is None:
                # aiperf ignores the delay here: it is spent before the other lane's last request.
                started = [
                    max((matched[name, w]["completed"] for w in waits[i]), default=0) for i in inner
                ]
                assert arrived - max(started) >= delay - EARLY_S, (name, number)
                continue
            assert arrived - ended >= delay - EARLY_S, (name, number)
            late.append(arrived - ended - delay)
    print(
        f"\nlateness of {len(late)} requests: median {sorted(late)[len(late) // 2] * 1e3:.0f} ms,"
        f" most {max(late) * 1e3:.0f} ms"
    )


def test_weka_sends_every_request_at_its_length(weka: Replay, hub: Path) -> None:
    """The engine receives as many requests as were answered, with the recorded output lengths and
    prompts as long as recorded, but for the seams of synthetic blocks."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(harness.snapshot(hub) / "tokenizer.json"))
    expected: dict[int, list[int]] = defaultdict(list)
    for _, turns, _ in weka.trajectories():
        for turn in turns:
            if turn["output"] is not None:
                reported = turn["input_tokens"]
                length = turn["counted_input_tokens"] if reported is None else reported
                expected[_output(turn)].append(length)
    received: dict[int, list[int]] = defaultdict(list)
    for entry in weka.log:
        made = entry["usage"]["completion_tokens"]
        assert made == entry["body"]["max_completion_tokens"]
        texts = [message["content"] for message in entry["body"]["messages"]]
        received[made].append(sum(len(tokenizer.encode(text).ids) for text in texts))
    assert {made: len(found) for made, found in received.items()} == {
        made: len(found) for made, found in expected.items()
    }
    for made, lengths in expected.items():
        for length, tokens in zip(sorted(lengths), sorted(received[made]), strict=True):
            assert abs(tokens - length) <= 4 + length / 1000, (made, length, tokens)


def test_weka_shares_the_recorded_prefixes(weka: Replay) -> None:
    """The engine's cache finds, over a trace, what the shared hash ids say, seams aside."""
    shared = reported = 0
    for path in sorted((weka.folder / "traces").glob("*.json")):
        seen: set[int] = set()
        for request in _requests(json.loads(path.read_text())):
            ids = request["hash_ids"]
            # Ids stand for everything up to their end, so the shared ones are a prefix.
            shared += 64 * sum(block in seen for block in ids)
            reported += request["in"]
            seen |= set(ids)
    cached = sum(entry["usage"]["prompt_tokens_details"]["cached_tokens"] for entry in weka.log)
    print(f"\nexpected {shared / reported:.1%}, cached {cached / reported:.1%}")
    assert abs(cached - shared) <= 0.05 * reported


def test_weka_nests_sub_agents(weka: Replay) -> None:
    """Lane 0 and every nested run are sessions of their own; a nested run begins after the request
    that set it off has ended, and the request that waited for it comes after its end."""
    sessions: dict[tuple[int, ...], list[list[dict[str, Any]]]] = defaultdict(list)
    for entries in weka.sessions().values():
        outputs = tuple(entry["body"]["max_completion_tokens"] for entry in entries)
        sessions[outputs].append(entries)
    for path in sorted((weka.folder / "traces").glob("*.json")):
        requests = json.loads(path.read_text())["requests"]
        outer = [request for request in requests if request["type"] == "n"]
        main = _take(sessions, outer)
        for run in (request for request in requests if request["type"] == "subagent"):
            found = _take(sessions, run["requests"])
            for request, entry in zip(outer, main, strict=True):
                ended = run["t"] + run["duration_ms"] / 1000
                if request["t"] + request["api_time"] <= run["t"]:
                    assert found[0]["arrived"] >= entry["completed"], run["agent_id"]
                if request["t"] >= ended:
                    assert entry["arrived"] >= found[-1]["completed"], run["agent_id"]
    assert not any(sessions.values())


def _take(
    sessions: dict[tuple[int, ...], list[list[dict[str, Any]]]], requests: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The session with the same output lengths, and of several that with the nearest prompts."""

    def apart(entries: list[dict[str, Any]]) -> int:
        pairs = zip(entries, requests, strict=True)
        return sum(abs(entry["usage"]["prompt_tokens"] - one["in"]) for entry, one in pairs)

    same = sessions[tuple(request["out"] for request in requests)]
    nearest = min(same, key=apart)
    same.remove(nearest)
    return nearest


def _requests(trace: dict[str, Any]) -> list[dict[str, Any]]:
    """All requests of a trace by time."""
    found = []
    for request in trace["requests"]:
        found += request["requests"] if request["type"] == "subagent" else [request]
    return sorted(found, key=lambda request: float(request["t"]))
