"""Exports as files: whole or not at all, the same each time, and true to the dataset's rows."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import rows
from traj.dataset import Dataset
from traj.errors import DatasetError, UsageError
from traj.exporters import TARGETS, describe, export, exporter
from traj.exporters.tally import summary
from traj.exporters.weka import BLOCK
from traj.workload import chat
from traj.workload.blocks import Blocks
from traj.workload.options import PREFIX_POLICIES, LoadOptions
from traj.workload.turns import added

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

TEXT = LoadOptions(lengths="text")
ARCHIVES = ("atif", "hub-traces", "openai-jsonl", "otel")
SENT = [target for target in TARGETS if hasattr(exporter(target), "prompts")]
LOCAL_IDS = ("weka", "aiperf-mooncake")
LIVE = ("aiperf-mooncake",)  # prompts hold the engine's own answers

Many = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    return Dataset.open(rows.write(tmp_path / "dataset", rows.small()))


def contents(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def dag_lines(folder: Path) -> dict[str, dict[str, Any]]:
    lines = (folder / "dag.jsonl").read_bytes().splitlines()
    return {line["session_id"]: line for line in map(json.loads, lines)}


def test_unknown_target_is_refused_before_anything_is_written(
    small: Dataset, tmp_path: Path
) -> None:
    """The error lists what there is, and the folder is not made."""
    with pytest.raises(UsageError, match=", ".join(sorted(TARGETS))):
        export(small, "mooncake", tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("target", TARGETS)
def test_same_dataset_gives_the_same_bytes(small: Dataset, tmp_path: Path, target: str) -> None:
    """Twice the same dataset and options give byte-identical folders, export.json included."""
    for name in ("one", "two"):
        export(small, target, tmp_path / name)
    assert contents(tmp_path / "one") == contents(tmp_path / "two")


@pytest.mark.parametrize("target", TARGETS)
def test_report_names_every_file(small: Dataset, tmp_path: Path, target: str) -> None:
    """export.json holds name, length and hash of all other files, and what export() returned."""
    report = export(small, target, tmp_path / "out")
    files = contents(tmp_path / "out")
    written = json.loads(files.pop("export.json"))
    assert {file["name"] for file in written["files"]} == set(files)
    for file in written["files"]:
        data = files[file["name"]]
        assert (file["bytes"], file["sha256"]) == (len(data), hashlib.sha256(data).hexdigest())
    assert json.loads(report.to_json()) == written
    assert written["counts"]["trajectories"] == 2
    kinds = [loss["kind"] for loss in written["losses"]]
    assert kinds == sorted(kinds)
    if target in SENT:
        assert written["counts"]["requests"] == 17
        assert "failed_turn" in kinds
    assert bool(written["command"]) == (target in SENT)
    assert (written["cache"] is not None) == (target in SENT)


@pytest.mark.parametrize("target", SENT)
@pytest.mark.parametrize("policy", ["aa", "context", "none"])
def test_no_cache_outlives_its_phase(
    sample: Dataset, tmp_path: Path, target: str, policy: str
) -> None:
    """With a prefix before everything, what was written for a phase shares no block with earlier
    phases or other trajectories; without, it shares what it shared (but where a format's ids hold
    for their own trace alone). Within a trajectory prompts go on from each other all the same."""
    options = LoadOptions(prefix=policy, phases=2, sample=4, tool_time="none")
    found = export(sample, target, tmp_path / "out", options).cache
    assert found is not None
    local = target in LOCAL_IDS
    for block, hits in found.hit_tokens.items():
        assert (hits["across_phases"] > 0) == (policy == "none" and not local), block
        if policy != "none":
            assert hits["across_trajectories"] == 0
        assert hits["within"] > 0 or block > 64 or target in LIVE


@pytest.mark.parametrize("policy", PREFIX_POLICIES)
def test_what_a_policy_shares(sample: Dataset, tmp_path: Path, policy: str) -> None:
    """Across phases: nothing, or the front under shared-system. Across trajectories of a phase:
    the front under shared-system and mlperf."""
    options = LoadOptions(prefix=policy, phases=2)
    found = export(sample, "aiperf-dag", tmp_path / "out", options).cache
    assert found is not None
    hits = found.hit_tokens[16]
    assert (hits["across_phases"] > 0) == (policy in ("none", "shared-system"))
    assert (hits["across_trajectories"] > 0) == (policy in ("none", "shared-system", "mlperf"))


def test_broken_dataset_leaves_nothing_behind(small: Dataset, tmp_path: Path) -> None:
    """An export that fails half-way leaves neither its folder nor a temporary one."""
    path = small.path / small.files("messages")[0].path
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DatasetError):
        export(small, "weka", tmp_path / "out")
    assert [one.name for one in tmp_path.iterdir()] == ["dataset"]


def test_only_an_export_is_overwritten(small: Dataset, tmp_path: Path) -> None:
    """A folder with something else in it is refused always, an earlier export unless asked for."""
    out = tmp_path / "out"
    out.mkdir()
    export(small, "weka", out)
    with pytest.raises(UsageError, match="earlier export"):
        export(small, "aiperf-dag", out)
    export(small, "aiperf-dag", out, overwrite=True)
    assert set(contents(out)) == {"dag.jsonl", "sessions.jsonl", "export.json"}
    (out / "export.json").unlink()
    with pytest.raises(UsageError, match="not an export"):
        export(small, "aiperf-dag", out, overwrite=True)


@pytest.mark.parametrize("target", TARGETS)
def test_dataset_without_text_is_sent_as_lengths(tmp_path: Path, target: str) -> None:
    """Where there are no messages, those that hold a load get generated ones, and the others but
    an archive of tables refuse in one line."""
    folder = rows.write(tmp_path / "dataset", rows.small())
    manifest = json.loads((folder / "dataset.json").read_text())
    manifest["files"] = [file for file in manifest["files"] if file["table"] != "messages"]
    (folder / "dataset.json").write_text(json.dumps(manifest))
    if target in ARCHIVES:
        with pytest.raises(UsageError, match=f"without text: {target} holds"):
            export(Dataset.open(folder), target, tmp_path / "out")
        return
    report = export(Dataset.open(folder), target, tmp_path / "out")
    lost = {one["kind"]: one["count"] for one in report.losses}
    assert lost.get("generated") == (None if target == "parquet" else report.counts["requests"])


def test_options_choose_split_and_model(tmp_path: Path) -> None:
    """Only the split's trajectories are written, under the model that was asked for."""
    tables = rows.small()
    for row, split in zip(tables["trajectories"], ("public", "private"), strict=True):
        row["split"] = split
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    report = export(
        dataset, "weka", tmp_path / "out", LoadOptions(model="my model", split="public")
    )
    (trace,) = (tmp_path / "out" / "traces").iterdir()
    assert trace.stem == rows.trajectory_id("one")
    assert json.loads(trace.read_text())["models"] == ["my model"]
    assert "--model 'my model'" in report.command


def test_targets_describe_themselves() -> None:
    """Every target says what it carries and gives a reason for each kind of loss."""
    for target in describe():
        assert target["target"] in TARGETS
        assert target["summary"]
        assert target["carries"]
        assert all(target["drops"].values())


def test_failed_attempts_become_time(small: Dataset, tmp_path: Path) -> None:
    """The retry waits for what the failed attempt waited for, as long as both took."""
    export(small, "weka", tmp_path / "out")
    trace = tmp_path / "out" / "traces" / f"{rows.trajectory_id('one')}.json"
    requests = json.loads(trace.read_text())["requests"]
    (retry,) = (request for request in requests if request["t"] == 1.15)
    assert retry["think_time"] == 0.45  # 1.15 s - 0.7 s, when the second sub-agent ended


def test_late_system_messages_and_kept_reasoning(tmp_path: Path) -> None:
    """A system message behind others goes as the user's and is counted; reasoning goes along only
    where it was kept."""
    tables = rows.small()
    for number in (0, 6):
        row = tables["messages"][22 + number]
        again = rows.message("two", number, "system", row["content"])
        row.update(role="system", attachments=None, sha256=again["sha256"])
    dataset = Dataset.open(rows.write(tmp_path / "dataset", tables))
    report = export(dataset, "aiperf-dag", tmp_path / "out", TEXT)
    lines = dag_lines(tmp_path / "out")
    turns = lines[f"{rows.trajectory_id('two')}.p0"]["turns"]
    assert turns[0]["messages"][0]["role"] == "system"
    assert turns[3]["messages"][1]["role"] == "user"
    assert turns[1]["messages"][0]["reasoning_content"] == "Ask."
    assert "reasoning_content" not in (tmp_path / "out" / "dag.jsonl").read_text().split("Fix ")[1]
    assert {"kind": "system_role", "count": 1} in [
        {key: loss[key] for key in ("kind", "count")} for loss in report.losses
    ]


@pytest.mark.parametrize(
    "definition",
    [
        {"name": "a", "description": "A.", "input_schema": {"type": "object"}},
        {"type": "custom", "name": "a", "description": "A.", "input_schema": {"type": "object"}},
        {"type": "function", "name": "a", "description": "A.", "parameters": {"type": "object"}},
        {
            "type": "function",
            "function": {"name": "a", "description": "A.", "parameters": {"type": "object"}},
        },
    ],
)
def test_tools_of_every_api_become_chat_tools(definition: dict[str, Any]) -> None:
    """Anthropic, Responses and chat definitions come out the same."""
    function = {"name": "a", "description": "A.", "parameters": {"type": "object"}}
    assert chat.tools(json.dumps([definition])) == ([{"type": "function", "function": function}], 0)


@pytest.mark.parametrize(
    "text",
    ['[{"type": "web_search"}]', '[{"type": "custom", "name": "patch", "format": {}}]', "no", "{}"],
)
def test_tools_that_are_no_functions_are_counted(text: str) -> None:
    """What has no chat form is left out and counted, and breaks nothing."""
    assert chat.tools(text) == ([], 1)


@Many
@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=50))
def test_percentiles_are_interpolated(values: list[int]) -> None:
    """The summary's percentiles are those of polars' linear interpolation."""
    import polars as pl

    found = summary(values)
    for percent in (5, 25, 50, 75, 95, 99):
        expected = pl.Series(values).quantile(percent / 100, "linear")
        assert found[f"p{percent}"] == pytest.approx(expected)


def test_dag_grows_with_the_session(tmp_path: Path) -> None:
    """Twice the turns are twice the bytes: an undisturbed context is written once."""
    sizes = []
    for turns in (100, 200):
        tables = long_session(turns)
        dataset = Dataset.open(rows.write(tmp_path / str(turns), tables))
        report = export(dataset, "aiperf-dag", tmp_path / f"out-{turns}", TEXT)
        assert report.counts["sessions"] == 1
        sizes.append(sum(file["bytes"] for file in report.files))
    assert sizes[1] < 2.1 * sizes[0]


def long_session(turns: int) -> rows.Tables:
    tables: rows.Tables = {name: [] for name in ("trajectories", "turns", "messages")}
    tables |= {"tool_calls": [], "prompts": []}
    tables["trajectories"].append(rows.trajectory("long"))
    for turn in range(turns):
        tables["messages"].append(rows.message("long", 2 * turn, "user", rows.words(20, str(turn))))
        tables["messages"].append(rows.message("long", 2 * turn + 1, "assistant", "yes"))
        start = 1000 * turn
        over = {"input": [{"start": 0, "stop": 2 * turn + 1}], "output": 2 * turn + 1}
        waits = [turn - 1] if turn else []
        tables["turns"].append(rows.turn("long", turn, start, start + 500, wait_for=waits, **over))
    return rows.complete(tables)


# --- any graph of turns -----------------------------------------------------------------------


@dataclass(frozen=True)
class Shape:
    """A session's turns: lane, what they wait for, failed or not, new context or not, and for how
    long they are put off and take (ms)."""

    lanes: tuple[int, ...]
    waits: tuple[tuple[int, ...], ...]
    failed: tuple[bool, ...]
    fresh: tuple[bool, ...]
    delays: tuple[int, ...]
    took: tuple[int, ...]


@st.composite
def shapes(draw: st.DrawFn) -> Shape:
    """Up to five lanes whose turns wait for the one before in their lane, and any earlier ones."""
    count = draw(st.integers(1, 12))
    lanes: list[int] = []
    waits: list[tuple[int, ...]] = []
    for turn in range(count):
        lanes.append(draw(st.integers(0, min(4, max(lanes, default=-1) + 1))))
        before = [one for one in range(turn) if lanes[one] == lanes[turn]][-1:]
        others = draw(st.sets(st.integers(0, turn - 1), max_size=2)) if turn else set()
        waits.append(tuple(sorted({*before, *others})))

    def each(values: st.SearchStrategy[int]) -> tuple[int, ...]:
        return tuple(draw(values) for _ in range(count))

    return Shape(
        tuple(lanes),
        tuple(waits),
        tuple(rare == 9 for rare in each(st.integers(0, 9))),
        tuple(rare == 5 for rare in each(st.integers(0, 5))),
        each(st.integers(0, 50)),
        each(st.integers(1, 200)),
    )


def session(shape: Shape) -> rows.Tables:
    messages: list[rows.Row] = []
    inputs: dict[int, list[dict[str, int]]] = {}
    outputs: dict[int, int | None] = {}
    for lane in sorted(set(shape.lanes)):  # messages are numbered lane by lane
        first = len(messages)
        for turn in (one for one, of in enumerate(shape.lanes) if of == lane):
            if shape.fresh[turn]:
                first = len(messages)
            text = f"lane {lane} turn {turn} " + rows.words(7 * turn, str(turn))
            messages.append(rows.message("any", len(messages), "user", text, lane=lane))
            inputs[turn] = [{"start": first, "stop": len(messages)}]
            outputs[turn] = None if shape.failed[turn] else len(messages)
            if not shape.failed[turn]:
                messages.append(rows.message("any", len(messages), "assistant", "ok", lane=lane))
    turns: list[rows.Row] = []
    contexts: dict[int, int] = {}
    start = 0
    for turn, lane in enumerate(shape.lanes):
        ends = [turns[wait]["end_us"] // 1000 for wait in shape.waits[turn]]
        start = max([start, *ends]) + shape.delays[turn]
        contexts[lane] = contexts.get(lane, -1) + (shape.fresh[turn] or lane not in contexts)
        over: dict[str, Any] = {"lane": lane, "context": contexts[lane], "output": outputs[turn]}
        over |= {"lane_kind": "subagent" if lane else "main", "input": inputs[turn]}
        over |= {"status": "error" if shape.failed[turn] else "ok"}
        over["wait_for"] = list(shape.waits[turn])
        times = (start * 1000, (start + shape.took[turn]) * 1000)
        turns.append(rows.turn("any", turn, *times, **over))
    tables = {"trajectories": [rows.trajectory("any")], "turns": turns, "messages": messages}
    return rows.complete({**tables, "tool_calls": [], "prompts": []})


class Player:
    """Plays dag.jsonl as aiperf 0.13 does, in its own time: how long requests take is given."""

    def __init__(self, folder: Path, took_ms: Callable[[int], float]) -> None:
        self.lines = dag_lines(folder)
        self.took_ms = took_ms
        sessions = (folder / "sessions.jsonl").read_text().splitlines()
        self.turns = {line["session_id"]: line["turns"] for line in map(json.loads, sessions)}
        self.started: dict[int, float] = {}
        self.ended: dict[int, float] = {}
        self.sent: dict[int, list[dict[str, Any]]] = {}
        spawned = {name for line in self.lines.values() for name in _spawned(line)}
        (root,) = self.lines.keys() - spawned or {None}
        self.end = 0.0 if root is None else self.play(root, 0.0)

    def play(self, name: str, now: float) -> float:
        """Plays a session from `now`, and gives the time at which its last turn ends."""
        line = self.lines[name]
        for round_ in line.get("rounds", ()):
            now += round_["think_time_ms"]
            now = max(self.play(child, now) for child in round_["spawns"])
        sent: list[dict[str, Any]] = []
        gates: dict[int, float] = {}
        for index, turn in enumerate(line.get("turns", ())):
            number = self.turns[name][index]
            if gates.get(index, 0.0) > now:
                now = gates[index]
            else:
                now += turn.get("delay", 0.0)
            sent = [*sent, *turn["messages"]]
            self.sent[number] = sent
            self.started[number] = now
            now += self.took_ms(number)
            self.ended[number] = now
            for group in turn.get("spawns", ()):
                assert index < group["join_at"] < len(line["turns"])
                ends = [self.play(child, now) for child in group["children"]]
                gates[group["join_at"]] = max([gates.get(group["join_at"], 0.0), *ends])
        return now


def _spawned(line: dict[str, Any]) -> list[str]:
    groups = [one for turn in line.get("turns", ()) for one in turn.get("spawns", ())]
    names = [one for group in groups for one in group["children"]]
    return names + [one for round_ in line.get("rounds", ()) for one in round_["spawns"]]


def lost(report: Any, kind: str) -> int:
    return sum(loss["count"] for loss in report.losses if loss["kind"] == kind)


@Many
@given(shape=shapes(), pace=st.sampled_from([0.1, 1.0, 7.0]))
def test_dag_of_any_session(
    shape: Shape, pace: float, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Whatever waits for whatever: each answered turn is sent once, with its messages, and not
    before what it waits for has ended, however fast the engine is; waits that get lost are
    counted. Nothing outlives the trajectory's root: aiperf forgets such turns and hangs."""
    folder = tmp_path_factory.mktemp("any")
    tables = session(shape)
    dataset = Dataset.open(rows.write(folder / "dataset", tables))
    report = export(dataset, "aiperf-dag", folder / "out", TEXT)
    turns, texts = tables["turns"], [row["content"] for row in tables["messages"]]
    took = [(turn["end_us"] - turn["start_us"]) / 1000 for turn in turns]
    player = Player(folder / "out", lambda turn: took[turn] * (pace if turn % 2 else 1))
    answered = [turn["turn"] for turn in turns if turn["output"] is not None]
    assert sorted(player.sent) == answered
    assert player.end == pytest.approx(max(player.ended.values(), default=0.0))
    waits: list[set[int]] = []
    broken = 0
    for number, turn in enumerate(turns):
        found = [{one} if one in player.sent else waits[one] for one in turn["wait_for"]]
        waits.append(set().union(*found))
        if number not in player.sent:
            continue
        (span,) = turn["input"]
        sent = [message["content"] for message in player.sent[number]]
        assert sent == texts[span["start"] : span["stop"]]
        broken += any(player.ended[one] > player.started[number] + 1e-6 for one in waits[number])
    assert not broken or lost(report, "wait")


@Many
@given(shape=shapes())
def test_dag_at_the_recorded_pace(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """With the recorded durations, where no wait was lost or added or moved, and no turn failed,
    every request is sent when it was, counted from the first."""
    folder = tmp_path_factory.mktemp("pace")
    tables = session(shape)
    dataset = Dataset.open(rows.write(folder / "dataset", tables))
    report = export(dataset, "aiperf-dag", folder / "out", TEXT)
    moved = ("wait", "wait_added", "wait_longer", "failed_turn", "join_delay")
    assume(not any(lost(report, kind) for kind in moved))
    turns = tables["turns"]
    took = [(turn["end_us"] - turn["start_us"]) / 1000 for turn in turns]
    player = Player(folder / "out", lambda turn: took[turn])
    origin = turns[0]["start_us"] / 1000 - player.started[0]
    expected: list[float] = []
    for turn in turns:  # a turn is sent its delay after the last thing it waited for
        waits = [expected[wait] + took[wait] for wait in turn["wait_for"]]
        alone = turn["start_us"] / 1000 - origin
        expected.append(max(waits) + turn["delay_us"] / 1000 if waits else alone)
    assert [player.started[turn] for turn in range(len(turns))] == pytest.approx(expected)


@Many
@given(shape=shapes())
def test_weka_of_any_session(shape: Shape, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever waits for whatever: the trace keeps the format's rules (whole blocks, inner requests
    not before their run, runs not past who joined them) and has every answered turn."""
    folder = tmp_path_factory.mktemp("any")
    tables = session(shape)
    dataset = Dataset.open(rows.write(folder / "dataset", tables))
    report = export(dataset, "weka", folder / "out")
    found = 0
    for path in (folder / "out" / "traces").iterdir():
        trace = json.loads(path.read_text())
        names = [one["agent_id"] for one in trace["requests"] if one["type"] == "subagent"]
        assert len(set(names)) == len(names)
        for entry in trace["requests"]:
            inner = entry.get("requests", [entry])
            found += len(inner)
            for request in inner:
                assert request["type"] == "n"
                assert len(request["hash_ids"]) == request["in"] // BLOCK
                assert request["t"] >= entry["t"]
                assert request["out"] >= 1
            for before, after in pairwise(inner):
                assert after["t"] >= before["t"] + before["api_time"] - 1e-6
            front = entry.get("system_tokens", 0) + entry.get("tool_tokens", 0)
            assert front <= BLOCK * len(inner[0]["hash_ids"])
    assert found == report.counts["requests"]


def test_weka_counts_runs_that_outlive_the_main_lane(tmp_path: Path) -> None:
    """A nested run with requests after lane 0's last is a listed loss: aiperf may hang on it."""
    shape = Shape(
        lanes=(0, 1, 0, 1),
        waits=((), (0,), (0,), (1,)),
        failed=(False,) * 4,
        fresh=(False,) * 4,
        delays=(0, 0, 0, 50),
        took=(10,) * 4,
    )
    dataset = Dataset.open(rows.write(tmp_path / "dataset", session(shape)))
    assert lost(export(dataset, "weka", tmp_path / "out"), "outlives") == 1


# --- blocks -----------------------------------------------------------------------------------


@Many
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from([1, 40, 64, 200]))),
        min_size=1,
        max_size=6,
    )
)
def test_blocks_are_shared_as_far_as_the_content_is(prompts: list[list[tuple[str, int]]]) -> None:
    """Two prompts whose common parts are N tokens long share the first floor(N / 64) ids and no
    other; checked against the tokens themselves."""
    blocks = Blocks(BLOCK)
    ids, tokens = [], []
    for prompt in prompts:
        parts = [(f"{name}{size}", size) for name, size in prompt]
        length = sum(size for _, size in parts)
        ids.append(blocks.extend(blocks.empty(), parts, length))
        tokens.append([(i, name, k) for i, (name, size) in enumerate(parts) for k in range(size)])
        assert len(ids[-1]) == length // BLOCK
    for one, one_tokens in zip(ids, tokens, strict=True):
        for other, other_tokens in zip(ids, tokens, strict=True):
            common = 0
            for mine, theirs in zip(one_tokens, other_tokens, strict=False):
                if mine[:2] != theirs[:2]:
                    break
                common += 1
            shared = len(set(one) & set(other))
            assert one[:shared] == other[:shared]
            assert shared == common // BLOCK


@Many
@given(
    st.lists(
        st.tuples(st.lists(st.integers(0, 150), max_size=3), st.integers(0, 900)),
        min_size=1,
        max_size=8,
    )
)
def test_blocks_of_a_growing_prompt(steps: list[tuple[list[int], int]]) -> None:
    """A context that is carried on has the ids of one that is laid out from its start; where the
    reported length only grows, no id of the earlier prompt is lost."""
    blocks, again = Blocks(BLOCK), None
    layout = blocks.empty()
    parts: list[tuple[str, int]] = []
    length, before = 0, []
    growing = True
    for number, (sizes, step) in enumerate(steps):
        more = [(f"{number} {i}", size) for i, size in enumerate(sizes)]
        growing = growing and bool(more) and step > 0
        length = length + step if growing else step
        parts += more
        ids = blocks.extend(layout, more, length)
        assert len(ids) == length // BLOCK
        again = blocks.extend(blocks.empty(), parts, length)
        if growing:
            assert ids[: len(before)] == before
            assert again == ids
        before = ids


@Many
@given(
    st.lists(st.tuples(st.integers(0, 20), st.integers(1, 5)), max_size=4),
    st.integers(0, 20),
)
def test_what_a_prompt_adds(spans: list[tuple[int, int]], cut: int) -> None:
    """The ranges that are added are what remains of the messages behind the earlier prompt's."""
    after: list[tuple[int, int]] = []
    at = 0
    for gap, size in spans:
        at += gap + 1
        after.append((at, at + size))
        at += size
    flat = [number for start, stop in after for number in range(start, stop)]
    cut = min(cut, len(flat))
    before: list[tuple[int, int]] = []
    for number in flat[:cut]:
        if before and before[-1][1] == number:
            before[-1] = (before[-1][0], number + 1)
        else:
            before.append((number, number + 1))
    rest = added(before, after)
    assert rest is not None
    assert [number for start, stop in rest for number in range(start, stop)] == flat[cut:]
    if cut < len(flat):
        assert added(after, before) is None
