"""A scripted model on loopback: it plays the model's part while a real coding agent does its own.

It speaks the two APIs the recorded agents use: Anthropic Messages (streamed) and OpenAI Responses
(streamed; the WebSocket variant is refused with 426, after which Codex posts ordinary requests).
What it answers comes from a plan: a JSON file with a list of steps, each a text, perhaps a
thought, and the tool calls to make at once.  Token counts are o200k_base counts of the request's
parts, and the cached part comes from a simulated prefix cache over the requests seen so far.

Each request and its answer go to ``--out`` as ``NNN.json``: the truth a log parser is held against.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import itertools
import json
import random
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tiktoken
from aiohttp import web

Json = dict[str, Any]
Event = tuple[Json, int]  # one server-sent event and the tokens of the answer it carries

CHUNK_TOKENS = 6
OPENAI_CACHE_STEP = 128
CACHE_MINIMUM = 1024
FRAME_TOKENS = 4  # what stands around the messages and is never cached


class Counter:
    """Tokens of a text, remembered, because most of a request repeats the one before it."""

    def __init__(self) -> None:
        self.encoding = tiktoken.get_encoding("o200k_base")
        self.known: dict[str, int] = {}

    def __call__(self, text: str) -> int:
        if text not in self.known:
            self.known[text] = len(self.encoding.encode(text, disallowed_special=()))
        return self.known[text]

    def pieces(self, text: str) -> list[tuple[str, int]]:
        """Cut a text into small runs of whole tokens for streaming."""
        ids = self.encoding.encode(text, disallowed_special=())
        runs = [ids[i : i + CHUNK_TOKENS] for i in range(0, len(ids), CHUNK_TOKENS)]
        parts = [(self.encoding.decode(run), len(run)) for run in runs]
        if "".join(part for part, _ in parts) != text:  # a token boundary fell inside a character
            return [(text, len(ids))]
        return parts


@dataclass
class Segment:
    """One part of a prompt, in the order in which the model would read it."""

    text: str
    tokens: int
    breakpoint: str = ""  # "5m" or "1h" where the client asked for a cache entry


@dataclass
class PrefixCache:
    """A prefix cache: which beginnings of prompts were seen before, by chained hashes."""

    marked: set[str] = field(default_factory=set)  # Anthropic: prefixes up to a cache_control mark
    seen: set[str] = field(default_factory=set)  # OpenAI: every prefix of every prompt

    @staticmethod
    def chain(segments: list[Segment], salt: str) -> list[str]:
        hashes, state = [], hashlib.sha256(salt.encode())
        for segment in segments:
            state.update(segment.text.encode("utf-8", "surrogatepass") + b"\0")
            hashes.append(state.hexdigest())
        return hashes

    def anthropic(self, segments: list[Segment], salt: str) -> Json:
        """Usage with reads up to the longest known mark and writes up to the last mark."""
        total = read = upto = 0
        by_ttl = {"5m": 0, "1h": 0}
        ttl = "5m"
        for segment, digest in zip(segments, self.chain(segments, salt), strict=True):
            total += segment.tokens
            if digest in self.marked and total >= CACHE_MINIMUM:
                read = total
            if segment.breakpoint:
                upto, ttl = total, segment.breakpoint
                if total >= CACHE_MINIMUM:
                    self.marked.add(digest)
        written = max(upto - read, 0) if upto >= CACHE_MINIMUM else 0
        by_ttl[ttl] = written
        return {
            "input_tokens": total - read - written + FRAME_TOKENS,
            "cache_creation_input_tokens": written,
            "cache_read_input_tokens": read,
            "cache_creation": {
                "ephemeral_5m_input_tokens": by_ttl["5m"],
                "ephemeral_1h_input_tokens": by_ttl["1h"],
            },
        }

    def openai(self, segments: list[Segment], salt: str) -> tuple[int, int]:
        """Prompt tokens and how many of them were cached, in steps of 128."""
        total = cached = 0
        chain = self.chain(segments, salt)
        for segment, digest in zip(segments, chain, strict=True):
            total += segment.tokens
            if digest in self.seen:
                cached = total
        self.seen.update(chain)
        cached -= cached % OPENAI_CACHE_STEP
        return total, cached if cached >= CACHE_MINIMUM else 0


class Plan:
    """The steps to play, for the main conversation and for each sub-agent."""

    def __init__(self, path: Path, agent: str, repo: str) -> None:
        data: Json = json.loads(path.read_text())
        self.name, self.agent, self.repo = path.stem, agent, repo
        self.steps: dict[str, list[Json]] = {"main": self.mine(data["main"])}
        self.agents: Json = data.get("agents", {})
        for name, sub in self.agents.items():
            self.steps[name] = self.mine(sub["steps"])
        self.scale: int = data.get("scale", {}).get(agent, 1)
        self.fail: list[Json] = self.mine(data.get("fail", []))
        self.summary: str = data.get("summary", "The work so far is done as the issue asks.")
        self.at: dict[str, int] = {}

    def mine(self, steps: list[Json]) -> list[Json]:
        return [step for step in steps if step.get("only", self.agent) == self.agent]

    def who(self, request_text: str, is_sub: bool) -> str:
        """Which conversation a request belongs to: sub-agents are known by their prompt."""
        if is_sub:
            for name, sub in self.agents.items():
                if sub["prompt"] in request_text:
                    return name
        return "main"

    def next(self, who: str) -> Json:
        at = self.at.get(who, 0)
        self.at[who] = at + 1
        steps = self.steps[who]
        return steps[at] if at < len(steps) else {"text": "All of it is done."}

    def failure(self, who: str) -> int:
        """The HTTP status to fail with now, or 0. A planned failure happens `times` times."""
        for item in self.fail:
            if item["at"] == self.at.get(who, 0) and item.get("who", "main") == who:
                if item.setdefault("times", 1) > 0:
                    item["times"] -= 1
                    return int(item["status"])
        return 0


def patch_text(path: str, old: str, new: str) -> str:
    """An edit in the patch language of Codex."""
    lines = ["*** Begin Patch", f"*** Update File: {path}", "@@"]
    lines += ["-" + line for line in old.splitlines()]
    lines += ["+" + line for line in new.splitlines()]
    return "\n".join([*lines, "*** End Patch"])


class Recorder:
    """One request and its answer, with times, on their way to a file."""

    def __init__(self, server: Server, request: web.Request, body: Json | None) -> None:
        self.server, self.start = server, time.time()
        self.index = next(server.numbers)
        self.data: Json = {
            "index": self.index,
            "method": request.method,
            "path": request.path_qs,
            "headers": {key.lower(): value for key, value in request.headers.items()},
            "start": self.start,
            "first_token": None,
            "body": body,
        }
        for secret in ("authorization", "x-api-key"):
            self.data["headers"].pop(secret, None)

    def first(self) -> None:
        if self.data["first_token"] is None:
            self.data["first_token"] = time.time()

    def save(self, status: int, **more: Any) -> None:
        self.data.update(status=status, end=time.time(), **more)
        path = self.server.out / f"{self.index:03d}.json"
        path.write_text(json.dumps(self.data, indent=1))


class Server:
    """The HTTP side: both APIs over one plan."""

    def __init__(self, plan: Plan, out: Path, seed: str) -> None:
        self.plan, self.out, self.count = plan, out, Counter()
        self.cache = PrefixCache()
        self.numbers = itertools.count(len(list(out.glob("*.json"))) + 1)
        self.random = random.Random(seed)

    def new_id(self, prefix: str, size: int = 24) -> str:
        letters = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ123456789"
        return prefix + "".join(self.random.choices(letters, k=size))

    def new_hex(self, prefix: str, size: int = 48) -> str:
        return prefix + "".join(self.random.choices("0123456789abcdef", k=size))

    def signature(self, thought: str) -> str:
        """Stands where a provider puts its encrypted reasoning. It carries no secret."""
        text = f"traj scripted model, thought of {len(thought)} characters: "
        digest = hashlib.sha512(thought.encode()).hexdigest()
        return "c2NyaXB0ZWQ" + (text + digest).encode().hex()

    async def stream(
        self, request: web.Request, record: Recorder, events: list[Event], headers: Json
    ) -> web.StreamResponse:
        """Send events at the speed of a quick model: a wait, then 100 to 200 tokens a second."""
        wait, speed = self.random.uniform(0.2, 0.6), self.random.uniform(100, 200)
        response = web.StreamResponse(headers={"content-type": "text/event-stream", **headers})
        await response.prepare(request)
        waited = False
        async for event, tokens in aiter_events(events):
            if tokens and not waited:
                await asyncio.sleep(wait)
                waited = True
            elif tokens:
                await asyncio.sleep(tokens / speed)
            line = f"event: {event['type']}\ndata: {json.dumps(event)}\n\n"
            await response.write(line.encode())
            if tokens:
                record.first()
        await response.write_eof()
        return response

    # ---- Anthropic Messages ----

    async def messages(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json()
        record = Recorder(self, request, body)
        texts = json.dumps(body["messages"], ensure_ascii=False)
        is_sub = "x-claude-code-agent-id" in request.headers
        plain = "\n".join(all_text(body["messages"]))
        who = self.plan.who(plain, is_sub)
        tools = {tool["name"] for tool in body.get("tools", []) if "name" in tool}
        last = "\n".join(all_text(body["messages"][-1:]))
        if "<summary>" in last and "summary" in last.lower() and "CRITICAL" in last:
            kind, step = "compaction", {"text": f"<summary>\n{self.plan.summary}\n</summary>"}
        elif not tools & {"Bash", "Read"}:
            kind, step = "side", {"text": self.side_answer(body, texts)}
        else:
            kind, step = ("subagent" if who != "main" else "main"), {}
            status = self.plan.failure(who)
            if status:
                name = "overloaded_error" if status == 529 else "api_error"
                message = "Overloaded" if status == 529 else "Internal server error"
                answer = {"type": "error", "error": {"type": name, "message": message}}
                await asyncio.sleep(0.15)
                request_id = self.new_id("req_011")
                record.save(status, kind=kind, who=who, request_id=request_id)
                return web.json_response(answer, status=status, headers={"request-id": request_id})
            step = self.plan.next(who)
        usage = self.cache.anthropic(self.anthropic_segments(body), body["model"])
        blocks = self.anthropic_blocks(step, body, tools)
        output = sum(self.count(json.dumps(block)) for block in blocks)
        stop = "tool_use" if any(b["type"] == "tool_use" for b in blocks) else "end_turn"
        message_id, request_id = self.new_id("msg_01", 22), self.new_id("req_011")
        full: Json = {
            "id": message_id,
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": blocks,
            "stop_reason": stop,
            "stop_sequence": None,
            "usage": {**usage, "output_tokens": output, "service_tier": "standard"},
        }
        headers = {"request-id": request_id}
        if not body.get("stream"):
            await asyncio.sleep(self.random.uniform(0.2, 0.6))
            record.first()
            record.save(200, kind=kind, who=who, answer=full, request_id=request_id)
            return web.json_response(full, headers=headers)
        response = await self.stream(request, record, self.anthropic_events(full), headers)
        record.save(200, kind=kind, who=who, answer=full, request_id=request_id)
        return response

    def side_answer(self, body: Json, texts: str) -> str:
        """Answers to small calls without tools, such as a title for the session."""
        title = f"Fix {self.plan.name.replace('-', ' ')}"
        schema = ((body.get("output_config") or {}).get("format") or {}).get("schema") or {}
        if schema:
            return json.dumps({key: title for key in schema.get("properties", {"title": {}})})
        return "quota" if '"quota"' in texts else title

    def anthropic_segments(self, body: Json) -> list[Segment]:
        parts: list[Any] = list(body.get("tools") or [])
        system = body.get("system") or []
        parts += [{"type": "text", "text": system}] if isinstance(system, str) else system
        for message in body["messages"]:
            content = message["content"]
            content = [{"type": "text", "text": content}] if isinstance(content, str) else content
            parts += [{**block, "role": message["role"]} for block in content]
        segments = []
        for part in parts:
            mark = part.get("cache_control")
            bare = {key: value for key, value in part.items() if key != "cache_control"}
            text = json.dumps(bare, ensure_ascii=False)
            ttl = mark.get("ttl", "5m") if mark else ""
            segments.append(Segment(text, self.count(text) * self.plan.scale, ttl))
        return segments

    def anthropic_blocks(self, step: Json, body: Json, tools: set[str]) -> list[Json]:
        blocks: list[Json] = []
        thought = step.get("think")
        if thought and (body.get("thinking") or {}).get("type") in ("enabled", "adaptive"):
            signature = self.signature(thought)
            blocks.append({"type": "thinking", "thinking": thought, "signature": signature})
        if step.get("text"):
            blocks.append({"type": "text", "text": step["text"]})
        for action in step.get("do", []):
            name, values = self.claude_tool(action, tools)
            block_id = self.new_id("toolu_01", 22)
            blocks.append({"type": "tool_use", "id": block_id, "name": name, "input": values})
        return blocks

    def claude_tool(self, action: Json, tools: set[str]) -> tuple[str, Json]:
        repo = self.plan.repo
        match action:
            case {"sh": command}:
                about = action.get("about", "Run a command in the repository")
                return "Bash", {"command": command, "description": about}
            case {"read": path}:
                extra = {key: action[key] for key in ("offset", "limit") if key in action}
                return "Read", {"file_path": f"{repo}/{path}", **extra}
            case {"edit": [path, old, new]}:
                names = {"file_path": f"{repo}/{path}", "old_string": old, "new_string": new}
                return "Edit", {**names, "replace_all": False}
            case {"write": [path, text]}:
                return "Write", {"file_path": f"{repo}/{path}", "content": text}
            case {"grep": [pattern, path]}:
                if "Grep" in tools:
                    values = {"pattern": pattern, "path": f"{repo}/{path}"}
                    return "Grep", {**values, "output_mode": "content"}
                command = f"grep -rnF '{pattern}' {path}"
                return "Bash", {"command": command, "description": "Search the sources"}
            case {"agent": name}:
                sub = self.plan.agents[name]
                values = {"description": sub["title"], "prompt": sub["prompt"]}
                tool = "Agent" if "Agent" in tools else "Task"
                kind = sub.get("type", "general-purpose")
                return tool, {**values, "subagent_type": kind, "run_in_background": False}
        raise ValueError(f"no Claude Code tool for {action}")

    def anthropic_events(self, full: Json) -> list[Event]:
        usage = full["usage"]
        opening = {**full, "content": [], "stop_reason": None}
        opening["usage"] = {**usage, "output_tokens": 1}
        events: list[Event] = [({"type": "message_start", "message": opening}, 0)]
        events.append(({"type": "ping"}, 0))
        fields = {"thinking": ("thinking", "thinking_delta"), "text": ("text", "text_delta")}
        for index, block in enumerate(full["content"]):

            def add(kind: str, tokens: int, index: int = index, **more: Any) -> None:
                events.append(({"type": kind, "index": index, **more}, tokens))

            if block["type"] == "tool_use":
                add("content_block_start", 0, content_block={**block, "input": {}})
                for piece, tokens in self.count.pieces(json.dumps(block["input"])):
                    delta = {"type": "input_json_delta", "partial_json": piece}
                    add("content_block_delta", tokens, delta=delta)
            else:
                key, name = fields[block["type"]]
                empty = {k: "" if k != "type" else v for k, v in block.items()}
                add("content_block_start", 0, content_block=empty)
                for piece, tokens in self.count.pieces(block[key]):
                    add("content_block_delta", tokens, delta={"type": name, key: piece})
                if "signature" in block:
                    delta = {"type": "signature_delta", "signature": block["signature"]}
                    add("content_block_delta", 0, delta=delta)
            add("content_block_stop", 0)
        numbers = {key: value for key, value in usage.items() if key.endswith("_tokens")}
        delta = {"stop_reason": full["stop_reason"], "stop_sequence": None}
        events.append(({"type": "message_delta", "delta": delta, "usage": numbers}, 0))
        events.append(({"type": "message_stop"}, 0))
        return events

    # ---- OpenAI Responses ----

    async def responses(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json()
        record = Recorder(self, request, body)
        about: Json = json.loads(request.headers.get("x-codex-turn-metadata", "{}"))
        is_sub = about.get("thread_source") == "subagent" or "parent_thread_id" in about
        who = self.plan.who("\n".join(all_text(body["input"])), is_sub)
        if about.get("request_kind") == "compaction" or request.path.endswith("/compact"):
            kind, step = "compaction", {"text": self.plan.summary}
            if any(item.get("type") == "compaction_trigger" for item in body["input"]):
                step = {"compaction": self.plan.summary}
        elif not body.get("tools"):
            kind, step = "side", {"text": f"Fix {self.plan.name.replace('-', ' ')}"}
        else:
            kind, step = ("subagent" if who != "main" else "main"), {}
            status = self.plan.failure(who)
            if status:
                error = {"message": "The server had an error", "type": "server_error"}
                await asyncio.sleep(0.15)
                request_id = self.new_hex("req_", 32)
                record.save(status, kind=kind, who=who, request_id=request_id)
                return web.json_response(
                    {"error": error}, status=status, headers={"x-request-id": request_id}
                )
            step = self.plan.next(who)
        segments = self.openai_segments(body)
        total, cached = self.cache.openai(segments, body["model"])
        items = self.openai_items(step, body)
        thought = self.count(step.get("think", ""))
        visible = [item for item in items if item["type"] not in ("reasoning", "compaction")]
        output = thought + self.count(step.get("compaction", ""))
        output += sum(self.count(json.dumps(item)) for item in visible)
        full: Json = {
            "id": self.new_hex("resp_"),
            "object": "response",
            "created_at": int(record.start),
            "status": "completed",
            "model": body["model"],
            "output": items,
            "parallel_tool_calls": True,
            "tools": [],
            "error": None,
            "incomplete_details": None,
            "usage": {
                "input_tokens": total,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": thought},
                "total_tokens": total + output,
            },
        }
        request_id = self.new_hex("req_", 32)
        headers = {"x-request-id": request_id}
        response = await self.stream(request, record, self.openai_events(full), headers)
        record.save(200, kind=kind, who=who, answer=full, request_id=request_id)
        return response

    def openai_segments(self, body: Json) -> list[Segment]:
        parts: list[Any] = list(body.get("tools") or [])
        if body.get("instructions"):
            parts.append(body["instructions"])
        parts += body["input"]
        bare = [bare_item(part) for part in parts]
        texts = [json.dumps(part, ensure_ascii=False) for part in bare]
        return [Segment(text, self.count(text)) for text in texts]

    def openai_items(self, step: Json, body: Json) -> list[Json]:
        items: list[Json] = []
        if "compaction" in step:
            item = {"id": self.new_hex("cmp_"), "type": "compaction"}
            return [{**item, "encrypted_content": self.signature(step["compaction"])}]
        if step.get("think"):
            summary = [{"type": "summary_text", "text": step["think"]}]
            item = {"id": self.new_hex("rs_"), "type": "reasoning", "summary": summary}
            items.append({**item, "encrypted_content": self.signature(step["think"])})
        if step.get("text"):
            content = [{"type": "output_text", "text": step["text"], "annotations": []}]
            item = {"id": self.new_hex("msg_"), "type": "message", "status": "completed"}
            items.append({**item, "role": "assistant", "content": content})
        for action in step.get("do", []):
            items.append(self.codex_call(action, body))
        return items

    def codex_call(self, action: Json, body: Json) -> Json:
        call: Json = {"id": self.new_hex("fc_"), "type": "function_call", "status": "completed"}
        call["call_id"] = self.new_id("call_")
        shell = {"name": "exec_command"}
        match action:
            case {"sh": command}:
                values: Json = {"cmd": command}
                if "yield_ms" in action:
                    values["yield_time_ms"] = action["yield_ms"]
                call |= {**shell, "arguments": json.dumps(values)}
            case {"read": path}:
                first = action.get("offset", 1)
                last = first + action.get("limit", 200) - 1
                values = {"cmd": f"sed -n '{first},{last}p' {path}"}
                call |= {**shell, "arguments": json.dumps(values)}
            case {"grep": [pattern, path]}:
                call |= {**shell, "arguments": json.dumps({"cmd": f"grep -rnF '{pattern}' {path}"})}
            case {"edit": [path, old, new]}:
                patch = patch_text(path, old, new)
                if any(tool.get("name") == "apply_patch" for tool in body["tools"]):
                    call |= {"id": self.new_hex("ctc_"), "type": "custom_tool_call"}
                    call |= {"name": "apply_patch", "input": patch}
                else:
                    command = f"apply_patch <<'PATCH'\n{patch}\nPATCH"
                    call |= {**shell, "arguments": json.dumps({"cmd": command})}
            case {"write": [path, text]}:
                command = f"cat > {path} <<'END'\n{text}END"
                call |= {**shell, "arguments": json.dumps({"cmd": command})}
            case {"agent": name}:
                values = {"message": self.plan.agents[name]["prompt"]}
                call |= self.namespaced("spawn_agent", body)
                call["arguments"] = json.dumps(values)
            case {"wait": _}:
                call |= self.namespaced("wait_agent", body)
                call["arguments"] = json.dumps({"targets": spawned(body), "timeout_ms": 60000})
            case {"close": _}:
                call |= self.namespaced("close_agent", body)
                call["arguments"] = json.dumps({"target": spawned(body)[0]})
            case {"plan": items}:
                call |= {"name": "update_plan", "arguments": json.dumps({"plan": items})}
            case {"poll": seconds}:
                values = {"session_id": running(body), "yield_time_ms": int(seconds * 1000)}
                call |= {"name": "write_stdin", "arguments": json.dumps(values)}
            case _:
                raise ValueError(f"no Codex tool for {action}")
        return call

    @staticmethod
    def namespaced(name: str, body: Json) -> Json:
        for tool in body["tools"]:
            if any(inner.get("name") == name for inner in tool.get("tools", [])):
                return {"name": name, "namespace": tool["name"]}
        return {"name": name}

    def openai_events(self, full: Json) -> list[Event]:
        numbers = itertools.count()
        events: list[Event] = []

        def add(kind: str, tokens: int = 0, **more: Any) -> None:
            events.append(({"type": kind, "sequence_number": next(numbers), **more}, tokens))

        opening = {**full, "status": "in_progress", "output": [], "usage": None}
        add("response.created", response=opening)
        add("response.in_progress", response=opening)
        for index, item in enumerate(full["output"]):
            at = {"item_id": item["id"], "output_index": index}
            if item["type"] == "reasoning":
                empty = {**item, "summary": [], "encrypted_content": None}
                add("response.output_item.added", output_index=index, item=empty)
                text = item["summary"][0]["text"]
                part = {"type": "summary_text", "text": ""}
                add("response.reasoning_summary_part.added", **at, summary_index=0, part=part)
                for piece, tokens in self.count.pieces(text):
                    kind = "response.reasoning_summary_text.delta"
                    add(kind, tokens, **at, summary_index=0, delta=piece)
                add("response.reasoning_summary_text.done", **at, summary_index=0, text=text)
            elif item["type"] == "message":
                empty = {**item, "status": "in_progress", "content": []}
                add("response.output_item.added", output_index=index, item=empty)
                text = item["content"][0]["text"]
                part = {"type": "output_text", "text": "", "annotations": []}
                add("response.content_part.added", **at, content_index=0, part=part)
                for piece, tokens in self.count.pieces(text):
                    kind = "response.output_text.delta"
                    add(kind, tokens, **at, content_index=0, delta=piece)
                add("response.output_text.done", **at, content_index=0, text=text)
            elif item["type"] == "compaction":
                add("response.output_item.added", 40, output_index=index, item=item)
            else:
                key = "input" if item["type"] == "custom_tool_call" else "arguments"
                name = "custom_tool_call_input" if key == "input" else "function_call_arguments"
                empty = {**item, key: "", "status": "in_progress"}
                add("response.output_item.added", output_index=index, item=empty)
                for piece, tokens in self.count.pieces(item[key]):
                    add(f"response.{name}.delta", tokens, **at, delta=piece)
                add(f"response.{name}.done", **at, **{key: item[key]})
            add("response.output_item.done", output_index=index, item=item)
        add("response.completed", response=full)
        return events

    async def refuse_socket(self, request: web.Request) -> web.StreamResponse:
        Recorder(self, request, None).save(426, kind="websocket")
        return web.Response(status=426)

    async def ready(self, request: web.Request) -> web.StreamResponse:
        return web.Response(status=204)

    async def other(self, request: web.Request) -> web.StreamResponse:
        """Everything else an agent asks for: counted, kept, and not found."""
        raw = await request.read()
        Recorder(self, request, {"raw": raw.decode("utf-8", "replace")}).save(404, kind="other")
        return web.json_response({"error": {"message": "not found"}}, status=404)

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/messages", self.messages)
        app.router.add_post("/v1/responses", self.responses)
        app.router.add_post("/v1/responses/compact", self.responses)
        app.router.add_get("/v1/responses", self.refuse_socket)
        app.router.add_get("/ready", self.ready)
        app.router.add_route("*", "/{tail:.*}", self.other)
        return app


async def aiter_events(events: list[Event]) -> AsyncIterator[Event]:
    for event in events:
        yield event


def all_text(value: Any) -> list[str]:
    """Every string in a JSON value, in order."""
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return [text for item in value for text in all_text(item)] if isinstance(value, list) else []


def bare_item(part: Any) -> Any:
    """A request item without ids, which the model does not see."""
    if not isinstance(part, dict):
        return part
    hidden = ("id", "status", "internal_chat_message_metadata_passthrough", "encrypted_content")
    return {key: value for key, value in part.items() if key not in hidden}


def outputs(body: Json) -> list[str]:
    return [
        item["output"] if isinstance(item["output"], str) else json.dumps(item["output"])
        for item in body["input"]
        if item.get("type") == "function_call_output"
    ]


def spawned(body: Json) -> list[str]:
    """Ids of the sub-agents started so far, from the results of spawn_agent."""
    names = []
    for text in outputs(body):
        if text.startswith("{") and '"agent_id"' in text:
            names.append(json.loads(text)["agent_id"])
    return names


def running(body: Json) -> int:
    """The number of the shell process which was last reported as still running."""
    marker = "Process running with session ID "
    found = [text.split(marker)[1].split()[0] for text in outputs(body) if marker in text]
    return int(found[-1]) if found else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--agent", choices=["claude", "codex"], required=True)
    parser.add_argument("--repo", required=True, help="absolute path of the repository worked on")
    parser.add_argument("--out", type=Path, required=True, help="folder for the truth")
    parser.add_argument("--seed", default="traj", help="ids and delays follow from it")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    server = Server(Plan(args.plan, args.agent, args.repo), args.out, args.seed)
    web.run_app(server.app(), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
