"""Turn the recordings of ``record_live.py`` into the published sample data, as ``../neutralise.py``
does for the others: the agents' own texts become texts of ours with exactly as many o200k_base
tokens. A live log names the pieces of a request's body by their hashes, which are made anew.

    python3 neutralise_live.py <scratch> <sample_data>
    python3 neutralise_live.py <scratch> <sample_data> --check
"""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent), str(HERE.parent / "chat")]

import neutralise  # noqa: E402
import neutralise_chat  # noqa: E402
from neutralise import PRIVATE, Neutral, dumps, grams, same_shape, walk  # noqa: E402
from record_live import SAMPLES, live_agents  # noqa: E402

KERNEL = re.compile(r"\(linux [^;)]*;")
DEFINED = {"definition", "syntax"}  # of a tool: its grammar

Json = dict[str, Any]


class Cleaner:
    """The pieces of bodies of one recording, with the agent's own texts replaced."""

    def __init__(self) -> None:
        ours = [*neutralise.own_texts(), *neutralise_chat.own_texts()]
        ours += [live_agents.OURS, live_agents.HELPED, live_agents.ISSUE]
        self.neutral = Neutral(ours, neutralise.reports())
        self.chat = neutralise_chat.Cleaner()
        self.chat.neutral = self.neutral
        self.theirs = Neutral([], [])  # for texts in which a few words like ours are not ours

    def piece(self, value: Any) -> Any:
        match value:
            case list():
                return [self.tool(one) for one in value]
            case {"type": "message"} | {"role": "developer", "content": list()}:
                return neutralise.codex_item(value, self.neutral)
            case {"role": "system" | "developer", "content": str(text)}:
                return {**value, "content": self.theirs(text)}
            case {"role": "user", "parts": parts}:
                return {**value, "parts": self.chat.said(parts)}
            case {"role": "user"}:
                return neutralise.claude_message(value, self.neutral)
            case {"type": "text", "text": str(text)}:
                return {**value, "text": self.neutral(text)}
            case {"name": str(), "description": str()}:
                return self.tool(value)
        return value

    def tool(self, value: Any) -> Any:
        """A tool's definition, without its maker's words."""
        return self.grammar(self.theirs.schema(value))

    def grammar(self, value: Any) -> Any:
        if isinstance(value, list):
            return [self.grammar(one) for one in value]
        if not isinstance(value, dict):
            return value
        return {
            key: self.theirs(one) if key in DEFINED and isinstance(one, str) else self.grammar(one)
            for key, one in value.items()
        }

    def lines(self, lines: list[Json]) -> Iterator[Json]:
        names: dict[str, str] = {}
        system = instructions(lines)
        for line in lines:
            if line.get("part") in system:
                yield named(line, walk(line["said"]["json"], self.theirs), names)
            elif "part" in line:
                yield named(line, self.piece(line["said"]["json"]), names)
            elif "ask" in line:
                headers = {k: KERNEL.sub("(linux;", v) for k, v in line["headers"].items()}
                line = {**line, "headers": headers}
                if "pieces" in line:
                    rest = [names.get(piece, piece) for piece in line["pieces"].get("rest", [])]
                    line["pieces"] = {**line["pieces"], "rest": rest}
                yield line
            else:
                yield line


def instructions(lines: list[Json]) -> set[str]:
    """The pieces that are a request's system prompt in Gemini's API, which are like messages."""
    found = set()
    for line in lines:
        rest = (line.get("pieces") or {}).get("rest", [])
        found |= {b for a, b in pairwise(rest) if a.endswith('"systemInstruction":')}
    return found


def named(line: Json, value: Any, names: dict[str, str]) -> Json:
    """A piece under the hash that it has now."""
    name = hashlib.sha256(dumps(value).encode()).hexdigest()[:32]
    names[line["part"]] = name
    return {"part": name, "said": {"json": value}}


def read_lines(path: Path) -> list[Json]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def logs(scratch: Path, target: Path) -> Iterator[tuple[str, Path, Path]]:
    """The runs, their logs and where each is published."""
    for run, name in SAMPLES.items():
        (log,) = (scratch / run / "out.traj.live").glob("*.jsonl")
        yield run, log, target / "live" / f"{name}.jsonl"


def truth(folder: Path) -> list[Json]:
    """What the scripted model saw and sent, in the order of requests, without bodies."""
    told = [one for entries in neutralise.truth(folder).values() for one in entries]
    return sorted(told or neutralise_chat.requests(folder), key=lambda one: one["index"])


def publish(scratch: Path, target: Path) -> None:
    for run, log, place in logs(scratch, target):
        place.parent.mkdir(exist_ok=True)
        lines = Cleaner().lines(read_lines(log))
        place.write_text("".join(dumps(line) + "\n" for line in lines))
        told = target / "truth" / "live" / f"{place.stem}.json"
        told.parent.mkdir(exist_ok=True)
        rows = ",\n".join(dumps(entry) for entry in truth(scratch / run / "truth"))
        told.write_text(f'{{"recording":"{run}","requests":[\n{rows}\n]}}\n')


def vendors(body: Json) -> set[str]:
    """The word sequences of a captured request that are the agent's maker's."""
    texts = [*neutralise.vendor_texts(body), *neutralise_chat.vendor_texts(body)]
    tools = [*neutralise.tool_outputs(body), *neutralise_chat.tool_outputs(body)]
    theirs = {gram for text in texts for gram in grams(text)}
    return theirs - {gram for text in tools for gram in grams(text)}


def check(scratch: Path, target: Path) -> int:
    """Looks for the makers' word sequences, machine paths and other differences."""
    found: set[str] = set()
    for path in scratch.glob("*/truth/*.json"):
        found |= vendors(json.loads(path.read_text())["body"] or {})
    for path in HERE.parent.rglob("*"):
        if path.is_file():
            found -= set(grams(path.read_text(errors="replace")))
    ours = [*neutralise.own_texts(), *neutralise_chat.own_texts()]
    ours += [live_agents.HELPED, live_agents.OURS]
    found -= {gram for text in ours for gram in grams(text)}
    neutral, bad = Neutral([], []), 0
    for run, log, place in logs(scratch, target):
        old, new = read_lines(log), read_lines(place)
        problems = [] if len(old) == len(new) else ["another number of lines"]
        for before, after in zip(old, new, strict=False):
            kind = "said" if "part" in before else "pieces" if "ask" in before else None
            if kind == "pieces":
                lengths = {len((line.get(kind) or {}).get("rest", [])) for line in (before, after)}
                problems += [] if len(lengths) == 1 else ["another number of pieces"]
            elif kind is not None:
                told = same_shape(before[kind], after[kind], neutral)
                problems += [one for one in told if neutralise_chat.shorter(one)]
            elif before != after:
                problems.append("another line")
            texts = (text for text in neutralise.strings(after))
            problems += [gram for text in texts for gram in grams(text) if gram in found]
        inside = place.read_text().replace(str(scratch / run), "")
        inside = inside.replace("/work/calc", "").replace("/home/.gemini/tmp", "")
        problems += [f"path {private}" for private in set(PRIVATE.findall(inside))]
        for problem in problems[:9]:
            print(f"{place.name}: {problem}")
        bad += len(problems)
    print(f"{len(found)} word sequences looked for, {bad} problems")
    return 1 if bad else 0


if __name__ == "__main__":
    neutralise.command(__doc__, publish, check)
