"""Targets whose conversations are lists of messages: nothing is lost between rows and files.

Any session, with rewinds, compactions, sub-agents, failed turns and odd messages, comes out request
by request as it was; and what is read back for the cache simulation is what is sent.
"""

from __future__ import annotations

import json
import tempfile
from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import recorded
import rows
import test_mlperf_endpoints as mlperf
from traj import schema
from traj.dataset import Dataset
from traj.exporters import abench, agentperf_local, export, exporter, mlperf_endpoints
from traj.workload.options import LoadOptions

TEXT = LoadOptions(lengths="text")
TARGETS = ("abench", "agentperf-local", "mlperf-endpoints")
TOOL = '[{"name":"write","description":"Writes a file.","input_schema":{"type":"object"}}]'
Many = settings(max_examples=50, deadline=None)


@dataclass
class Sent:
    """A request as its file has it."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    output_tokens: int
    gap_us: float  # since the one before it in its conversation


def sent(target: str, folder: Path) -> dict[tuple[str, int], Sent]:
    """The requests of an export, by turn, as its harness would put them together."""
    notes = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    found = {"abench": _abench, "agentperf-local": _agentperf, "mlperf-endpoints": _mlperf}
    made = found[target](folder)
    assert made.keys() == notes.keys()
    keys = [key for turns in notes.values() for key in turns]
    assert len(keys) == len(set(keys))
    pairs = [pair for name in notes for pair in zip(notes[name], made[name], strict=True)]
    return dict(pairs)


def _abench(folder: Path) -> dict[str, list[Sent]]:
    found = {}
    for line in map(json.loads, (folder / abench.FILE).read_text().splitlines()):
        messages: list[dict[str, Any]] = []
        found[line["session_id"]] = requests = []
        assert line["source"]["model"] == abench.RATE_MODEL
        for turn in line["turns"]:
            messages = messages + turn["input_delta"]
            output = turn["output_tokens"]
            gap = turn["pre_gap_ms"] - 1000 * output / abench.RATE
            requests.append(Sent(messages, [], output, gap * 1000))
            messages = [*messages, {"role": "assistant", "content": turn["assistant_text"]}]
    return found


def _agentperf(folder: Path) -> dict[str, list[Sent]]:
    found = {}
    for task in json.loads((folder / agentperf_local.MANIFEST).read_text())["tasks"]:
        lines = (folder / task["trace"]).read_text().splitlines()
        found[task["task_id"]] = requests = []
        gap = 0.0
        for index, row in enumerate(map(json.loads, lines)):
            assert (row["conversation_idx"], row["task_id"]) == (index, task["task_id"])
            made = Sent(row["messages"], row["tools"], row["target_output_tokens"], gap * 1000)
            requests.append(made)
            gap = sum(call["duration_ms"] for call in row["recorded_tool_calls_after"])
            assert gap == row["simulated_tool_delay_ms_after"]
        assert len(requests) == task["model_calls"]
    return found


def _mlperf(folder: Path) -> dict[str, list[Sent]]:
    found: dict[str, list[Sent]] = {}
    for one in mlperf.requests(folder / mlperf_endpoints.FILE):
        made = Sent(one.messages, one.tools, one.cap, one.delay_s * 1e6)
        found.setdefault(one.conversation, []).append(made)
    return found


@st.composite
def sessions(draw: st.DrawFn) -> rows.Tables:
    """A session of two lanes; any of its prompts may go on, go back, begin anew, lack the answer,
    have other tools, or add messages of any kind."""
    tables: rows.Tables = {name: [] for name in schema.TABLES}
    tables["trajectories"].append(rows.trajectory("any"))
    system = rows.prompt("system", "Be brief. " + rows.words(9, "system"))
    tools = [rows.prompt("tools", text) for text in (rows.TOOLS, TOOL)]
    tables["prompts"] += [system, *tools]
    fronts = {"system_id": draw(st.sampled_from([None, system["prompt_id"]]))}
    histories: dict[int, list[int]] = {0: [], 1: []}
    contexts = {0: 0, 1: 0}
    last: dict[int, int] = {}
    clock = 0

    def say(role: str, lane: int) -> int:
        number = len(tables["messages"])
        text = draw(st.sampled_from(["", f"{role} {number}", f"{role} {number} " * 9]))
        over: dict[str, Any] = {"lane": lane}
        if role == "tool":
            over |= {"tool_call_id": draw(st.sampled_from(["", f"c{number}"])), "name": "read"}
        if role == "assistant":
            calls = draw(st.integers(0, 2))
            over["calls"] = [(f"c{number}" * call, "read", "{}") for call in range(calls)]
            over["reasoning"] = draw(st.sampled_from([None, f"thought {number}"]))
        tables["messages"].append(rows.message("any", number, role, text or None, **over))
        return number

    for number in range(draw(st.integers(1, 8))):
        lane = draw(st.sampled_from([0, 0, 1])) if number else 0
        history = histories[lane]
        step = draw(st.sampled_from(["on", "on", "on", "back", "anew"])) if lane in last else "on"
        if step != "on":
            contexts[lane] += 1
            kept = draw(st.integers(0, len(history))) if step == "back" else 0
            history = histories[lane] = history[:kept]
        roles = st.lists(st.sampled_from(["user", "tool", "system", "assistant"]), max_size=3)
        added = draw(roles)
        history += [say(role, lane) for role in (added or ["user"] * (not history))]
        clock += 1000 * draw(st.integers(0, 50))
        waits = [
            last[one] for one in (0, 1) if one in last and (one == lane or draw(st.booleans()))
        ]
        if lane and not waits:
            waits = [last[0]]
        answer = say("assistant", lane) if draw(st.integers(0, 7)) else None
        over = {"lane": lane, "lane_kind": "subagent" if lane else "main", "wait_for": waits}
        over |= {"input": ranges(history), "output": answer, "context": contexts[lane]}
        over |= {} if answer is not None else {"status": "error", "error": "overloaded"}
        if number == 0 or not draw(st.integers(0, 4)):
            fronts["tools_id"] = draw(st.sampled_from([None, *(one["prompt_id"] for one in tools)]))
        over |= fronts
        over["earlier_reasoning"] = draw(st.sampled_from(["kept", "dropped"]))
        took = 1000 * draw(st.integers(1, 40))
        tables["turns"].append(rows.turn("any", number, clock, clock + took, **over))
        clock += took
        last[lane] = number
        if answer is not None and draw(st.integers(0, 5)):
            histories[lane] = [*history, answer]
    return rows.complete(tables)


def ranges(numbers: list[int]) -> list[dict[str, int]]:
    """Message numbers as half-open ranges, as long as they go."""
    found: list[dict[str, int]] = []
    for number in numbers:
        if found and found[-1]["stop"] == number:
            found[-1]["stop"] += 1
        else:
            found.append({"start": number, "stop": number + 1})
    return found


def exported(tables: rows.Tables, target: str, folder: Path) -> tuple[Dataset, Path]:
    dataset = Dataset.open(rows.write(folder / "dataset", tables))
    export(dataset, target, folder / "out", TEXT)
    return dataset, folder / "out"


def texts(request: recorded.Request, target: str) -> str:
    """All that a request says, in the order in which the target says it."""
    messages = list(request.messages)
    if target == "abench" and request.tools:
        tools = json.dumps(request.tools, separators=(",", ":"), ensure_ascii=False)
        at = bool(messages) and messages[0]["role"] == "system"
        messages.insert(at, {"role": "system", "content": tools})
    return mlperf.joined(messages)


@pytest.mark.parametrize("target", TARGETS)
@Many
@given(tables=sessions())
def test_every_request_is_sent_as_it_was(target: str, tables: rows.Tables) -> None:
    """Every answered turn is sent once, with its whole text in its order, its length, and, where it
    waited for the one before it alone, exactly its delay."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset, folder = exported(tables, target, Path(scratch))
        expected, found = recorded.requests(dataset), sent(target, folder)
        notes = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    assert found.keys() == expected.keys()
    for key, request in expected.items():
        assert mlperf.joined(found[key].messages) == texts(request, target)
        assert found[key].output_tokens == request.output_tokens
        if target != "abench":
            assert found[key].tools == request.tools
    for turns in notes.values():
        for before, key in pairwise(turns):
            gap_us, request = found[key].gap_us, expected[key]
            if target == "agentperf-local" or request.waits == {before[1]}:
                assert abs(gap_us - request.delay_us) < 1e-3
            assert gap_us > -1e-3


@pytest.mark.parametrize("target", TARGETS)
@Many
@given(tables=sessions())
def test_what_is_read_back_is_what_is_sent(target: str, tables: rows.Tables) -> None:
    """The prompts for the cache simulation hold the texts of the files, request by request; any of
    their parts can be read again."""
    module: Any = exporter(target)
    with tempfile.TemporaryDirectory() as scratch:
        _, folder = exported(tables, target, Path(scratch))
        whole: list[list[str]] = []
        for prompt in module.prompts(folder, 0):
            parts = [text for part in prompt.parts for text in part.texts if text != " "]
            whole.append(parts if prompt.after is None else [*whole[prompt.after], *parts])
            for part in prompt.parts:
                assert not part.texts or tuple(module.read(folder, part.place)) == part.texts
        found = list(sent(target, folder).values())
    assert len(whole) == len(found)
    for parts, request in zip(whole, found, strict=True):
        assert Counter(parts) == Counter(_texts(request))


def _texts(request: Sent) -> list[str]:
    found = [json.dumps(request.tools, separators=(",", ":"))] if request.tools else []
    for message in request.messages:
        found += [message.get("content") or "", message.get("reasoning_content") or ""]
        for call in message.get("tool_calls") or ():
            found += [call["function"]["name"], call["function"]["arguments"]]
    return [text for text in found if text]


@pytest.mark.parametrize("target", TARGETS)
def test_prefixes_stand_in_front(target: str, tmp_path: Path) -> None:
    """Under `aa` the front of all of a trajectory's requests is one text, another one in the other
    phase; the rest of the prompts is the same in both."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    options = LoadOptions(lengths="text", prefix="aa", phases=2)
    report = export(dataset, target, tmp_path / "out", options)
    phases = [sent(target, tmp_path / "out" / phase["folder"]) for phase in report.phases]
    plain, plain_folder = TEXT, tmp_path / "plain"
    export(dataset, target, plain_folder, plain)
    fronts: dict[tuple[str, int], set[str]] = {}
    for key, bare in sent(target, plain_folder).items():
        for number, phase in enumerate(phases):
            text, end = mlperf.joined(phase[key].messages), mlperf.joined(bare.messages)
            assert phase[key].messages[0]["role"] == "system"
            assert text.endswith(end)
            front = text[: len(text) - len(end)].strip()
            fronts.setdefault((key[0], number), set()).add(front)
    assert len(fronts) == 4
    assert all(len(found) == 1 for found in fronts.values())
    assert len(set.union(*fronts.values())) == 4


@pytest.mark.parametrize("target", TARGETS)
def test_capped_answers_may_end_early(target: str, tmp_path: Path) -> None:
    """Where answers need not be as long as recorded, no command or file makes them so."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    report = export(dataset, target, tmp_path / "out", LoadOptions(output="capped"))
    said = {"abench": '"ignore_eos": false', "agentperf-local": "--output-token-policy recorded"}
    assert said.get(target, "") in report.command
    assert "output_cap" not in {loss["kind"] for loss in report.losses}
