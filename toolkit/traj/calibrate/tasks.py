"""What is measured: a working round of a coding agent, as shell commands."""

from __future__ import annotations

import shlex
import shutil
import sys
from dataclasses import dataclass

from traj.calibrate.repository import EDITED, NOTES

NOT_MEASURED = {
    "web": "needs the network",
    "package": "needs the network",
    "plan": "runs inside the agent, without a command",
    "mcp": "needs a server of its own",
    "other": "of no known kind",
}
SETUP = {"git": "git init -q && git add -A && git commit -qm start"}


@dataclass(frozen=True, slots=True)
class Command:
    """One task; `{round}` in the command is the number of the round."""

    category: str
    task: str
    program: str
    command: str

    def line(self, number: int) -> str:
        return self.command.replace("{round}", str(number))


def commands() -> list[Command]:
    """The tasks of a round, in the order in which an agent would come to them."""
    python = shlex.quote(sys.executable)
    finder = "rg" if shutil.which("rg") else "grep"
    text = "rg -n 'scale_7_' ." if finder == "rg" else "grep -rn --include=*.py scale_7_ ."
    script = "import json; print(json.dumps(sum(n * n for n in range(20000))))"
    return [
        Command("read", "list a folder", "ls", "ls -la package"),
        Command("read", "read a file", "cat", "cat package/module_007.py"),
        Command("read", "read a part of a file", "sed", "sed -n '10,50p' package/module_011.py"),
        Command("search", f"search text with {finder}", finder, text),
        Command("search", "find files by name", "find", "find . -name 'module_1*.py'"),
        Command(
            "edit",
            "replace in a file",
            "sed",
            f"sed -i.bak 's/^LIMIT = .*/LIMIT = 1000{{round}}/' {EDITED}",
        ),
        Command("edit", "write a file", "tee", f"tee {NOTES} <<'END'\nround {{round}}\nEND"),
        Command("execute", "run a Python script", sys.executable, f"{python} -c '{script}'"),
        Command("build", "compile C with cc", "cc", "cc -O2 -c native/table.c -o native/table.o"),
        Command(
            "build",
            "byte-compile Python",
            sys.executable,
            f"{python} -m compileall -q -f package",
        ),
        Command(
            "test",
            "run a unittest suite",
            sys.executable,
            f"{python} -m unittest discover -q -s tests -t .",
        ),
        Command("vcs", "see what changed", "git", "git status --short"),
        Command("vcs", "see the changes", "git", "git diff"),
        Command("vcs", "commit", "git", "git commit -qam 'round {round}'"),
        Command("vcs", "read the log", "git", "git log -n 5 --stat"),
    ]
