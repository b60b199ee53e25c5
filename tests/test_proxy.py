"""The recording proxy: what it passes on, what it writes, and what happens when things break."""

from __future__ import annotations

import asyncio
import errno
import gzip
import json
import os
import signal
import subprocess
import sys
import zlib
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from tempfile import mkdtemp

import aiohttp
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from yarl import URL

from traj.errors import UsageError
from traj.proxy import bodies
from traj.proxy import log as log_module
from traj.proxy.alone import serve
from traj.proxy.upstreams import Upstreams, upstream, upstreams
from traj.sources import find
from traj.sources.live import log as live_log
from traj.sources.live import wire
from upstream import CHUNKED, OK, Connection, Received, World, world

ANSWER = (
    b'data: {"id":"c1","model":"m","choices":[{"delta":{"role":"assistant","content":""}}]}\n\n',
    b'data: {"choices":[{"delta":{"content":"Hello"}}]}\n\n',
    b'data: {"choices":[{"delta":{},"finish_reason":"stop"}]}\n\n',
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":2}}\n\n',
    b"data: [DONE]\n\n",
)
CHAT = "/v1/chat/completions"


def chat(*texts: str, **more: object) -> dict[str, object]:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text} for i, text in enumerate(texts)]
    return {"model": "m", "messages": messages, "stream": True, **more}


async def streamed(_request: Received, connection: Connection) -> None:
    await connection.send(CHUNKED)
    await connection.chunk(*ANSWER)
    await connection.end()


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def ends(path: Path) -> list[wire.End]:
    found = path.read_bytes().splitlines()
    return [wire.END.decode(line) for line in found if line.startswith(b'{"end"')]


def packed(data: bytes, encoding: str | None) -> bytes:
    if encoding in (None, "identity"):
        return data
    if encoding == "gzip":
        return gzip.compress(data)
    if encoding == "deflate":
        return zlib.compress(data)
    import pyarrow as pa

    codec = {"br": "brotli"}.get(encoding, encoding)
    return pa.compress(data, codec=codec, asbytes=True)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.binary(min_size=1, max_size=3000), min_size=1, max_size=8),
    st.sampled_from([None, "identity", "gzip", "deflate", "br", "zstd"]),
    st.booleans(),
)
def test_answers_pass_byte_for_byte(pieces: list[bytes], encoding: str | None, sized: bool):
    """Whatever the chunks and the content encoding, the agent gets the upstream's bytes and
    encoding, and the log has them unpacked."""
    sent = packed(b"".join(pieces), encoding)
    cuts = [sent[i : i + 700] for i in range(0, len(sent), 700)]
    told = f"Content-Encoding: {encoding}\r\n".encode() if encoding else b""

    async def answer(_request: Received, connection: Connection) -> None:
        if sized:
            await connection.send(OK + told + b"Content-Length: %d\r\n\r\n" % len(sent), *cuts)
            return
        await connection.send(OK + told + b"Transfer-Encoding: chunked\r\n\r\n")
        await connection.chunk(*cuts)
        await connection.end()

    async def ask() -> None:
        async with world(Path(mkdtemp()), answer) as w:
            async with w.client.post(w.url(CHAT), json=chat("hello")) as response:
                assert await response.read() == sent
                assert response.headers.get("Content-Encoding") == encoding
                assert response.headers.get("Content-Length") == (str(len(sent)) if sized else None)
            await w.proxy.close()
            (end,) = ends(w.log.path)
            assert live_log.bytes_of(end.said) == b"".join(pieces)
            assert sum(size for _, size in end.chunks) == len(sent)

    asyncio.run(ask())


def test_requests_pass_unchanged(tmp_path: Path):
    """Method, path, query, body and headers reach the upstream as the agent sent them: none
    added, none changed, in their order."""
    headers = [
        ("X-Second", "2"),
        ("authorization", "Bearer sk-0123456789"),
        ("X-First", "1"),
        ("Accept-Encoding", "zstd"),
        ("User-Agent", "agent/1"),
        ("Accept", "*/*"),
        ("Content-Type", "application/json"),
    ]
    body = b'{ "model" : "m", "messages":[ ]  }'

    async def ask() -> None:
        async with world(tmp_path, streamed) as w:
            url = URL(w.url("/v1/chat/completions?beta=true&x=%2Fa%20b"), encoded=True)
            async with w.client.post(url, data=body, headers=headers) as response:
                await response.read()
            (received,) = w.received
            start, *rest = received.head.decode().strip().split("\r\n")
            assert start == "POST /v1/chat/completions?beta=true&x=%2Fa%20b HTTP/1.1"
            assert received.body == body
            told = [tuple(line.split(": ", 1)) for line in rest]
            assert [one for one in told if one[0] not in ("Host", "Content-Length")] == headers
            assert dict(told)["Content-Length"] == str(len(body))

    asyncio.run(ask())


def test_the_first_part_comes_before_the_second_is_sent(tmp_path: Path):
    """A part of an answer reaches the agent while the upstream still waits to send the next."""
    seen = asyncio.Event()

    async def answer(_request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        await connection.chunk(ANSWER[0])
        await asyncio.wait_for(seen.wait(), 10)
        await connection.chunk(*ANSWER[1:])
        await connection.end()

    async def ask() -> None:
        async with (
            world(tmp_path, answer) as w,
            w.client.post(w.url(CHAT), json=chat("hello")) as response,
        ):
            assert await response.content.readany() == ANSWER[0]
            seen.set()
            assert await response.read() == b"".join(ANSWER[1:])

    asyncio.run(ask())


def test_an_agent_that_goes_away_ends_the_request_upstream(tmp_path: Path):
    """When the agent hangs up, the upstream sees it, and the log has what had come until then."""
    gone = asyncio.Event()

    async def answer(_request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        await connection.chunk(*ANSWER[:2])
        assert await connection.gone()
        gone.set()

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            response = await w.client.post(w.url(CHAT), json=chat("hello"))
            await response.content.readany()
            response.close()
            await asyncio.wait_for(gone.wait(), 10)
            session = await w.session()
            (end,) = ends(w.log.path)
            assert (end.cut, end.status) == ("agent", 200)
            turn = session.lanes[0].steps[-1]
            assert (turn.status, turn.answer.content) == ("cancelled", "Hello")

    asyncio.run(ask())


def test_an_agent_that_goes_away_before_the_answer(tmp_path: Path):
    """When the agent hangs up while the model thinks, the upstream sees it and the log says so."""
    gone, came = asyncio.Event(), asyncio.Event()

    async def answer(_request: Received, connection: Connection) -> None:
        came.set()
        assert await connection.gone()
        gone.set()

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            asking = asyncio.ensure_future(w.client.post(w.url(CHAT), json=chat("hello")))
            await asyncio.wait_for(came.wait(), 10)
            asking.cancel()
            await asyncio.wait_for(gone.wait(), 10)
            session = await w.session()
            assert session.lanes[0].steps[-1].status == "cancelled"

    asyncio.run(ask())


def test_an_upstream_that_dies_mid_stream(tmp_path: Path):
    """When the upstream breaks off, the agent's answer breaks off too, without an end, and the
    log has what had come."""

    async def answer(_request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        await connection.chunk(*ANSWER[:2])
        connection.writer.close()

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            async with w.client.post(w.url(CHAT), json=chat("hello")) as response:
                assert response.status == 200
                with pytest.raises(aiohttp.ClientPayloadError):
                    await response.read()
            session = await w.session()
            (end,) = ends(w.log.path)
            assert end.cut == "upstream"
            assert live_log.bytes_of(end.said) == b"".join(ANSWER[:2])
            assert session.lanes[0].steps[-1].status == "error"

    asyncio.run(ask())


def test_an_upstream_that_is_not_there(tmp_path: Path):
    """Where no connection can be made the agent's own comes to nothing: no answer of ours."""

    async def ask() -> None:
        async with world(tmp_path, streamed) as w:
            w.proxy.upstreams = Upstreams([upstream("model", "http://127.0.0.1:9")])
            with pytest.raises(aiohttp.ServerDisconnectedError):
                await w.client.post(w.url(CHAT), json=chat("hello"))
            session = await w.session()
            turn = session.lanes[0].steps[-1]
            assert (turn.status, turn.error) == ("error", "not_connected")
            assert w.proxy.failed == {"model": 1}

    asyncio.run(ask())


def test_a_request_is_sent_once(tmp_path: Path):
    """An upstream that hangs up on a fresh connection is not asked again behind the agent's
    back; on a kept connection that had been closed, the request is sent anew."""
    plan = ["hang", "ok", "closed", "ok"]

    async def answer(_request: Received, connection: Connection) -> None:
        now = plan.pop(0)
        if now == "ok":
            await streamed(_request, connection)
            return
        connection.writer.close()

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            with pytest.raises(aiohttp.ClientError):
                await w.client.post(w.url(CHAT), json=chat("hello"))
            assert len(w.received) == 1
            for _ in range(2):
                async with w.client.post(w.url(CHAT), json=chat("hello")) as response:
                    assert await response.read() == b"".join(ANSWER)
            assert len(w.received) == 4
            assert not plan

    asyncio.run(ask())


def test_errors_pass_and_retries_are_attempts(tmp_path: Path):
    """An error reaches the agent with its status, headers and body; the same body sent again is
    the next attempt of one lane."""
    plan = [529, 503, 200]

    async def answer(request: Received, connection: Connection) -> None:
        status = plan.pop(0)
        if status == 200:
            await streamed(request, connection)
            return
        body = b'{"error":{"type":"overloaded_error","message":"later"}}'
        await connection.send(
            b"HTTP/1.1 %d Overloaded Now\r\nContent-Type: application/json\r\nretry-after: 7\r\n"
            b"Content-Length: %d\r\n\r\n%b" % (status, len(body), body)
        )

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            for status in (529, 503, 200):
                async with w.client.post(w.url(CHAT), json=chat("hello")) as response:
                    assert response.status == status
                    if status != 200:
                        assert response.reason == "Overloaded Now"
                        assert response.headers["retry-after"] == "7"
                        assert (await response.json())["error"]["message"] == "later"
                    await response.read()
            (lane,) = (await w.session()).lanes
            turns = [step for step in lane.steps if hasattr(step, "attempt")]
            assert [(turn.status, turn.attempt) for turn in turns] == [
                ("error", 0),
                ("error", 1),
                ("ok", 2),
            ]
            assert turns[0].error == "overloaded_error"

    asyncio.run(ask())


def test_a_slow_reader_slows_the_upstream(tmp_path: Path):
    """While the agent does not read, the proxy takes no more than buffers hold; when it reads on,
    it gets everything."""
    size, sent = 40 << 20, 0
    block = os.urandom(1 << 16)

    async def answer(_request: Received, connection: Connection) -> None:
        nonlocal sent
        await connection.send(OK + b"Content-Length: %d\r\n\r\n" % size)
        for _ in range(size // len(block)):
            await connection.send(block)
            sent += len(block)

    async def ask() -> None:
        async with (
            world(tmp_path, answer) as w,
            w.client.post(w.url(CHAT), json=chat("hello")) as response,
        ):
            before = -1
            while sent != before:
                before = sent
                await asyncio.sleep(0.3)
            assert sent < size // 2
            assert await response.read() == block * (size // len(block))

    asyncio.run(ask())


def test_bodies_of_20_megabytes(tmp_path: Path):
    """A request and an answer of 20 MB pass unchanged and stand in the log."""
    text = os.urandom(10 << 20).hex()
    body = json.dumps(chat(text)).encode()
    answered = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})

    async def answer(_request: Received, connection: Connection) -> None:
        data = answered.encode()
        await connection.send(OK + b"Content-Length: %d\r\n\r\n" % len(data), data)

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            async with w.client.post(w.url(CHAT), data=BytesIO(body)) as response:
                assert await response.read() == answered.encode()
            assert w.received[0].body == body
            session = await w.session()
            message, turn = session.lanes[0].steps
            assert message.content == text == turn.answer.content

    asyncio.run(ask())


def test_200_concurrent_streams_lose_nothing(tmp_path: Path):
    """200 streams at once each get their own answer, and the log holds every one of them."""
    count = 200

    async def answer(request: Received, connection: Connection) -> None:
        asked = json.loads(request.body)["messages"][0]["content"]
        await connection.send(CHUNKED)
        for piece in range(10):
            await connection.chunk(
                b'data: {"choices":[{"delta":{"content":"%b-%d "}}]}\n\n' % (asked.encode(), piece)
            )
            await asyncio.sleep(0.01)
        await connection.chunk(*ANSWER[2:])
        await connection.end()

    async def one(w: World, number: int) -> None:
        async with w.client.post(w.url(CHAT), json=chat(f"q{number}")) as response:
            read = await response.read()
        assert read.count(f"q{number}-".encode()) == 10

    async def ask() -> None:
        async with world(tmp_path, answer) as w, aiohttp.TCPConnector(limit=0) as connector:
            async with aiohttp.ClientSession(connector=connector) as w.client:
                await asyncio.gather(*(one(w, number) for number in range(count)))
            session = await w.session()
            answers = {
                (lane.steps[0].content, lane.steps[-1].answer.content) for lane in session.lanes
            }
            expected = {
                (f"q{n}", "".join(f"q{n}-{piece} " for piece in range(10))) for n in range(count)
            }
            assert answers == expected
            assert not session.losses

    asyncio.run(ask())


def test_a_full_disk_is_no_matter_of_the_agent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """While nothing can be written answers still pass; afterwards the log is whole lines, says how
    many are missing, and holds the requests that came when there was room again."""
    full = False
    write = os.write

    def small(file: int, data: bytes) -> int:
        if full and os.fstat(file).st_size:
            if len(data) > 20:
                return write(file, data[:20])  # the last bytes that there was room for
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(file, data)

    monkeypatch.setattr(log_module.os, "write", lambda file, data: small(file, bytes(data)))

    async def ask() -> None:
        nonlocal full
        async with world(tmp_path, streamed) as w:
            for number, now in enumerate((False, True, True, False)):
                full = now
                texts = [f"question {n} " + "long " * 40 for n in range(2 * number + 1)]
                async with w.client.post(w.url(CHAT), json=chat(*texts)) as response:
                    assert await response.read() == b"".join(ANSWER)
            session = await w.session()
            assert all(lines(w.log.path))
            assert w.log.lost > 0
            assert session.losses["unwritten_line"] == w.log.lost
            turns = [step for step in session.lanes[0].steps if hasattr(step, "attempt")]
            assert [turn.status for turn in turns] == ["ok", "ok"]
            asked = [step for step in session.lanes[0].steps if getattr(step, "role", "") == "user"]
            assert asked[-1].content.startswith("question 6 ")

    asyncio.run(ask())


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.sampled_from([*ANSWER, b"data: {\n\n"]), st.binary(max_size=40))))
def test_malformed_streams_pass_and_stay_readable(pieces: list[bytes]):
    """Whatever an upstream sends in place of events, the agent gets it and the log can be read."""
    pieces = [piece for piece in pieces if piece] or [b"\n"]

    async def answer(_request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        await connection.chunk(*pieces)
        await connection.end()

    async def ask() -> None:
        async with world(Path(mkdtemp()), answer) as w:
            async with w.client.post(w.url(CHAT), json=chat("hello")) as response:
                assert await response.read() == b"".join(pieces)
            session = await w.session()
            assert session.lanes[0].steps[0].content == "hello"

    asyncio.run(ask())


def test_credentials_are_never_written(tmp_path: Path):
    """No key of a request's headers, cookies, query, or of a tool server in its body, nor an
    error that repeats it, stands in the log in any form."""
    keys = [f"k{number}-{os.urandom(12).hex()}" for number in range(8)]

    async def answer(_request: Received, connection: Connection) -> None:
        body = json.dumps({"error": {"message": f"no such key: {keys[0]} {keys[1]}"}}).encode()
        await connection.send(
            b"HTTP/1.1 401 Unauthorized\r\nset-cookie: a=%b\r\nContent-Length: %d\r\n\r\n%b"
            % (keys[7].encode(), len(body), body)
        )

    headers = {
        "Authorization": f"Bearer {keys[0]}",
        "x-api-key": keys[1],
        "Cookie": f"session={keys[2]}; other=1",
        "X-Goog-Api-Key": keys[3],
        "x-unheard-of": keys[6],
    }
    tools = [{"type": "mcp", "server_url": "https://x", "headers": {"authorization": keys[5]}}]

    async def ask() -> None:
        async with world(tmp_path, answer) as w:
            body = chat(f"my key is {keys[0]}, yours {keys[4]}", tools=tools)
            url = w.url(f"{CHAT}?key={keys[4]}")
            async with w.client.post(url, json=body, headers=headers) as response:
                assert response.status == 401
                await response.read()
            await w.proxy.close()
            written = w.log.path.read_bytes()
            assert [key for key in keys if key.encode() in written] == []
            assert written.count(b"[credential]") >= 4
            assert json.loads(w.received[0].body) == body
            assert w.log.path.stat().st_mode & 0o077 == 0

    asyncio.run(ask())


def test_words_that_stand_for_no_key_are_no_credentials(tmp_path: Path):
    """The words that people give engines without keys do not blot out the conversation."""
    headers = {"Authorization": "Bearer not-needed"}

    async def ask() -> None:
        async with world(tmp_path, streamed) as w:
            text = "this is not-needed at all"
            async with w.client.post(w.url(CHAT), json=chat(text), headers=headers) as response:
                await response.read()
            assert (await w.session()).lanes[0].steps[0].content == text

    asyncio.run(ask())


def test_websockets_are_told_to_send_requests(tmp_path: Path):
    """An upgrade is answered 426 and never reaches the upstream."""

    async def ask() -> None:
        async with world(tmp_path, streamed) as w:
            with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                await w.client.ws_connect(w.url("/v1/responses"))
            assert refused.value.status == 426
            assert not w.received

    asyncio.run(ask())


def test_a_growing_conversation_is_stored_once(tmp_path: Path):
    """The log grows with what is said, not with what is sent again and again."""

    async def ask() -> None:
        async with world(tmp_path, streamed) as w:
            texts, sent = [], 0
            for number in range(120):
                texts += [f"{number} {os.urandom(400).hex()}", f"answer {number}"]
                body = json.dumps(chat(*texts[:-1], tools=[{"name": "t" * 900}])).encode()
                sent += len(body)
                async with w.client.post(w.url(CHAT), data=body) as response:
                    await response.read()
            await w.proxy.close()
            said = sum(map(len, texts))
            overhead = 120 * 1800  # of a request and its answer, whatever was said before
            assert sent > 40 * said
            assert w.log.path.stat().st_size < said + overhead

    asyncio.run(ask())


VALUES = st.recursive(
    st.none() | st.integers() | st.text(max_size=60),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=12,
)
NAMES = st.sampled_from(["messages", "input", "contents", "system", "tools", "model", "x"])


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(NAMES, VALUES), st.sampled_from([None, 1]), st.booleans(), st.binary(max_size=9)
)
def test_cut_bodies_are_whole_again(found: object, indent: int | None, twice: bool, junk: bytes):
    """A body's pieces give its bytes again, whatever its spaces, repeated keys or ends; what is no
    JSON object is not cut."""
    body = json.dumps(found, indent=indent).encode()
    if twice:
        body = body[:-1] + (b"," if len(body) > 2 else b"") + b'"messages": [1], "messages": [2]}'
    for data in (body, body + junk, junk):
        pieces = bodies.cut(data)
        if pieces is None:
            with suppress(ValueError):
                assert not isinstance(json.loads(data.decode()), dict)
        else:
            assert b"".join(pieces) == data
            assert len(pieces) % 2


@settings(max_examples=200)
@given(st.one_of(st.binary(), VALUES.map(lambda value: json.dumps(value).encode())))
def test_bytes_of_lines_are_whole_again(data: bytes):
    """Whatever bytes a line is to hold, reading it gives them again."""
    line = log_module._ENCODE(wire.Part("p", bodies.said(data)))
    assert b"\n" not in line
    assert live_log.bytes_of(wire.PART.decode(line).said) == data


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """A log of six requests."""
    folder = tmp_path_factory.mktemp("finished")

    async def ask() -> bytes:
        async with world(folder, streamed) as w:
            for number in range(6):
                texts = [f"text {n} of some length, so that it is a part" for n in range(number)]
                async with w.client.post(w.url(CHAT), json=chat(*texts)) as response:
                    await response.read()
            await w.proxy.close()
            return w.log.path.read_bytes()

    return asyncio.run(ask())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_log_can_be_read_up_to_any_byte(finished: bytes, data: st.DataObject):
    """Cut off anywhere, a log gives the requests whose lines are whole, with their answers."""
    stop = data.draw(st.integers(0, len(finished)))
    path = Path(mkdtemp()) / "cut.jsonl"
    path.write_bytes(finished[:stop])
    whole = finished[:stop].splitlines(keepends=True)
    whole = [line for line in whole if line.endswith(b"\n") or line in finished.splitlines()]
    answered = sum(line.startswith(b'{"end"') for line in whole)
    asked = sum(line.startswith(b'{"ask"') for line in whole)
    sessions = find([path]).sessions
    assert len(sessions) == (asked > 0)
    for session in sessions:
        turns = [
            step for lane in session.read().lanes for step in lane.steps if hasattr(step, "attempt")
        ]
        assert len(turns) == asked
        assert sum(turn.status == "ok" for turn in turns) == answered


def test_kill_loses_the_request_in_flight_alone(tmp_path: Path):
    """After kill -9 the log has every request that was answered; of the one in flight at most the
    question."""
    release = asyncio.Event()

    async def answer(request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        if b"hang" in request.body:
            await connection.chunk(ANSWER[0])
            await release.wait()
        await connection.chunk(*ANSWER)
        await connection.end()

    async def ask() -> None:
        async with world(tmp_path / "unused", answer) as w:
            command = ["-m", "traj", "proxy", str(tmp_path / "logs")]
            command += ["--upstream", f"openai={w.direct}/v1"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            first = (await process.stdout.readline()).decode()
            address = first.split()[2].rstrip(",")
            for number in range(20):
                body = chat(f"question {number}")
                async with w.client.post(f"{address}/s/one{CHAT}", json=body) as response:
                    await response.read()
            async with w.client.post(f"{address}/s/one{CHAT}", json=chat("hang")) as response:
                await response.content.readany()
                process.send_signal(signal.SIGKILL)
                await process.wait()
                release.set()
                with suppress(aiohttp.ClientError):
                    await response.read()
        (found,) = find([tmp_path / "logs"]).sessions
        assert found.session_id == "one"
        turns = [
            step for lane in found.read().lanes for step in lane.steps if hasattr(step, "attempt")
        ]
        assert sum(turn.status == "ok" for turn in turns) == 20
        assert len(turns) in (20, 21)

    asyncio.run(ask())


def test_the_proxy_ends_in_order(tmp_path: Path):
    """Told to end, `traj proxy` lets the request in flight come to its end, writes it, says that
    the run is closed, and ends with 0."""
    release = asyncio.Event()

    async def answer(_request: Received, connection: Connection) -> None:
        await connection.send(CHUNKED)
        await connection.chunk(ANSWER[0])
        await release.wait()
        await connection.chunk(*ANSWER[1:])
        await connection.end()

    async def ask() -> None:
        async with world(tmp_path / "unused", answer) as w:
            command = ["-m", "traj", "proxy", str(tmp_path / "logs")]
            command += ["--upstream", f"openai={w.direct}/v1"]
            process = await asyncio.create_subprocess_exec(
                sys.executable, *command, stdout=subprocess.PIPE
            )
            assert process.stdout is not None
            address = (await process.stdout.readline()).decode().split()[2].rstrip(",")
            async with w.client.post(f"{address}{CHAT}", json=chat("hello")) as response:
                await response.content.readany()
                process.terminate()
                await asyncio.sleep(0.2)
                release.set()
                assert (await response.read()).endswith(b"[DONE]\n\n")
            assert await asyncio.wait_for(process.wait(), 20) == 0
        (path,) = (tmp_path / "logs").iterdir()
        assert lines(path)[-1]["closed"] == 1
        assert ends(path)[0].cut is None

    asyncio.run(ask())


def test_requests_go_to_the_upstreams_alone():
    """A path leads to an upstream that was given, below its own address, or nowhere."""
    places = upstreams(["openai=http://one:1/team/v1", "other=https://two/api"], {})
    assert places.way("/s/r1/openai/team/v1/responses").upstream.name == "openai"
    for path in ("/s/r1/openai/team/v1/x", "/openai/x", "/s/r1/openai/x"):
        way = places.way(path)
        assert way.upstream.target(way.rest) == "http://one:1/team/v1/x"
    assert places.way("/s/r1/v1/messages").upstream.name == "anthropic"
    assert places.way("/v1/responses").upstream.name == "openai"
    assert places.way("/v1beta/models/g:generateContent").upstream.name == "gemini"
    for path in ("/", "/v1/models", "/other/../x", "/other/%2e%2e/x", "/s/../other/x", "/s/a b/x"):
        assert places.way(path) is None
    for bad in ("x", "a b=http://x", "a=ftp://x", "a=http://", "v1=http://x", "a=http://h:no/"):
        with pytest.raises(UsageError):
            upstreams([bad], {})


def test_upstreams_come_from_the_agents_own_variables():
    """Where no option says it, an upstream is what the agent's own variable names."""
    places = upstreams((), {"OPENAI_API_BASE": "http://gateway/v1", "ANTHROPIC_BASE_URL": ""})
    found = {one.name: one.origin + one.path for one in places}
    assert found["openai"] == "http://gateway/v1"
    assert found["anthropic"] == "https://api.anthropic.com"


def test_others_need_a_token(tmp_path: Path):
    """Where others can reach it, the proxy does not start without a token; with one, no path
    without it leads anywhere."""
    with pytest.raises(UsageError, match="TRAJ_PROXY_TOKEN"):
        serve(tmp_path, host="0.0.0.0", environment={}, tell=print)
    with pytest.raises(UsageError, match="at least"):
        serve(tmp_path, environment={"TRAJ_PROXY_TOKEN": "short"}, tell=print)
    places = upstreams((), {}, "0123456789abcdef")
    assert places.way("/t/0123456789abcdef/s/r/openai/v1/responses").run == "r"
    assert places.way("/t/0123456789abcdeX/s/r/openai/v1/responses") is None
    assert places.way("/s/r/openai/v1/responses") is None
    (base, *_) = places.bases("http://h:1", "r").values()
    assert base.startswith("http://h:1/t/0123456789abcdef/s/r/")
