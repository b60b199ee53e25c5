"""Record the sample sessions: run the real agents on small repositories against a scripted model.

Each recording runs in namespaces of its own: a network with loopback only, a home folder
``/home/dev`` for a user ``dev`` made for the run, and the host name ``devbox``.  It needs root,
git, the languages of the tasks, and a folder where npm installed the two agents.

    python3 record.py --agents <folder with node_modules> --scratch <empty folder> [name ...]

The agents' own logs are left under ``<scratch>/<name>/home``, the truth under
``<scratch>/<name>/truth``; ``neutralise.py`` makes the published files from them.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HOME = Path("/home/dev")
USER = 1000
PORT = 8765
MODELS = {"claude": "claude-sonnet-4-5", "codex": "gpt-5.2"}

Json = dict[str, Any]


def run(*command: str, **more: Any) -> None:
    subprocess.run(command, check=True, **more)


def outside(name: str, agents: Path, scratch: Path) -> None:
    """Make the folders of a recording and start its inner half in fresh namespaces."""
    base = scratch / name
    if base.exists():
        shutil.rmtree(base)
    (base / "home").mkdir(parents=True)
    (base / "tmp").mkdir()
    inner = [sys.executable, str(HERE / "record.py"), "--agents", str(agents)]
    inner += ["--scratch", str(scratch), "--inner", name]
    run("unshare", "--net", "--mount", "--uts", "--pid", "--fork", "--mount-proc", *inner)


def mount(base: Path, agents: Path) -> None:
    """Put the neutral home, user and host name in place (inside the namespaces only)."""
    run("ip", "link", "set", "lo", "up")
    run("hostname", "devbox")
    run("mount", "-t", "tmpfs", "tmpfs", "/home")
    HOME.mkdir()
    run("mount", "--bind", str(base / "home"), str(HOME))
    tools = {".agents": agents}
    for name in ("cargo", "rustup"):
        tools[f".{name}"] = Path(os.environ.get(f"{name.upper()}_HOME", Path.home() / f".{name}"))
    for name, source in tools.items():
        if source.exists():
            (HOME / name).mkdir()
            run("mount", "--bind", str(source), str(HOME / name))
    (base / "passwd").write_text(
        f"root:x:0:0:root:/root:/bin/bash\ndev:x:{USER}:{USER}:Dev:{HOME}:/bin/bash\n"
    )
    (base / "group").write_text(f"root:x:0:\ndev:x:{USER}:\n")
    for name in ("passwd", "group"):
        run("mount", "--bind", str(base / name), f"/etc/{name}")


def environment(agent: str) -> dict[str, str]:
    env = {
        "HOME": str(HOME),
        "USER": "dev",
        "LOGNAME": "dev",
        "SHELL": "/bin/bash",
        "LANG": "C.UTF-8",
        "TERM": "xterm-256color",
        "TZ": "UTC",
        "PATH": f"{HOME}/.agents/node_modules/.bin:{HOME}/.cargo/bin:"
        "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
        "RUSTUP_HOME": str(HOME / ".rustup"),
        "CARGO_HOME": str(HOME / ".cache/cargo"),
        "CARGO_NET_OFFLINE": "true",
        "GIT_PAGER": "cat",
    }
    if agent == "claude":
        env |= {
            "ANTHROPIC_BASE_URL": f"http://127.0.0.1:{PORT}",
            "ANTHROPIC_API_KEY": "sk-scripted",
            "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
            "CLAUDE_CODE_TMPDIR": str(HOME / ".cache"),
        }
    else:
        env |= {"CODEX_API_KEY": "sk-scripted"}
    return env


def make_repository(task: str, repo: Path) -> None:
    shutil.copytree(HERE / "tasks" / task, repo)
    (HOME / ".cache").mkdir()
    (HOME / ".gitconfig").write_text(
        "[user]\n\tname = Dev\n\temail = dev@example.com\n"
        "[init]\n\tdefaultBranch = main\n[core]\n\tpager = cat\n"
    )
    (HOME / ".profile").write_text('PATH="$HOME/.cargo/bin:$PATH"\n')  # login shells reset it
    run("chown", "-R", f"{USER}:{USER}", str(repo), str(HOME / ".gitconfig"), str(HOME / ".cache"))
    os.chown(HOME, USER, USER)
    os.chown(repo.parent, USER, USER)
    for command in (
        ["init", "-q"],
        ["remote", "add", "origin", f"https://github.com/traj-samples/{task}.git"],
        ["add", "-A"],
        ["commit", "-q", "-m", "Import"],
    ):
        as_user(["git", *command], repo, environment("codex"))


def as_user(command: list[str], where: Path, env: dict[str, str], **more: Any) -> None:
    who = ["setpriv", f"--reuid={USER}", f"--regid={USER}", "--clear-groups", "--"]
    subprocess.run([*who, *command], cwd=where, env=env, check=True, **more)


def command_line(agent: str, step: Json, first_id: str, last_id: str) -> list[str]:
    """The command line of one run of an agent within a recording."""
    earlier = {"first": first_id, "last": last_id}.get(step.get("resume", ""), "")
    extra = step.get("args", [])
    if agent == "claude":
        command = ["claude", "-p", step["prompt"], "--model", step.get("model", MODELS[agent])]
        command += ["--dangerously-skip-permissions", "--output-format", "stream-json"]
        command += ["--verbose"] + (["--resume", earlier] if earlier else [])
        return command + (["--fork-session"] if step.get("fork") else []) + extra
    verb = "fork" if step.get("fork") else "resume"
    command = ["codex", "exec"] + ([verb, earlier] if earlier else [])
    command += ["--dangerously-bypass-approvals-and-sandbox", "--json"]
    command += ["-m", step.get("model", MODELS[agent])]
    command += ["-c", f'openai_base_url="http://127.0.0.1:{PORT}/v1"', *extra]
    return [*command, step["prompt"]]


def session_id(agent: str, output: Path) -> str:
    """The id of the session that a run wrote, from the agent's JSON output."""
    key = "session_id" if agent == "claude" else "thread_id"
    for line in output.read_text().splitlines():
        if line.startswith("{") and (found := json.loads(line).get(key)):
            return str(found)
    return ""


def inside(name: str, agents: Path, scratch: Path) -> None:
    """The inner half: mount, start the model, run the agent, note what came of it."""
    recording: Json = json.loads((HERE / "recordings.json").read_text())[name]
    agent, task, base = recording["agent"], recording["task"], scratch / name
    repo = HOME / "src" / task
    mount(base, agents)
    make_repository(task, repo)
    server = subprocess.Popen(
        [sys.executable, str(HERE / "scripted_model.py"), "--agent", agent]
        + ["--plan", str(HERE / "plans" / f"{recording['plan']}.json"), "--repo", str(repo)]
        + ["--out", str(base / "truth"), "--port", str(PORT), "--seed", name],
        stderr=(base / "model.err").open("w"),
    )
    wait_for_server()
    env = environment(agent) | recording.get("env", {})
    ids: list[str] = []
    for number, step in enumerate(recording["runs"]):
        last = [ids[0], ids[-1]] if ids else ["", ""]
        command = command_line(agent, step, *last)
        output = base / f"run{number}.jsonl"
        with output.open("w") as out, (base / f"run{number}.err").open("w") as err:
            as_user(command, repo, env, stdin=subprocess.DEVNULL, stdout=out, stderr=err)
        ids.append(session_id(agent, output))
    check = (base / "check.txt").open("w")
    for line in ("git log --oneline", "git status --short", recording["check"]):
        check.write(f"$ {line}\n")
        check.flush()
        as_user(["bash", "-c", line], repo, env, stdout=check, stderr=check)
    server.terminate()
    (base / "ids.json").write_text(json.dumps(ids))


def wait_for_server() -> None:
    for _ in range(100):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{PORT}/ready", timeout=1)
            return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the scripted model did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--agents", type=Path, required=True)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("--inner", help=argparse.SUPPRESS)
    parser.add_argument("names", nargs="*", help="recordings to make; all if none is named")
    args = parser.parse_args()
    agents, scratch = args.agents.resolve(), args.scratch.resolve()
    if args.inner:
        return inside(args.inner, agents, scratch)
    for name in args.names or json.loads((HERE / "recordings.json").read_text()):
        print("recording", name, flush=True)
        outside(name, agents, scratch)
        print((scratch / name / "check.txt").read_text(), flush=True)


if __name__ == "__main__":
    main()
