"""Record the sample sessions of mini-swe-agent against a scripted model of its own.

    python3 -m venv agents/mini1; agents/mini1/bin/pip install mini-swe-agent==1.17.5
    python3 -m venv agents/mini2; agents/mini2/bin/pip install mini-swe-agent==2.4.6 mcp
    python3 record_mini.py --agents agents --scratch <empty folder> --out <sample_data> [name ...]

Each run is isolated as ``../record.py`` does it. All prompts are ours: the agent takes them from a
configuration file. The server answers chat completions and Responses, not streamed, by the list
PLAN; a request's truth is what it saw and sent.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import tiktoken

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from record import (  # noqa: E402 - it lies in the folder above
    HOME,
    PORT,
    as_user,
    environment,
    make_repository,
    mount,
    run,
)

Json = dict[str, Any]
TASK = "python-pager"
RUNS = {"mini-tools": "mini2", "mini-responses": "mini2", "mini-text": "mini1"}
ASK = "Please fix the problem described in ISSUE.md, run the tests, and commit."
END = "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"
EDIT = "sed -i 's|return self.total // self.size + 1|return max(1, -(-self.total // self.size))|' "
# text, thought, commands; a step without commands is an answer that the agent cannot use
PLAN: list[tuple[str, str, list[str]]] = [
    ("I'll read the issue first.", "", ["cat ISSUE.md", "ls -R . | head -30"]),
    ("Now the code.", "The count of pages must be in pager/page.py.", ["cat pager/page.py"]),
    ("It adds one page always, so exact multiples get one too many.", "", []),
    ("I'll see it fail.", "", ["python3 -m unittest 2>&1 | tail -20; exit ${PIPESTATUS[0]}"]),
    ("Is anything else slow here?", "", ["sleep 5"]),
    ("Rounding up, with one page at least.", "-(-a // b) rounds up.", [EDIT + "pager/page.py"]),
    ("Again the tests.", "", ["python3 -m unittest 2>&1 | tail -3"]),
    ("Green; committing.", "", ["git commit -qam 'Round the page count up' && git log --oneline"]),
    ("Done.", "", [END]),
]
FAILS_AT = 4  # this request is answered 500 once
CONFIG: Json = {
    "agent": {
        "system_template": "You work in a shell, one step at a time. This is a sample recording.",
        "instance_template": "Your task: {{task}}\n\nWhen all is done, run `" + END + "`.",
        "mode": "yolo",
    },
    "environment": {"timeout": 2},
    "model": {
        "model_kwargs": {"temperature": 0.2, "max_tokens": 2000},
        "cost_tracking": "ignore_errors",
    },
}
TOOLS: Json = {
    "observation_template": "exit {{output.returncode}}\n{{output.output}}{{output.exception_info}}",
    "format_error_template": "Please call the tool with a command.",
}
TEXT: Json = {
    "action_observation_template": "exit {{output.returncode}}\n{{output.output}}",
    "format_error_template": "Please give one block of bash, not {{actions|length}}.",
    "timeout_template": "Stopped after two seconds: {{action['action']}}",
}


class Model:
    """What answers, and what it saw."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.count = tiktoken.get_encoding("o200k_base")
        self.seen: list[Json] = []
        self.steps = iter(PLAN)
        self.failed = False
        self.before: list[str] = []
        self.ids = itertools.count(1)

    def tokens(self, *texts: Any) -> int:
        return sum(
            len(self.count.encode(text if isinstance(text, str) else json.dumps(text)))
            for text in texts
        )

    def answer(self, path: str, body: Json) -> tuple[int, Json]:
        start = time.time()
        prompt = [json.dumps(part) for part in [*body.get("tools", []), *asked(body)]]
        note: Json = {"index": len(self.seen), "api": path.rpartition("/v1/")[2], "start": start}
        note["inputs"] = len(asked(body))
        self.seen.append(note)
        if len(self.seen) == FAILS_AT and not self.failed:
            self.failed = True
            note |= {"status": 500, "end": time.time()}
            return 500, {"error": {"message": "a failure by plan", "type": "server_error"}}
        text, thought, commands = next(self.steps)
        pairs = zip(self.before, prompt, strict=False)
        same = itertools.takewhile(lambda two: two[0] == two[1], pairs)
        whole, cached = self.tokens(*prompt), self.tokens(*(one for one, _ in same))
        cached = cached // 16 * 16
        self.before = prompt
        time.sleep(0.15 + len(text) / 400)
        made = self.response if path.endswith("/responses") else self.chat
        found = made(body, text, thought, commands, whole, cached)
        note |= {"status": 200, "response_id": found["id"], "usage": found["usage"]}
        note["end"] = time.time()
        return 200, found

    def name_of(self, prefix: str) -> str:
        return f"{prefix}{self.name.replace('-', '')}{next(self.ids):04d}"

    def chat(self, body: Json, text: str, thought: str, commands: list[str], *usage: int) -> Json:
        message: Json = {"role": "assistant", "content": text}
        if thought:
            message["reasoning_content"] = thought
        if commands and body.get("tools"):
            message["tool_calls"] = [
                {"id": self.name_of("call_"), "type": "function", "function": bash(command)}
                for command in commands
            ]
        elif commands:
            command = " && ".join(commands)
            message["content"] = f"{text}\n\n```bash\n{command}\n```"
        whole, cached = usage
        output = self.tokens(message["content"], thought, *message.get("tool_calls", []))
        return {
            "id": self.name_of("chatcmpl-"),
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": "tool_calls" if "tool_calls" in message else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": whole,
                "completion_tokens": output,
                "total_tokens": whole + output,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": self.tokens(thought)},
            },
        }

    def response(
        self, body: Json, text: str, thought: str, commands: list[str], *usage: int
    ) -> Json:
        items: list[Json] = []
        if thought:
            summary = [{"type": "summary_text", "text": thought}]
            items.append({"type": "reasoning", "id": self.name_of("rs_"), "summary": summary})
        content = [{"type": "output_text", "text": text, "annotations": []}]
        said = {"type": "message", "id": self.name_of("msg_"), "status": "completed"}
        items.append({**said, "role": "assistant", "content": content})
        for command in commands:
            call = {"type": "function_call", "id": self.name_of("fc_"), **bash(command)}
            items.append({**call, "call_id": self.name_of("call_"), "status": "completed"})
        whole, cached = usage
        output = self.tokens(text, thought, *(bash(command) for command in commands))
        return {
            "id": self.name_of("resp_"),
            "object": "response",
            "created_at": int(time.time()),
            "status": "completed",
            "model": body["model"],
            "output": items,
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": {
                "input_tokens": whole,
                "input_tokens_details": {"cached_tokens": cached},
                "output_tokens": output,
                "output_tokens_details": {"reasoning_tokens": self.tokens(thought)},
                "total_tokens": whole + output,
            },
        }


def asked(body: Json) -> list[Any]:
    found = body.get("messages", body.get("input"))
    return found if isinstance(found, list) else [found]


def bash(command: str) -> Json:
    return {"name": "bash", "arguments": json.dumps({"command": command})}


def serve(model: Model) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = model.answer(self.path, body)
            data = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", PORT), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server


def inside(name: str, agents: Path, scratch: Path) -> None:
    base, repo = scratch / name, HOME / "src" / TASK
    model = Model(name)  # reads its vocabulary from outside the neutral home
    mount(base, agents)
    make_repository(TASK, repo)
    config = json.loads(json.dumps(CONFIG))
    config["model"] |= TOOLS if RUNS[name] == "mini2" else {}
    config["agent"] |= {} if RUNS[name] == "mini2" else TEXT
    if name == "mini-responses":
        config["model"] |= {"model_class": "litellm_response"}
        config["model"]["model_kwargs"] = {"temperature": 0.2, "max_output_tokens": 2000}
    (HOME / "config.yaml").write_text(json.dumps(config))  # JSON is YAML
    server = serve(model)
    env = environment("codex") | {
        "OPENAI_API_KEY": "sk-scripted",
        "OPENAI_API_BASE": f"http://127.0.0.1:{PORT}/v1",
        "MSWEA_CONFIGURED": "true",
        "MSWEA_SILENT_STARTUP": "1",
        "MSWEA_COST_TRACKING": "ignore_errors",
        "MSWEA_MINI_CONFIG_PATH": str(HOME / "config.yaml"),
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    python = HOME / ".agents" / RUNS[name] / "bin" / "python"
    command = [str(python), "-m", "minisweagent.run.mini", "-c", str(HOME / "config.yaml")]
    command += ["-m", "openai/scripted-1", "-t", ASK, "-y", "--exit-immediately"]
    with (base / "run.txt").open("w") as out:
        command += ["-o", str(HOME / f"{name}.traj.json")]
        as_user(command, repo, env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    server.shutdown()
    truth = {"recording": name, "requests": model.seen}
    (base / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def outside(name: str, args: argparse.Namespace) -> None:
    base = args.scratch.resolve() / name
    if base.exists():
        shutil.rmtree(base)
    (base / "home").mkdir(parents=True)
    inner = [sys.executable, __file__, "--agents", str(args.agents.resolve())]
    inner += ["--scratch", str(args.scratch.resolve()), "--out", str(args.out), "--inner", name]
    run("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *inner)
    (args.out / "mini_swe_agent").mkdir(exist_ok=True)
    document = json.loads((base / "home" / f"{name}.traj.json").read_text())
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (args.out / "mini_swe_agent" / f"{name}.traj.json").write_text(text + "\n")
    (args.out / "truth" / "mini_swe_agent").mkdir(exist_ok=True)
    shutil.copy(base / "truth.json", args.out / "truth" / "mini_swe_agent" / f"{name}.json")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="recordings to make; all if none is named")
    args = parser.parse_args()
    if args.inner:
        return inside(args.inner, args.agents, args.scratch)
    for name in args.names or RUNS:
        print("recording", name, flush=True)
        outside(name, args)
        os.sync()


if __name__ == "__main__":
    main()
