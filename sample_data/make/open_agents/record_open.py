"""Record the sample sessions of OpenCode, Kimi Code and Cline, as ``../record.py`` does the others.

    python3 record_open.py --agents <folder with node_modules> --scratch <empty folder> [name ...]

The folder's ``node_modules/.bin`` must hold a Node of at least 22 beside the agents.
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

from record import HOME, PORT, as_user, environment, make_repository, mount, run, wait_for_server

TASK = "python-pager"
FIRST = "Please fix the problem described in ISSUE.md, run the tests, and commit."
SECOND = "What did the last commit change?"
THIRD = "Is all of it committed?"
OURS = "You are a careful programmer in a sample recording of the traj project."
NAMES = ("opencode", "kimi", "cline")
BASE = f"http://127.0.0.1:{PORT}/v1"

Json = dict[str, Any]


def outside(name: str, agents: Path, scratch: Path) -> None:
    base = scratch / name
    if base.exists():
        shutil.rmtree(base)
    (base / "home").mkdir(parents=True)
    inner = [sys.executable, str(HERE / "record_open.py"), "--agents", str(agents)]
    inner += ["--scratch", str(scratch), "--inner", name]
    run("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *inner)


def inside(name: str, agents: Path, scratch: Path) -> None:
    base, repo = scratch / name, HOME / "src" / TASK
    mount(base, agents)
    make_repository(TASK, repo)
    server = subprocess.Popen(
        [sys.executable, str(HERE / "open_model.py"), "--plan", str(HERE / "plan.json")]
        + ["--agent", name, "--repo", str(repo), "--out", str(base / "truth")]
        + ["--port", str(PORT), "--seed", name],
        stderr=(base / "model.err").open("w"),
    )
    wait_for_server()
    {"opencode": opencode, "kimi": kimi, "cline": cline}[name](base, repo, environment("codex"))
    server.terminate()


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    run("chown", "-R", "1000:1000", str(HOME / path.relative_to(HOME).parts[0]))


def headless(base: Path, repo: Path, env: dict[str, str], number: int, *command: str) -> str:
    with (base / f"run{number}.out").open("w") as out, (base / f"run{number}.err").open("w") as err:
        quiet = {"stdin": subprocess.DEVNULL, "stdout": out, "stderr": err, "timeout": 180}
        try:
            as_user(list(command), repo, env, **quiet)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
            print(name_of(command), "ended badly:", error.__class__.__name__, flush=True)
    return (base / f"run{number}.out").read_text()


def name_of(command: tuple[str, ...]) -> str:
    return " ".join(command[:3])


def opencode(base: Path, repo: Path, env: dict[str, str]) -> None:
    """Prompt (sub-agents; a request fails and is sent again; the context is compacted on the way),
    prompt, a fork with a prompt; the export of the first session."""
    model: Json = {"name": "mock-1", "limit": {"context": 16900, "output": 8192}}
    model |= {"reasoning": True, "interleaved": {"field": "reasoning_content"}}
    provider: Json = {"npm": "@ai-sdk/openai-compatible", "models": {"mock-1": model}}
    provider["options"] = {"baseURL": BASE, "apiKey": "dummy"}
    config = {"provider": {"mock": provider}, "model": "mock/mock-1", "autoupdate": False}
    write(HOME / ".config/opencode/opencode.json", json.dumps(config))
    env = {**env, "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"}
    go = ["opencode", "run", "--format", "json", "--auto"]
    out = headless(base, repo, env, 0, *go, FIRST)
    session = json.loads(out.splitlines()[0])["sessionID"]
    headless(base, repo, env, 1, *go, "--session", session, SECOND)
    headless(base, repo, env, 2, *go, "--session", session, "--fork", THIRD)
    headless(base, repo, env, 3, "opencode", "export", session)


def kimi(base: Path, repo: Path, env: dict[str, str]) -> None:
    """Prompt (sub-agents; a request fails and is sent again; the context is compacted on the way),
    prompt, a fork with a prompt."""
    config = (
        'default_model = "mock"\ntelemetry = false\n\n[loop_control]\n'
        "reserved_context_size = 1000\ncompaction_trigger_ratio = 0.85\n\n"
        f'[providers.mock]\ntype = "openai"\nbase_url = "{BASE}"\napi_key = "dummy"\n\n'
        '[models.mock]\nprovider = "mock"\nmodel = "mock-1"\nmax_context_size = 7500\n'
    )
    write(HOME / ".kimi-code/config.toml", config)
    for name, tools in (("agent", "Bash, Read, Edit, Agent"), ("coder", "Bash, Read")):
        head = f"---\nname: {name}\ndescription: {name} of the samples\noverride: true\n"
        text = f"{head}tools: {tools}\n---\n{OURS}\n"
        write(HOME / f".kimi-code/agents/{name}.md", text)
    env = {**env, "KIMI_CODE_DISABLE_TELEMETRY": "1"}
    headless(base, repo, env, 0, "kimi", "-p", FIRST, "--output-format", "stream-json")
    again = ["kimi", "--continue", "--output-format", "stream-json", "-p"]
    headless(base, repo, env, 1, *again, SECOND)
    sessions = HOME.glob(".kimi-code/sessions/wd_*/session_*")
    session = max(sessions, key=lambda path: path.stat().st_mtime).name
    forked = headless(base, repo, env, 2, "kimi", "fork", session).split()[2]
    headless(base, repo, env, 3, *again[:1], "--session", forked, *again[2:], THIRD)


def cline(base: Path, repo: Path, env: dict[str, str]) -> None:
    """One prompt (sub-agents; a request fails and is sent again)."""
    settings: Json = {"provider": "openai-compatible", "apiKey": "dummy", "model": "mock-1"}
    settings["baseUrl"] = BASE
    entry = {"settings": settings, "updatedAt": "2026-11-22T00:00:00.000Z", "tokenSource": "manual"}
    name = "openai-compatible"
    providers = {"version": 1, "lastUsedProvider": name, "modes": {}, "providers": {name: entry}}
    write(HOME / ".cline/data/settings/providers.json", json.dumps(providers))
    headless(base, repo, env, 0, "cline", "--json", FIRST)


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
