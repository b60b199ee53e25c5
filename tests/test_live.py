"""Live recordings: what agents sent through the proxy is what the dataset says they sent."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import live_agents
import wire_truth
from conftest import SAMPLES
from damaged import survive_bytes, survive_values
from traj import validate
from traj.dataset import Dataset
from traj.pipeline import record
from traj.sources import find
from traj.sources.live import who
from upstream import CHUNKED, OK, Connection, Received, world
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


AGENT = """
import json, os, sys, urllib.request
base = os.environ["OPENAI_BASE_URL"]
assert base.startswith("http://127.0.0.1:") and "/s/" in base, base
assert "127.0.0.1" in os.environ["NO_PROXY"]
body = {"model": "m", "messages": [{"role": "user", "content": "my name is " + sys.argv[1]}]}
headers = {"Authorization": "Bearer " + os.environ["OPENAI_API_KEY"]}
request = urllib.request.Request(base + "/chat/completions", json.dumps(body).encode(), headers)
print("agent says", json.load(urllib.request.urlopen(request))["choices"][0]["message"]["content"])
sys.exit(int(sys.argv[2]))
"""
WHOLE = {
    "id": "c1",
    "model": "m",
    "choices": [{"message": {"role": "assistant", "content": "Hi"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 5, "completion_tokens": 1},
}


def live(folder: Path, *command: str, options: tuple[str, ...] = (), **variables: str) -> Any:
    """`traj record --live` of a command, with a model that answers everything with WHOLE."""

    async def answer(_request: Received, connection: Connection) -> None:
        data = json.dumps(WHOLE).encode()
        await connection.send(OK + b"Content-Length: %d\r\n\r\n" % len(data), data)

    async def go() -> tuple[int, str, str]:
        async with world(folder / "unused", answer) as w:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "traj", "record", "--live", "-o", str(folder / "d.traj")),
                *(*options, "--", *command),
                cwd=folder,
                env={
                    **os.environ,
                    "OPENAI_BASE_URL": f"{w.direct}/v1",
                    "ANTHROPIC_BASE_URL": w.direct,
                    "OPENAI_API_KEY": "sk-live-0123456789abcdef",
                    **variables,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
            )
            out, err = await process.communicate()
            return process.returncode, out.decode(), err.decode()

    return asyncio.run(go())


def test_a_command_is_recorded(tmp_path: Path):
    """A command meets its model as before: its output and exit code are its own, the dataset has
    its request, scrubbed, and the log beside it no key."""
    script = tmp_path / "agent.py"
    script.write_text(AGENT)
    git = ["git", "-C", str(tmp_path), "-c", "user.name=Dev", "-c", "user.email=d@example.com"]
    subprocess.run([*git, "init", "-q", "-b", "topic"], check=True)
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\nlicense = "MIT"\n')
    subprocess.run([*git, "add", "agent.py", "pyproject.toml"], check=True)
    subprocess.run([*git, "commit", "-qm", "One"], check=True)
    origin = "https://me:pass@github.com/some/where.git"
    subprocess.run([*git, "remote", "add", "origin", origin], check=True)
    key = "sk-live-0123456789abcdef"
    script.write_text(AGENT + "# changed")
    code, out, err = live(tmp_path, sys.executable, str(script), "ghp_" + "a1B2" * 9, "3", key)
    assert (code, out) == (3, "agent says Hi\n"), err
    assert "recorded 1 sessions" in err
    dataset = Dataset.open(tmp_path / "d.traj")
    assert dataset.manifest.scrubbed
    (row,) = dataset.table("trajectories").to_pylist()
    assert row["source"]["recorder"] == "proxy"
    assert row["repository"]["url"] == "https://github.com/some/where"
    assert row["repository"]["branch"] == "topic"
    assert len(row["repository"]["commit"]) == 40
    assert row["working_tree"] == "changed"
    assert (row["repository"]["license"], row["license_source"]) == ("MIT", "manifest")
    assert row["command"].endswith(" 3 '[credential]'")
    assert "ghp_" not in row["command"]
    (turn,) = dataset.table("turns").to_pylist()
    assert (turn["input_tokens"], turn["output_tokens"], turn["clock"]) == (5, 1, "measured")
    assert validate(dataset).ok
    (log,) = (tmp_path / "d.traj.live").iterdir()
    text = log.read_text()
    assert key not in text
    assert "pass@" not in text
    begin = json.loads(text.splitlines()[0])
    assert begin["command"][-1] == "[credential]"
    assert begin["checkout"]["clean"] is False
    assert json.loads(text.splitlines()[-1])["exit_code"] == 3


@pytest.mark.parametrize(
    ("api", "path"),
    [
        ("anthropic_messages", "/v1/messages"),
        ("openai_responses", "/v1/responses"),
        ("openai_chat", "/v1/chat/completions"),
        ("gemini", "/v1beta/models/m:streamGenerateContent"),
    ],
)
def test_the_samples_say_what_the_model_said(api: str, path: str, tmp_path: Path):
    """Of each API: the figures of every answer, which requests failed, and when the first token and
    the end of each came, which the proxy saw after the model had sent them."""
    dataset = recorded(SAMPLES / "live" / f"{api}.jsonl", tmp_path / "out.traj")
    told = json.loads((SAMPLES / "truth" / "live" / f"{api}.json").read_text())["requests"]
    answers = {one["response_id"]: one for one in told if one["status"] == 200}
    turns = dataset.table("turns").to_pylist()
    assert sum(turn["status"] == "error" for turn in turns) == len(told) - len(answers)
    (row,) = dataset.table("trajectories").to_pylist()
    begun_s = row["started_at"].timestamp()
    for turn in turns:
        if turn["status"] == "error":
            continue
        one = answers.pop(turn["response_id"])
        said = Exchange(path, {}, {}, 200, {"usage": one["usage"]}, [], 0, 0)
        assert (
            turn["input_tokens"],
            turn["cached_tokens"],
            turn["output_tokens"],
        ) == wire_truth.figures(said)
        for seen, sent in (("first_token_us", "first_token"), ("end_us", "end")):
            assert -0.01 < begun_s + turn[seen] / 1e6 - one[sent] < 0.2
    assert not answers
    assert validate(dataset).ok


def test_a_command_that_asks_nothing(tmp_path: Path):
    """Where no request came through the proxy that is said, nothing is written, and the command's
    exit code stands; a command that is not there is the caller's mistake."""
    code, _, err = live(tmp_path, sys.executable, "-c", "raise SystemExit(7)")
    assert code == 7
    assert "no request came through the proxy" in err
    assert not (tmp_path / "d.traj").exists()
    code, _, err = live(tmp_path, "no-such-agent")
    assert code == 2
    assert err == "traj: no-such-agent: no such command\n"


def test_codex_is_told_on_its_command_line(tmp_path: Path):
    """Codex reads no variable: it is given a setting, in place of one that it had."""
    codex = tmp_path / "codex"
    codex.write_text('#!/bin/sh\necho "$@"\n')
    codex.chmod(0o755)
    for words in (("exec", "hello"), ("exec", "-c", 'openai_base_url="http://own/v1"', "hello")):
        _, out, _ = live(tmp_path, str(codex), *words)
        assert out.count("openai_base_url=") == 1
        assert 'openai_base_url="http://127.0.0.1:' in out
        assert "own" not in out


def test_requests_that_name_no_session_belong_to_the_run(tmp_path: Path):
    """Agents that say nothing are told apart by the run of their base URL, and those that do by
    what they say, in one log or in several."""
    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}

    async def answer(_request: Received, connection: Connection) -> None:
        data = json.dumps(WHOLE).encode()
        await connection.send(OK + b"Content-Length: %d\r\n\r\n" % len(data), data)

    async def go() -> None:
        async with world(tmp_path, answer) as w:
            for run, headers in (
                ("one", {}),
                ("two", {}),
                ("three", {"x-session-id": "a"}),
                ("three", {"x-session-id": "b"}),
                ("three", {"x-session-id": "c", "x-parent-session-id": "b"}),
            ):
                url = w.url("/v1/chat/completions", run)
                async with w.client.post(url, json=body, headers=headers) as response:
                    await response.read()

    asyncio.run(go())
    found = {one.session_id: one for one in find([tmp_path]).sessions}
    assert set(found) == {"one", "two", "a@three", "b@three"}
    assert [lane.kind for lane in found["b@three"].read().lanes] == ["main", "subagent"]
    for one in found.values():
        session = one.read()
        assert session.files == one.measured()
        assert sum(file.bytes for file in session.files) == one.bytes
    dataset = recorded(tmp_path, tmp_path / "out.traj")
    again = record([tmp_path], tmp_path / "out.traj")
    assert (again.recorded, again.unchanged) == (0, 4)
    assert len(dataset.table("turns")) == 5


def test_packed_bodies_are_read(tmp_path: Path):
    """A request that an agent packed, and an answer that came packed, are read as what they say."""
    import gzip

    body = {"model": "m", "messages": [{"role": "user", "content": "hello"}], "stream": True}
    events = [
        b'data: {"id":"x","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
        b'data: {"choices":[{"delta":{"content":"Hi"},"finish_reason":"stop"}]}\n\n',
    ]
    packed = gzip.compress(json.dumps(body).encode())

    async def answer(request: Received, connection: Connection) -> None:
        assert request.body == packed
        data = gzip.compress(b"".join(events))
        told = b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(data)
        await connection.send(OK + told, data)

    async def go() -> None:
        async with world(tmp_path, answer) as w:
            headers = {"Content-Encoding": "gzip"}
            url = w.url("/v1/chat/completions")
            async with w.client.post(url, data=packed, headers=headers) as response:
                assert gzip.decompress(await response.read()) == b"".join(events)
            (lane,) = (await w.session()).lanes
            message, turn = lane.steps
            assert (message.content, turn.answer.content) == ("hello", "Hi")
            assert turn.first_token_us is None  # which chunk brought what is not known

    asyncio.run(go())


@pytest.mark.parametrize(
    ("agent", "name", "version"),
    [
        ("claude-cli/2.1.330 (external, cli)", "claude_code", "2.1.330"),
        ("codex_exec/0.169.0 (Debian 12; x86_64)", "codex", "0.169.0"),
        ("opencode/1.18.33 ai-sdk/provider-utils/4.0.23", "opencode", "1.18.33"),
        ("QwenCode/0.24.4 (linux; x64)", "qwen_code", "0.24.4"),
        ("GeminiCLI-tui/0.61.0/gemini-2.5-pro (linux)", "gemini_cli", "0.61.0"),
        ("kimi-code-cli/2.1.0", "kimi_code", "2.1.0"),
        ("pi (linux 6.18; x64)", "pi", None),
        ("pipeline/3", "unknown", None),
    ],
)
def test_agents_are_known_by_what_they_say(agent: str, name: str, version: str | None):
    """Name and version come from the user agent; from the command where that tells nothing."""
    assert who.agent_of({"user-agent": agent}, ["x"]) == (name, version)
    assert who.agent_of({"user-agent": "OpenAI/Python 2"}, ["/a/mini"])[0] == "mini_swe_agent"


def test_a_signal_is_for_the_command(tmp_path: Path):
    """Told to end, `traj record --live` tells the command, and ends with what that makes of it."""
    script = "import signal, sys, time\n"
    script += "signal.signal(signal.SIGTERM, lambda *_: sys.exit(5))\n"
    script += "print('ready', flush=True)\ntime.sleep(60)"
    traj = [sys.executable, "-m", "traj", "record", "--live", "-o", str(tmp_path / "d.traj")]
    with subprocess.Popen(
        [*traj, "--", sys.executable, "-c", script], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.terminate()
        assert process.wait(30) == 5


@pytest.fixture(scope="module")
def live_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of two sessions: tools, a sub-agent, a failure, streamed and whole answers."""
    folder = tmp_path_factory.mktemp("live")
    call = {"id": "t1", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    asks = {"role": "assistant", "content": None, "tool_calls": [call]}
    result = {"role": "tool", "tool_call_id": "t1", "content": "a result of some length, to be cut"}
    task = {"role": "user", "content": "Please look at this repository, and say what it is for."}
    plan = [([task], 503), ([task], asks), ([task, asks, result], WHOLE["choices"][0]["message"])]

    async def answer(request: Received, connection: Connection) -> None:
        told = json.loads(request.body)["metadata"]
        said = told if isinstance(told, dict) else {}
        data = json.dumps({**WHOLE, "choices": [{"message": said, "finish_reason": "stop"}]})
        status = b"503 No" if told == 503 else b"200 OK"
        head = b"HTTP/1.1 %b\r\nContent-Length: %d\r\n\r\n" % (status, len(data))
        await connection.send(head, data.encode())

    async def go() -> Path:
        async with world(folder, answer) as w:
            for session in ("a", "b"):
                for messages, told in plan:
                    body = {"model": "m", "messages": messages, "metadata": told}
                    url, headers = w.url("/v1/chat/completions"), {"x-session-id": session}
                    async with w.client.post(url, json=body, headers=headers) as response:
                        await response.read()
            return w.log.path

    return asyncio.run(go())


def test_a_spoilt_log_is_read_or_refused(live_log: Path):
    """Whatever is cut off from a log and written over in it, it is read or refused, and what was
    read can be built."""
    survive_bytes(live_log, "live")


def test_odd_values_give_sound_datasets(live_log: Path):
    """Whatever the values in a log are, recording it gives a sound dataset or one clear error."""
    survive_values(live_log, "live")


@pytest.mark.agents
@pytest.mark.parametrize("one", live_agents.RUNS, ids=lambda one: one.name)
def test_real_agents(one: live_agents.Run, tmp_path: Path):
    """A real agent works as without the proxy, its exit code is passed on, and every request that
    the model got is a turn with the same prompt, tools, system prompt and figures. The agent's own
    log is joined with it, and says the same."""
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
    assert len(row["source"]["files"]) > 1
    assert row["losses"] == []
    logged = [turn for turn in turns if turn["logged_usage"] is not None]
    assert len(logged) >= len(turns) - 1  # titles and summaries are in no log
    checked = validate(dataset)
    assert checked.ok
    assert "logged_usage_agrees" not in {finding.check for finding in checked.findings}
