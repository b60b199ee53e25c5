"""Targets whose harness puts the engine's own replies into the history: the rest stays as it was.

With the recorded answers in the replies' places, any session comes out request by request as it
was recorded; and what is read back for the cache simulation is what is in the files.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings

import recorded
import rows
import test_export_flat as flat
import test_mlperf_endpoints as mlperf
from traj.dataset import Dataset
from traj.exporters import export, exporter, sglang_agentic, vllm_multi_turn
from traj.workload.options import LoadOptions

if TYPE_CHECKING:
    from collections.abc import Iterator

TEXT = LoadOptions(lengths="text")
TARGETS = ("sglang-agentic", "vllm-multi-turn")
Many = settings(max_examples=50, deadline=None)


@dataclass
class Sent:
    """A request: what it adds to the reply before, or its whole prompt if there is none."""

    messages: list[dict[str, Any]]
    answer: str | None  # as the file has it


def sent(target: str, folder: Path) -> dict[str, list[Sent]]:
    """The requests of an export's files, by conversation."""
    names = list(recorded.sessions((folder / "sessions.jsonl").read_text().splitlines()))
    if target == "sglang-agentic":
        whole = json.loads((folder / sglang_agentic.FILE).read_text())
        assert whole.keys() == {"conversations", "metadata"}
        made = [
            [Sent(one["messages"], None) for one in rounds] for rounds in whole["conversations"]
        ]
        return dict(zip(names, made, strict=True))
    found = {}
    for conversation in json.loads((folder / vllm_multi_turn.FILE).read_text()):
        messages = conversation["messages"]
        pairs = zip(messages[::2], messages[1::2], strict=True)
        found[conversation["id"]] = [Sent([one], answer["content"]) for one, answer in pairs]
        assert [one["role"] for one in messages] == ["user", "assistant"] * (len(messages) // 2)
    assert list(found) == names
    return found


def turns(folder: Path) -> Iterator[tuple[str, int, tuple[str, int], tuple[str, int] | None]]:
    """Of each request: conversation, index there, turn, and the turn before in it."""
    notes = recorded.sessions((folder / "sessions.jsonl").read_text().splitlines())
    for name, keys in notes.items():
        for index, key in enumerate(keys):
            yield name, index, key, keys[index - 1] if index else None


def front(request: recorded.Request) -> str:
    """All that a first request says, its tools behind the first system message."""
    messages = list(request.messages)
    if request.tools:
        tools = json.dumps(request.tools, separators=(",", ":"), ensure_ascii=False)
        at = bool(messages) and messages[0]["role"] == "system"
        messages.insert(at, {"role": "system", "content": tools})
    return mlperf.joined(messages)


def tokenizer_folder(hub: Path, folder: Path) -> Path:
    """The hub's tokenizer with the model's config that newer transformers ask for."""
    import harness

    shutil.copytree(harness.snapshot(hub), folder)
    (folder / "config.json").write_text('{"model_type": "gpt2"}')
    return folder


@pytest.mark.parametrize("target", TARGETS)
@Many
@given(tables=flat.sessions())
def test_all_but_the_replies_is_sent_as_it_was(target: str, tables: rows.Tables) -> None:
    """Every answered turn is sent once. A conversation's first request says all that the recorded
    one said; every other one adds what the recorded one had behind the answer to the one before."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.open(rows.write(Path(scratch, "dataset"), tables))
        folder = Path(scratch, "out")
        report = export(dataset, target, folder, TEXT)
        expected, found = recorded.requests(dataset), sent(target, folder)
        keys = list(turns(folder))
    assert sorted(key for _, _, key, _ in keys) == sorted(expected)
    assert report.counts["requests"] == len(expected)
    assert report.counts["sessions"] == len(found)
    assert sum(map(len, found.values())) == len(expected)
    for name, index, key, before in keys:
        request, made = expected[key], found[name][index]
        assert {frozenset(one) for one in made.messages} == {frozenset({"role", "content"})}
        assert made.answer in (None, recorded.said(request.answer))
        if before is None:
            assert mlperf.joined(made.messages) == front(request)
            continue
        earlier = expected[before]
        count = len(earlier.messages)
        assert request.messages[:count] == earlier.messages
        assert request.tools == earlier.tools
        answer, *rest = request.messages[count:]
        assert answer["role"] == "assistant"
        assert mlperf.joined(made.messages) == mlperf.joined(rest)
        assert all(one["role"] in ("user", "system") for one in made.messages)


@pytest.mark.parametrize("target", TARGETS)
@Many
@given(tables=flat.sessions())
def test_what_is_read_back_is_what_is_written(target: str, tables: rows.Tables) -> None:
    """The prompts for the cache simulation hold the texts of the files and something for each
    reply, request by request; any of their parts can be read again."""
    module: Any = exporter(target)
    with tempfile.TemporaryDirectory() as scratch:
        _, folder = flat.exported(tables, target, Path(scratch))
        whole: list[list[str]] = []
        for prompt in module.prompts(folder, 0):
            parts = [text for part in prompt.parts for text in part.texts]
            whole.append(parts if prompt.after is None else [*whole[prompt.after], *parts])
            for part in prompt.parts:
                assert tuple(module.read(folder, part.place)) == part.texts
        reply = ""
        if target == "sglang-agentic":
            metadata = json.loads((folder / sglang_agentic.FILE).read_text())["metadata"]
            reply = " the" * metadata["output_tokens"]
        expected = []
        for requests in sent(target, folder).values():
            said: list[str] = []
            for made in requests:
                said = [*said, *(one["content"] for one in made.messages if one["content"])]
                expected.append(said)
                said = [*said, *filter(None, [made.answer or reply])]
    assert whole == expected


@pytest.mark.parametrize("target", TARGETS)
def test_a_conversation_goes_on_as_long_as_it_can(target: str, tmp_path: Path) -> None:
    """In the hand-made dataset only what has another front, or begins with other messages, begins a
    conversation."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    report = export(dataset, target, tmp_path / "out", TEXT)
    expected = recorded.requests(dataset)
    last: dict[tuple[str, int], tuple[str, int]] = {}
    begun = 0
    for key in sorted(expected):
        request, lane = expected[key], (key[0], expected[key].lane)
        before = expected.get(last.get(lane, ("", 0)))
        last[lane] = key
        begun += before is None or not (
            request.tools == before.tools
            and request.messages[: len(before.messages)] == before.messages
            and [one["role"] == "assistant" for one in request.messages[len(before.messages) :]][:2]
            == [True, False]
        )
    assert report.counts["sessions"] == begun < len(expected)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("lengths", ["text", "recorded"])
def test_lengths_are_those_of_what_is_sent(
    target: str, lengths: str, sample: Dataset, tmp_path: Path
) -> None:
    """The reported prompt lengths are, within what messages lose and win by being joined, the
    tokens of the files with replies of the reported lengths."""
    report = export(sample, target, tmp_path / "out", LoadOptions(lengths=lengths))
    assert report.cache is not None
    reported = report.percentiles["input_tokens"]["mean"] * report.counts["requests"]
    assert reported == pytest.approx(report.cache.tokens, rel=0.01)


@pytest.mark.parametrize("target", TARGETS)
@Many
@given(tables=flat.sessions())
def test_replies_count_in_place_of_the_answers(target: str, tables: rows.Tables) -> None:
    """The reported prompts are in sum the counted ones, less what each repeated of its own earlier
    answers, with reasoning where it was kept, and with the replies' lengths for that."""
    with tempfile.TemporaryDirectory() as scratch:
        dataset = Dataset.open(rows.write(Path(scratch, "dataset"), tables))
        report = export(dataset, target, Path(scratch, "out"), TEXT)
        conversations = list(turns(Path(scratch, "out")))
        found = next(iter(dataset.trajectories(("turns", "messages"))))
        recorded_turns, messages = found.turns.to_pylist(), found.messages.to_pylist()
    if not conversations:
        return
    reply = round(report.percentiles["output_tokens"]["max"])
    total = replied = 0
    for _, _, (_, number), before in conversations:
        turn = recorded_turns[number]
        replied = replied if before else 0
        if before:
            earlier = recorded_turns[before[1]]
            answer = messages[_numbers(turn)[len(_numbers(earlier))]]
            kept = turn["earlier_reasoning"] == "kept"
            replied -= answer["tokens"] - (0 if kept else answer["reasoning_tokens"])
            said = max(1, messages[earlier["output"]]["tokens"])
            replied += reply if target == "sglang-agentic" else said
        total += max(1, turn["counted_input_tokens"] + replied)
    reported = report.percentiles["input_tokens"]["mean"] * len(conversations)
    assert abs(total - reported) < 0.01


def _numbers(turn: dict[str, Any]) -> list[int]:
    return [number for span in turn["input"] for number in range(span["start"], span["stop"])]


def test_one_length_is_for_all_replies(sample: Dataset, tmp_path: Path) -> None:
    """SGLang's one length leaves the recorded output in sum; those of other length are counted."""
    report = export(sample, "sglang-agentic", tmp_path / "out", TEXT)
    outputs = [request.output_tokens for request in recorded.requests(sample).values()]
    length = round(sum(outputs) / len(outputs))
    assert f" --sharegpt-output-len {length} " in report.command
    assert report.percentiles["output_tokens"] == dict.fromkeys(
        report.percentiles["output_tokens"], length
    )
    lost = {loss["kind"]: loss["count"] for loss in report.losses}
    assert lost["output_length"] == sum(output != length for output in outputs)


@pytest.mark.parametrize("target", TARGETS)
def test_what_the_formats_cannot_carry_is_counted(
    target: str, sample: Dataset, tmp_path: Path
) -> None:
    """Delays, waits, tools, tool results and replies are losses, as often as they occur."""
    report = export(sample, target, tmp_path / "out", TEXT)
    requests, lost = recorded.requests(sample), {}
    lost = {loss["kind"]: loss["count"] for loss in report.losses}
    keys = list(turns(tmp_path / "out"))
    assert lost["live_reply"] == sum(before is not None for *_, before in keys)
    assert lost["tools_as_text"] == sum(bool(request.tools) for request in requests.values())
    results = 0
    for _, _, key, before in keys:
        known = len(requests[before].messages) if before else 0
        results += sum(one["role"] == "tool" for one in requests[key].messages[known:])
    assert lost["tool_role"] == results
    outside = sum(
        any(wait != (before or ("", -1))[1] for wait in requests[key].waits)
        for _, _, key, before in keys
    )
    assert 0 < lost["wait"] <= outside
    assert lost["delay"] > 0
    if target == "vllm-multi-turn":
        assert lost["output_cap"] == len(requests)


@pytest.mark.parametrize("target", TARGETS)
def test_prompts_that_outgrow_the_context_are_counted(
    target: str, sample: Dataset, tmp_path: Path
) -> None:
    """Under a limit of context, requests that replies make longer than it are a loss."""
    for limit, plays in ((20_000, 1), (10**9, 1)):
        options = LoadOptions(lengths="text", max_context=limit, plays=plays)
        report = export(sample, target, tmp_path / str(limit), options)
        lost = {loss["kind"]: loss["count"] for loss in report.losses}
        longest = report.percentiles["input_tokens"]["max"]
        assert ("context" in lost) == (longest + report.percentiles["output_tokens"]["p5"] > limit)


@pytest.mark.parametrize("target", TARGETS)
def test_prefixes_stand_in_front(target: str, tmp_path: Path) -> None:
    """Under `aa` each conversation begins with its trajectory's and phase's own text, and the rest
    is as without."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    options = LoadOptions(lengths="text", prefix="aa", phases=2)
    report = export(dataset, target, tmp_path / "out", options)
    export(dataset, target, tmp_path / "plain", TEXT)
    fronts: dict[tuple[str, int], set[str]] = {}
    plain = list(sent(target, tmp_path / "plain").values())
    for number, phase in enumerate(report.phases):
        folder = tmp_path / "out" / phase["folder"]
        keys = {name: key[0] for name, _, key, _ in turns(folder)}
        for (name, requests), bare in zip(sent(target, folder).items(), plain, strict=True):
            text = mlperf.joined(requests[0].messages)
            end = mlperf.joined(bare[0].messages)
            assert text.endswith(end)
            prefix = text[: len(text) - len(end)].strip()
            fronts.setdefault((keys[name], number), set()).add(prefix)
            assert requests[1:] == bare[1:]
    assert all(len(found) == 1 for found in fronts.values())
    assert len(set.union(*fronts.values())) == len(fronts) == 4


def test_capped_replies_may_end_early(tmp_path: Path) -> None:
    """Where answers need not be as long as recorded, SGLang is told not to make them so."""
    dataset = Dataset.open(rows.write(tmp_path / "dataset", rows.small()))
    forced = export(dataset, "sglang-agentic", tmp_path / "forced", TEXT)
    capped = export(dataset, "sglang-agentic", tmp_path / "capped", LoadOptions(output="capped"))
    assert "--disable-ignore-eos" not in forced.command
    assert "--disable-ignore-eos" in capped.command
