"""Generated Codex rollouts, beside the Claude Code sessions of `synthetic.py`."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.synthetic import Writer


def codex_session(folder: Path, seed: int, turns: int) -> Path:
    """A rollout of so many tasks; returns its file."""
    w = Writer(random.Random(seed), random.Random(seed), session="")
    w.session = w.uuid()
    name = f"rollout-{w.clock:%Y-%m-%dT%H-%M-%S}-{w.session}.jsonl"
    path = folder / f"{w.clock:%Y}" / f"{w.clock:%m}" / f"{w.clock:%d}" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as out:
        out.write(_record(w, "session_meta", _meta(w)))
        for _ in range(turns):
            out.writelines(_task(w))
    return path


def _record(w: Writer, kind: str, payload: dict[str, Any], seconds: float = 2) -> bytes:
    record = {"timestamp": w.stamp(seconds), "type": kind, "payload": payload}
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"


def _meta(w: Writer) -> dict[str, Any]:
    return {
        "id": w.session,
        "timestamp": w.clock.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "cwd": "/home/dev/project",
        "originator": "codex_cli_rs",
        "cli_version": "0.100.0",
        "source": "cli",
        "model_provider": "openai",
        "git": {"branch": "main"},
    }


def _task(w: Writer) -> Iterator[bytes]:
    turn = w.uuid()
    started = {"type": "task_started", "turn_id": turn, "model_context_window": 258_400}
    yield _record(w, "event_msg", started, 40)
    context = {"turn_id": turn, "cwd": "/home/dev/project", "model": "gpt-5.2-codex"}
    yield _record(w, "turn_context", context)
    prompt = [{"type": "input_text", "text": w.prose(w.size(180, 4_000))}]
    yield _record(w, "response_item", {"type": "message", "role": "user", "content": prompt})
    for _ in range(w.shape.randint(2, 5)):
        yield from _tool(w)
    answer = [{"type": "output_text", "text": w.prose(w.size(600, 8_000))}]
    yield _record(w, "response_item", {"type": "message", "role": "assistant", "content": answer})
    yield _token_count(w)
    yield _record(w, "event_msg", {"type": "task_complete", "turn_id": turn})


def _tool(w: Writer) -> Iterator[bytes]:
    call = w.short("call")
    arguments = json.dumps({"cmd": w.prose(w.size(120, 8_000))})
    asked = {"type": "function_call", "name": "exec", "arguments": arguments, "call_id": call}
    yield _record(w, "response_item", asked, 6)
    yield _token_count(w)
    output = f"Wall time: {w.rng.random() * 9:.2f} seconds\nOutput:\n{w.prose(w.size(900, 60_000))}"
    got = {"type": "function_call_output", "call_id": call, "output": output}
    yield _record(w, "response_item", got, 8)


def _token_count(w: Writer) -> bytes:
    fresh, output = w.rng.randint(200, 4_000), w.rng.randint(20, 900)
    last = {
        "input_tokens": w.context_tokens + fresh,
        "cached_input_tokens": w.context_tokens,
        "output_tokens": output,
        "reasoning_output_tokens": output // 3,
        "total_tokens": w.context_tokens + fresh + output,
    }
    w.grow(fresh)
    for name, tokens in last.items():
        w.codex_totals[name] = w.codex_totals.get(name, 0) + tokens
    info = {
        "total_token_usage": dict(w.codex_totals),
        "last_token_usage": last,
        "model_context_window": 258_400,
    }
    return _record(w, "event_msg", {"type": "token_count", "info": info})
