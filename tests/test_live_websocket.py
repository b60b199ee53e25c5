"""WebSockets through the proxy: passed on as they are, logged as the requests they stand for."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import WSMsgType, web

import live_agents
from traj.dataset import Dataset
from traj.events import Session, Turn
from traj.pipeline import record
from traj.proxy.log import Log
from traj.proxy.server import Proxy
from traj.proxy.upstreams import Upstreams, upstream
from traj.sources import find

KEY = "sk-live-0123456789abcdef"
PATH = "/v1/responses"
TOOLS = [{"type": "function", "name": "shell", "parameters": {"type": "object"}}]
Serving = Callable[[web.WebSocketResponse], Awaitable[None]]


@dataclass
class Front:
    """A proxy before a server of WebSockets, and a client's session."""

    url: str
    proxy: Proxy
    log: Log
    client: aiohttp.ClientSession
    heads: list[Any]

    def socket(self, **options: Any) -> Any:
        headers = {"Authorization": f"Bearer {KEY}", "session-id": "s1", "thread-id": "s1"}
        return self.client.ws_connect(self.url, headers=headers, max_msg_size=0, **options)

    async def ends(self) -> list[dict[str, Any]]:
        await self.proxy.close()
        return [one for one in lines(self.log) if "end" in one]

    async def session(self) -> Session:
        await self.proxy.close()
        (found,) = find([self.log.path]).sessions
        return found.read()


def lines(log: Log) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.path.read_text().splitlines()]


@asynccontextmanager
async def front(folder: Path, serve: Serving, *, sockets: bool = True) -> AsyncIterator[Front]:
    heads = []

    async def answer(request: web.Request) -> web.StreamResponse:
        heads.append(request.headers)
        if request.method == "POST":
            return await over_http(request)
        if "refused" in request.query_string:
            return web.Response(status=403, text="not you", headers={"X-Why": "because"})
        socket = web.WebSocketResponse(max_msg_size=0, protocols=("two",), autoping=False)
        socket.headers["X-Model"] = "m"
        await socket.prepare(request)
        await serve(socket)
        return socket

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{any:.*}", answer)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    log = Log(folder / "run.jsonl", "run")
    places = Upstreams([upstream("model", f"http://127.0.0.1:{port}/v1")])
    proxy = Proxy(places, folder, "run", own=log, sockets=sockets)
    address = await proxy.start()
    try:
        async with aiohttp.ClientSession() as client:
            yield Front(f"{address}/model/v1/responses", proxy, log, client, heads)
    finally:
        await proxy.close()
        await runner.cleanup()


def events(number: int, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The answer to request `number`: a call, then words; nothing to a warm-up."""
    response = {"id": f"resp_{number}", "model": "m", "status": "in_progress", "output": []}
    created = {"type": "response.created", "response": response}
    usage = {"input_tokens": 10 + number, "output_tokens": number}
    if body.get("generate") is False:
        ended = response | {"status": "completed", "usage": {"input_tokens": 0, "output_tokens": 0}}
        return [created, {"type": "response.completed", "response": ended}]
    item: dict[str, Any] = {
        "type": "message",
        "role": "assistant",
        "content": [{"type": "output_text", "text": f"Answer {number}"}],
    }
    if number == 1:
        item = {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{}"}
    ended = response | {"status": "completed", "usage": usage, "output": [item]}
    return [
        created,
        {"type": "response.output_text.delta", "delta": "An"},
        {"type": "response.output_item.done", "item": item},
        {"type": "response.completed", "response": ended},
    ]


async def over_http(request: web.Request) -> web.StreamResponse:
    body = await request.json()
    number = int(request.headers["X-Number"])
    text = "".join(f"data: {json.dumps(one)}\n\n" for one in events(number, body))
    return web.Response(text=text, content_type="text/event-stream")


async def speaks(socket: web.WebSocketResponse) -> None:
    """Answers each `response.create` in turn; the first number is 1, or 0 for a warm-up."""
    number = 1
    async for message in socket:
        body = json.loads(message.data)
        warm = body.get("generate") is False
        for event in events(0 if warm else number, body):
            await socket.send_json(event)
        number += not warm


def user(text: str) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}]}


CALL = {"type": "function_call", "call_id": "c1", "name": "shell", "arguments": "{}"}
RESULT = {"type": "function_call_output", "call_id": "c1", "output": "done"}
SAID = {
    "type": "message",
    "role": "assistant",
    "content": [{"type": "output_text", "text": "Answer 2"}],
}
NEW = [[user("Fix it")], [RESULT], [user("Thanks")]]
WHOLE = [
    [user("Fix it")],
    [user("Fix it"), CALL, RESULT],
    [user("Fix it"), CALL, RESULT, SAID, user("Thanks")],
]


def create(given: list[Any], **more: Any) -> dict[str, Any]:
    told = {"model": "m", "instructions": "Be brief.", "tools": TOOLS, "input": given}
    return {"type": "response.create", **told, **more}


async def ask(socket: Any, body: dict[str, Any]) -> list[dict[str, Any]]:
    """Sends a request, and gives the events of its answer."""
    await socket.send_json(body)
    found = []
    while not found or found[-1]["type"] not in ("response.completed", "response.failed", "error"):
        found.append(await socket.receive_json(timeout=20))
    return found


def rows(log: Log, out: Path) -> list[Any]:
    """What each request of a log was, as the dataset has it."""
    assert not record([log.path], out).problems
    dataset = Dataset.open(out)
    assert dataset.table("trajectories").num_rows == 1
    (session,) = find([log.path]).sessions
    found = []
    for lane in session.read().lanes:
        for step in lane.steps:
            if isinstance(step, Turn):
                answer = step.answer
                said = None if answer is None else (answer.content, answer.tool_calls)
                found.append((said, step.usage, step.system, step.tools, step.status))
            else:
                found.append((type(step).__name__, getattr(step, "content", None)))
    return found


@pytest.mark.parametrize("warm", [None, "whole", "empty"])
def test_a_socket_records_as_requests_would(tmp_path: Path, warm: str | None):
    """A conversation on a socket, each request bringing what is new, is the same in the dataset as
    one sent in whole; a warm-up adds nothing, wherever its input stood."""

    async def on_socket() -> Log:
        async with front(tmp_path / "a", speaks) as f:
            async with f.socket() as socket:
                before, given = None, list(NEW)
                if warm is not None:
                    first = NEW[0] if warm == "whole" else []
                    await ask(socket, create(first, generate=False))
                    before = "resp_0"
                    given[0] = [] if warm == "whole" else NEW[0]
                for number, new in enumerate(given, 1):
                    more = {} if before is None else {"previous_response_id": before}
                    got = await ask(socket, create(new, **more))
                    assert got == events(number, {})
                    before = f"resp_{number}"
            await f.proxy.close()
            return f.log

    async def over_requests() -> Log:
        async with front(tmp_path / "b", speaks) as f:
            for number, given in enumerate(WHOLE, 1):
                headers = {"X-Number": str(number), "session-id": "s1", "thread-id": "s1"}
                body = create(given)
                async with f.client.post(f.url, json=body, headers=headers) as response:
                    await response.read()
            await f.proxy.close()
            return f.log

    found = rows(asyncio.run(on_socket()), tmp_path / "a.traj")
    assert found == rows(asyncio.run(over_requests()), tmp_path / "b.traj")
    assert sum(isinstance(one[0], tuple) for one in found) == 3


def test_frames_pass_as_they_are(tmp_path: Path):
    """Text, bytes, pings, pongs, the subprotocol, headers, a close's code and reason pass both ways
    unchanged, and so does a message of 20 MB; what is no request is counted in the log."""
    large = json.dumps(create([user("x" * 20_000_000)]))
    seen: list[tuple[WSMsgType, Any]] = []

    async def echo(socket: web.WebSocketResponse) -> None:
        while (message := await socket.receive()).type not in (WSMsgType.CLOSE, WSMsgType.CLOSED):
            seen.append((message.type, message.data))
            await socket.send_frame(bytes(_raw(message.data)), message.type)
        seen.append((message.type, (message.data, message.extra)))

    async def go() -> list[dict[str, Any]]:
        sent = [
            (WSMsgType.TEXT, '{"type": "hello", "é": 1}'),
            (WSMsgType.TEXT, "no json"),
            (WSMsgType.BINARY, bytes(range(256))),
            (WSMsgType.PING, b"are you"),
            (WSMsgType.PONG, b""),
            (WSMsgType.TEXT, large),
        ]
        async with front(tmp_path, echo) as f:
            options = {"protocols": ("one", "two"), "compress": 15, "autoping": False}
            async with f.socket(**options) as socket:
                assert (socket.protocol, socket.compress) == ("two", 15)
                assert socket._response.headers["X-Model"] == "m"
                for kind, data in sent:
                    await socket.send_frame(_raw(data), kind)
                    got = await socket.receive(timeout=60)
                    assert (got.type, got.data) == (kind, data)
                await socket.close(code=4321, message=b"enough")
            assert seen == [*sent, (WSMsgType.CLOSE, (4321, "enough"))]
            assert f.heads[0]["Authorization"] == f"Bearer {KEY}"
            return await f.ends()

    ended = asyncio.run(go())
    counted = next(one["frames"] for one in ended if one.get("status") == 101 and "frames" in one)
    assert counted["agent hello"] == counted["upstream hello"] == 1
    assert counted["agent binary"] == counted["agent ping"] == counted["upstream pong"] == 1
    assert KEY not in (tmp_path / "run.jsonl").read_text()
    assert "x" * 20_000_000 in (tmp_path / "run.jsonl").read_text()


def _raw(data: str | bytes) -> bytes:
    return data.encode() if isinstance(data, str) else bytes(data)


def test_refused_by_default(tmp_path: Path):
    """Without the option the answer is 426, and nothing reaches the upstream."""

    async def go() -> None:
        async with front(tmp_path, speaks, sockets=False) as f:
            with pytest.raises(aiohttp.WSServerHandshakeError) as told:
                await f.socket()
            assert told.value.status == 426
            assert not f.heads

    asyncio.run(go())


def test_a_refusal_is_the_upstreams_own(tmp_path: Path):
    """An upstream that agrees to no socket is heard as it answered: status, headers, body."""

    async def go() -> None:
        async with front(tmp_path, speaks) as f:
            headers = {
                "Upgrade": "websocket",
                "Connection": "Upgrade",
                "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
            }
            async with f.client.get(f"{f.url}?refused", headers=headers) as response:
                assert response.status == 403
                assert response.headers["X-Why"] == "because"
                assert await response.text() == "not you"
            assert [one["status"] for one in await f.ends()] == [403]

    asyncio.run(go())


def test_an_upstream_that_dies_mid_answer(tmp_path: Path):
    """The agent's connection breaks off as the upstream's does; the request is one that failed."""

    async def dies(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        for event in events(2, {})[:2]:
            await socket.send_json(event)
        socket._req.transport.abort()

    async def go() -> Session:
        async with front(tmp_path, dies) as f:
            async with f.socket() as socket:
                await socket.send_json(create([user("Fix it")]))
                got = [(await socket.receive(timeout=20)).type for _ in range(3)]
                assert got[:2] == [WSMsgType.TEXT, WSMsgType.TEXT]
                assert got[2] not in (WSMsgType.TEXT, WSMsgType.CLOSE)
            return await f.session()

    (turn,) = turns(asyncio.run(go()))
    assert (turn.status, turn.error) == ("error", "cut_off")


def test_an_agent_that_hangs_up(tmp_path: Path):
    """The upstream sees the agent go; the request in flight was cancelled."""
    gone = asyncio.Event()

    async def waits(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        for event in events(2, {})[:2]:
            await socket.send_json(event)
        if (await socket.receive()).type is not WSMsgType.TEXT:
            gone.set()

    async def go() -> Session:
        async with front(tmp_path, waits) as f:
            socket = await f.socket()
            await socket.send_json(create([user("Fix it")]))
            await socket.receive(timeout=20)
            await socket.receive(timeout=20)
            socket._response.connection.transport.abort()
            await asyncio.wait_for(gone.wait(), 20)
            return await f.session()

    (turn,) = turns(asyncio.run(go()))
    assert turn.status == "cancelled"


def turns(session: Session) -> list[Turn]:
    return [step for lane in session.lanes for step in lane.steps if isinstance(step, Turn)]


def test_an_error_is_the_requests_own(tmp_path: Path):
    """An error event ends its request with its status, and the socket goes on."""

    async def fails(socket: web.WebSocketResponse) -> None:
        await socket.receive()
        error = {"code": "previous_response_not_found", "message": "gone"}
        await socket.send_json({"type": "error", "status": 400, "error": error})
        await socket.receive()
        for event in events(2, {}):
            await socket.send_json(event)
        await socket.receive()

    async def go() -> Session:
        async with front(tmp_path, fails) as f:
            async with f.socket() as socket:
                await ask(socket, create([user("Fix it")], previous_response_id="resp_x"))
                await ask(socket, create([user("Fix it")]))
            return await f.session()

    first, second = turns(asyncio.run(go()))
    assert (first.status, first.error) == ("error", "previous_response_not_found")
    assert second.status == "ok"


def test_two_hundred_sockets_lose_nothing(tmp_path: Path):
    """200 at once: every request and every answer is in the log, whole."""

    async def go() -> list[dict[str, Any]]:
        async with front(tmp_path, speaks) as f:

            async def one(number: int) -> None:
                async with f.socket() as socket:
                    await ask(socket, create([user(f"Fix {number}")]))
                    got = await ask(socket, create([RESULT], previous_response_id="resp_1"))
                    assert got == events(2, {})

            await asyncio.gather(*map(one, range(200)))
            await f.proxy.close()
        return lines(f.log)

    found = asyncio.run(go())
    posts = {one["ask"] for one in found if one.get("method") == "POST"}
    answered = [one for one in found if one.get("end") in posts]
    assert len(posts) == len(answered) == 400
    assert all("response.completed" in one["said"]["text"] for one in answered)
    assert not any("cut" in one for one in answered)


def test_a_killed_proxy_has_what_the_agent_heard(tmp_path: Path):
    """When the agent sees the end of an answer, that answer is in the log's file."""

    async def go() -> None:
        async with front(tmp_path, speaks) as f, f.socket() as socket:
            for number in (1, 2, 3):
                await ask(socket, create([user(f"Fix {number}")]))
                done = [one for one in lines(f.log) if "end" in one]
                assert len(done) == number

    asyncio.run(go())


@pytest.mark.agents
def test_codex_says_on_a_socket_what_it_sends_in_requests(tmp_path: Path):
    """A real Codex over a socket gives the conversation that it gives over requests: one lane, a
    turn for each request, nothing lost, its warm-up no turn."""
    (codex,) = (one for one in live_agents.RUNS if one.name == "codex")
    told = []
    for name, sockets in (("a", True), ("b", False)):
        place = tmp_path / name
        place.mkdir()
        found = live_agents.run(replace(codex, sockets=sockets), place)
        assert found.exit_code == 0, found.said
        (log,) = place.glob("out.traj.live/*.jsonl")
        asked = [json.loads(line).get("method") for line in log.read_text().splitlines()]
        assert ("WARM" in asked) == sockets
        (one,) = find([log]).sessions
        session = one.read()
        assert not session.losses
        (lane,) = session.lanes
        told.append([_plain(step, str(place)) for step in lane.steps])
    assert told[0] == told[1]
    assert sum(one[0] == "Turn" for one in told[0]) >= 5


def _plain(step: Any, place: str) -> tuple[Any, ...]:
    """A step but for what differs from run to run: times, places, what tools said."""
    if isinstance(step, Turn):
        answer = step.answer
        calls = (
            None if answer is None else [(call.name, call.arguments) for call in answer.tool_calls]
        )
        return "Turn", step.status, step.tools, step.usage.output_tokens, calls
    content = getattr(step, "content", None) or ""
    role = getattr(step, "role", None)
    return type(step).__name__, role, "" if role == "tool" else content.replace(place, "")
