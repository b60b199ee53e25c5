"""Every check finds the fault that it is there for, and none finds one in a sound dataset."""

from __future__ import annotations

import copy
import hashlib
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rows
import test_split_checks as of_splits
from traj import schema
from traj.dataset import MANIFEST, Dataset
from traj.validation import CHECKS, Finding, Report, validate
from traj.validation.cached_length import IdealCache, Message
from traj.validation.files import differences
from traj.validation.hashes import canonical_sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

ONE, TWO = rows.trajectory_id("one"), rows.trajectory_id("two")
Row = dict[str, Any]
Rows = dict[str, list[Row]]


def sound() -> Rows:
    """A sound dataset's rows, free to be changed."""
    return copy.deepcopy(_sound())


@cache
def _sound() -> Rows:
    """rows.small() with ideal cached lengths by the slowest and plainest reading of the schema."""
    tables = rows.small()
    prompts = {row["prompt_id"]: row for row in tables["prompts"]}
    for head in tables["trajectories"]:
        own = {
            name: [row for row in tables[name] if row["trajectory_id"] == head["trajectory_id"]]
            for name in ("turns", "messages")
        }
        lengths = plain_cached_lengths(own["turns"], own["messages"], prompts)
        for turn, length in zip(own["turns"], lengths, strict=True):
            turn["counted_cached_tokens"] = length
        head["totals"] = None
    return rows.complete(tables)


def plain_cached_lengths(
    turns: Sequence[Row], messages: Sequence[Row], prompts: dict[str, Row]
) -> list[int]:
    """Each prompt compared part by part with every earlier one: quadratic, and plainly right."""
    earlier: list[list[tuple[Any, ...]]] = []
    found = []
    for turn in turns:
        kept = turn["earlier_reasoning"] == "kept"
        fronts = [turn[name] for name in ("tools_id", "system_id") if turn[name]]
        parts = [(name, False, prompts[name]["tokens"]) for name in fronts]
        for span in turn["input"]:
            parts += [_part(one, kept) for one in messages[span["start"] : span["stop"]]]
        shared = [_common(parts, other) for other in earlier]
        found.append(max((sum(one[2] for one in front) for front in shared), default=0))
        answer = [] if turn["output"] is None else [_part(messages[turn["output"]], True)]
        earlier.append(parts + answer)
    return found


def _part(message: Row, kept: bool) -> tuple[str, bool, int]:
    stripped = not kept and message["reasoning_tokens"] > 0
    length = message["tokens"] - (message["reasoning_tokens"] if stripped else 0)
    return message["sha256"], stripped, length


def _common(one: list[Any], other: list[Any]) -> list[Any]:
    length = 0
    while length < min(len(one), len(other)) and one[length] == other[length]:
        length += 1
    return one[:length]


# Planting faults in rows


def put(table: str, session: str, number: int | None, **values: Any) -> Callable[[Rows], None]:
    """Overrides columns of one row; a dict overrides fields of a struct."""

    def plant(tables: Rows) -> None:
        row = find(tables, table, session, number)
        for name, value in values.items():
            inner = isinstance(value, dict) and isinstance(row[name], dict)
            row[name] = row[name] | value if inner else value

    return plant


def find(tables: Rows, table: str, session: str, number: int | None) -> Row:
    key = {"turns": "turn", "messages": "message", "tool_calls": "call"}.get(table)
    mine = [r for r in tables[table] if r["trajectory_id"] == rows.trajectory_id(session)]
    return next(row for row in mine if key is None or row[key] == number)


def drop(table: str, session: str, number: int | None) -> Callable[[Rows], None]:
    return lambda tables: tables[table].remove(find(tables, table, session, number))


def double(table: str, session: str, number: int | None) -> Callable[[Rows], None]:
    return lambda tables: tables[table].append(dict(find(tables, table, session, number)))


def prompt(which: str, /, **values: Any) -> Callable[[Rows], None]:
    def plant(tables: Rows) -> None:
        next(row for row in tables["prompts"] if row["kind"] == which).update(values)

    return plant


def span(start: int, stop: int) -> dict[str, int]:
    return {"start": start, "stop": stop}


def swap_calls(tables: Rows) -> None:
    """The two calls of one answer change their numbers."""
    first, second = (find(tables, "tool_calls", "one", number) for number in (1, 2))
    first["call"], second["call"] = 2, 1


def answered_twice(apart_us: int | None, **other: Any) -> Callable[[Rows], None]:
    """A turn of each session with the same answer, whose ends lie apart or are not known."""

    def plant(tables: Rows) -> None:
        first, second = find(tables, "turns", "one", 2), find(tables, "turns", "two", 4)
        first["response_id"], first["end_us"] = "answer", 0
        second.update({name: first[name] for name in ("response_id", *LOGGED)}, end_us=apart_us)
        heads = (find(tables, "trajectories", session, None) for session in ("one", "two"))
        for head in heads:
            head["started_at"] = datetime(2026, 1, 1, tzinfo=UTC)
        second.update(other)

    return plant


def call_field(session: str, number: int, **values: Any) -> Callable[[Rows], None]:
    def plant(tables: Rows) -> None:
        find(tables, "messages", session, number)["tool_calls"][0].update(values)

    return plant


# Planting faults in files


def manifest(change: Callable[[dict[str, Any]], None]) -> Callable[[Path], None]:
    def plant(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_bytes())
        change(data)
        (folder / MANIFEST).write_text(json.dumps(data))

    return plant


def first_file(**values: Any) -> Callable[[Path], None]:
    return manifest(lambda data: data["files"][0].update(values))


def rewrite(table: str, change: Callable[[pa.Table], list[pa.Table]]) -> Callable[[Path], None]:
    """Writes a table's file anew, a row group a table that `change` gives, and corrects the
    manifest."""

    def plant(folder: Path) -> None:
        data = json.loads((folder / MANIFEST).read_bytes())
        entry = next(file for file in data["files"] if file["table"] == table)
        path = folder / entry["path"]
        groups = change(pq.read_table(path, partitioning=None))
        with pq.ParquetWriter(path, groups[0].schema) as writer:
            for group in groups:
                writer.write_table(group)
        written = path.read_bytes()
        entry["bytes"] = len(written)
        entry["sha256"] = hashlib.sha256(written).hexdigest()
        entry["rows"] = sum(group.num_rows for group in groups)
        (folder / MANIFEST).write_text(json.dumps(data))

    return plant


def loose(table: str, change: Callable[[list[Row]], object]) -> Callable[[Path], None]:
    """Changes rows in ways that the schema forbids: everything in the file is nullable."""

    def changed(whole: pa.Table) -> list[pa.Table]:
        found = whole.to_pylist()
        change(found)
        return [pa.Table.from_pylist(found, schema=pa.schema(map(nullable, whole.schema)))]

    return rewrite(table, changed)


def nullable(column: pa.Field) -> pa.Field:
    return pa.field(column.name, _nullable_type(column.type), True)


def _nullable_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_list(kind):
        return pa.list_(nullable(kind.value_field))
    if pa.types.is_struct(kind):
        return pa.struct([nullable(one) for one in kind])
    return kind


def retyped(whole: pa.Table) -> list[pa.Table]:
    at = whole.schema.get_field_index("turn")
    return [whole.set_column(at, "turn", whole["turn"].cast(pa.int64()))]


def by_trajectory(whole: pa.Table) -> list[pa.Table]:
    ids = whole["trajectory_id"].to_pylist()
    return [
        whole.filter(pa.array([one == trajectory for one in ids]))
        for trajectory in sorted(set(ids))
    ]


def cut_up(whole: pa.Table) -> list[pa.Table]:
    return [whole.slice(at, 3) for at in range(0, whole.num_rows, 3)]


def turned_round(whole: pa.Table) -> list[pa.Table]:
    return [one.take(list(range(one.num_rows))[::-1]) for one in by_trajectory(whole)]


def set_in(number: int, name: str, value: Any) -> Callable[[list[Row]], None]:
    def change(found: list[Row]) -> None:
        found[number][name] = value

    return change


def null_argument(found: list[Row]) -> None:
    next(row for row in found if row["tool_calls"])["tool_calls"][0]["arguments"] = None


def write_garbage(folder: Path) -> None:
    path = next((folder / "data" / "turns").iterdir())
    path.write_bytes(b"PAR1 and no more")


@dataclass(frozen=True)
class Plant:
    """One fault, and the check that is to find it."""

    check: str
    name: str
    rows: Callable[[Rows], None] | None = None
    files: Callable[[Path], None] | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    severity: str = "error"


USED = {"usage_source": "reported", "input_tokens": 9, "output_tokens": 9}
LOGGED = tuple(one.name for one in schema.table("turns").column("logged_usage").fields)
WHOLE = dict.fromkeys(LOGGED, 0)
LATE = {"start_us": 70_000, "clock": "derived", "delay_us": 0}
TOOL = {"start_us": 5, "end_us": 9, "clock": "logged"}
SPLITS = {"unsplit": {"turns": 99}}

PLANTED = (
    Plant("files_present", "missing", files=first_file(path="data/none.parquet")),
    Plant("files_present", "outside", files=first_file(path="../none.parquet")),
    Plant(
        "files_present",
        "twice",
        files=manifest(lambda data: data["files"].append(data["files"][0])),
    ),
    Plant("file_bytes", "longer", files=first_file(bytes=1)),
    Plant("file_sha256", "other bytes", files=first_file(sha256="0" * 64)),
    Plant("file_rows", "more", files=first_file(rows=99)),
    Plant("file_schema", "type", files=rewrite("turns", retyped)),
    Plant("file_schema", "missing", files=rewrite("turns", lambda t: [t.drop_columns("clock")])),
    Plant(
        "file_schema", "more", files=rewrite("turns", lambda t: [t.append_column("x", t["turn"])])
    ),
    Plant("file_schema", "nullable", files=loose("turns", list.copy)),
    Plant("file_schema", "not Parquet", files=write_garbage),
    Plant(
        "file_schema", "order", files=rewrite("turns", lambda t: [t.select(t.column_names[::-1])])
    ),
    Plant("file_schema", "unknown table", files=first_file(table="thoughts")),
    Plant(
        "stray_files",
        "left over",
        files=lambda folder: (folder / "data" / "old.parquet").write_bytes(b"") and None,
        severity="finding",
    ),
    Plant("manifest_splits", "plain", manifest={"splits": SPLITS}),
    Plant("manifest_splits", "apart", manifest={"splits": {"unsplit": {"rows": {"turns": 1}}}}),
    Plant("nulls", "column", files=loose("turns", set_in(3, "api", None))),
    Plant("nulls", "field", files=loose("messages", null_argument)),
    Plant("nulls", "item", files=loose("turns", set_in(3, "wait_for", [None]))),
    Plant("enums", "column", put("turns", "one", 2, status="fine")),
    Plant("enums", "field", put("trajectories", "one", None, source={"recorder": "wire"})),
    Plant("minima", "column", put("turns", "one", 2, attempt=-1)),
    Plant(
        "minima",
        "field in a list in a struct",
        put(
            "trajectories",
            "one",
            None,
            source={"files": [{"name": "a", "sha256": "0", "bytes": -1}]},
        ),
    ),
    Plant("keys_unique", "turn", double("turns", "one", 4)),
    Plant("keys_unique", "trajectory", double("trajectories", "one", None)),
    Plant("keys_unique", "prompt", lambda tables: tables["prompts"].append(tables["prompts"][0])),
    Plant("references", "trajectory", drop("trajectories", "two", None)),
    Plant("references", "prompt", prompt("system", prompt_id="0" * 64)),
    Plant("references", "turn in a list", put("turns", "one", 10, wait_for=[9, 77])),
    Plant("references", "turn of a call", put("tool_calls", "one", 5, turn=77)),
    Plant("references", "message", put("turns", "one", 10, output=77)),
    Plant("schema_versions", "turn", put("turns", "one", 4, schema_version="0.9")),
    Plant("schema_versions", "prompt", prompt("tools", schema_version="0.9")),
    Plant(
        "trajectories_sorted", "swapped", files=rewrite("turns", lambda t: by_trajectory(t)[::-1])
    ),
    Plant("trajectories_whole", "cut up", files=rewrite("messages", cut_up)),
    Plant("rows_sorted", "turned round", files=rewrite("messages", turned_round)),
    Plant("dense_numbers", "turn", put("turns", "one", 10, turn=11)),
    Plant("dense_numbers", "message", drop("messages", "one", 20)),
    Plant("dense_numbers", "call", put("tool_calls", "one", 5, call=7)),
    Plant("dense_numbers", "context", put("turns", "two", 6, context=2)),
    Plant("dense_lanes", "gap", put("turns", "one", 8, lane=5)),
    Plant("turns_by_start", "earlier", put("turns", "one", 4, start_us=410_000)),
    Plant("messages_by_lane", "swapped", put("messages", "one", 3, lane=2)),
    Plant("lane_facts", "kind", put("turns", "one", 5, lane_kind="side")),
    Plant("lane_facts", "name", put("turns", "one", 5, lane_name="Plan")),
    Plant("lane_facts", "main", put("turns", "one", 8, lane_kind="main")),
    Plant("context_order", "back", put("turns", "one", 10, context=0)),
    Plant("context_reasons", "missing", put("turns", "one", 9, context_reason=None)),
    Plant("context_reasons", "more", put("turns", "one", 10, context_reason="clear")),
    Plant("context_reasons", "start", put("turns", "one", 9, context_reason="start")),
    Plant("context_reasons", "not start", put("turns", "one", 0, context_reason="clear")),
    Plant("models_listed", "missing", put("trajectories", "one", None, models=[])),
    Plant("models_listed", "more", put("trajectories", "one", None, models=["a", "test-model"])),
    Plant("models_listed", "twice", put("trajectories", "one", None, models=["test-model"] * 2)),
    Plant("lists_sorted", "languages", put("trajectories", "one", None, languages=["b", "a"])),
    Plant(
        "lists_sorted",
        "losses",
        put("trajectories", "one", None, losses=[{"kind": one, "count": 1} for one in "ba"]),
    ),
    Plant("lists_sorted", "language", put("trajectories", "one", None, language="go")),
    Plant("labels_known_by", "unsaid", put("trajectories", "one", None, use_case="bug_fix")),
    Plant("labels_known_by", "of nothing", put("trajectories", "one", None, license_source="user")),
    Plant("labels_known_by", "result", put("trajectories", "one", None, outcome="resolved")),
    Plant("trajectory_ids", "other", put("trajectories", "one", None, source={"session_id": "x"})),
    Plant("tokenizers", "name", put("trajectories", "one", None, tokenizer={"name": "other"})),
    Plant("redactions", "unscrubbed", put("trajectories", "one", None, redactions=1)),
    Plant("redactions", "scrubbed", manifest={"scrubbed": "1"}),
    Plant(
        "split_named",
        "elsewhere",
        files=loose("trajectories", set_in(0, "split", "public")),
    ),
    Plant("source_files_known", "turn", put("turns", "one", 4, source_file=1)),
    Plant("source_files_known", "message", put("messages", "one", 4, source_file=9)),
    Plant("input_bounds", "empty", put("turns", "one", 4, input=[span(16, 16)])),
    Plant("input_bounds", "backwards", put("turns", "one", 4, input=[span(17, 16)])),
    Plant("input_bounds", "beyond", put("turns", "one", 4, input=[span(16, 23)])),
    Plant("input_ranges", "touching", put("turns", "one", 2, input=[span(0, 1), span(1, 3)])),
    Plant("input_ranges", "overlap", put("turns", "one", 2, input=[span(0, 3), span(2, 3)])),
    Plant("input_ranges", "inside", put("turns", "one", 8, input=[span(4, 5), span(0, 8)])),
    Plant(
        "context_extends", "shorter", put("turns", "one", 7, input=[span(0, 5)]), severity="finding"
    ),
    Plant(
        "context_extends",
        "a hole",
        put("turns", "one", 7, input=[span(0, 3), span(4, 6)]),
        severity="finding",
    ),
    Plant("outputs", "role", put("turns", "one", 10, output=10, input=[span(8, 10)])),
    Plant("outputs", "twice", put("turns", "one", 10, output=9)),
    Plant("outputs", "own input", put("turns", "one", 10, input=[span(8, 12)])),
    Plant("status_and_output", "silent", put("turns", "one", 10, output=None)),
    Plant("status_and_output", "answered", put("turns", "one", 10, status="error")),
    Plant("status_and_output", "erring", put("turns", "one", 10, error="overloaded")),
    Plant("prompt_kinds", "swapped", prompt("tools", kind="system")),
    Plant("wait_for_earlier", "itself", put("turns", "one", 2, wait_for=[2])),
    Plant("wait_for_earlier", "later", put("turns", "one", 2, wait_for=[3])),
    Plant("wait_for_earlier", "order", put("turns", "one", 6, wait_for=[4, 2, 5])),
    Plant("wait_for_earlier", "twice", put("turns", "one", 6, wait_for=[2, 2, 4])),
    Plant("times_ordered", "end", put("turns", "one", 10, end_us=5)),
    Plant("times_ordered", "token", put("turns", "one", 10, first_token_us=5)),
    Plant("times_ordered", "token late", put("turns", "one", 10, first_token_us=9_000_000)),
    Plant("times_ordered", "tool", put("tool_calls", "one", 0, **TOOL | {"end_us": 1})),
    Plant("clock_none", "times", put("turns", "one", 10, clock="none")),
    Plant("clock_none", "no times", put("tool_calls", "one", 0, clock="logged")),
    Plant("starts_after_wait_for", "early", put("turns", "two", 1, **LATE | {"clock": "logged"})),
    Plant("starts_after_wait_for", "derived", put("turns", "two", 1, **LATE), severity="finding"),
    Plant("delays", "longer", put("turns", "one", 10, delay_us=1)),
    Plant("delays", "of the first", put("turns", "one", 1, delay_us=0)),
    Plant("delays", "null", put("turns", "one", 10, delay_us=None)),
    Plant("delay_parts", "longer", put("turns", "one", 2, user_us=1)),
    Plant("delay_parts", "of null", put("turns", "one", 2, delay_us=None)),
    Plant("permission_within_span", "longer", put("tool_calls", "one", 0, **TOOL, permission_us=5)),
    Plant("duration_covers", "short", put("trajectories", "one", None, duration_us=5)),
    Plant("duration_covers", "null", put("trajectories", "one", None, duration_us=None)),
    Plant("duration_covers", "message", put("messages", "one", 3, time_us=9_000_000_000)),
    Plant("message_fields", "reasoning", put("messages", "one", 0, reasoning_tokens=1)),
    Plant("message_fields", "answering", put("messages", "one", 0, name="read")),
    Plant("message_fields", "asking", put("messages", "one", 1, role="user")),
    Plant("calls_requested", "id", put("tool_calls", "one", 0, tool_call_id="zz")),
    Plant("calls_requested", "name", put("tool_calls", "one", 0, name="write")),
    Plant("calls_requested", "turn", put("tool_calls", "one", 0, turn=1)),
    Plant("requests_recorded", "dropped", drop("tool_calls", "one", 5)),
    Plant("calls_in_order", "place", swap_calls),
    Plant("calls_in_order", "turn", put("tool_calls", "one", 4, turn=10)),
    Plant("call_lanes", "other", put("tool_calls", "one", 3, lane=0)),
    Plant("results_matched", "unknown", put("messages", "one", 2, tool_call_id="zz")),
    Plant("results_matched", "none", put("messages", "one", 2, tool_call_id=None)),
    Plant("results_matched", "later", put("messages", "one", 2, tool_call_id="a3")),
    Plant("spawned_lanes", "none", put("tool_calls", "one", 2, spawned_lane=9)),
    Plant("cached_within_input", "more", put("turns", "one", 10, cached_tokens=10**6)),
    Plant(
        "cached_within_input",
        "together",
        put("turns", "two", 4, **USED, cached_tokens=5, cache_write_tokens=5),
    ),
    Plant(
        "cached_within_input",
        "partial",
        put("turns", "two", 4, **USED | {"usage_source": "partial"}, cached_tokens=10),
        severity="finding",
    ),
    Plant("reasoning_within_output", "more", put("turns", "one", 10, reasoning_tokens=10**6)),
    Plant("usage_none", "figures", put("turns", "one", 10, usage_source="none")),
    Plant("usage_none", "no figures", put("turns", "two", 4, usage_source="partial")),
    Plant(
        "counted_cached_within_input", "more", put("turns", "two", 4, counted_cached_tokens=10**6)
    ),
    *(
        Plant("totals", name, put("trajectories", "one", None, totals={name: 1_000_000}))
        for name in (one.name for one in schema.table("trajectories").column("totals").fields)
    ),
    Plant("totals", "0 for null", put("trajectories", "two", None, totals={"cached_tokens": 0})),
    *(
        Plant(
            "logged_usage_agrees",
            name,
            put("turns", "one", 10, logged_usage=dict.fromkeys(LOGGED) | {name: 10**6}, **WHOLE),
            severity="finding",
        )
        for name in LOGGED
    ),
    Plant(
        "all_on_the_wire",
        "lost",
        put("trajectories", "one", None, losses=[{"kind": "not_on_the_wire", "count": 2}]),
        severity="finding",
    ),
    *(
        Plant("answers_counted_once", name, answered_twice(end_us), severity="finding")
        for name, end_us in (("another record", 1_000), ("no clock", None))
    ),
    Plant("message_hashes", "other", put("messages", "one", 5, sha256="0" * 64)),
    Plant("message_hashes", "changed text", call_field("one", 3, arguments="{ }")),
    Plant("content_hashes", "other", put("trajectories", "one", None, content_sha256="0" * 64)),
    Plant("prompt_ids", "changed text", prompt("system", content="Be brief.")),
    Plant("message_tokens", "tokens", put("messages", "one", 5, tokens=1)),
    Plant("message_tokens", "reasoning", put("messages", "one", 1, reasoning_tokens=1)),
    Plant("prompt_tokens", "tokens", prompt("system", tokens=1)),
    Plant("argument_tokens", "other", put("tool_calls", "one", 3, argument_tokens=99)),
    Plant("argument_tokens", "null", put("tool_calls", "one", 3, argument_tokens=None)),
    Plant("results", "tokens", put("tool_calls", "one", 3, result_tokens=1)),
    Plant("results", "bytes", put("tool_calls", "one", 3, result_bytes=1)),
    Plant("results", "null", put("tool_calls", "one", 3, result_tokens=None, result_bytes=None)),
    Plant("counted_input", "other", put("turns", "one", 2, counted_input_tokens=1)),
    Plant("counted_input", "null", put("turns", "one", 2, counted_input_tokens=None)),
    Plant("counted_input", "reasoning", put("turns", "one", 2, earlier_reasoning="kept")),
    Plant("counted_output", "other", put("turns", "one", 2, counted_output_tokens=1)),
    Plant("counted_output", "of a failed turn", put("turns", "one", 6, counted_output_tokens=1)),
    Plant("unseen_input", "other", put("turns", "one", 9, unseen_input_tokens=1)),
    Plant("unseen_input", "not the first", put("turns", "one", 10, unseen_input_tokens=150)),
    Plant("cached_lengths", "less", put("turns", "one", 7, counted_cached_tokens=0)),
    Plant("cached_lengths", "null", put("turns", "one", 7, counted_cached_tokens=None)),
)


def planted(folder: Path, plant: Plant) -> Report:
    tables = sound()
    if plant.rows is not None:
        plant.rows(tables)
    rows.write(folder, tables, **plant.manifest)
    if plant.files is not None:
        plant.files(folder)
    return validate(Dataset.open(folder))


def of(report: Report, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


@pytest.mark.parametrize(
    "change", [answered_twice(2_000_000), answered_twice(0, input_tokens=1)], ids=["end", "size"]
)
def test_same_id_alone_is_no_second_record(change: Callable[[Rows], None], tmp_path: Path) -> None:
    """Ids that models number from one meet in many sessions: end or input is another there."""
    assert not of(planted(tmp_path, Plant("", "", change)), "answers_counted_once")


@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: f"{plant.check}: {plant.name}")
def test_planted_fault_is_found(plant: Plant, tmp_path: Path) -> None:
    """A planted fault is found by the check that is there for it, with its severity and place."""
    found = of(planted(tmp_path, plant), plant.check)
    assert found
    assert {finding.severity for finding in found} == {plant.severity}
    assert all(finding.where and finding.message and finding.count > 0 for finding in found)


def test_every_check_has_a_planted_fault() -> None:
    """No check is without a fault that shows that it finds something."""
    planted = {plant.check for plant in (*PLANTED, *of_splits.PLANTED)}
    assert planted == {check.name for check in CHECKS}


def test_every_check_says_what_it_proves() -> None:
    """Names are unique, and each check has one sentence that says what it proves."""
    assert len({check.name for check in CHECKS}) == len(CHECKS)
    assert all(check.proves.endswith((".", ").")) for check in CHECKS)


def test_sound_dataset_has_no_findings(tmp_path: Path) -> None:
    """In a sound dataset every check passes, but for what it does not have."""
    report = validate(Dataset.open(rows.write(tmp_path, sound())))
    assert report.findings == ()
    assert report.ok
    lacking = {"manifest_splits", *(check.name for check in of_splits.CHECKS)}
    assert {one.name for one in report.checks if one.status != "passed"} == lacking
    assert report.rows == {name: len(found) for name, found in sound().items()}


def test_split_dataset_is_checked_whole(tmp_path: Path) -> None:
    """Both splits are checked, and equal faults in them are one finding with their number."""
    tables = sound()
    for head, split in zip(tables["trajectories"], ("public", "private"), strict=True):
        head["split"] = split
    assert validate(Dataset.open(rows.write(tmp_path / "sound", tables))).ok
    for session in ("one", "two"):
        put("turns", session, 2, attempt=-1)(tables)
    report = validate(Dataset.open(rows.write(tmp_path / "broken", tables)))
    (finding,) = of(report, "minima")
    assert finding.count == 2
    assert finding.where in {f"trajectory {one} turn 2" for one in (ONE, TWO)}


def test_trajectory_in_two_splits_is_found(tmp_path: Path) -> None:
    """One trajectory that lies in two splits is not whole."""
    tables = sound()
    copies = copy.deepcopy(tables)
    for one, split in ((tables, "private"), (copies, "public")):
        for head in one["trajectories"]:
            head["split"] = split
    rows.write(tmp_path, tables)
    first = json.loads((tmp_path / MANIFEST).read_bytes())
    rows.write(tmp_path, copies)
    second = json.loads((tmp_path / MANIFEST).read_bytes())
    second["files"] += [file for file in first["files"] if file["table"] != "prompts"]
    (tmp_path / MANIFEST).write_text(json.dumps(second))
    found = of(validate(Dataset.open(tmp_path)), "trajectories_whole")
    assert {finding.table for finding in found} >= {"trajectories", "turns", "messages"}


def test_finding_says_where(tmp_path: Path) -> None:
    """A finding names the first row that has the fault, and its values."""
    report = planted(tmp_path, Plant("", "", put("turns", "one", 2, counted_input_tokens=1)))
    finding = next(one for one in of(report, "counted_input"))
    assert finding.where == f"trajectory {ONE} turn 2"
    assert "counted_input_tokens = 1" in finding.message
    assert not report.ok


def test_findings_alone_leave_a_report_ok(tmp_path: Path) -> None:
    """Severity `finding` is told, but is no error."""
    stray = next(plant for plant in PLANTED if plant.check == "stray_files")
    report = planted(tmp_path, stray)
    assert [finding.check for finding in report.findings] == ["stray_files"]
    assert report.ok


@pytest.mark.parametrize(
    ("kind", "plant"),
    [
        ("unmatched_tool_result", put("messages", "one", 2, tool_call_id="zz")),
        ("subagent_without_turns", put("tool_calls", "one", 2, spawned_lane=9)),
        ("subagent_without_turns", put("turns", "one", 8, lane=5)),
        ("answer_not_recorded", put("turns", "one", 10, output=None)),
    ],
)
def test_listed_loss_excuses(kind: str, plant: Callable[[Rows], None], tmp_path: Path) -> None:
    """What the trajectory lists as lost is not missed."""
    tables = sound()
    plant(tables)
    put("trajectories", "one", None, losses=[{"kind": kind, "count": 1}])(tables)
    report = validate(Dataset.open(rows.write(tmp_path, tables)))
    assert not [
        finding
        for finding in report.findings
        if finding.check in ("results_matched", "spawned_lanes", "dense_lanes", "status_and_output")
    ]


@pytest.mark.parametrize("wanted", [{"name": "no_such_base"}, {"sha256": "0" * 64}])
def test_missing_tokenizer_is_told(wanted: dict[str, str], tmp_path: Path) -> None:
    """Without the dataset's own tokenizer recounting is reported as not run, never as passed."""
    tables = sound()
    for head in tables["trajectories"]:
        head["tokenizer"] = rows.TOKENIZER | wanted
    rows.write(tmp_path, tables, tokenizer=rows.TOKENIZER | wanted)
    report = validate(Dataset.open(tmp_path))
    left_out = {one.name: one.reason for one in report.checks if one.status == "not_run"}
    assert set(left_out) == {"message_tokens", "prompt_tokens", "argument_tokens", "results"}
    assert all("tokenizer" in (reason or "") for reason in left_out.values())
    assert report.findings == ()
    assert not report.ok


def test_dataset_without_text(tmp_path: Path) -> None:
    """A dataset released without text is sound; what speaks of text does not apply to it."""
    rows.write(tmp_path, sound())
    data = json.loads((tmp_path / MANIFEST).read_bytes())
    for file in data["files"]:
        if file["table"] in ("messages", "prompts"):
            (tmp_path / file["path"]).unlink()
    data["files"] = [one for one in data["files"] if one["table"] not in ("messages", "prompts")]
    (tmp_path / MANIFEST).write_text(json.dumps(data))
    report = validate(Dataset.open(tmp_path))
    assert report.findings == ()
    assert report.ok
    applicable = {one.name for one in report.checks if one.status == "passed"}
    assert {"totals", "delays", "wait_for_earlier"} <= applicable
    assert not {"counted_input", "cached_lengths", "message_tokens"} & applicable


def test_unreadable_file_stops_only_what_needs_it(tmp_path: Path) -> None:
    """A damaged file is a finding; checks of other tables still run, those of its own do not."""
    rows.write(tmp_path, sound())
    write_garbage(tmp_path)
    status = {one.name: one.status for one in validate(Dataset.open(tmp_path)).checks}
    assert status["file_schema"] == status["file_sha256"] == "failed"
    assert status["totals"] == status["wait_for_earlier"] == "not_run"
    assert status["message_hashes"] == status["labels_known_by"] == "passed"


def test_report_is_json(tmp_path: Path) -> None:
    """A report goes to JSON and back."""
    report = planted(tmp_path, PLANTED[0])
    data = json.loads(json.dumps(report.to_dict()))
    assert data["ok"] is False
    assert data["findings"][0]["check"] == "files_present"
    assert len(data["checks"]) == len(CHECKS)


def test_progress_reaches_its_end(tmp_path: Path) -> None:
    """Progress is told from nothing done to everything done."""
    told: list[tuple[int, int]] = []
    dataset = Dataset.open(rows.write(tmp_path, sound()))
    validate(dataset, progress=lambda done, steps: told.append((done, steps)))
    assert told[0][0] == 0
    assert told[-1][0] == told[-1][1]
    assert told == sorted(told)


def test_older_minor_version_may_lack_nullable_columns() -> None:
    """A file of an older minor version may lack nullable columns, one of this version may not."""
    whole = schema.arrow("turns")
    less = whole.remove(whole.get_field_index("sampling"))
    much_less = whole.remove(whole.get_field_index("turn"))
    assert list(differences(less, whole, "1.2", known="1.3")) == []
    assert list(differences(less, whole, "1.3", known="1.3")) == ["column sampling is missing"]
    assert list(differences(much_less, whole, "1.2", known="1.3")) == ["column turn is missing"]


def test_newer_minor_version_may_have_more_nullable_columns() -> None:
    """A file of a newer minor version may have more nullable columns, but no others."""
    whole = schema.arrow("turns")
    more = whole.append(pa.field("mood", pa.string()))
    strict = whole.append(pa.field("mood", pa.string(), nullable=False))
    assert list(differences(more, whole, "1.9")) == []
    assert len(list(differences(strict, whole, "1.9"))) == 1
    assert len(list(differences(more, whole, schema.VERSION))) == 1


def test_canonical_form_demands_no_escapes() -> None:
    """The canonical form is UTF-8 with only the escapes that JSON demands, and without nulls."""
    row = rows.message("one", 0, "user", 'ü \u2028 \x7f / "quoted"\n\t\x01 😀')
    names = ("role", "content", "reasoning", "tool_calls", "tool_call_id", "name", "attachments")
    assert canonical_sha256({name: row[name] for name in names}) == row["sha256"]


# An ideal cache, against the plain reading of its definition


@st.composite
def sessions(draw: st.DrawFn) -> tuple[list[Row], list[Row]]:
    """Messages of few distinct texts, and turns over any of them."""
    messages = [
        {"sha256": text, "tokens": 5 + ord(text), "reasoning_tokens": reasoning}
        for text, reasoning in draw(
            st.lists(st.sampled_from([("a", 0), ("b", 2), ("c", 0)]), min_size=1, max_size=8)
        )
    ]
    return messages, list(draw(st.lists(turns(len(messages)), max_size=12)))


@st.composite
def turns(draw: st.DrawFn, messages: int) -> Row:
    cuts = st.lists(st.integers(0, messages), unique=True, max_size=4).map(sorted)
    edges = draw(cuts)
    pairs = zip(edges[::2], edges[1::2], strict=False)
    return {
        "lane": draw(st.integers(0, 1)),
        "tools_id": draw(st.sampled_from([None, "T"])),
        "system_id": draw(st.sampled_from([None, "S", "Z"])),
        "earlier_reasoning": draw(st.sampled_from(["kept", "dropped"])),
        "input": draw(st.permutations([span(*pair) for pair in pairs])),
        "output": draw(st.none() | st.integers(0, messages - 1)),
    }


@given(sessions())
@settings(max_examples=300, deadline=None)
def test_ideal_cache_is_the_plain_one(session: tuple[list[Row], list[Row]]) -> None:
    """The linear ideal cache gives what comparing all prompts with each other gives."""
    messages, asked = session
    prompts = {"T": {"tokens": 100}, "S": {"tokens": 50}, "Z": {"tokens": 60}}
    cache = IdealCache(
        [Message(**one) for one in messages], {name: one["tokens"] for name, one in prompts.items()}
    )
    found = [
        cache.send(
            (one["lane"], one["tools_id"], one["system_id"], one["earlier_reasoning"] == "kept"),
            one["input"],
            one["output"],
        )
        for one in asked
    ]
    assert found == plain_cached_lengths(asked, messages, prompts)


# Anything at all in a cell


def cells() -> Iterator[tuple[str, str]]:
    for name in schema.TABLES:
        for column in schema.table(name).columns:
            yield name, column.name


def wild(kind: pa.DataType) -> st.SearchStrategy[Any]:
    """Any value of a type, nulls at every depth included."""
    if pa.types.is_list(kind):
        return st.none() | st.lists(wild(kind.value_type), max_size=3)
    if pa.types.is_struct(kind):
        return st.none() | st.fixed_dictionaries({one.name: wild(one.type) for one in kind})
    if pa.types.is_integer(kind):
        top = 2 ** (kind.bit_width - 1)
        return st.none() | st.integers(-3, 30) | st.integers(-top, top - 1)
    if pa.types.is_string(kind):
        return st.none() | st.text(max_size=5)
    return st.none()


@given(data=st.data())
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_nothing_in_a_cell_upsets_the_checks(data: st.DataObject, tmp_path: Path) -> None:
    """Whatever stands in a cell, validation ends with a report."""
    table, column = data.draw(st.sampled_from(list(cells())))
    kind = schema.arrow(table).field(column).type
    value, number = data.draw(wild(kind)), data.draw(st.integers(0, 1))
    rows.write(tmp_path, sound())
    loose(table, set_in(number, column, value))(tmp_path)
    report = validate(Dataset.open(tmp_path))
    assert of(report, "file_schema")
