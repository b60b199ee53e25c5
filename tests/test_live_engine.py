"""A real engine behind the proxy: llama.cpp with a small model streams, counts and caches."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest

import live_agents
import wire_truth
from traj.dataset import Dataset
from traj.validation import validate

MINI = next(one for one in live_agents.RUNS if one.name == "mini")
SHORT = (
    "agent.step_limit=4",
    "model.model_kwargs.max_tokens=64",
    "model.model_kwargs.temperature=0",
)
ASKS = """
import json, os, urllib.request

told = [{"role": "system", "content": "You are terse. " * 20}]
for number in range(5):
    told.append({"role": "user", "content": f"Say something new, number {number}."})
    body = {"model": "m", "messages": told, "stream": True, "max_tokens": 24, "temperature": 0}
    body["stream_options"] = {"include_usage": True}
    url = os.environ["OPENAI_BASE_URL"] + "/chat/completions"
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    said = ""
    with urllib.request.urlopen(request, timeout=60) as answer:
        for line in answer:
            if line.startswith(b"data: {"):
                for choice in json.loads(line[6:])["choices"]:
                    said += choice["delta"].get("content") or ""
    told.append({"role": "assistant", "content": said})
"""


def recorded(one: live_agents.Run, base: Path) -> tuple[Dataset, list[wire_truth.Exchange]]:
    """A run's dataset, and what the engine was asked and said, held against each other."""
    found = live_agents.run(one, base)
    assert found.exit_code == 0, found.said
    truth = wire_truth.exchanges(found.truth)
    dataset = Dataset.open(found.dataset)
    wire_truth.check(dataset, truth)
    assert validate(dataset).ok
    return dataset, truth


@pytest.mark.agents
def test_a_real_agent_on_a_real_engine(tmp_path: Path) -> None:
    """mini-swe-agent on llama.cpp: every request is a turn with its prompt, tools and figures, and
    what the engine's cache held is what the engine's own timings say."""
    config = [word for setting in ("mini.yaml", *SHORT) for word in ("-c", setting)]
    command = [*MINI.command[:-2], *config, *MINI.command[-2:]]
    one = replace(MINI, name="mini-llama", command=command, plan=live_agents.LLAMA)
    dataset, truth = recorded(one, tmp_path)
    assert len(truth) >= 3
    turns = dataset.table("turns").to_pylist()
    timings = [exchange.timings() for exchange in truth]
    assert [turn["cached_tokens"] for turn in turns] == [one["cache_n"] for one in timings]
    assert [turn["input_tokens"] for turn in turns] == [
        one["cache_n"] + one["prompt_n"] for one in timings
    ]
    assert [turn["output_tokens"] for turn in turns] == [one["predicted_n"] for one in timings]
    assert turns[-1]["cached_tokens"] > turns[0]["input_tokens"] // 2
    (row,) = dataset.table("trajectories").to_pylist()
    assert row["agent"]["name"] == "mini_swe_agent"


@pytest.mark.agents
def test_a_conversation_is_streamed_and_cached(tmp_path: Path) -> None:
    """A conversation that grows, streamed: usage and cached tokens of each answer, and its first
    token no sooner than the engine says prefilling took."""
    one = live_agents.Run(
        "streamed", [sys.executable, "-c", ASKS], live_agents.CHAT, "unknown", live_agents.LLAMA
    )
    dataset, truth = recorded(one, tmp_path)
    turns = dataset.table("turns").to_pylist()
    assert len(turns) == len(truth) == 5
    assert len({turn["context"] for turn in turns}) == 1
    for turn, exchange in zip(turns, truth, strict=True):
        told = exchange.timings()
        assert turn["cached_tokens"] == told["cache_n"]
        assert turn["start_us"] < turn["first_token_us"] < turn["end_us"]
        assert turn["first_token_us"] - turn["start_us"] >= told["prompt_ms"] * 1e3
        assert turn["end_us"] - turn["start_us"] >= (told["prompt_ms"] + told["predicted_ms"]) * 900
    cached = [turn["cached_tokens"] for turn in turns]
    assert cached[0] == 0
    assert cached == sorted(cached)
    assert cached[-1] > 100
