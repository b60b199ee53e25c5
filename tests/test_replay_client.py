"""The reference harness's HTTP: answers in every shape and in any pieces; connections kept."""

from __future__ import annotations

import asyncio
import multiprocessing
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mock_engine
from conftest import SAMPLES
from served import Served
from traj.dataset import Dataset
from traj.errors import TrajError
from traj.pipeline import record
from traj.replay import ReplayOptions, replay
from traj.replay.apis import open_api
from traj.replay.client import Client
from traj.replay.connection import Answer
from traj.replay.outcome import Outcome
from traj.workload.options import LoadOptions

WORD = b'data: {"choices":[{"delta":{"content":"h\xc3\xa9"}}]}'
END = b'data: {"choices":[{"delta":{},"finish_reason":"stop"}],"usage":{"prompt_tokens":3}}'
DONE = b"data: [DONE]"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"


@given(st.data(), st.sampled_from([b"\n\n", b"\r\n\r\n", b"\n: a comment\nevent: x\n\n"]))
def test_a_stream_may_come_in_any_pieces(data: st.DataObject, between: bytes) -> None:
    """Wherever it is cut, between the bytes of a character too, the answer is the same."""
    stream = between.join([WORD, WORD, WORD, END, DONE, b""])
    cuts = sorted(data.draw(st.sets(st.integers(1, len(stream) - 1))))
    outcome = Outcome()
    answer = Answer(open_api("chat"), outcome)
    answer.begin(200, "text/event-stream; charset=utf-8")
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)], strict=True)]
    overs = [answer.take(piece, at) for at, piece in enumerate(pieces)]
    assert True in overs
    assert (outcome.text, outcome.events, outcome.input_tokens) == ("héhéhé", 3, 3)
    assert outcome.first_token_us <= outcome.last_token_us


def _exchange(answers: list[bytes], *, requests: int = 1) -> tuple[list[Outcome], int]:
    """Requests one after another to a server that answers with these bytes, and then closes where
    they say so; what came of each, and how many connections it took."""
    connections = 0

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        while answers and await reader.readuntil(b"\r\n\r\n"):
            await reader.readexactly(2)
            answer = answers.pop(0)
            writer.write(answer)
            if b"keep-alive" not in answer:
                break
        writer.close()

    async def run() -> list[Outcome]:
        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        outcomes = [Outcome() for _ in range(requests)]
        options = ReplayOptions(f"http://127.0.0.1:{port}/v1", "m", timeout_s=5)
        async with server, Client(options, open_api("chat")) as client:
            for outcome in outcomes:
                await client.send(b"{}", outcome)
        return outcomes

    return asyncio.run(run()), connections


STREAM = b"\n\n".join([WORD, END, DONE, b""])
LENGTH = b"Content-Length: %d\r\nConnection: keep-alive\r\n\r\n" % len(STREAM)
ANSWERS = {
    "until the end of the connection": (HEAD + b"\r\n" + STREAM, "ok"),
    "of a known length": (HEAD + LENGTH + STREAM, "ok"),
    "after a provisional one": (b"HTTP/1.1 100 Continue\r\n\r\n" + HEAD + LENGTH + STREAM, "ok"),
    "without its last line": (HEAD + b"\r\n" + WORD + b"\n\n" + END + b"\n\n", "ok"),
    "cut off": (HEAD + LENGTH + STREAM[:40], "cut_off"),
    "elsewhere": (b"HTTP/1.1 307 X\r\nLocation: /v2\r\nContent-Length: 0\r\n\r\n", "http_307"),
    "not HTTP": (b"SSH-2.0-OpenSSH_9.9\r\n", "disconnected"),
    "nothing": (b"", "disconnected"),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_answers_come_in_many_shapes(name: str) -> None:
    """Each is understood, or has the name of its failure."""
    answer, status = ANSWERS[name]
    if name == "cut off":
        answer = answer.replace(b"Connection: keep-alive\r\n", b"")
    (outcome,), _ = _exchange([answer])
    assert (outcome.status, outcome.retries) == (status, 0)
    if status == "ok":
        assert (outcome.text, outcome.events, outcome.input_tokens) == ("hé", 1, 3)
        assert outcome.sent_us <= outcome.first_token_us <= outcome.end_us


def test_connections_are_used_again() -> None:
    """Three answers of known length come over one connection; one whose server closes it gets a
    new one, without a retry, since nothing had been sent on the old."""
    kept = HEAD + LENGTH + STREAM
    outcomes, connections = _exchange([kept, kept, kept], requests=3)
    assert [outcome.status for outcome in outcomes] == ["ok"] * 3
    assert connections == 1
    closed = HEAD + b"Connection: close\r\n\r\n" + STREAM
    outcomes, connections = _exchange([closed, kept, kept], requests=3)
    assert [(outcome.status, outcome.retries) for outcome in outcomes] == [("ok", 0)] * 3
    assert connections == 2


def test_only_a_stale_connection_is_tried_again() -> None:
    """A connection that carried a request and then ends without a byte was stale: once more, on a
    new one. One that was new has failed."""
    kept = HEAD + LENGTH + STREAM
    outcomes, connections = _exchange([kept, b"", kept], requests=2)
    assert [(outcome.status, outcome.retries) for outcome in outcomes] == [("ok", 0), ("ok", 1)]
    assert connections == 2
    outcomes, _ = _exchange([kept, b"", b""], requests=2)
    assert (outcomes[1].status, outcomes[1].retries) == ("disconnected", 1)


def test_where_requests_end_before_their_time_the_run_does_not_pass_for_whole(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that makes requests is killed, as a machine without memory does: an error, and
    not a short run."""
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0)
    out = tmp_path_factory.mktemp("killed") / "dataset"
    record(sorted((SAMPLES / "codex").rglob("*.jsonl"))[:1], out)
    engine = mock_engine.Engine()
    served = Served(engine.app())

    def kill() -> None:
        while not engine.log:
            time.sleep(0.01)
        for child in multiprocessing.active_children():
            child.kill()

    killer = threading.Thread(target=kill, daemon=True)
    killer.start()
    load = LoadOptions(tool_time="none", user_time="none")
    try:
        with pytest.raises(TrajError, match="ended before its time"):
            replay(Dataset.open(out), ReplayOptions(served.url, "m", duration_s=60, load=load))
    finally:
        killer.join()
        served.stop()
