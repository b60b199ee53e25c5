"""Publishes what Claude Code printed (stream-json) beside the log that `neutralise.py` published.

Lines of both have the same ids: what the agent put around a report, a summary or a result is taken
from the published log. Everything else in the output is the script's, the tools' or a number.
Only what has no use for a reader (names of skills, sockets, folders) is left out.

    python3 make/neutralise_stream.py <run.jsonl> <published log folder> <truth folder> <out.jsonl>

The last step looks for any eight words in a row of the agent's instructions, as the scripted model
got them (<truth folder> is record.py's), and fails if it finds some.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from neutralise import Neutral

RUN, LOGS, TRUTH, OUT = map(Path, sys.argv[1:5])
DROPPED = (
    "slash_commands",
    "agents",
    "skills",
    "plugins",
    "capabilities",
    "memory_paths",
    "messaging_socket_path",
)


def words(text):
    return re.findall(r"\w+", text)


def strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for one in value.values():
            yield from strings(one)
    elif isinstance(value, list):
        for one in value:
            yield from strings(one)


def runs(value):
    for text in strings(value):
        found = words(text)
        yield from (tuple(found[i : i + 8]) for i in range(len(found) - 7))


NEUTRAL = Neutral([], [])
FRAME = re.compile(r"\[Subagent hand-back\].*?The report follows:", re.DOTALL)


def unframed(value):
    """Without the agent's words around a report whose lines it indented."""
    if isinstance(value, str):
        return FRAME.sub(lambda found: NEUTRAL(found[0]), value)
    if isinstance(value, dict):
        return {key: unframed(one) for key, one in value.items()}
    return [unframed(one) for one in value] if isinstance(value, list) else value


published = {}
results = {}  # of calls, by their ids: some lines have other ids here
for path in LOGS.rglob("*.jsonl"):
    for line in path.read_text().splitlines():
        row = json.loads(line)
        if "uuid" in row:
            published[row["uuid"]] = row
        content = (row.get("message") or {}).get("content")
        for block in content if isinstance(content, list) else ():
            if block.get("type") == "tool_result":
                results[block["tool_use_id"]] = block
lines = []
for text in RUN.read_text().splitlines():
    row = json.loads(text)
    for name in DROPPED:
        row.pop(name, None)
    twin = published.get(row.get("uuid"))
    if twin is not None and row["type"] == "user":
        row["message"] = twin["message"]
        if "tool_use_result" in row and "toolUseResult" in twin:
            row["tool_use_result"] = twin["toolUseResult"]
    elif row["type"] == "user" and isinstance(row["message"]["content"], list):
        content = row["message"]["content"]
        row["message"]["content"] = [results.get(b.get("tool_use_id"), b) for b in content]
    lines.append(unframed(row))
theirs = set()
for path in TRUTH.glob("*.json"):
    body = json.loads(path.read_text())
    request = body.get("body") or {}
    theirs.update(runs([request.get("system"), request.get("tools")]))
assert theirs, "no instructions to compare with"
left = [one for row in lines for one in runs(row) if one in theirs]
assert not left, left[:3]
OUT.write_text(
    "".join(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n" for row in lines)
)
