"""Live logs of one growing conversation, of any length, for tests and benchmarks of their reading.

As agents do, every request sends all of the conversation again
before what is new; Anthropic's cache mark moves to the newest message each time.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import orjson

PATHS = {
    "anthropic_messages": "/v1/messages",
    "openai_chat": "/v1/chat/completions",
    "openai_responses": "/v1/responses",
    "gemini": "/v1beta/models/m:generateContent",
}
_SYSTEM = "You are a careful programmer. " * 200
_SPOKEN = {"type": "string", "description": "A path, a command or a text. " * 20}
_CACHED = {"cache_control": {"type": "ephemeral"}}


def write(path: Path, api: str, requests: int, characters: int = 1500, seed: int = 1) -> Path:
    """A log of so many requests; each brings a tool's result of about so many characters. Gives
    the file. As the proxy would write it, but in time linear in the requests."""
    from msgspec import Raw
    from msgspec.json import Encoder

    from traj.proxy.bodies import digest
    from traj.sources.live import wire

    encode, dice = Encoder().encode, random.Random(seed)
    lines = [encode(wire.Begin(wire.FORMAT, "run", 0, "1"))]
    written: set[str] = set()

    def name_of(part: bytes) -> str:
        name = digest(part)
        if name not in written:
            written.add(name)
            lines.append(encode(wire.Part(name, wire.Said(json=Raw(part)))))
        return name

    shell = _shell(api)
    before = [name_of(p) if i % 2 else p.decode() for i, p in enumerate(shell[0])]
    left = before.pop()
    behind = [p.decode() if i % 2 == 0 else name_of(p) for i, p in enumerate(shell[1])]
    new, last_kept, count = _person(api), 0, 0
    for number in range(requests):
        marked = new[-1] if api == "anthropic_messages" else None
        items = [orjson.dumps(_cached(one) if one is marked else one) for one in new]
        kept = 0 if number == 0 else len(before) + 2 * last_kept
        rest = [] if number else [*before]
        for item in items:
            rest += (left if not count else ",", name_of(item))
            count += 1
        told = wire.Pieces(number - 1 if number else None, kept, [*rest, *behind])
        at = number * 2_000_000
        lines.append(encode(wire.Ask(number, at, at, "POST", "m", PATHS[api], {}, told)))
        asks, said = _asks(api, number, _words(dice, 200))
        end = wire.End(number, at + 10**6, 200, at + 10, chunks=[(9, len(said))])
        end.said = wire.Said(json=Raw(said))
        lines.append(encode(end))
        last = new[-1:] if api == "anthropic_messages" else []  # again, without its mark
        new = [*last, *asks, *_result(api, number, _words(dice, characters))]
        last_kept = count = count - len(last)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return path


def _shell(api: str) -> tuple[list[bytes], list[bytes]]:
    """The pieces of a body before and behind what grows."""
    from traj.proxy.bodies import cut

    pieces = cut(orjson.dumps(_body(api, ["@"]))) or []
    place = next(i for i in range(0, len(pieces), 2) if b'"@"' in pieces[i])
    left, _, right = pieces[place].partition(b'"@"')
    return [*pieces[:place], left], [right, *pieces[place + 1 :]]


def _cached(message: Any) -> Any:
    """A message with the mark of Anthropic's cache."""
    return {**message, "content": [{**message["content"][-1], **_CACHED}]}


def _words(dice: random.Random, characters: int) -> str:
    return " ".join(f"{dice.getrandbits(20):05x}" for _ in range(characters // 6))


def _person(api: str) -> list[Any]:
    task = "Please fix the failing test of this repository, and say what was wrong."
    if api == "gemini":
        return [{"role": "user", "parts": [{"text": task}]}]
    if api == "openai_responses":
        return [{"role": "user", "content": [{"type": "input_text", "text": task}]}]
    if api == "anthropic_messages":
        return [{"role": "user", "content": [{"type": "text", "text": task}]}]
    return [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": task}]


def _body(api: str, said: list[Any]) -> Any:
    tools = [{"name": f"tool_{i}", "description": "A tool", "input": _SPOKEN} for i in range(20)]
    if api == "gemini":
        return {"contents": said, "tools": tools, "systemInstruction": {"parts": []}}
    if api == "openai_responses":
        return {"model": "m", "instructions": _SYSTEM, "input": said, "tools": tools}
    if api == "openai_chat":
        return {"model": "m", "messages": said, "tools": tools, "max_tokens": 4096}
    system = [{"type": "text", "text": _SYSTEM}]
    return {"model": "m", "messages": said, "system": system, "tools": tools, "max_tokens": 9}


def _asks(api: str, number: int, text: str) -> tuple[list[Any], bytes]:
    """An answer, as it is sent again and as it came."""
    call, arguments = f"call_{number}", {"path": text}
    inner = orjson.dumps(arguments).decode()
    if api == "gemini":
        asked = {"functionCall": {"name": "tool_1", "args": arguments}}
        content = {"role": "model", "parts": [asked]}
        return [content], orjson.dumps({"candidates": [{"content": content}]})
    if api == "openai_responses":
        item = {"type": "function_call", "name": "tool_1", "call_id": call, "arguments": inner}
        return [item], orjson.dumps({"id": f"r{number}", "output": [item]})
    if api == "openai_chat":
        function = {"name": "tool_1", "arguments": inner}
        calls = [{"id": call, "type": "function", "function": function}]
        message = {"role": "assistant", "content": None, "tool_calls": calls}
        return [message], orjson.dumps({"choices": [{"message": message}]})
    block = {"type": "tool_use", "id": call, "name": "tool_1", "input": arguments}
    return [{"role": "assistant", "content": [block]}], orjson.dumps(
        {"type": "message", "content": [block], "stop_reason": "tool_use"}
    )


def _result(api: str, number: int, text: str) -> list[Any]:
    call = f"call_{number}"
    if api == "gemini":
        result = {"name": "tool_1", "response": {"output": text}}
        return [{"role": "user", "parts": [{"functionResponse": result}]}]
    if api == "openai_responses":
        return [{"type": "function_call_output", "call_id": call, "output": text}]
    if api == "openai_chat":
        return [{"role": "tool", "tool_call_id": call, "content": text}]
    block = {"type": "tool_result", "tool_use_id": call, "content": text}
    return [{"role": "user", "content": [block]}]
