"""The scripted model's other two APIs, for Pi, Gemini CLI and Qwen Code: chat completions and
Gemini's streamGenerateContent, both streamed.

Plans, usage, cache and truth are those of ``../scripted_model.py``; a plan here has one `main` for
all three agents, with `sh`, `read`, `edit` and `agent` as actions. Gemini's figures are Gemini's:
its output leaves the thoughts out.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from scripted_model import Plan, Recorder, Segment, Server, all_text

Json = dict[str, Any]


class ChatServer(Server):
    """The HTTP side."""

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json()
        record = Recorder(self, request, body)
        tools = {tool["function"]["name"] for tool in body.get("tools") or []}
        kind, who, step = self.choose(body["messages"], tools)
        if status := self.fails(kind, who):
            await asyncio.sleep(0.05)
            record.save(status, kind=kind, who=who)
            error = {"message": "The server had an error", "type": "server_error"}
            return web.json_response({"error": error}, status=status)
        step = step or self.plan.next(who)
        prompt, cached = self.cache.openai(
            self.segments([*(body.get("tools") or []), *body["messages"]]), body["model"]
        )
        calls = [
            {"id": self.new_id("call_"), "type": "function", "function": self.call(action, tools)}
            for action in step.get("do", [])
        ]
        thought = self.count(step.get("think", ""))
        output = thought + self.count(step.get("text", ""))
        output += sum(self.count(json.dumps(call["function"])) for call in calls)
        answer: Json = {
            "id": self.new_id("chatcmpl-"),
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": output,
                "total_tokens": prompt + output,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": thought},
            },
            "calls": [call["id"] for call in calls],
        }
        base = {"id": answer["id"], "object": "chat.completion.chunk", "model": body["model"]}
        base |= {"created": int(record.start)}
        chunks: list[tuple[Json, int]] = [({"role": "assistant", "content": ""}, 0)]
        for key, name in (("think", "reasoning_content"), ("text", "content")):
            for piece, tokens in self.count.pieces(step.get(key, "")):
                chunks.append(({name: piece}, tokens))
        for index, call in enumerate(calls):
            text = call["function"]["arguments"]
            empty = {**call, "function": {**call["function"], "arguments": ""}}
            chunks.append(({"tool_calls": [{"index": index, **empty}]}, 1))
            for piece, tokens in self.count.pieces(text):
                part = {"index": index, "function": {"arguments": piece}}
                chunks.append(({"tool_calls": [part]}, tokens))
        events = [
            ({**base, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]}, tokens)
            for delta, tokens in chunks
        ]
        end = {"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"}
        events += [
            ({**base, "choices": [end]}, 0),
            ({**base, "choices": [], "usage": answer["usage"]}, 0),
        ]
        response = await self.send(request, record, events)
        await response.write(b"data: [DONE]\n\n")
        await response.write_eof()
        record.save(200, kind=kind, who=who, answer=answer)
        return response

    async def gemini(self, request: web.Request) -> web.StreamResponse:
        body: Json = await request.json()
        record = Recorder(self, request, body)
        model = request.match_info["model"]
        tools = {
            f["name"] for tool in body.get("tools") or [] for f in tool["functionDeclarations"]
        }
        kind, who, step = self.choose(body["contents"], tools)
        if status := self.fails(kind, who):
            await asyncio.sleep(0.05)
            record.save(status, kind=kind, who=who)
            error = {"code": status, "message": "The model is overloaded.", "status": "UNAVAILABLE"}
            return web.json_response({"error": error}, status=status)
        step = step or self.plan.next(who)
        if "complete_task" in tools and "do" not in step:
            step = {**step, "do": [{"report": step["text"]}]}
        front = [body.get("systemInstruction") or {}, *(body.get("tools") or [])]
        prompt, cached = self.cache.openai(self.segments([*front, *body["contents"]]), model)
        calls = []
        for action in step.get("do", []):
            call = self.call(action, tools)
            values = json.loads(call["arguments"])
            calls.append({"id": self.new_hex("fc", 16), "name": call["name"], "args": values})
        thought = self.count(step.get("think", ""))
        output = self.count(step.get("text", ""))
        output += sum(self.count(json.dumps(call)) for call in calls)
        usage = {
            "promptTokenCount": prompt,
            "cachedContentTokenCount": cached,
            "candidatesTokenCount": output,
            "thoughtsTokenCount": thought,
            "totalTokenCount": prompt + output + thought,
        }
        answer = {"id": self.new_id("gem"), "usage": usage, "calls": [c["id"] for c in calls]}
        parts: list[tuple[Json, int]] = []
        if step.get("think"):
            parts.append(({"text": step["think"], "thought": True}, thought))
        parts += [({"text": piece}, n) for piece, n in self.count.pieces(step.get("text", ""))]
        for call in calls:
            signed = {"functionCall": call, "thoughtSignature": "c2NyaXB0ZWQ="}
            parts.append((signed, self.count(json.dumps(call))))
        base = {"modelVersion": model, "responseId": answer["id"]}
        events = [
            ({**base, "candidates": [{"index": 0, "content": {"role": "model", "parts": [p]}}]}, n)
            for p, n in parts
        ]
        last = {"role": "model", "parts": [{"text": ""}]}
        done = {"index": 0, "content": last, "finishReason": "STOP"}
        events.append(({**base, "candidates": [done], "usageMetadata": usage}, 0))
        if request.path.endswith(":streamGenerateContent"):
            response = await self.send(request, record, events)
            await response.write_eof()
            record.save(200, kind=kind, who=who, answer=answer)
            return response
        await asyncio.sleep(0.1)
        record.first()
        record.save(200, kind=kind, who=who, answer=answer)
        whole = {"role": "model", "parts": [part for part, _ in parts]}
        done = {"index": 0, "content": whole, "finishReason": "STOP"}
        return web.json_response({**base, "candidates": [done], "usageMetadata": usage})

    def choose(self, messages: list[Json], tools: set[str]) -> tuple[str, str, Json]:
        """What a request is for, whose it is, and the answer where the plan has none for it."""
        texts = "\n".join(all_text([m for m in messages if m["role"] in ("user", "model")][:2]))
        # A sub-agent's conversation begins with its prompt; the main agent's only quotes it.
        who = self.plan.who(texts, True)
        if tools & {"bash", "run_shell_command", "read_file"}:
            return ("subagent" if who != "main" else "main"), who, {}
        return "side", who, {"text": self.plan.summary}

    def fails(self, kind: str, who: str) -> int:
        return 0 if kind == "side" else self.plan.failure(who)

    def segments(self, parts: list[Any]) -> list[Segment]:
        texts = [json.dumps(part, ensure_ascii=False) for part in parts]
        return [Segment(text, self.count(text)) for text in texts]

    async def send(
        self, request: web.Request, record: Recorder, events: list[tuple[Json, int]]
    ) -> web.StreamResponse:
        wait, speed = self.random.uniform(0.1, 0.2), self.random.uniform(200, 400)
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for place, (event, tokens) in zip(itertools.count(), events):
            if tokens:
                await asyncio.sleep(tokens / speed if record.data["first_token"] else wait)
            await response.write(f"data: {json.dumps(event)}\r\n\r\n".encode())
            if tokens or place == len(events) - 1:
                record.first()
        return response

    def call(self, action: Json, tools: set[str]) -> Json:
        """A function call in the terms of the agent that offers these tools."""
        pi, repo = "bash" in tools, self.plan.repo
        values: Json
        match action:
            case {"sh": command}:
                name, values = "bash" if pi else "run_shell_command", {"command": command}
                if not pi:
                    values["description"] = action.get("about", "Run a command")
            case {"read": path}:
                name = "read" if pi else "read_file"
                values = {"path": path} if pi else {"file_path": f"{repo}/{path}"}
            case {"edit": [path, old, new]}:
                if pi:
                    edits = [{"oldText": old, "newText": new}]
                    name, values = "edit", {"path": path, "edits": edits}
                else:
                    values = {"file_path": f"{repo}/{path}", "old_string": old, "new_string": new}
                    name = "edit" if "edit" in tools else "replace"
                    if name == "replace":
                        values["instruction"] = "Round up instead of adding one"
            case {"report": text}:
                name, values = "complete_task", {"result": {"response": text}}
            case {"agent": which}:
                sub = self.plan.agents[which]
                if "invoke_agent" in tools:
                    values = {"agent_name": "generalist", "prompt": sub["prompt"]}
                    name = "invoke_agent"
                elif "agent" in tools:
                    values = {"description": sub["title"], "prompt": sub["prompt"]}
                    values["subagent_type"] = "general-purpose"
                    name = "agent"
                else:
                    name, values = "bash", {"command": "git log --oneline | head -3"}
            case _:
                raise ValueError(f"no tool for {action}")
        return {"name": name, "arguments": json.dumps(values, ensure_ascii=False)}

    def app(self) -> web.Application:
        app = web.Application(client_max_size=1 << 26)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_post("/v1beta/models/{model}:streamGenerateContent", self.gemini)
        app.router.add_post("/v1beta/models/{model}:generateContent", self.gemini)
        app.router.add_get("/ready", self.ready)
        app.router.add_route("*", "/{tail:.*}", self.other)
        return app


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", default="traj")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    server = ChatServer(Plan(args.plan, "chat", args.repo), args.out, args.seed)
    web.run_app(server.app(), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
