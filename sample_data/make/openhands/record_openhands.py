"""Record the sample session of the OpenHands SDK against a scripted model of its own.

    python3.13 -m venv agents/openhands
    agents/openhands/bin/pip install openhands-sdk==1.58.0 openhands-tools==1.58.0
    python3 record_openhands.py --agents agents --scratch <empty folder> --out <sample_data>

Isolated as ``../record.py`` does it. The agent's own texts (descriptions of tools, what it puts
into system prompts and asks for summaries with) are replaced by texts of ours of the same length.
"""

from __future__ import annotations

import argparse
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

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from neutralise import Neutral  # noqa: E402 - it lies in the folder above

from record import (  # noqa: E402
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
ASK = "Please fix the problem described in ISSUE.md, run the tests, and commit."
ERRAND = "Find out who calls page_count, and report the file in one line."
SUMMARY = "So far: the issue was read, and page_count adds one page too many for exact multiples."
EDIT = "sed -i 's|return self.total // self.size + 1|return max(1, -(-self.total // self.size))|' "
Act = tuple[str, Json]


def shell(command: str) -> Act:
    return "terminal", {"command": command, "security_risk": "LOW", "summary": "Run a command"}


# text, thought, calls; the name of a plan is how the person's words begin
PLANS: dict[str, list[tuple[str, str, list[Act]]]] = {
    ASK: [
        ("I'll read the issue first.", "", [shell("cat ISSUE.md"), shell("ls -R . | head -30")]),
        (
            "Who else counts pages?",
            "A helper can find that.",
            [("task", {"prompt": ERRAND, "subagent_type": "looker", "description": "Look it up"})],
        ),
        (
            "Now the code.",
            "",
            [("file_editor", {"command": "view", "path": "REPO/pager/page.py"})],
        ),
        ("I'll see it fail.", "", [shell("python3 -m unittest 2>&1 | tail -20; false")]),
        ("Rounding up, with one page at least.", "-(-a // b)", [shell(EDIT + "pager/page.py")]),
        ("Again the tests.", "", [shell("python3 -m unittest 2>&1 | tail -3")]),
        ("Green; committing.", "", [shell("git commit -qam 'Round up' && git log --oneline")]),
        ("", "", [("finish", {"message": "`page_count` rounds up now; the tests pass."})]),
    ],
    ERRAND: [
        ("I'll search.", "", [shell("grep -rn page_count . --include=*.py")]),
        ("It is pager/links.py.", "", []),
    ],
}
DESCRIBED = "What the agent says of this tool is left out of the sample."
OPENINGS = (ASK[:40], ERRAND[:40])
FAILS_AT = 5  # this request is answered 500 once


class Model:
    """What answers, and what it saw."""

    def __init__(self, neutral: Neutral, repo: Path) -> None:
        self.count, self.repo = neutral.length, str(repo)
        self.seen: list[Json] = []
        self.steps = {name: iter(plan) for name, plan in PLANS.items()}
        self.before: dict[str, list[str]] = {}
        self.lock = threading.Lock()

    def answer(self, body: Json) -> tuple[int, Json]:
        start = time.time()
        name = self.plan(body)
        prompt = [json.dumps(part) for part in [*body.get("tools", []), *body["messages"]]]
        with self.lock:
            note: Json = {"index": len(self.seen), "plan": name[:20], "start": start}
            note["inputs"] = len(body["messages"])
            self.seen.append(note)
        if note["index"] + 1 == FAILS_AT:
            note |= {"status": 500, "end": time.time()}
            return 500, {"error": {"message": "a failure by plan", "type": "server_error"}}
        text, thought, acts = next(self.steps[name]) if name in PLANS else (SUMMARY, "", [])
        before = self.before.get(name, [])
        same = next((n for n, one in enumerate(prompt) if before[n : n + 1] != [one]), len(prompt))
        whole = sum(map(self.count, prompt))
        cached = sum(map(self.count, prompt[:same])) // 16 * 16
        self.before[name] = prompt
        time.sleep(0.15 + len(text) / 400)
        message: Json = {"role": "assistant", "content": text}
        if thought:
            message["reasoning_content"] = thought
        number = note["index"]
        calls = [
            {
                "id": f"call_{number:03d}{place}",
                "type": "function",
                "function": {
                    "name": tool,
                    "arguments": json.dumps(arguments).replace("REPO", self.repo),
                },
            }
            for place, (tool, arguments) in enumerate(acts)
        ]
        if calls:
            message["tool_calls"] = calls
        reasoning = self.count(thought)
        output = self.count(text) + reasoning + sum(self.count(json.dumps(one)) for one in calls)
        found = {
            "id": f"chatcmpl-openhands{number:04d}",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "message": message,
                    "finish_reason": "tool_calls" if calls else "stop",
                }
            ],
            "usage": {
                "prompt_tokens": whole,
                "completion_tokens": output,
                "total_tokens": whole + output,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": reasoning},
            },
        }
        note |= {"status": 200, "response_id": found["id"], "usage": found["usage"]}
        note["roles"] = [one["role"] for one in body["messages"]]
        note["sizes"] = [len(content(one)) for one in body["messages"]]
        note["end"] = time.time()
        return 200, found

    @staticmethod
    def plan(body: Json) -> str:
        said = [content(one) for one in body["messages"] if one["role"] == "user"]
        return next((name for name in PLANS if said and said[0].startswith(name)), "summary")


def content(message: Json) -> str:
    found = message.get("content") or ""
    return found if isinstance(found, str) else "\n".join(one.get("text", "") for one in found)


def serve(model: Model) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            status, answer = model.answer(body)
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


def inside(agents: Path, scratch: Path) -> None:
    base, repo = scratch / "openhands", HOME / "src" / TASK
    model = Model(neutral(), repo)
    mount(base, agents)
    make_repository(TASK, repo)
    shutil.copy(HERE / "run_sdk.py", HOME / "run_sdk.py")
    server = serve(model)
    env = environment("codex") | {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LOG_TO_FILE": "false"}
    env["LD_LIBRARY_PATH"] = os.environ.get("AGENT_LIBRARIES", "")  # of a Python built apart
    python = HOME / ".agents" / "openhands" / "bin" / "python"
    command = [str(python), str(HOME / "run_sdk.py"), f"http://127.0.0.1:{PORT}/v1", str(repo)]
    command += [str(HOME / "conversations"), str(HOME / "completions"), ASK]
    with (base / "run.txt").open("w") as out:
        as_user(command, repo, env, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    server.shutdown()
    truth = {"recording": "openhands", "requests": model.seen}
    (base / "truth.json").write_text(json.dumps(truth, indent=1) + "\n")


def neutral() -> Neutral:
    ours = [
        "You are a careful programmer in a sample recording of the traj project.",
        "You look things up for another programmer in a sample recording of the traj project.",
        *(ASK, ERRAND, SUMMARY),
    ]
    return Neutral(ours, [])


def replaced(value: Any, words: Neutral) -> Any:
    """A copy with the agent's own texts replaced: by as many tokens where they are of a prompt."""
    if isinstance(value, list):
        return [replaced(one, words) for one in value]
    if not isinstance(value, dict):
        return value
    theirs = value.get("role") == "system"
    theirs = theirs or (value.get("role") == "user" and content(value)[:40] not in OPENINGS)
    found = {}
    for key, one in value.items():
        if key == "tools" and isinstance(one, list):
            found[key] = [{**tool, "description": DESCRIBED} for tool in one if "kind" in tool]
        elif key in ("system_prompt", "dynamic_context") or (theirs and key == "content"):
            found[key] = salad(one, words)
        else:
            found[key] = replaced(one, words)
    return found


def salad(value: Any, words: Neutral) -> Any:
    if isinstance(value, list):
        return [salad(one, words) for one in value]
    if isinstance(value, dict):
        return {key: salad(one, words) if key == "text" else one for key, one in value.items()}
    return words(value) if isinstance(value, str) else value


def publish(home: Path, out: Path) -> None:
    words = neutral()
    for kind, folder in (("openhands", "conversations"), ("openhands_llm_log", "completions")):
        shutil.rmtree(out / kind, ignore_errors=True)
        for path in sorted((home / folder).rglob("*.json")):
            found = replaced(json.loads(path.read_text()), words)
            target = out / kind / path.relative_to(home / folder)
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(json.dumps(found, ensure_ascii=False) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--inner", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    agents, base = args.agents.resolve(), args.scratch.resolve() / "openhands"
    if args.inner:
        return inside(agents, base.parent)
    if base.exists():
        shutil.rmtree(base)
    (base / "home").mkdir(parents=True)
    inner = [sys.executable, __file__, "--agents", str(agents), "--scratch", str(base.parent)]
    inner += ["--out", str(args.out), "--inner"]
    run("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *inner)
    publish(base / "home", args.out)
    truth = args.out / "truth" / "openhands"
    truth.mkdir(exist_ok=True)
    shutil.copy(base / "truth.json", truth / "openhands.json")


if __name__ == "__main__":
    main()
