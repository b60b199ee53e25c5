"""Turn recorded sessions into the published sample data.

The agents' own instructions (system prompts, tool descriptions, reminders, listings) belong to
their vendors, so each such text is replaced by a text of ours with exactly as many o200k_base
tokens; equal texts get equal replacements.  Everything else stays as the agent wrote it.  Claude
Code names messages and requests by SHA-256 of their canonical JSON: those hashes are computed anew.

    python3 neutralise.py <scratch of record.py> <sample_data>     write the published files
    python3 neutralise.py <scratch> <sample_data> --check          look for leftovers in them

The truth files (``truth/<session>.json``) come from the scripted model's notes, without bodies.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tiktoken

HERE = Path(__file__).resolve().parent
NOTE = "<subagent_notification>"  # Codex puts a sub-agent's answer, which is ours, in this tag
SHORT = 8  # a text of fewer words is a fact or a label ("Today's date is ..."), and is kept
WORDS = (
    "a the one some each every small large plain quiet green blue early late simple common even "
    "river stone garden window paper table market road field letter number line book house tree "
    "music water winter summer morning evening city village story table bridge island light "
    "stands holds shows takes gives keeps finds brings makes reads writes turns meets grows "
    "and with for from near under over after before between behind beside"
).split()
OPENING = "This sample text stands in for the agent's own instructions."
TAG = re.compile(r"^\s*<([a-zA-Z_][\w -]*)>\n?(.*?)\n?</([a-zA-Z_][\w]*)[^>]*>\s*$", re.DOTALL)
FRAME = re.compile(r"\[Subagent hand-back\].*?The report follows:", re.DOTALL)
REMINDER = re.compile(
    r"(<(system-reminder|local-command-caveat)>\n?)(.*?)(\n?</\2>)", re.DOTALL
)  # what Claude Code says in the user's name
RENEWED = {"osVersion", "end_byte_offset"}  # not texts, but changed all the same
HASH = re.compile(r"^[0-9a-f]{64}$")
PRIVATE = re.compile(r"/(?:work|root|tmp)/[^\s\"'\\]*")
KEPT_ATTACHMENTS = {"edited_text_file", "queued_command", "task_status", "file"}
DESCRIBED = {"description", "title", "$comment"}
UNSIGNED = {"metadata", "stream"}  # parts of a request which its digest leaves out

Json = dict[str, Any]


def dumps(value: Any) -> str:
    """JSON as the agents write it: compact, and in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def digest(value: Any) -> str:
    """The name Claude Code gives a value: SHA-256 of its JSON with sorted keys."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def normal(message: Json) -> Json:
    """A message with its content as blocks: this is the form which is hashed."""
    content = message["content"]
    blocks = [{"type": "text", "text": content}] if isinstance(content, str) else content
    return {**message, "content": blocks}


class Neutral:
    """Replacement texts of exactly the length, in tokens, of the texts they replace."""

    def __init__(self, ours: list[str], reports: list[str]) -> None:
        self.encoding = tiktoken.get_encoding("o200k_base")
        self.ours = sorted(set(ours), key=len, reverse=True)
        self.reports = reports
        self.known: dict[tuple[str, str, str], str] = {}

    def length(self, text: str) -> int:
        return len(self.encoding.encode(text, disallowed_special=()))

    def compose(self, seed: str, size: int) -> str:
        """About `size` tokens of sentences, always the same for the same seed."""
        chance = random.Random(hashlib.sha256(seed.encode("utf-8", "replace")).hexdigest())
        text = OPENING if size > 2 * self.length(OPENING) else ""
        while self.length(text) < size:
            words = chance.choices(WORDS, k=chance.randint(6, 14))
            ending = ".\n\n" if chance.random() < 0.12 else "."
            space = "" if not text or text.endswith("\n") else " "
            text += space + " ".join(words).capitalize() + ending
        return text

    def __call__(self, text: str, before: str = "", after: str = "") -> str:
        """A replacement for a text that stands between two given texts."""
        key = (text, before, after)
        if not text.strip() or len(text.split()) < SHORT:
            return text
        for own in self.ours:
            if own in text:
                left, right = text.split(own, 1)
                return self(left, before, own) + own + self(right, own, after)
        if key not in self.known:
            self.known[key] = self.fit(text, before, after)
        return self.known[key]

    def fit(self, text: str, before: str, after: str) -> str:
        target = self.length(before + text + after)
        body = self.compose(text, self.length(text) + 20)
        words = body.split(" ")
        low, high = 0, len(words)
        while low < high:  # the longest beginning that is not too long
            middle = (low + high + 1) // 2
            if self.length(before + " ".join(words[:middle]) + after) <= target:
                low = middle
            else:
                high = middle - 1
        for cut in range(low, max(low - 12, 0), -1):
            start = " ".join(words[:cut])
            for extra in range(24):
                for end in (".", "", " a.", " so"):
                    trial = start + " too" * extra + end
                    if self.length(before + trial + after) == target:
                        return trial
        raise ValueError(f"no text of {target} tokens found")

    def wrapped(self, text: str) -> str:
        """Replace a text but keep a tag around it, by which log readers know its kind."""
        found = TAG.match(text)
        if not found:
            return self(text)
        start, end = found.span(2)
        return text[:start] + self(text[start:end], text[:start], text[end:]) + text[end:]

    def reminders(self, text: str) -> str:
        """Replace what stands in reminder tags inside a longer text."""

        def one(found: re.Match[str]) -> str:
            return found[1] + self(found[3], found[1], found[4]) + found[4]

        return REMINDER.sub(one, text)

    def around_report(self, text: str) -> str:
        """Replace what an agent puts around a summary or a sub-agent's report of ours."""
        if any(own in text for own in self.reports):
            return self(text)
        framed = FRAME.search(text)  # around a report whose lines the agent indented
        if framed:
            before, after = text[: framed.start()], text[framed.end() :]
            return before + self(framed[0], before, after) + after
        return self.reminders(text)

    def schema(self, value: Any) -> Any:
        """Replace the descriptions in tool definitions, and keep names, types and structure."""
        if isinstance(value, list):
            return [self.schema(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self(item) if key in DESCRIBED and isinstance(item, str) else self.schema(item)
            for key, item in value.items()
        }


def walk(value: Any, change: Callable[[str], str]) -> Any:
    """Apply a change to every string in a JSON value."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, list):
        return [walk(item, change) for item in value]
    if isinstance(value, dict):
        return {key: walk(item, change) for key, item in value.items()}
    return value


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings(item)


# ---- Codex ----


def codex_item(item: Json, neutral: Neutral) -> Json:
    """A history item: replace developer messages and what Codex itself says as the user."""
    if item.get("type") != "message" or item.get("role") not in ("developer", "user", "system"):
        return item
    content = []
    for part in item["content"]:
        text = part.get("text")
        if isinstance(text, str) and text not in neutral.ours:
            part = {**part, "text": neutral.wrapped(text)}
        content.append(part)
    return {**item, "content": content}


def codex_line(line: Json, neutral: Neutral) -> Json:
    payload = line.get("payload")
    match line.get("type"):
        case "response_item":
            payload = codex_item(payload, neutral)
        case "session_meta":
            payload = {**payload}
            for key in ("base_instructions", "dynamic_tools"):
                if key in payload:
                    payload[key] = walk(payload[key], neutral)
        case "world_state" | "turn_context":
            payload = walk(payload, neutral)
        case "compacted":
            payload = {**payload, "message": neutral(payload.get("message") or "")}
            history = payload.get("replacement_history") or []
            payload["replacement_history"] = [codex_item(item, neutral) for item in history]
        case _:
            return line
    return {**line, "payload": payload}


def renew_offset(meta: Json, sizes: dict[str, list[int]]) -> None:
    """A fork says how many lines and bytes of its parent it builds on; the bytes have changed."""
    base = meta.get("history_base")
    if base and base["thread_id"] in sizes:
        lines = sizes[base["thread_id"]][: base["end_ordinal_exclusive"]]
        meta["history_base"] = {**base, "end_byte_offset": sum(lines)}


# ---- Claude Code ----


def claude_message(message: Json, neutral: Neutral) -> Json:
    """A message of a request or a transcript: replace the reminders in it."""
    if message.get("role") == "assistant":
        return message
    return walk(message, neutral.around_report)


def claude_line(line: Json, neutral: Neutral) -> Json:
    match line:
        case {"type": "attachment", "attachment": {"type": kind}}:
            line = {**line}
            if "rendered" in line:
                line["rendered"] = walk(line["rendered"], neutral.reminders)
            if kind not in KEPT_ATTACHMENTS:
                tools = line["attachment"].get("tools")
                line["attachment"] = walk(line["attachment"], neutral.wrapped)
                if tools is not None:
                    line["attachment"]["tools"] = neutral.schema(tools)
                if "osVersion" in line["attachment"].get("snapshot", {}):
                    line["attachment"]["snapshot"]["osVersion"] = "Linux"
        case {"type": "api-request-shape", "shape": shape}:
            system = walk(shape["system"], neutral)
            line = {**line, "shape": {"system": system, "tools": neutral.schema(shape["tools"])}}
        case {"type": "api-request-blob", "message": message}:
            line = {**line, "message": claude_message(message, neutral)}
        case {"type": "user", "message": message}:
            line = {**line, "message": claude_message(message, neutral)}
            if line.get("isMeta") and line["message"] == message:
                line["message"] = walk(message, neutral.wrapped)
            if "toolUseResult" in line:
                line["toolUseResult"] = walk(line["toolUseResult"], neutral.around_report)
    return line


class Requests:
    """The requests that a Claude Code log describes, to rebuild them and name them anew."""

    def __init__(self) -> None:
        self.messages: dict[str, Json] = {}  # by hash
        self.shapes: dict[str, Json] = {}
        self.chains: dict[str, list[str]] = {}  # message hashes by request id
        self.run: list[Any] = []
        self.run_key: tuple[str, str | None] = ("", None)

    def note(self, line: Json) -> None:
        """Learn the messages that a line holds; blobs are left out where the lines suffice."""
        match line:
            case {"type": "api-request-blob", "hash": name, "message": message}:
                self.messages[name] = normal(message)
            case {"type": "api-request-shape", "shapeHash": name, "shape": shape}:
                self.shapes[name] = shape
            case {"type": "user" | "assistant", "message": {"role": role, "content": content}}:
                key = (role, line["message"].get("id"))
                if key != self.run_key:
                    self.run, self.run_key = [], key
                blocks = normal({"content": content})["content"]
                self.run = [*self.run, *blocks]
                for part in (self.run, blocks):
                    message = {"role": role, "content": part}
                    self.messages.setdefault(digest(message), message)

    def chain(self, line: Json) -> list[str]:
        base = self.chains.get(line.get("base", ""), [])
        return self.chains.setdefault(line["id"], base[: line["keep"]] + line["tail"])

    def rebuild(self, line: Json) -> Json | None:
        """The body of a request, but for `metadata`, `stream` and the first system block."""
        chain = self.chain(line)
        if not all(name in self.messages for name in chain):
            return None
        shape = self.shapes[line["shapeHash"]]
        body = {**shape, "messages": [self.messages[name] for name in chain], **line["params"]}
        body = json.loads(json.dumps(body))
        for mark in line["cacheControl"]:
            place = body
            for key in mark["path"]:
                place = place[key]
            place["cache_control"] = mark["value"]
        return body


def claude_files(paths: list[Path], neutral: Neutral, report: Json) -> Iterator[tuple[Path, list]]:
    """The neutral lines of each file of a recording, in order, with hashes made new."""
    old, new = Requests(), Requests()
    names: dict[str, str] = {}  # new hash of a message or a shape by its old one
    for path in paths:
        lines = []
        for line in read_lines(path):
            out = claude_line(line, neutral)
            if out["type"] == "api-request-blob":
                out["hash"] = names[line["hash"]] = digest(normal(out["message"]))
            elif out["type"] == "api-request-shape":
                out["shapeHash"] = names[line["shapeHash"]] = digest(out["shape"])
            elif out["type"] == "api-request":
                out = {**line, "shapeHash": names.get(line["shapeHash"], line["shapeHash"])}
                out["tail"] = [names.get(name, name) for name in line["tail"]]
                renew_digest(line, out, old, new, report)
            old.note(line)
            new.note(out)
            lines.append(out)
        yield path, lines


def renew_digest(line: Json, out: Json, old: Requests, new: Requests, report: Json) -> None:
    """Give a request the digest of its neutral body, if the old digest can be explained."""
    before, after = old.rebuild(line), new.rebuild(out)
    report["requests"] += 1
    if before is None or after is None:
        report["unresolved"] += 1
    elif digest(before) != line.get("requestDigest"):
        report["unexplained"] += 1
    else:
        out["requestDigest"] = digest(after)


# ---- files ----


def read_lines(path: Path) -> Iterator[Json]:
    for text in path.read_text().removesuffix("\n").split("\n"):
        line = json.loads(text)
        if dumps(line) != text:
            raise ValueError(f"{path.name}: a line does not survive reading and writing")
        yield line


def write_lines(path: Path, lines: list[Json]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(dumps(line) + "\n" for line in lines))


def plans_of_ours() -> list[Json]:
    return [json.loads(path.read_text()) for path in sorted((HERE / "plans").glob("*.json"))]


def reports() -> list[str]:
    """Texts of ours that an agent hands on within words of its own."""
    plans = plans_of_ours()
    agents = [agent for plan in plans for agent in plan.get("agents", {}).values()]
    texts = [agent["steps"][-1]["text"] for agent in agents]
    return texts + [plan["summary"] for plan in plans if "summary" in plan]


def own_texts() -> list[str]:
    """Texts of ours that an agent may wrap in words of its own: prompts, summaries, answers."""
    plans = plans_of_ours()
    runs = json.loads((HERE / "recordings.json").read_text())
    texts = [text for value in [*plans, runs] for text in strings(value)]
    return [text for text in texts if len(text.split()) >= 6]


def truth(folder: Path) -> dict[str, list[Json]]:
    """What the scripted model saw and sent, by session or thread, without bodies."""
    sessions: dict[str, list[Json]] = {}
    attempts: dict[tuple[str, str], int] = {}
    for path in sorted(folder.glob("*.json")):
        data: Json = json.loads(path.read_text())
        heads, answer = data["headers"], data.get("answer") or {}
        session = heads.get("x-claude-code-session-id") or heads.get("thread-id")
        if not session or not data["body"]:
            continue
        agent = heads.get("x-claude-code-agent-id")
        about: Json = json.loads(heads.get("x-codex-turn-metadata", "{}"))
        key = (f"{session}/{agent}", digest(data["body"]))
        attempts[key] = attempts.get(key, 0) + 1
        body = data["body"]
        calls = [part.get("id") for part in answer.get("content", []) if part["type"] == "tool_use"]
        calls += [item["call_id"] for item in answer.get("output", []) if "call_id" in item]
        sessions.setdefault(session, []).append(
            {
                "index": data["index"],
                "api": "anthropic-messages" if "messages" in body else "openai-responses",
                "session_id": heads.get("x-claude-code-session-id") or heads.get("session-id"),
                "thread_id": heads.get("thread-id"),
                "agent_id": agent,
                "parent_thread_id": about.get("parent_thread_id"),
                "turn_id": about.get("turn_id"),
                "kind": data.get("kind"),
                "attempt": attempts[key],
                "status": data["status"],
                "model": body.get("model"),
                "usage": answer.get("usage"),
                "response_id": answer.get("id"),
                "request_id": data.get("request_id"),
                "start": data["start"],
                "first_token": data["first_token"],
                "end": data["end"],
                "inputs": len(body.get("messages") or body.get("input") or []),
                "tool_call_ids": calls,
            }
        )
    return sessions


def ordered(paths: Iterator[Path]) -> list[Path]:
    """Files by the time of their first line, so that what is copied is known before its copies."""

    def key(path: Path) -> tuple[str, str]:
        found = re.search(r'"timestamp":"([^"]+)"', path.read_text())
        return (found[1] if found else "", str(path))

    return sorted(paths, key=key)


def publish(scratch: Path, target: Path) -> None:
    for name in ("codex", "claude_code", "truth"):
        shutil.rmtree(target / name, ignore_errors=True)
    neutral = Neutral(own_texts(), reports())
    for name, recording in json.loads((HERE / "recordings.json").read_text()).items():
        base = scratch / name
        if not (base / "ids.json").exists():
            continue
        report = {"requests": 0, "unresolved": 0, "unexplained": 0}
        if recording["agent"] == "codex":
            root, place = base / "home/.codex/sessions", target / "codex"
            sizes: dict[str, list[int]] = {}
            for path in ordered(root.rglob("*.jsonl")):
                lines = [codex_line(line, neutral) for line in read_lines(path)]
                renew_offset(lines[0]["payload"], sizes)
                sizes[lines[0]["payload"]["id"]] = [len(dumps(x).encode()) + 1 for x in lines]
                write_lines(place / path.relative_to(root), lines)
        else:
            root, place = base / "home/.claude/projects", target / "claude_code"
            for path, lines in claude_files(ordered(root.rglob("*.jsonl")), neutral, report):
                write_lines(place / path.relative_to(root), lines)
            for path in root.rglob("*.meta.json"):
                copy = place / path.relative_to(root)
                copy.parent.mkdir(parents=True, exist_ok=True)
                copy.write_text(path.read_text())
        for session, entries in truth(base / "truth").items():
            path = target / "truth" / f"{session}.json"
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = ",\n".join(dumps(entry) for entry in entries)
            path.write_text(f'{{"recording":"{name}","requests":[\n{rows}\n]}}\n')
        print(name, report if report["requests"] else "")


# ---- the check ----


def grams(text: str) -> Iterator[str]:
    words = [word.strip(".,:;!?()[]*`'\"") for word in text.lower().split()]
    for at in range(len(words) - SHORT + 1):
        yield " ".join(words[at : at + SHORT])


def vendor_texts(body: Json) -> Iterator[str]:
    """The texts in a captured request which the agent's vendor wrote."""
    yield from strings(body.get("system"))
    yield from strings(body.get("instructions"))
    for tool in body.get("tools", []):
        yield from strings(tool)
    for message in body.get("messages", []):
        for text in strings(message):
            yield from (found[3] for found in REMINDER.finditer(text))
            if "CRITICAL: Respond with TEXT ONLY" in text:
                yield text
    for item in body.get("input", []):
        texts = [text.lstrip() for text in strings(item.get("content"))]
        tagged = any(text.startswith("<") for text in texts if NOTE not in text)
        if item.get("role") in ("developer", "system") or item.get("role") == "user" and tagged:
            yield from strings(item.get("content"))


def tool_outputs(body: Json) -> Iterator[str]:
    """What the tools returned in a captured request, without reminders."""
    for message in body.get("messages", []):
        if isinstance(message["content"], list):
            for block in message["content"]:
                if block["type"] == "tool_result":
                    for text in strings(block["content"]):
                        yield REMINDER.sub("", text)
    for item in body.get("input", []):
        if str(item.get("type")).endswith("_output"):
            yield from strings(item["output"])


def same_shape(old: Any, new: Any, neutral: Neutral, where: str = "") -> Iterator[str]:
    """Where a published value differs from the original in more than words and hashes."""
    if isinstance(old, str) and isinstance(new, str):
        if old != new and not (HASH.match(old) and HASH.match(new)):
            if neutral.length(old) != neutral.length(new):
                yield f"{where}: {neutral.length(old)} tokens became {neutral.length(new)}"
    elif isinstance(old, dict) and isinstance(new, dict) and list(old) == list(new):
        for key in old.keys() - RENEWED:
            yield from same_shape(old[key], new[key], neutral, f"{where}.{key}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for at, (left, right) in enumerate(zip(old, new, strict=True)):
            yield from same_shape(left, right, neutral, f"{where}[{at}]")
    elif old != new:
        yield f"{where}: another value"


def compare(scratch: Path, target: Path) -> int:
    """Hold each published log against the agent's own, line by line."""
    neutral, bad = Neutral([], []), 0
    homes = {"codex": "home/.codex/sessions", "claude_code": "home/.claude/projects"}
    for folder, home in homes.items():
        for new in sorted((target / folder).rglob("*.jsonl")):
            inside = f"*/{home}/{new.relative_to(target / folder)}"
            old = list(read_lines(next(scratch.glob(inside))))
            lines = list(read_lines(new))
            found = list(same_shape(old, lines, neutral))
            for problem in found[:3]:
                print(f"{new.name}: {problem}")
            bad += len(found)
    return bad


def check(scratch: Path, target: Path) -> int:
    """Find vendor word sequences, machine paths and other differences in the published files."""
    found: set[str] = set()
    ours: set[str] = set()
    seen: set[str] = set()
    for path in scratch.glob("*/truth/*.json"):
        body = json.loads(path.read_text())["body"] or {}
        for text in vendor_texts(body):
            if text not in seen:
                seen.add(text)
                found.update(grams(text))
        for text in tool_outputs(body):
            if text not in seen:
                seen.add(text)
                ours.update(grams(text))
    for path in HERE.rglob("*"):
        if path.is_file():
            ours.update(grams(path.read_text(errors="replace")))
    for text in own_texts():
        ours.update(grams(text))
    found -= ours
    bad = compare(scratch, target)
    for path in sorted(target.rglob("*")):
        if not path.is_file() or HERE in path.parents or "hand_made" in path.parts:
            continue
        text = path.read_text()
        for private in set(PRIVATE.findall(text)):
            print(f"{path.name}: path {private}")
            bad += 1
        if path.suffix != ".jsonl":
            continue
        for number, line in enumerate(text.splitlines(), 1):
            hits = {gram for part in strings(json.loads(line)) for gram in grams(part)} & found
            for gram in sorted(hits)[:3]:
                print(f"{path.name}:{number}: {gram}")
            bad += len(hits)
    print(f"{len(found)} word sequences looked for, {bad} problems")
    return 1 if bad else 0


def command(
    about: str | None, publish: Callable[[Path, Path], None], check: Callable[[Path, Path], int]
) -> None:
    """The command line of the scripts that replace the agents' words."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--check", action="store_true", help="only look for leftovers")
    args = parser.parse_args()
    if args.check:
        sys.exit(check(args.scratch, args.target))
    publish(args.scratch, args.target)


if __name__ == "__main__":
    command(__doc__, publish, check)
