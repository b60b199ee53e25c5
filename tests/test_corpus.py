"""Real sessions: totals against an independent count, file by file, and requests word for word.

Needs ../shared beside the project; skipped with a reason where it is absent.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import traj
from traj.dataset import Dataset
from traj.exporters import TARGETS, export, exporter
from traj.pipeline import record
from traj.workload.options import LoadOptions
from traj.workload.sampling import choose

FIGURES = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens")
SHARED = Path(__file__).resolve().parents[2] / "shared"
CLAUDE = sorted((SHARED / "corpus" / "claude_code").rglob("*.jsonl"))
CODEX = sorted((SHARED / "corpus" / "codex_rollout").rglob("*.jsonl"))
CODEX += sorted((SHARED / "captures" / "codex" / "session").rglob("*.jsonl"))


def objects(path: Path) -> list[dict]:
    found = []
    for line in path.read_bytes().split(b"\n"):
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            found.append(value)
    return found


def claude_totals(path: Path) -> tuple[int, list[int]]:
    """Calls and sums of the raw usage fields, once a message id."""
    calls: dict[str, dict] = {}
    for row in objects(path):
        message = row.get("message") or {}
        if row.get("type") != "assistant" or message.get("model") == "<synthetic>":
            continue
        if row.get("isApiErrorMessage"):
            continue
        key = message.get("id") or row.get("requestId") or row.get("uuid")
        usage = calls.setdefault(key, {})
        for name, value in (message.get("usage") or {}).items():
            if isinstance(value, int):
                usage[name] = max(value, usage.get(name, 0))
    names = ("input_tokens", "cache_read_input_tokens", "cache_creation_input_tokens")
    sums = [sum(call.get(name, 0) for call in calls.values()) for name in names]
    output = sum(call.get("output_tokens", 0) for call in calls.values())
    return len(calls), [sum(sums), sums[1], sums[2], output]


def codex_totals(path: Path) -> list[int]:
    """Sums of the usage records by response id, or of the last usages whose totals changed."""
    records, counts, before = {}, [], None
    for row in objects(path):
        payload = row.get("payload") or {}
        if row.get("type") == "token_usage_record":
            records[payload["response_id"]] = payload["usage"]
        info = payload.get("info") if payload.get("type") == "token_count" else None
        if info and "last_token_usage" in info and info["total_token_usage"] != before:
            before = info["total_token_usage"]
            counts.append(info["last_token_usage"])
    found = list(records.values()) or counts
    names = ("input_tokens", "cached_input_tokens", "cache_write_input_tokens", "output_tokens")
    return [sum(usage.get(name, 0) for usage in found) for name in names]


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CLAUDE, ids=lambda path: path.name[-20:])
def test_claude_code_totals_equal_an_independent_count(path, tmp_path):
    """Calls and provider's figures of each corpus file, recorded alone, are those of its lines."""
    totals, losses = recorded(path, tmp_path)
    calls, expected = claude_totals(path)
    assert totals["answered"] == calls
    assert [totals[name] or 0 for name in FIGURES] == expected
    assert totals["sound"], losses


@pytest.mark.usefixtures("shared")
@pytest.mark.parametrize("path", CODEX, ids=lambda path: path.name[-20:])
def test_codex_totals_equal_an_independent_count(path, tmp_path):
    """The provider's figures of each rollout, recorded alone, are those of its lines."""
    totals, losses = recorded(path, tmp_path)
    mashed = "stage0/agents/codex/small" in str(path)  # many files' lines, ids trimmed to one
    if not mashed:
        assert [totals[name] or 0 for name in FIGURES] == codex_totals(path)
    assert totals["sound"], losses


def recorded(path: Path, folder: Path) -> tuple[dict, dict]:
    report = record([path], folder / "x.traj")
    assert not report.problems
    dataset = traj.load(folder / "x.traj")
    (row,) = dataset.table("trajectories").to_pylist()
    outputs = dataset.table("turns", ["output"]).column(0)
    checked = traj.validate(dataset)
    errors = [f for f in checked.findings if f.severity == "error"]
    totals = {**row["totals"], "sound": checked.ok}
    totals["answered"] = len(outputs) - outputs.null_count
    return totals, {"losses": report.losses, "errors": errors}


def test_the_whole_corpus_records_and_is_sound(shared, tmp_path):
    """All files at once: nothing fails, every figure and invariant holds, and it is small."""
    places = [shared / "corpus" / "claude_code", shared / "corpus" / "codex_rollout"]
    report = record([*places, shared / "captures" / "codex"], tmp_path / "x.traj")
    assert not report.problems
    checked = traj.validate(traj.load(tmp_path / "x.traj"))
    assert checked.ok, checked.findings
    assert report.dataset_bytes < 0.12 * report.source_bytes


def test_codex_requests_are_rebuilt_word_for_word(shared, tmp_path):
    """Each captured request body equals what the dataset holds of that turn, item by item.

    But for the first, the instructions: Codex logs them whole, and leaves out the sections on tools
    that it does not offer when it sends them.
    """
    capture = shared / "captures" / "codex"
    record([capture / "session"], tmp_path / "x.traj")
    dataset = traj.load(tmp_path / "x.traj")
    bodies = [json.loads(path.read_text()) for path in sorted((capture / "api").glob("0*.json"))]
    matched = set()
    for rows in dataset.trajectories():
        messages = rows.messages.to_pylist()
        for turn in rows.turns.to_pylist():
            sent = [m for r in turn["input"] for m in messages[r["start"] : r["stop"]]]
            mine = [text for message in sent for text in texts(message)]
            for body in bodies:
                first, *rest = body["req_body"]["input"]
                assert first["role"] == "developer"
                if [wire_text(item) for item in rest] == mine:
                    matched.add(body["seq"])
    assert len(matched) == len(bodies)


def texts(message: dict) -> list[str]:
    if message["role"] != "assistant":
        return [message["content"]]
    parts = [message["reasoning"], message["content"]]
    found = [part for part in parts if part is not None]
    return found + [call["arguments"] for call in message["tool_calls"] or ()]


def wire_text(item: dict) -> str:
    if "arguments" in item:
        return item["arguments"]
    if "output" in item:
        return item["output"]
    return "\n".join(part["text"] for part in item.get("summary") or item["content"])


@pytest.fixture(scope="module")
def corpus(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """All sessions of both agents as one dataset."""
    out = tmp_path_factory.mktemp("corpus") / "corpus.traj"
    record([shared / "corpus" / name for name in ("claude_code", "codex_rollout")], out)
    return traj.load(out)


@pytest.mark.parametrize("target", [one for one in TARGETS if hasattr(exporter(one), "prompts")])
def test_real_sessions_leave_nothing_in_the_cache(corpus, target, tmp_path):
    """Two phases of real sessions share no block, in any target; within a play prompts
    go on from each other as the record's do."""
    quadratic = target in ("agentperf-local", "aiperf-baseten", "guidellm-graph", "inference-perf")
    options = LoadOptions(
        prefix="aa", phases=2, tool_time="baseline", sample=12 if quadratic else None
    )
    found = export(corpus, target, tmp_path / "out", options)
    cache = found.cache
    for block, hits in cache.hit_tokens.items():
        assert hits["across_phases"] == hits["across_trajectories"] == 0
        assert cache.rate(block, "within") > 0.9
    assert cache.longest_tokens["across_phases"] < 8
    assert found.counts["requests"] == 542 or quadratic


@pytest.mark.parametrize("target", TARGETS)
def test_real_sessions_are_exported_whole(corpus, target, tmp_path):
    """Every answered turn of a few real sessions is in each target's count."""
    options = LoadOptions(sample=8)
    counts = export(corpus, target, tmp_path / "out", options).counts
    chosen = choose(corpus, 8, "0")
    answered = 0
    for rows in corpus.trajectories(("turns",), columns={"turns": ("output",)}):
        if rows.trajectory_id in chosen:
            answered += len(rows.turns) - rows.turns.column("output").null_count
    assert counts["requests"] >= answered or target == "openai-jsonl"


def test_all_that_is_shared_is_recorded_sound_or_refused_for_a_reason(shared, tmp_path):
    """Every session file of the corpus and of the captures is part of a session; what is left is
    no session, and each is told so."""
    folders = [shared / "corpus", shared / "captures"]
    report = record(folders, tmp_path / "all.traj")
    assert not report.problems
    assert traj.validate(traj.load(tmp_path / "all.traj")).ok
    left = [
        (path, reason)
        for path, reason in report.passed_over
        if "/api/" not in path  # what the agents' requests were, not their logs
        and not reason.startswith("the same session as")
    ]
    companions = ("state.json", "session_index.jsonl", "usage_record.jsonl", "token-usage-2026-11")
    fixtures = ("llm-message.json", "test-traces.json", ".aider.chat.history.md")
    assert [one for one in left if not any(name in one[0] for name in companions + fixtures)] == []
