"""A stand-in for an inference engine: an OpenAI-compatible server that remembers.

It generates nothing of worth, but behaves where a replay can see it: it caches prompt prefixes in
blocks, reports usage with cached tokens, streams, and honours the caps on the answer's length.
Every request is kept with its times and offered at `GET /log`, which is what tests compare with
the dataset. `python mock_engine.py --tokenizer FILE` prints the port it chose.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
from aiohttp import web

BLOCK = 16
FIRST_TOKEN_S = 0.01
PER_TOKEN_S = 0.001
ANSWER = " self"  # a token of what it says: one in any tokenizer that has seen Python
ENDED_EARLY = 7  # tokens of an answer that neither ignore_eos nor min_tokens prolongs

Tokens = Callable[[str], list[int]]


def by_word(text: str) -> list[int]:
    """A tokenizer of last resort: a token a word."""
    return [int(hashlib.md5(word.encode()).hexdigest()[:8], 16) for word in text.split()]


def from_file(path: Path) -> Tokens:
    """The tokens of a `tokenizer.json`."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(path))

    def encode(text: str) -> list[int]:
        return list(tokenizer.encode(text, add_special_tokens=False).ids)

    return encode


def render(body: dict[str, Any]) -> str:
    """The prompt as a plain chat template would lay it out: tools, then each message."""
    if "prompt" in body:
        return str(body["prompt"])
    lines = [orjson.dumps(tool).decode() for tool in body.get("tools") or []]
    for message in body["messages"]:
        content = message.get("content") or ""
        if not isinstance(content, str):
            content = "".join(part.get("text", "") for part in content)
        calls = orjson.dumps(message.get("tool_calls") or []).decode()
        lines.append(f"<{message['role']}>{content}{calls if message.get('tool_calls') else ''}")
    return "\n".join(lines)


@dataclass
class Engine:
    """The cache and the memory of one server."""

    encode: Tokens = by_word
    cache: set[bytes] = field(default_factory=set)
    log: list[dict[str, Any]] = field(default_factory=list)

    def cached(self, tokens: list[int]) -> int:
        """How many tokens of the prompt's front are in the cache; the rest is put there."""
        chain, hit, unbroken = b"", 0, True
        for start in range(0, len(tokens) - BLOCK + 1, BLOCK):
            block = repr(tokens[start : start + BLOCK]).encode()
            chain = hashlib.sha256(chain + block).digest()
            unbroken = unbroken and chain in self.cache
            hit += BLOCK * unbroken
            self.cache.add(chain)
        return hit

    async def chat(self, request: web.Request) -> web.StreamResponse:
        arrived = time.time()
        body = orjson.loads(await request.read())
        tokens = self.encode(render(body))
        usage = {
            "prompt_tokens": len(tokens),
            "completion_tokens": answer_length(body),
            "total_tokens": len(tokens) + answer_length(body),
            "prompt_tokens_details": {"cached_tokens": self.cached(tokens)},
        }
        entry = {
            "arrived": arrived,
            "completed": None,
            "headers": {name.lower(): value for name, value in request.headers.items()},
            "body": body,
            "usage": usage,
        }
        self.log.append(entry)
        reply = _stream if body.get("stream") else _whole
        response = await reply(request, body, usage)
        entry["completed"] = time.time()
        await response.write_eof()
        return response

    async def remembered(self, request: web.Request) -> web.Response:
        return web.Response(body=orjson.dumps(self.log), content_type="application/json")

    async def forget(self, request: web.Request) -> web.Response:
        self.log.clear()
        self.cache.clear()
        return web.json_response({})

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 30)
        app.add_routes(
            [
                web.get("/v1/models", _models),
                web.post("/v1/chat/completions", self.chat),
                web.post("/v1/completions", self.chat),
                web.get("/health", _healthy),
                web.get("/log", self.remembered),
                web.post("/forget", self.forget),
            ]
        )
        return app


def answer_length(body: dict[str, Any]) -> int:
    """How many tokens the answer has: to the cap if the end is ignored, else it ends by itself."""
    cap = body.get("max_completion_tokens") or body.get("max_tokens") or 16
    if body.get("ignore_eos"):
        return int(cap)
    return min(int(cap), max(ENDED_EARLY, int(body.get("min_tokens") or 0)))


async def _whole(
    request: web.Request, body: dict[str, Any], usage: dict[str, Any]
) -> web.StreamResponse:
    length = usage["completion_tokens"]
    await asyncio.sleep(FIRST_TOKEN_S + PER_TOKEN_S * length)
    message = {"role": "assistant", "content": ANSWER * length}
    said = {"text": ANSWER * length} if "prompt" in body else {"message": message}
    choice = {"index": 0, **said, "finish_reason": _reason(body, length)}
    kind = "text_completion" if "prompt" in body else "chat.completion"
    data = _frame(body) | {"object": kind, "choices": [choice], "usage": usage}
    response = web.Response(body=orjson.dumps(data), content_type="application/json")
    await response.prepare(request)
    return response


async def _stream(
    request: web.Request, body: dict[str, Any], usage: dict[str, Any]
) -> web.StreamResponse:
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    plain = "prompt" in body  # a completion, not a chat
    frame = _frame(body) | {"object": "text_completion" if plain else "chat.completion.chunk"}
    await asyncio.sleep(FIRST_TOKEN_S)
    length = usage["completion_tokens"]
    for number in range(length):
        delta = {"content": ANSWER} | ({"role": "assistant"} if number == 0 else {})
        reason = _reason(body, length) if number == length - 1 else None
        said = {"text": ANSWER} if plain else {"delta": delta}
        choice = {"index": 0, **said, "finish_reason": reason}
        await response.write(_event(frame | {"choices": [choice]}))
        await asyncio.sleep(PER_TOKEN_S)
    if (body.get("stream_options") or {}).get("include_usage"):
        await response.write(_event(frame | {"choices": [], "usage": usage}))
    await response.write(b"data: [DONE]\n\n")
    return response


def _frame(body: dict[str, Any]) -> dict[str, Any]:
    return {"id": "mock", "created": int(time.time()), "model": body.get("model")}


def _reason(body: dict[str, Any], length: int) -> str:
    cap = body.get("max_completion_tokens") or body.get("max_tokens") or 16
    return "length" if length == cap else "stop"


def _event(data: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(data) + b"\n\n"


async def _models(request: web.Request) -> web.Response:
    return web.json_response({"object": "list", "data": [{"id": "mock", "object": "model"}]})


async def _healthy(request: web.Request) -> web.Response:
    return web.json_response({})


async def serve(engine: Engine) -> None:
    """Serves on a free loopback port, which is the first line printed, until cancelled."""
    runner = web.AppRunner(engine.app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tokenizer", type=Path, help="a tokenizer.json; else a token a word")
    arguments = parser.parse_args()
    asyncio.run(serve(Engine(from_file(arguments.tokenizer) if arguments.tokenizer else by_word)))


if __name__ == "__main__":
    main()
