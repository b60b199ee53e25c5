"""Turn the recordings of ``record_chat.py`` into the published sample data, as
``../neutralise.py`` does for the others: the agents' own texts become texts of ours with exactly
as many o200k_base tokens.

    python3 neutralise_chat.py <scratch> <sample_data>
    python3 neutralise_chat.py <scratch> <sample_data> --check
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from neutralise import PRIVATE, Neutral, command, dumps, grams, same_shape  # noqa: E402
from record_chat import FIRST, NAMES, OURS, SECOND  # noqa: E402
from scripted_model import all_text  # noqa: E402

HOMES = {
    "pi": (".pi/agent/sessions", "pi"),
    "gemini": (".gemini/tmp", "gemini_cli"),
    "qwen": (".qwen/projects", "qwen_code"),
}
IDS = re.compile(r"(\S*(?:call_|/home/dev)\S*)")

Json = dict[str, Any]


def own_texts() -> list[str]:
    plan: Json = json.loads((HERE / "plan.json").read_text())
    texts = [text for text in all_text(plan) if len(text.split()) >= 4]
    return [*texts, FIRST, SECOND, OURS, "Is all of it committed?"]


class Cleaner:
    """The agents' own texts, replaced field by field."""

    def __init__(self) -> None:
        self.neutral = Neutral(own_texts(), [])

    def around_ids(self, text: str) -> str:
        """A text of an agent with names in it that must stay. Piece by piece the length may come
        out a few tokens different."""
        if text.lstrip().startswith("<session_context>"):
            return self.neutral.wrapped(text)
        lines = []
        for line in text.split("\n"):
            parts = IDS.split(line)
            lines.append("".join(p if i % 2 else self.neutral(p) for i, p in enumerate(parts)))
        return "\n".join(lines)

    def described(self, value: Any) -> Any:
        """Descriptions anywhere within a value."""
        if isinstance(value, dict):
            return {
                key: self.neutral(item)
                if key == "description" and isinstance(item, str)
                else self.described(item)
                for key, item in value.items()
            }
        return [self.described(item) for item in value] if isinstance(value, list) else value

    def pi(self, line: Json) -> Json:
        for message in (line.get("message"), line.get("systemMessage")):
            if message and message.get("role") == "system":
                if isinstance(message["content"], str):
                    message["content"] = self.neutral(message["content"])
                sections = message.get("sections") or {}
                message["sections"] = {k: v and self.neutral(v) for k, v in sections.items()}
                message["toolsAdded"] = self.described(message.get("toolsAdded", []))
        return line

    def said(self, content: Any) -> Any:
        """The texts of a user's message; what tools gave back stays, but for long words of the
        agent's own about a sub-agent."""
        for part in content if isinstance(content, list) else []:
            if isinstance(part.get("text"), str):
                part["text"] = self.around_ids(part["text"])
            answer = part.get("functionResponse") or {}
            if answer.get("name") in ("agent", "invoke_agent"):
                told = answer["response"]
                told["output"] = self.around_ids(told["output"])
        return content

    def gemini(self, line: Json) -> Json:
        for message in [line, *((line.get("$set") or {}).get("messages") or [])]:
            if message.get("type") == "user":
                self.said(message["content"])
            for call in message.get("toolCalls") or []:
                call["description"] = self.neutral(call.get("description") or "")
                self.said(call.get("result"))
                if call["name"] == "invoke_agent":
                    call["resultDisplay"] = None
        return line

    def qwen(self, line: Json) -> Json:
        if line["type"] in ("user", "tool_result"):
            self.said(line["message"]["parts"])
        payload = line.get("systemPayload") or {}
        for content in payload.get("compressedHistory") or []:
            if content["role"] == "user":
                self.said(content["parts"])
        return line


def read_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def sessions(scratch: Path, name: str) -> Iterator[tuple[Path, Path]]:
    """The session files of a recording, and where each is published."""
    home, folder = HOMES[name]
    root = scratch / name / "home" / home
    for path in sorted(root.rglob("*.jsonl")):
        if len(path.read_text().splitlines()) > 2:
            yield path, Path(folder) / path.relative_to(root)


def publish(scratch: Path, target: Path) -> None:
    for name in NAMES:
        cleaner = Cleaner()
        shutil.rmtree(target / HOMES[name][1], ignore_errors=True)
        clean = getattr(cleaner, name)
        for path, place in sessions(scratch, name):
            out = target / place
            out.parent.mkdir(parents=True, exist_ok=True)
            out.write_text("".join(dumps(clean(line)) + "\n" for line in read_lines(path)))
        for path in sorted((scratch / name).glob("home/.qwen/projects/**/*.meta.json")):
            out = target / "qwen_code" / path.relative_to(scratch / name / "home/.qwen/projects")
            out.write_text(path.read_text())
        truth = target / "truth" / HOMES[name][1]
        truth.mkdir(parents=True, exist_ok=True)
        rows = ",\n".join(dumps(entry) for entry in requests(scratch / name / "truth"))
        (truth / "requests.json").write_text(f'{{"recording":"{name}","requests":[\n{rows}\n]}}\n')
    stream = target / "gemini_cli_stream"
    stream.mkdir(exist_ok=True)
    shutil.copy(scratch / "gemini/run0.out", stream / "run0.jsonl")


def requests(folder: Path) -> Iterator[Json]:
    """What the scripted model saw and sent, without bodies."""
    for path in sorted(folder.glob("*.json")):
        data: Json = json.loads(path.read_text())
        body, answer = data["body"] or {}, data.get("answer") or {}
        if "kind" not in data or data["kind"] == "other":
            continue
        yield {
            "index": data["index"],
            "kind": data["kind"],
            "who": data["who"],
            "status": data["status"],
            "usage": answer.get("usage"),
            "response_id": answer.get("id"),
            "start": data["start"],
            "first_token": data["first_token"],
            "end": data["end"],
            "inputs": len(body.get("messages") or body.get("contents") or []),
            "tool_call_ids": answer.get("calls", []),
        }


def vendor_texts(body: Json) -> Iterator[str]:
    """The texts in a captured request which the agent's vendor wrote."""
    yield from all_text(body.get("systemInstruction"))
    yield from all_text(body.get("tools"))
    for message in [*(body.get("messages") or []), *(body.get("contents") or [])]:
        if message["role"] in ("system", "developer"):
            yield from all_text(message)
        elif message["role"] == "user":
            for text in all_text(message.get("content") or message.get("parts")):
                if text.lstrip().startswith("<s") or "Resume the prior task" in text:
                    yield text


def tool_outputs(body: Json) -> Iterator[str]:
    """What the tools returned in a captured request."""
    for message in body.get("messages") or []:
        if message["role"] == "tool":
            yield from all_text(message["content"])
    for message in body.get("contents") or []:
        for part in message["parts"]:
            yield from all_text(part.get("functionResponse"))


def shorter(problem: str) -> bool:
    """Whether a text is longer or shorter by more than a few tokens."""
    sizes = re.search(r": (\d+) tokens became (\d+)$", problem)
    return sizes is None or abs(int(sizes[1]) - int(sizes[2])) > 6


def check(scratch: Path, target: Path) -> int:
    """Looks for the vendors' word sequences and for other differences in the published files."""
    found: set[str] = set()
    for path in scratch.glob("*/truth/*.json"):
        for text in vendor_texts(json.loads(path.read_text())["body"] or {}):
            found.update(grams(text))
    for path in scratch.glob("*/truth/*.json"):
        for text in tool_outputs(json.loads(path.read_text())["body"] or {}):
            if "task_id" not in text:
                found -= set(grams(text))
    for path in HERE.parent.rglob("*"):
        if path.is_file():
            found -= set(grams(path.read_text(errors="replace")))
    for text in own_texts():
        found -= set(grams(text))
    neutral, bad = Neutral([], []), 0
    for name in NAMES:
        for path, place in sessions(scratch, name):
            text = (target / place).read_text()
            new = [json.loads(line) for line in text.splitlines()]
            found_here = same_shape(read_lines(path), new, neutral)
            problems = [p for p in found_here if "Display" not in p and shorter(p)]
            inside = text.replace("/home/dev/.gemini/tmp/", "")
            problems += [f"path {private}" for private in set(PRIVATE.findall(inside))]
            for line in new:
                problems += [g for part in all_text(line) for g in grams(part) if g in found]
            for problem in problems[:5]:
                print(f"{place.name}: {problem}")
            bad += len(problems)
    print(f"{len(found)} word sequences looked for, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    command(__doc__, publish, check)
