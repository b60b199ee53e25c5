"""Turn the recordings of ``record_open.py`` into the published sample data, as ``../neutralise.py``
does for the others: the agents' own texts become texts of ours with exactly as many o200k_base
tokens.

    python3 neutralise_open.py <scratch> <sample_data>
    python3 neutralise_open.py <scratch> <sample_data> --check
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import sqlite3
import sys
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "chat")]

from neutralise import PRIVATE, Neutral, dumps, grams
from neutralise_chat import requests
from record_open import FIRST, NAMES, OURS, SECOND, THIRD
from scripted_model import all_text

PUBLISHED = {"opencode": "opencode", "kimi": "kimi_code", "cline": "cline"}

Json = dict[str, Any]


def own_texts() -> list[str]:
    plan: Json = json.loads((HERE / "plan.json").read_text())
    texts = [text for text in all_text(plan) if len(text.split()) >= 4]
    return [*texts, FIRST, SECOND, THIRD, OURS]


class Cleaner:
    """The agents' own texts, replaced field by field."""

    def __init__(self) -> None:
        self.neutral = Neutral(own_texts(), [])

    def part(self, part: Json) -> Json:
        """A part of an OpenCode message: what the agent itself says to the model."""
        if part.get("synthetic"):
            part["text"] = self.neutral(part["text"])
        return part

    def wire(self, line: Json, hashes: dict[str, str]) -> Json:
        """A line of Kimi Code's: what it says of itself, its tools, reminders and summaries."""
        kind, message = line["type"], line.get("message") or {}
        if kind == "profile.bind":
            line["systemPrompt"] = self.neutral(line["systemPrompt"])
        elif kind == "llm.tools_snapshot":
            line["tools"] = self.described(line["tools"])
            text = json.dumps(line["tools"], ensure_ascii=False, separators=(",", ":"))
            new = hashlib.sha256(text.encode()).hexdigest()
            hashes[line["hash"]] = line["hash"] = new
        elif kind == "llm.request":
            line["toolsHash"] = hashes.get(line["toolsHash"], line["toolsHash"])
        elif kind == "context.append_message":
            self.texts(message)
        elif kind == "agent.message.appended":
            self.texts(message["message"])
        elif kind == "context.apply_compaction":
            line["contextSummary"] = self.neutral(line["contextSummary"])
        elif kind == "context.append_loop_event":
            result = line["event"].get("result") or {}
            if str(result.get("output", "")).startswith("agent_id:"):
                result["output"] = self.around_lines(result["output"])
        return line

    def texts(self, message: Json) -> None:
        """The texts of a message that are not ours."""
        for part in message.get("content") or []:
            text = part.get("text", "")
            if text.startswith("<system-reminder>"):
                part["text"] = self.neutral.wrapped(text)
            elif text.startswith("agent_id:"):
                part["text"] = self.around_lines(text)

    def around_lines(self, text: str) -> str:
        """A report with the agent's words around it, line by line."""
        return "\n".join(self.neutral(line) for line in text.split("\n"))

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


def opencode(base: Path, target: Path, cleaner: Cleaner) -> None:
    """The database, without its log of events (which says all a second time), made small; and the
    first session's export."""
    home = base / "home/.local/share/opencode"
    out = target / "opencode/opencode.db"
    out.parent.mkdir(parents=True)
    with TemporaryDirectory() as folder:
        for ending in ("", "-wal"):
            shutil.copy(home / f"opencode.db{ending}", f"{folder}/copy.db{ending}")
        database = sqlite3.connect(f"{folder}/copy.db")
        for table in ("event", "event_sequence"):
            database.execute(f"delete from {table}")
        rows = database.execute("select id, data from part").fetchall()
        for name, data in rows:
            part = json.loads(data)
            if part != cleaner.part(json.loads(data)):
                text = dumps(cleaner.part(part))
                database.execute("update part set data = ? where id = ?", (text, name))
        database.commit()
        for command in ("journal_mode = delete", "page_size = 1024"):
            database.execute(f"pragma {command}").fetchall()
        database.execute(f"vacuum into '{out}'")
        database.close()
    again = sqlite3.connect(out)
    again.execute("pragma journal_mode = wal").fetchall()
    again.close()
    exported: Json = json.loads((base / "run3.out").read_text())
    for message in exported["messages"]:
        message["parts"] = [cleaner.part(part) for part in message["parts"]]
    place = target / "opencode_export" / f"{exported['info']['id']}.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(exported, ensure_ascii=False, indent=2) + "\n")


def kimi(base: Path, target: Path, cleaner: Cleaner) -> None:
    """The agents' logs, and what the session says of itself."""
    home = base / "home/.kimi-code/sessions"
    hashes: dict[str, str] = {}
    for path in sorted(home.glob("wd_*/session_*/agents/*/wire.jsonl")):
        out = target / "kimi_code" / path.relative_to(home)
        out.parent.mkdir(parents=True)
        lines = [cleaner.wire(json.loads(text), hashes) for text in path.read_text().splitlines()]
        out.write_text("".join(dumps(line) + "\n" for line in lines))


def cline(base: Path, target: Path, cleaner: Cleaner) -> None:
    """The sessions' messages, with the agent's system prompt replaced, and their manifests."""
    home = base / "home/.cline/data/sessions"
    for path in sorted(home.glob("*/*.json")):
        document: Json = json.loads(path.read_text())
        if "system_prompt" in document:
            document["system_prompt"] = cleaner.neutral(document["system_prompt"])
        out = target / "cline" / path.relative_to(home)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(document, ensure_ascii=False, indent=2) + "\n")


def publish(scratch: Path, target: Path, names: list[str]) -> None:
    for name in names:
        for folder in target.glob(f"{PUBLISHED[name]}*"):
            shutil.rmtree(folder)
        {"opencode": opencode, "kimi": kimi, "cline": cline}[name](
            scratch / name, target, Cleaner()
        )
        truth = target / "truth" / PUBLISHED[name]
        truth.mkdir(parents=True, exist_ok=True)
        bodies = {data["index"]: data for data in captured(scratch / name)}
        rows = []
        for entry in requests(scratch / name / "truth"):
            session = bodies[entry["index"]]["headers"].get("x-session-id")
            key = (bodies[entry["index"]]["body"] or {}).get("prompt_cache_key")
            rows.append(dumps({**entry, "session_id": session or key}))
        text = ",\n".join(rows)
        (truth / "requests.json").write_text(f'{{"recording":"{name}","requests":[\n{text}\n]}}\n')


def captured(base: Path) -> Iterator[Json]:
    for path in sorted((base / "truth").glob("*.json")):
        yield json.loads(path.read_text())


def check(scratch: Path, target: Path, names: list[str]) -> int:
    """Looks for the vendors' word sequences in the published files."""
    found: set[str] = set()
    known: set[str] = set()
    for name in names:
        for data in captured(scratch / name):
            body: Json = data["body"] or {}
            for text in all_text(body.get("tools")):
                found.update(grams(text))
            for message in body.get("messages") or []:
                texts = all_text(message.get("content"))
                if message["role"] == "tool":
                    known.update(gram for text in texts for gram in grams(text))
                elif message["role"] in ("system", "developer", "user"):
                    # A compaction quotes the whole conversation before it says what is wanted.
                    asked = (text.rpartition("</conversation>")[2] for text in texts)
                    found.update(gram for text in asked for gram in grams(text))
    for path in HERE.parent.rglob("*"):
        if path.is_file():
            known.update(grams(path.read_text(errors="replace")))
    for text in own_texts():
        known.update(grams(text))
    found -= known
    bad = 0
    for name in names:
        for path in sorted(target.glob(f"{PUBLISHED[name]}*/**/*")):
            text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
            plain = text.replace("\\n", "\n").replace('\\"', '"')
            problems = [f"path {private}" for private in set(PRIVATE.findall(text))]
            problems += [gram for gram in grams(plain) if gram in found]
            for problem in problems[:5]:
                print(f"{path.name}: {problem}")
            bad += len(problems)
    print(f"{len(found)} word sequences looked for, {bad} problems")
    return 1 if bad else 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true")
    args = parser.parse_args()
    names = args.names or list(NAMES)
    if args.check:
        sys.exit(check(args.scratch, args.target, names))
    publish(args.scratch, args.target, names)


if __name__ == "__main__":
    main()
