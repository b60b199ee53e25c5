"""Live recordings: what agents sent through the proxy is what the dataset says they sent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest

import live_agents
import wire_truth
from traj import validate
from traj.dataset import Dataset
from traj.pipeline import record
from traj.sources import find
from traj.sources.live import who
from upstream import CHUNKED, Connection, Received, world
from wire_truth import Exchange

CAPTURED = (
    *("aider", "cline", "codex", "gemini", "kimi", "mini-swe-agent"),
    *("opencode", "pi-new", "qwen-new"),
)
DROPPED = ("host", "content-length", "connection", "authorization", "accept-encoding")


async def played(folder: Path, truth: list[Exchange], key: str = "x") -> Path:
    """A log of these requests, sent one after the other through a proxy and answered as they
    were."""
    left = list(truth)

    async def answer(request: Received, connection: Connection) -> None:
        one = left.pop(0)
        assert json.loads(request.body) == one.body
        await connection.send(CHUNKED)
        await connection.chunk(*(text.encode() for text in one.chunks))
        await connection.end()

    async with world(folder, answer, path="") as w:
        for one in truth:
            headers = {k: v for k, v in one.headers.items() if k.lower() not in DROPPED}
            headers["Authorization"] = f"Bearer {key}"
            url = f"{w.address}/model{one.path}"
            async with w.client.post(url, json=one.body, headers=headers) as response:
                assert await response.text() == "".join(one.chunks)
        return w.log.path


def recorded(log: Path, out: Path) -> Dataset:
    report = record([log], out)
    assert not report.problems
    return Dataset.open(out)


@pytest.mark.parametrize("agent", CAPTURED)
def test_captured_sessions_are_rebuilt(agent: str, shared: Path, tmp_path: Path):
    """For every request that a real agent sent, prompt, tools, system prompt and figures in the
    dataset are those on the wire; and its session is one trajectory of the agent."""
    truth = wire_truth.exchanges(shared / "captures" / agent / "api")
    dataset = recorded(asyncio.run(played(tmp_path, truth)), tmp_path / "out.traj")
    wire_truth.check(dataset, truth)
    (row,) = dataset.table("trajectories").to_pylist()
    names = {"aider": "unknown", "mini-swe-agent": "unknown", "cline": "unknown"}
    expected = names.get(agent, agent.removesuffix("-new").replace("-", "_"))
    assert row["agent"]["name"].startswith(expected)


def test_side_calls_and_sub_agents_have_lanes(shared: Path, tmp_path: Path):
    """OpenCode's title is a side lane; the sub-agents of Kimi and Qwen are lanes that a call of
    the main one started."""
    lanes = {}
    for agent in ("opencode", "qwen-new", "kimi"):
        truth = wire_truth.exchanges(shared / "captures" / agent / "api")
        log = asyncio.run(played(tmp_path / agent, truth))
        (session,) = find([log]).sessions
        lanes[agent] = session.read().lanes
    assert [lane.kind for lane in lanes["opencode"]] == ["main", "side"]
    for agent in ("qwen-new", "kimi"):
        main, *others = lanes[agent]
        calls = _calls(main)
        helpers = [lane for lane in others if lane.kind == "subagent"]
        assert helpers
        assert all(lane.spawned_by in calls for lane in helpers)


def _calls(lane: object) -> set[str]:
    answers = [getattr(step, "answer", None) for step in lane.steps]
    return {call.id for answer in answers if answer is not None for call in answer.tool_calls}


@pytest.mark.harness
@pytest.mark.parametrize("one", live_agents.RUNS, ids=lambda one: one.name)
def test_real_agents(one: live_agents.Run, tmp_path: Path):
    """A real agent works as without the proxy, its exit code is passed on, and every request that
    the model got is a turn with the same prompt, tools, system prompt and figures."""
    found = live_agents.run(one, tmp_path)
    assert found.exit_code == 0, found.said
    truth = wire_truth.exchanges(found.truth)
    dataset = Dataset.open(found.dataset)
    assert len(truth) >= 5, found.said
    wire_truth.check(dataset, truth)
    (row,) = dataset.table("trajectories").to_pylist()
    assert row["agent"]["name"] == one.agent
    assert row["repository"]["url"] == "https://github.com/traj-samples/calc"
    assert row["repository"]["branch"] == "main"
    turns = dataset.table("turns").to_pylist()
    assert one.lanes <= {turn["lane_kind"] for turn in turns}
    assert one.reasons <= {turn["context_reason"] for turn in turns}
    assert validate(dataset).ok
