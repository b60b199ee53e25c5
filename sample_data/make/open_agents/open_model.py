"""The scripted model in the terms of OpenCode, Kimi Code and Cline: chat completions, streamed, as
``../chat/chat_model.py`` speaks them, with these agents' own tools.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from aiohttp import web

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "chat"))

from chat_model import ChatServer
from scripted_model import Plan, all_text

SHELLS = {"bash": "opencode", "Bash": "kimi", "run_commands": "cline"}

Json = dict[str, Any]


class OpenServer(ChatServer):
    """The HTTP side."""

    def choose(self, messages: list[Json], tools: set[str]) -> tuple[str, str, Json]:
        """What a request is for, whose it is, and the answer where the plan has none for it."""
        texts = "\n".join(all_text([m for m in messages if m["role"] == "user"][:2]))
        who = self.plan.who(texts, True)
        last = "\n".join(all_text(messages[-1:])).lower()
        if tools & SHELLS.keys() and not ("summar" in last and "do not call" in last):
            return ("subagent" if who != "main" else "main"), who, {}
        if "title" in "\n".join(all_text(messages[:2])).lower() and not tools:
            return "side", who, {"text": "Fixing the page count"}
        return "compaction", "main", {"text": self.plan.summary}

    def fails(self, kind: str, who: str) -> int:
        return self.plan.failure(who) if kind in ("main", "subagent") else 0

    def call(self, action: Json, tools: set[str]) -> Json:
        """A function call in the terms of the agent that offers these tools."""
        agent = next(SHELLS[name] for name in SHELLS if name in tools)
        about, repo = action.get("about", "Run a command"), self.plan.repo
        values: Json
        match action, agent:
            case {"sh": command}, "opencode":
                name, values = "bash", {"command": command, "description": about}
            case {"sh": command}, "kimi":
                name, values = "Bash", {"command": command, "description": about}
                if action.get("background"):
                    values["run_in_background"] = True
            case {"sh": command}, "cline":
                name, values = "run_commands", {"commands": [command]}
            case {"read": path}, "opencode":
                name, values = "read", {"filePath": f"{repo}/{path}"}
            case {"read": path}, "kimi":
                name, values = "Read", {"path": f"{repo}/{path}"}
            case {"read": path}, "cline":
                name, values = "read_files", {"files": [{"path": f"{repo}/{path}"}]}
            case {"edit": [path, old, new]}, "opencode":
                values = {"filePath": f"{repo}/{path}", "oldString": old, "newString": new}
                name = "edit"
            case {"edit": [path, old, new]}, "kimi":
                values = {"path": f"{repo}/{path}", "old_string": old, "new_string": new}
                name = "Edit"
            case {"edit": [path, old, new]}, "cline":
                values = {"path": f"{repo}/{path}", "old_text": old, "new_text": new}
                name = "editor"
            case {"agent": which}, "opencode":
                sub = self.plan.agents[which]
                name, values = "task", {"description": sub["title"], "prompt": sub["prompt"]}
                values["subagent_type"] = "general"
            case {"agent": which}, "kimi":
                sub = self.plan.agents[which]
                name, values = "Agent", {"prompt": sub["prompt"], "description": sub["title"]}
                values["subagent_type"] = "coder"
            case {"agent": which}, "cline":
                sub = self.plan.agents[which]
                name, values = "spawn_agent", {"systemPrompt": sub["role"], "task": sub["prompt"]}
            case _:
                raise ValueError(f"no tool for {action}")
        return {"name": name, "arguments": json.dumps(values, ensure_ascii=False)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--plan", type=Path, required=True)
    parser.add_argument("--agent", required=True)
    parser.add_argument("--repo", required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", default="traj")
    parser.add_argument("--port", type=int, default=8765)
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    server = OpenServer(Plan(args.plan, args.agent, args.repo), args.out, args.seed)
    web.run_app(server.app(), host="127.0.0.1", port=args.port, print=None)


if __name__ == "__main__":
    main()
