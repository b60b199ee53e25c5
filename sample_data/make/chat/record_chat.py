"""Record the sample sessions of Pi, Gemini CLI and Qwen Code, as ``../record.py`` does the others.

    python3 record_chat.py --agents <folder with node_modules> --scratch <empty folder> [name ...]

The folder's ``node_modules/.bin`` must hold a Node of at least 24 beside the agents.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from record import (  # noqa: E402
    HOME,
    PORT,
    as_user,
    environment,
    make_repository,
    mount,
    run,
    wait_for_server,
)

TASK = "python-pager"
FIRST = "Please fix the problem described in ISSUE.md, run the tests, and commit."
SECOND = "What did the last commit change?"
OURS = "You are a careful programmer in a sample recording of the traj project."
NAMES = ("pi", "gemini", "qwen")

Json = dict[str, Any]


def outside(name: str, agents: Path, scratch: Path) -> None:
    base = scratch / name
    if base.exists():
        shutil.rmtree(base)
    (base / "home").mkdir(parents=True)
    inner = [sys.executable, str(HERE / "record_chat.py"), "--agents", str(agents)]
    inner += ["--scratch", str(scratch), "--inner", name]
    run("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *inner)


def inside(name: str, agents: Path, scratch: Path) -> None:
    base, repo = scratch / name, HOME / "src" / TASK
    mount(base, agents)
    make_repository(TASK, repo)
    server = subprocess.Popen(
        [sys.executable, str(HERE / "chat_model.py"), "--plan", str(HERE / "plan.json")]
        + ["--repo", str(repo), "--out", str(base / "truth"), "--port", str(PORT), "--seed", name],
        stderr=(base / "model.err").open("w"),
    )
    wait_for_server()
    env = environment("codex")
    {"pi": pi, "gemini": gemini, "qwen": qwen}[name](base, repo, env)
    server.terminate()


def settings(path: Path, value: Json) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))
    run("chown", "-R", "1000:1000", str(HOME / path.relative_to(HOME).parts[0]))


def headless(base: Path, repo: Path, env: dict[str, str], number: int, *command: str) -> None:
    with (base / f"run{number}.out").open("w") as out, (base / f"run{number}.err").open("w") as err:
        as_user(list(command), repo, env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)


def pi(base: Path, repo: Path, env: dict[str, str]) -> None:
    """Prompt (a request fails and is sent again), compaction, prompt, and a fork with a prompt."""
    model = {"id": "mock-1", "reasoning": True, "contextWindow": 200000, "maxTokens": 8192}
    provider = {"baseUrl": f"http://127.0.0.1:{PORT}/v1", "api": "openai-completions"}
    models = {"providers": {"mock": {**provider, "apiKey": "dummy", "models": [model]}}}
    settings(HOME / ".pi/agent/models.json", models)
    keep = {"compaction": {"enabled": False, "keepRecentTokens": 60, "reserveTokens": 4000}}
    settings(HOME / ".pi/agent/settings.json", keep)
    who = ["setpriv", "--reuid=1000", "--regid=1000", "--clear-groups", "--"]
    process = subprocess.Popen(
        [*who, "pi", "--mode", "rpc", "--provider", "mock", "--model", "mock-1"]
        + ["--system-prompt", OURS],
        cwd=repo,
        env=env,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=(base / "pi.err").open("w"),
        text=True,
    )
    out = (base / "pi.out").open("w")

    def ask(command: Json, *until: str) -> Json:
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(command) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            out.write(line)
            found: Json = json.loads(line)
            if found["type"] in until or found.get("command") == command["type"] and not until:
                return found
        raise SystemExit("pi ended")

    ask({"type": "prompt", "message": FIRST}, "agent_settled")
    ask({"type": "compact"})
    ask({"type": "prompt", "message": SECOND}, "agent_settled")
    entries = ask({"type": "get_fork_messages"})["data"]["messages"]
    ask({"type": "fork", "entryId": entries[-1]["entryId"]})
    ask({"type": "prompt", "message": "Is all of it committed?"}, "agent_settled")
    process.stdin.close()
    process.wait(timeout=20)


def gemini(base: Path, repo: Path, env: dict[str, str]) -> None:
    """Prompt (with a sub-agent; a request fails and is sent again), and another prompt in the
    resumed session, before which it compresses."""
    told: Json = {
        "security": {"auth": {"selectedType": "gemini-api-key"}},
        "privacy": {"usageStatisticsEnabled": False},
        "general": {"enableAutoUpdate": False},
    }
    settings(HOME / ".gemini/settings.json", told)
    env = {
        **env,
        "GEMINI_API_KEY": "dummy",
        "GOOGLE_GEMINI_BASE_URL": f"http://127.0.0.1:{PORT}",
        "GEMINI_CLI_TRUST_WORKSPACE": "true",
    }
    command = ["gemini", "--yolo", "-m", "gemini-2.5-pro", "--output-format", "stream-json"]
    headless(base, repo, env, 0, *command, "-p", FIRST)
    settings(HOME / ".gemini/settings.json", {**told, "model": {"compressionThreshold": 0.005}})
    headless(base, repo, env, 1, *command, "--resume", "latest", "-p", SECOND)


def qwen(base: Path, repo: Path, env: dict[str, str]) -> None:
    """Prompt (with a sub-agent; a request fails and is sent again), compression, prompt."""
    settings(HOME / ".qwen/settings.json", {"privacy": {"usageStatisticsEnabled": False}})
    env = {
        **env,
        "OPENAI_API_KEY": "dummy",
        "OPENAI_BASE_URL": f"http://127.0.0.1:{PORT}/v1",
        "OPENAI_MODEL": "mock-1",
    }
    command = ["qwen", "--auth-type", "openai", "--yolo"]
    headless(base, repo, env, 0, *command, "-p", FIRST)
    headless(base, repo, env, 1, *command, "--continue", "-p", "/compress")
    headless(base, repo, env, 2, *command, "--continue", "-p", SECOND)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    agents, scratch = args.agents.resolve(), args.scratch.resolve()
    if args.inner:
        return inside(args.inner, agents, scratch)
    for name in args.names or NAMES:
        print("recording", name, flush=True)
        outside(name, agents, scratch)


if __name__ == "__main__":
    main()
