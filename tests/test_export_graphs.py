"""Targets that hold a graph of requests: guidellm-graph and inference-perf, without the harnesses.

What the files say is read here by the harnesses' rules, and held to the dataset's rows.
"""

from __future__ import annotations

import json
import tempfile
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recorded
import rows
from traj.dataset import Dataset
from traj.exporters import ExportReport, export, exporter, guidellm_graph
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

TARGETS = ("guidellm-graph", "inference-perf")
Waits = dict[int, set[int]]


class Sent(NamedTuple):
    """A request as a file says it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    output_tokens: int
    waits: set[int]
    gaps_s: dict[int, float]  # by what it waits for: from its end


def _guidellm(folder: Path) -> Iterator[tuple[str, dict[int, Sent]]]:
    """The trajectories of an export, as guidellm replays them."""
    for line in (folder / guidellm_graph.FILE).read_text().splitlines():
        graph = json.loads(json.loads(line)["conversation_turns"])
        nodes = {int(node["node_id"]): node for node in graph["turns"]}
        found = {}
        for turn, node in nodes.items():
            columns = {name: value[0] for name, value in node["columns"].items()}
            assert columns["request_duration_column"] >= 0
            assert {one["history_context"] for one in node["parents"]} <= {"new"}
            gaps = {}
            for wait in (int(one["parent_node_id"]) for one in node["parents"]):
                parent = {name: value[0] for name, value in nodes[wait]["columns"].items()}
                gap = columns["relative_timestamp_column"] - parent["relative_timestamp_column"]
                gaps[wait] = max(0.0, gap - parent["request_duration_column"])
                assert parent.get("requeue_delay_column", 0) <= gaps[wait] + 1e-6
            found[turn] = Sent(
                columns["raw_messages_column"],
                columns.get("tools_column", []),
                columns["output_tokens_count_column"],
                set(gaps),
                gaps,
            )
        yield graph["graph_id"], found


def _inference_perf(folder: Path) -> Iterator[tuple[str, dict[int, Sent]]]:
    """The trajectories of an export, as inference-perf replays them."""
    for path in sorted((folder / "traces").iterdir()):
        trace = json.loads(path.read_text())
        spans = sorted(trace["spans"], key=lambda span: (span["start_time"], span["span_id"]))
        held = [span["attributes"] for span in spans]
        prompts = [json.loads(one["gen_ai.input.messages"]) for one in held]
        answers = [json.loads(one.get("gen_ai.output.messages", "[]")) for one in held]
        marks = [{part["id"] for one in answer for part in one["parts"]} for answer in answers]
        starts = [_seconds(span["start_time"]) for span in spans]
        ends = [_seconds(span["end_time"]) for span in spans]
        found = {}
        for index, span in enumerate(spans):
            calls = {call["id"] for one in prompts[index] for call in one.get("tool_calls", ())}
            earlier = range(index)
            waits = {one for one in earlier if marks[one] and marks[one] <= calls}
            waits |= set([one for one in earlier if ends[one] <= starts[index]][-1:])
            gap = starts[index] - max((ends[one] for one in waits), default=starts[index])
            turns = [int(spans[one]["span_id"]) for one in waits]
            found[int(span["span_id"])] = Sent(
                prompts[index],
                json.loads(held[index].get("gen_ai.tool.definitions", "[]")),
                held[index]["gen_ai.usage.output_tokens"],
                set(turns),
                dict.fromkeys(turns, gap),
            )
        yield trace["session_id"], found


READERS = {"guidellm-graph": _guidellm, "inference-perf": _inference_perf}


def _seconds(text: str) -> float:
    return (
        datetime.fromisoformat(text) - datetime.fromisoformat("2000-01-01T00:00Z")
    ).total_seconds()


def _closed(waits: Waits) -> Waits:
    """With all that those waited for themselves."""
    found: Waits = {}

    def close(turn: int) -> set[int]:
        if turn not in found:
            found[turn] = set(waits[turn])
            for wait in waits[turn]:
                found[turn] |= close(wait)
        return found[turn]

    for turn in waits:
        close(turn)
    return found


def _losses(report: ExportReport) -> dict[str, int]:
    return {loss["kind"]: loss["count"] for loss in report.losses}


@pytest.fixture(scope="session")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The hand-made dataset."""
    return Dataset.open(rows.write(tmp_path_factory.mktemp("small") / "dataset", rows.small()))


class Turn(NamedTuple):
    """A turn of a trajectory to be made; a lane that is forked begins with what lane 0 had."""

    lane: int
    waits: set[int]
    delay_us: int = 0
    took_us: int = 0
    answered: bool = True


def trajectory(turns: list[Turn], forked: Collection[int] = ()) -> rows.Tables:
    """A trajectory of lanes that only grow, each turn with a tool call."""
    lanes: dict[int, list[int]] = {}
    made = []
    for number, turn in enumerate(turns):
        before = lanes.setdefault(turn.lane, [])
        over = {"wait_for": sorted(turn.waits | set(before[-1:])), "delay_us": turn.delay_us}
        over |= {"lane": turn.lane, "lane_kind": "subagent" if turn.lane else "main"}
        made.append(rows.turn("g", number, 0, turn.took_us, **over))
        before.append(number)
    messages: list[rows.Row] = []
    for lane, numbers in sorted(lanes.items()):
        first = len(messages)
        had = sum(number < numbers[0] for number in lanes.get(0, ()))
        copied = [{"start": 0, "stop": 1 + 2 * had}] if lane and lane in forked and had else []
        messages.append(rows.message("g", first, "user", f"Begin {lane}.", lane=lane))
        for number in numbers:
            answer = len(messages)
            made[number]["input"] = [*copied, {"start": first, "stop": answer}]
            made[number]["output"] = answer if turns[number].answered else None
            call = (f"call{number}", "read", "{}")
            said = f"Turn {number}"
            messages.append(rows.message("g", answer, "assistant", said, lane=lane, calls=[call]))
            result = {"lane": lane, "tool_call_id": call[0], "name": "read"}
            messages.append(rows.message("g", answer + 1, "tool", f"Result {number}", **result))
    tables: rows.Tables = {"trajectories": [rows.trajectory("g")], "turns": made}
    return rows.complete(tables | {"messages": messages, "tool_calls": [], "prompts": []})


@st.composite
def graphs(draw: st.DrawFn) -> rows.Tables:
    """One trajectory whose turns wait for any earlier ones."""
    turns: list[Turn] = []
    for number in range(draw(st.integers(1, 14))):
        lane = draw(st.integers(0, min(3, len({turn.lane for turn in turns}))))
        waits = draw(st.sets(st.integers(0, number - 1), max_size=3)) if number else set()
        delay, took = draw(st.integers(0, 3_000_000)), draw(st.integers(0, 2_000_000))
        turns.append(Turn(lane, waits, delay, took, not number or draw(st.integers(0, 9)) > 0))
    return trajectory(turns, draw(st.sets(st.integers(1, 3))))


@pytest.mark.parametrize("target", TARGETS)
@given(tables=graphs())
@settings(max_examples=60, deadline=None)
def test_any_graph_is_kept(target: str, tables: rows.Tables) -> None:
    """Whatever waits for whatever: every answered turn is there once; it never waits for what it
    did not wait for, and what it should have waited for and does not is counted; the delay is
    counted from the last end, whatever the engine's speed, or the loss is."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.open(rows.write(Path(scratch) / "dataset", tables))
        folder = Path(scratch) / "export"
        report = export(dataset, target, folder, LoadOptions(lengths="text"))
        ((_, sent),) = READERS[target](folder)
        truth = {turn: one for (_, turn), one in recorded.requests(dataset).items()}
    assert sent.keys() == truth.keys()
    losses = _losses(report)
    waits = {turn: set(one.waits) for turn, one in truth.items()}
    told = _closed({turn: one.waits for turn, one in sent.items()})
    known = _closed(waits)
    assert all(told[turn] <= known[turn] for turn in truth)
    direct = {
        turn: {one for one in known[turn] if not any(one in known[by] for by in known[turn])}
        for turn in truth
    }
    missing = sum(len(direct[turn] - told[turn]) for turn in truth)
    assert missing == losses.get("wait", 0)
    for turn, request in sent.items():
        delay = truth[turn].delay_us / 1e6
        if "join_delay" in losses:
            assert all(gap >= delay - 1e-6 for gap in request.gaps_s.values())
        elif request.waits:
            slack = 0.001 if target == "inference-perf" else 0
            assert all(-1e-6 <= gap - delay <= slack + 1e-6 for gap in request.gaps_s.values())


def test_waits_that_cross_have_longer_delays(tmp_path: Path) -> None:
    """Two joins of which each waits for what came before the other's: guidellm's arithmetic cannot
    have all four end together. Waits are kept, and the delays counted as lost."""
    turns = [Turn(0, set()), Turn(1, set()), Turn(1, {1}, 5), Turn(0, {0}, 5)]
    turns += [Turn(2, {0, 2}, 7), Turn(3, {1, 3}, 7)]
    dataset = Dataset.open(rows.write(tmp_path / "dataset", trajectory(turns)))
    report = export(dataset, "guidellm-graph", tmp_path / "export", LoadOptions(lengths="text"))
    ((_, sent),) = _guidellm(tmp_path / "export")
    assert {turn: one.waits for turn, one in sent.items()} == {
        turn: set(one.waits) for (_, turn), one in recorded.requests(dataset).items()
    }
    assert _losses(report)["join_delay"] == 2
    assert min(gap for turn in (4, 5) for gap in sent[turn].gaps_s.values()) == pytest.approx(7e-6)


def test_no_mark_makes_others_wait(tmp_path: Path) -> None:
    """Where the only call in a joining prompt stands in a fork's prompt too, the fork is not made
    to wait for a sub-agent: the join's wait is lost instead, and counted."""
    # The fork (lane 2) starts before the join (turn 4), with the same answer in its prompt.
    turns = [Turn(0, set()), Turn(1, {0}), Turn(2, {0}), Turn(2, set()), Turn(0, {1, 3})]
    for forked, lost in ((set(), 0), ({2}, 1)):
        folder = tmp_path / str(lost)
        dataset = Dataset.open(rows.write(folder / "dataset", trajectory(turns, forked)))
        report = export(dataset, "inference-perf", folder / "export", LoadOptions(lengths="text"))
        assert _losses(report).get("wait", 0) == lost
        ((_, sent),) = _inference_perf(folder / "export")
        assert sent[2].waits == {0}
        assert sent[3].waits == {2}


@pytest.mark.parametrize("target", TARGETS)
def test_joins_with_a_call_in_the_prompt_are_kept(
    target: str, small: Dataset, tmp_path: Path
) -> None:
    """A turn that takes up two sub-agents asked for in its own prompt waits for both."""
    report = export(small, target, tmp_path / "export", LoadOptions(lengths="text"))
    assert "wait" not in _losses(report)
    sent = dict(READERS[target](tmp_path / "export"))
    for (name, turn), request in recorded.requests(small).items():
        told = _closed({of: one.waits for of, one in sent[name].items()})
        assert request.waits <= told[turn]


@pytest.mark.parametrize("target", TARGETS)
def test_nothing_recorded_of_a_prompt(target: str, tmp_path: Path) -> None:
    """A request of whose prompt the record holds nothing is sent all the same, for others wait for
    it: an empty message, counted."""
    tables = trajectory([Turn(0, set()), Turn(0, {0})])
    tables["turns"][0]["input"] = []
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    report = export(dataset, target, tmp_path / "export", LoadOptions(lengths="text"))
    ((_, sent),) = READERS[target](tmp_path / "export")
    assert sent[0].messages == [{"role": "user", "content": ""}]
    assert len(sent[1].messages) == 3
    assert _losses(report)["empty_prompt"] == 1


def test_guidellm_sends_requests_as_recorded(sample: Dataset, tmp_path: Path) -> None:
    """Each node has the whole recorded array, its tools, and the length of the answer."""
    report = export(sample, "guidellm-graph", tmp_path / "export", LoadOptions(lengths="text"))
    requests = recorded.requests(sample)
    for name, sent in _guidellm(tmp_path / "export"):
        for turn, request in sent.items():
            truth = requests.pop((name, turn))
            assert request.messages == truth.messages
            assert request.tools == truth.tools
            assert request.output_tokens == truth.output_tokens
    assert not requests
    assert report.counts["requests"] == 150


@pytest.mark.parametrize("output", ["forced", "capped"])
def test_inference_perf_sends_all_text(output: str, small: Dataset, tmp_path: Path) -> None:
    """Tools go as tools where answers may end, else behind the system prompt; reasoning goes in
    front of what was said; nothing else is changed."""
    options = LoadOptions(lengths="text", output=output)
    report = export(small, "inference-perf", tmp_path / "export", options)
    requests = recorded.requests(small)
    for name, sent in _inference_perf(tmp_path / "export"):
        for turn, request in sent.items():
            truth = requests.pop((name, turn))
            assert request.tools == (truth.tools if output == "capped" else [])
            said = [recorded.said(one) for one in truth.messages]
            if truth.tools and output == "forced":
                tools = json.dumps(truth.tools, separators=(",", ":"), ensure_ascii=False)
                assert request.messages[0]["role"] == "system"
                said[0] += f"\n\n{tools}"
            assert [recorded.said(one) for one in request.messages] == said
            assert not any("reasoning_content" in one for one in request.messages)
            assert request.output_tokens == truth.output_tokens
    assert not requests
    losses = _losses(report)
    assert losses["reasoning_as_text"] == 2
    assert ("tools_as_text" in losses, "tool_schema" in losses) == (
        output == "forced",
        output != "forced",
    )
    config = (tmp_path / "export" / "config.yaml").read_text()
    assert f"ignore_eos: {'true' if output == 'forced' else 'false'}\n" in config


def test_inference_perf_caps_no_wait(sample: Dataset, tmp_path: Path) -> None:
    """The config lets the longest delay pass, and has a place for every request."""
    report = export(sample, "inference-perf", tmp_path / "export", LoadOptions(lengths="text"))
    config = (tmp_path / "export" / "config.yaml").read_text()
    settings = dict(line.strip(" -").split(": ") for line in config.splitlines() if ": " in line)
    delays = [one.delay_us for one in recorded.requests(sample).values() if one.waits]
    assert int(settings["max_wait_ms"]) == -(-max(delays) // 1000)
    assert int(settings["worker_max_concurrency"]) == report.counts["requests"]
    assert int(settings["num_sessions"]) == report.counts["trajectories"]


@pytest.mark.parametrize("block", [1, 13, 1 << 20])
@pytest.mark.parametrize("target", TARGETS)
def test_files_are_read_back(
    target: str, block: int, small: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`prompts` gives every request's texts in order, in whatever pieces a file is read, and `read`
    those of each part again."""
    monkeypatch.setattr(guidellm_graph, "_BLOCK", block)
    module, folder = exporter(target), tmp_path / "export"
    export(small, target, folder, LoadOptions(lengths="text", output="capped"))
    whole: dict[str, list[list[tuple[str, ...]]]] = {}
    for prompt in module.prompts(folder, 0):
        for part in prompt.parts:
            assert module.read(folder, part.place) == part.texts
        earlier = whole.setdefault(prompt.play, [])
        start = [] if prompt.after is None else earlier[prompt.after]
        earlier.append([*start, *(part.texts for part in prompt.parts)])
    for name, sent in READERS[target](folder):
        found = whole[f"{name} 0"]
        assert len(found) == len(sent)
        for texts, turn in zip(found, sorted(sent), strict=True):
            request = sent[turn]
            parts = [_texts(one) for one in request.messages]
            if request.tools:
                front = sum(one["role"] == "system" for one in request.messages[:1])
                parts.insert(front, (orjson.dumps(request.tools).decode(),))
            assert texts == parts, turn


def _texts(message: dict[str, Any]) -> tuple[str, ...]:
    """What is counted of a message."""
    texts = [message.get("content"), message.get("reasoning_content")]
    for call in message.get("tool_calls", ()):
        texts += [call["function"]["name"], call["function"]["arguments"]]
    return tuple(text for text in texts if text)


@pytest.mark.parametrize("target", TARGETS)
def test_commands_name_the_model(target: str, small: Dataset, tmp_path: Path) -> None:
    """A model that was asked for stands in the command, quoted for the shell."""
    plain = export(small, target, tmp_path / "plain")
    named = export(small, target, tmp_path / "named", LoadOptions(model="an 'odd' one"))
    assert '"$MODEL"' in plain.command
    assert """'an '"'"'odd'"'"' one'""" in named.command
