"""The reference harness: what it sends, when, and what it says of everything that can go wrong."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from itertools import takewhile
from operator import eq
from pathlib import Path
from typing import Any

import orjson
import polars as pl
import pytest
from aiohttp import web

import mock_engine
from conftest import SAMPLES
from served import Served
from traj.dataset import Dataset
from traj.errors import TrajError, UsageError
from traj.exporters.whole_prompts import WholePrompts
from traj.pipeline import record
from traj.replay import ReplayOptions, Run, replay
from traj.workload.load import Load
from traj.workload.options import LoadOptions

FAST = LoadOptions(tool_time="none", user_time="none", prefix="aa")


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """A few sessions, among them one with sub-agents."""
    out = tmp_path_factory.mktemp("small") / "small.traj"
    record([SAMPLES / "claude_code" / "-home-dev-src-rust-duration"], out)
    record(sorted((SAMPLES / "codex").rglob("*.jsonl"))[:2], out)
    return Dataset.open(out)


@pytest.fixture(autouse=True)
def _swift(monkeypatch: pytest.MonkeyPatch) -> None:
    """An engine that takes no time for a token."""
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0)


@pytest.fixture
def engine() -> Iterator[tuple[str, mock_engine.Engine]]:
    found = mock_engine.Engine()
    served = Served(found.app())
    yield served.url, found
    served.stop()


@pytest.mark.parametrize("processes", [1, 2])
def test_progress_is_for_terminals(processes, small: Dataset, engine, monkeypatch) -> None:
    """On a terminal one line tells agents, requests, TTFT and speed; elsewhere nothing does."""
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0.001)
    command = [sys.executable, "-m", "traj", "replay", str(small.path), "--url", engine[0]]
    command += ["--model", "m", "--agents", "2", "--tool-time", "scaled:0.2"]
    command += ["--processes", str(processes)]
    ours, theirs = pty.openpty()
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=theirs) as process:
        os.close(theirs)
        told = b""
        with suppress(OSError):  # as a terminal ends whose other side is closed
            while piece := os.read(ours, 65_536):
                told += piece
    os.close(ours)
    assert process.returncode in (0, 1)  # 1: the machine was busy
    lines = told.decode().split("\r")
    pattern = r"\d+ s: \d agents, \d+ of \d+ requests answered, TTFT [\d.]+ s \(P95 [\d.]+\)"
    pattern += r", P25 \d+ tokens/s *"
    assert any(re.fullmatch(pattern, line) for line in lines), lines[-3:]
    assert all(len(line) <= 120 for line in lines)
    done = subprocess.run(command, capture_output=True, check=False)
    assert done.stderr == b""


def test_what_goes_over_the_wire_is_the_load(small: Dataset, engine) -> None:
    """Every request of the dataset is sent once, with the prompt, tools and length that an export
    would write, and the rows say of each what the engine said."""
    url, seen = engine
    run = replay(small, ReplayOptions(url, "m", agents=2, load=FAST))
    expected = []
    for play in Load(small, FAST, text=True).plays():
        whole = WholePrompts(play)
        for turn in play.sent:
            messages = [play.prompts.message(one) for one in whole.of(turn)]
            expected.append((messages, play.prompts.tools(turn) or None, play.output_tokens(turn)))
    sent = [
        (e["body"]["messages"], e["body"].get("tools"), e["body"]["max_tokens"]) for e in seen.log
    ]
    assert len(sent) > 10
    assert sorted(map(orjson.dumps, sent)) == sorted(map(orjson.dumps, expected))
    assert all(entry["body"]["ignore_eos"] is True for entry in seen.log)
    assert run.valid is not bool(run.reasons)
    rows = run.requests
    assert rows["status"].unique().to_list() == ["ok"]
    assert rows["output_tokens"].to_list() == rows["planned_output_tokens"].to_list()
    usage = sorted(entry["usage"]["prompt_tokens"] for entry in seen.log)
    assert sorted(rows["input_tokens"].to_list()) == usage
    assert (rows["events"] == rows["output_tokens"]).all()


def test_waits_and_delays_are_kept(small: Dataset, engine) -> None:
    """No request is sent before all it waits for was complete and its delay was over; and it is
    sent then, not later."""
    url, _ = engine
    options = LoadOptions(tool_time="scaled:0.02", user_time="none")
    run = replay(small, ReplayOptions(url, "m", agents=3, load=options))
    rows = {(r["trajectory_id"], r["turn"]): r for r in run.requests.iter_rows(named=True)}
    checked = parallel = 0
    for play in Load(small, options, text=True).plays():
        for turn in play.sent:
            mine = rows[play.trajectory_id, turn]
            waits = [rows[play.trajectory_id, wait] for wait in play.schedule.waits(turn)]
            assert mine["delay_us"] == play.delay_us(turn)
            if waits:
                ready_us = max(wait["end_us"] for wait in waits)
                assert 0 <= mine["due_us"] - ready_us - mine["delay_us"] < 20_000
                checked += mine["delay_us"] > 0
            assert mine["sent_us"] >= mine["due_us"]
        lanes = {play.turns["lane"][turn] for turn in play.sent}
        parallel += len(lanes) > 1
    assert checked > 5
    assert parallel


def test_two_runs_with_one_seed_are_the_same_but_for_time(small: Dataset, engine) -> None:
    """Same requests in the same order with the same prefixes and delays, in one process or in
    two; another phase has other prefixes and nothing else that differs."""
    url, seen = engine
    options = LoadOptions(tool_time="baseline", user_time="none", prefix="aa", sample=2)
    options = LoadOptions(**{**_plain(options), "tool_time": "scaled:0.01"})
    listed, bodies = [], []
    for processes, phase in ((1, 0), (2, 0), (1, 1)):
        seen.log.clear()
        run = replay(
            small, ReplayOptions(url, "m", agents=2, processes=processes, phase=phase, load=options)
        )
        listed.append(run.requests.select("place", "trajectory_id", "turn", "delay_us"))
        bodies.append(sorted(orjson.dumps(entry["body"]) for entry in seen.log))
    assert listed[0].height > 10
    assert listed[0].equals(listed[1])
    assert listed[0].equals(listed[2])
    assert bodies[0] == bodies[1]
    assert not set(bodies[0]) & set(bodies[2])


def _plain(options: LoadOptions) -> dict[str, Any]:
    return {name: getattr(options, name) for name in LoadOptions.__slots__}


def test_predicted_cache_is_what_prompts_share(small: Dataset) -> None:
    """Against a count over the very texts: tokens of the leading messages that an earlier prompt
    of the play has too."""
    from traj.replay.scripts import scripts

    options = ReplayOptions("http://x", "m", load=LoadOptions(tool_time="none", prefix="aa"))
    load = Load(small, options.load, text=True)
    predicted = 0
    for script in scripts(load, options):
        earlier: list[list[Any]] = []
        for step in script.steps:
            body = json.loads(script.body(step))
            prompt = body["messages"]
            fronts = [sum(1 for _ in takewhile(bool, map(eq, prompt, other))) for other in earlier]
            shared = prompt[: max(fronts, default=0)]
            counted = sum(
                load.tokenizer.count([text])[0] for message in shared for text in _texts(message)
            )
            # Definitions are counted as they were recorded, not in their chat form.
            assert step.cached_tokens >= min(counted, step.input_tokens)
            if "tools" not in body:
                assert step.cached_tokens == min(counted, step.input_tokens)
            predicted += step.cached_tokens
            earlier.append(prompt)
    assert predicted > 1000


def _texts(message: dict[str, Any]) -> Iterator[str]:
    yield from (message[name] for name in ("content", "reasoning_content") if message.get(name))
    for call in message.get("tool_calls", ()):
        yield from (call["function"][name] for name in ("name", "arguments"))


# Faults

Handler = Callable[[web.Request], Any]


async def _server_error(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": "out of \x1b[31mmemory"}, status=500)


async def _unknown_model(request: web.Request) -> web.StreamResponse:
    return web.json_response({"error": {"message": "no such model"}}, status=404)


async def _hang(request: web.Request) -> web.StreamResponse:
    await asyncio.sleep(3)
    return web.Response()


async def _hang_up(request: web.Request) -> web.StreamResponse:
    assert request.transport is not None
    request.transport.close()
    return web.Response()


async def _not_streamed(request: web.Request) -> web.StreamResponse:
    return web.json_response({"choices": [{"message": {"content": "hi"}}]})


def _stream(*events: bytes, cut: bool = False) -> Handler:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for event in events:
            await response.write(b"data: " + event + b"\n\n")
        if cut:
            assert request.transport is not None
            request.transport.close()
        else:
            await response.write_eof()
        return response

    return handler


async def _stall(request: web.Request) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    await response.write(b"data: " + _WORD + b"\n\n")
    await asyncio.sleep(3)
    return response


_WORD = b'{"choices":[{"delta":{"content":"hi"}}]}'
_END = b'{"choices":[{"delta":{},"finish_reason":"stop"}]}'
FAULTS: dict[str, tuple[Handler, str]] = {
    "server error": (_server_error, "http_500"),
    "wrong model": (_unknown_model, "http_404"),
    "hang": (_hang, "timeout"),
    "stall": (_stall, "timeout"),
    "hang up": (_hang_up, "disconnected"),
    "not streamed": (_not_streamed, "not_streamed"),
    "truncated": (_stream(_WORD), "cut_off"),
    "cut": (_stream(_WORD, cut=True), "cut_off"),
    "malformed": (_stream(_WORD, b"{not json"), "malformed_stream"),
    "of another shape": (_stream(b'{"choices":"none"}'), "malformed_stream"),
    "error in the stream": (_stream(_WORD, b'{"error":{"message":"died"}}'), "error_in_stream"),
    "nothing said": (_stream(_END, b"[DONE]"), "no_tokens"),
}


def _sometimes(fault: Handler) -> web.Application:
    """An engine that behaves two times of three."""
    engine, count = mock_engine.Engine(), [0]

    async def chat(request: web.Request) -> web.StreamResponse:
        count[0] += 1
        if count[0] % 3 == 2:
            return await fault(request)
        return await engine.chat(request)

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/chat/completions", chat)
    return app


@pytest.mark.parametrize("name", FAULTS)
def test_every_fault_is_named_counted_and_survived(small: Dataset, name: str) -> None:
    """A third of the requests fail in one way: all are sent, the failures have that way's name,
    and what was measured is of the others."""
    fault, status = FAULTS[name]
    served = Served(_sometimes(fault))
    try:
        run = replay(small, ReplayOptions(served.url, "m", agents=1, timeout_s=0.5, load=FAST))
    finally:
        served.stop()
    found = run.summary()
    expected = sum(len(play.sent) for play in Load(small, FAST, text=True).plays())
    assert found["requests"] == expected
    assert set(found["by_status"]) == {"ok", status}
    assert found["failed"] == found["by_status"][status] > 0
    # What hangs up on a connection that was used before cannot be told from an idle one's end.
    retries = found["retries"] if name == "hang up" else 0
    assert found["failed"] + retries == (expected + retries + 1) // 3
    assert found["answered"] + found["failed"] == expected
    failed = run.requests.filter(pl.col("status") == status)
    assert failed["error"].null_count() in (0, failed.height)
    assert run.requests.filter(pl.col("status") == "ok")["first_token_us"].null_count() == 0


def test_answers_without_usage_are_counted_here(small: Dataset) -> None:
    """Usage is unknown, not zero; speed is of our own count."""
    served = Served(_sometimes(_stream(*[_WORD] * 5, _END, b"[DONE]")))
    try:
        run = replay(small, ReplayOptions(served.url, "m", load=FAST))
    finally:
        served.stop()
    without = run.requests.filter(pl.col("output_tokens").is_null())
    assert without.height == run.summary()["usage_missing"] > 0
    assert without["status"].unique().to_list() == ["ok"]
    assert without["counted_output_tokens"].min() > 0


def test_an_idle_connection_that_the_engine_closed_is_no_failure(small: Dataset) -> None:
    """Servers drop idle connections; the request goes again on a fresh one, and is counted so."""
    engine = mock_engine.Engine()
    options = LoadOptions(tool_time="scaled:0.05", user_time="none")
    served = Served(engine.app(), keepalive_timeout=0.05)
    try:
        run = replay(small, ReplayOptions(served.url, "m", load=options))
    finally:
        served.stop()
    found = run.summary()
    assert found["failed"] == 0
    assert found["retries"] + found["answered"] >= found["requests"]


def test_nobody_there_is_one_line(small: Dataset) -> None:
    """Where nothing answers at all the run ends soon, with the reason."""
    with pytest.raises(TrajError, match="answered nothing: not_connected"):
        replay(small, ReplayOptions("http://127.0.0.1:9", "m", agents=2, load=FAST))


@pytest.mark.parametrize(
    "wrong",
    [{"url": "localhost:8000"}, {"agents": 0}, {"processes": 3}, {"duration_s": 0.0}],
    ids=str,
)
def test_what_cannot_be_meant_is_refused(wrong: dict[str, Any]) -> None:
    """Before anything is sent."""
    with pytest.raises(UsageError):
        ReplayOptions(**{"url": "http://x", "model": "m", **wrong})


@pytest.mark.parametrize("processes", [1, 2])
def test_nothing_to_send_is_one_line(small: Dataset, engine, processes: int) -> None:
    """No run of no requests, and no verdict on it."""
    none = replace(FAST, max_context=10)
    options = ReplayOptions(engine[0], "m", agents=2, processes=processes, load=none)
    with pytest.raises(UsageError, match="holds no answered request that fits into 10 tokens"):
        replay(small, options)
    assert not engine[1].log


def test_a_run_is_kept_whole_and_without_the_key(small: Dataset, engine, tmp_path: Path) -> None:
    """requests.parquet holds the rows, run.json what they say; the key is in neither."""
    url, seen = engine
    options = ReplayOptions(url, "m", api_key="sk-very-secret", load=FAST)
    run = replay(small, options)
    run.write(tmp_path / "run")
    assert seen.log[0]["headers"]["authorization"] == "Bearer sk-very-secret"
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == [
        "requests.parquet",
        "run.json",
    ]
    held = b"".join(path.read_bytes() for path in (tmp_path / "run").iterdir())
    assert b"very-secret" not in held
    assert "very-secret" not in repr(options)
    rows = pl.read_parquet(tmp_path / "run" / "requests.parquet")
    assert rows.equals(run.requests)
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["summary"]["requests"] == rows.height


def test_an_interrupt_ends_with_what_was_measured(small: Dataset, engine, tmp_path: Path) -> None:
    """Ctrl-C: the run's folder is there, with the answered requests, and says so."""
    url, seen = engine
    command = [sys.executable, "-m", "traj", "replay", str(small.path), "--url", url]
    command += ["--model", "m", "--tool-time", "scaled:0.2", "-o", str(tmp_path / "run")]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=os.environ
    )
    deadline = time.monotonic() + 60
    while len(seen.log) < 4 and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 1, err
    assert "interrupted" in out
    assert "Traceback" not in err
    told = json.loads((tmp_path / "run" / "run.json").read_text())
    assert told["interrupted"] is True
    assert told["summary"]["answered"] >= 3


def test_time_ends_a_run(small: Dataset, engine) -> None:
    """With a duration the dataset is played again and again, with fresh prefixes, until then."""
    url, seen = engine
    run = replay(small, ReplayOptions(url, "m", agents=4, duration_s=4.0, load=FAST))
    assert 3.5 < run.duration_us / 1e6 < 8
    assert run.requests["play"].max() > 0
    systems = [entry["body"]["messages"][0]["content"] for entry in seen.log]
    plays = run.requests.select("trajectory_id", "play").unique().height
    assert len({text[:60] for text in systems}) >= plays - 4
    assert isinstance(run, Run)


def test_a_harness_that_was_late_says_so() -> None:
    """The run is stamped invalid where requests went out late, the loop woke late, or a process
    had no time left; each by name."""
    from traj.replay.health import reasons
    from traj.replay.results import Client, percentiles

    soon = percentiles(pl.Series([0, 100, 900]))
    late = percentiles(pl.Series([0, 100, 90_000]))
    assert reasons(Client(soon, soon, 0.4, 1)) == []
    assert "requests were sent 88.2 ms late" in reasons(Client(late, soon, 0.4, 1))[0]
    assert "event loop woke" in reasons(Client(soon, late, 0.4, 1))[0]
    assert "--processes" in reasons(Client(soon, soon, 0.99, 1))[0]
