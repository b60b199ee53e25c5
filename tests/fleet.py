"""Datasets of many short sessions in many repositories, for the tests of splits and releases."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import rows
from traj.release import SplitOptions

KEY = "TRAJ-SPLIT-KEY-1-" + "5A" * 32 + "\n"
Row = dict[str, Any]

_LANGUAGES = ("Python", "Rust", "Go")
_USES = ("bug_fix", "feature", None)


def repository(name: str | None, **over: Any) -> Row | None:
    """A row's repository, from `host/owner/name`."""
    if name is None:
        return None
    host, owner, own = name.split("/")
    known = {"host": host, "owner": owner, "name": own, "url": f"https://{name}"}
    facts = {"commit": None, "branch": "main", "license": None, "visibility": "unknown"}
    return known | facts | {"known_by": "log"} | over


def session(
    name: str, where: Row | None, *, turns: int = 2, system: str | None = None, **texts: str
) -> rows.Tables:
    """A session of so many turns, each with a tool call. `texts` replaces what is said: `prompt`,
    `answer`, `result`."""
    said = {x: rows.words(90, f"{name} {x}") for x in ("prompt", "answer", "result")} | texts
    prompts = [rows.prompt("system", system)] if system else []
    front = {"system_id": prompts[0]["prompt_id"]} if prompts else {}
    messages = [rows.message(name, 0, "user", said["prompt"])]
    asked, calls = [], []
    for turn in range(turns):
        at, call = 2 * turn + 1, f"{name}-{turn}"
        asks = [(call, "read", f'{{"n": {turn}}}')]
        answer = said["answer"] if turn == 0 else f"{turn} {rows.words(70, f'{name} {turn}')}"
        messages += [
            rows.message(name, at, "assistant", answer, calls=asks),
            rows.message(name, at + 1, "tool", f"{turn} {said['result']}", tool_call_id=call),
        ]
        span = [{"start": 0, "stop": at}]
        start = turn * 10_000
        over = {"wait_for": [turn - 1] if turn else [], "input": span, "output": at} | front
        asked.append(rows.turn(name, turn, start, start + 4000, **over))
        over = {"tool_call_id": call, "category": "read", "clock": "logged"}
        over |= {"start_us": start + 4000, "end_us": start + 5000 + 10 * turn}
        calls.append(rows.tool_call(name, turn, turn, "read", **over))
    number = sum(map(ord, name))
    language = _LANGUAGES[number % 3]
    use = _USES[number // 3 % 3]
    head = rows.trajectory(
        name,
        repository=where,
        language=language,
        languages=[language],
        use_case=use,
        use_case_source=use and "user",
        duration_us=(turns - 1) * 10_010 + 5000,
    )
    return {
        "trajectories": [head],
        "turns": asked,
        "messages": messages,
        "tool_calls": calls,
        "prompts": prompts,
    }


def together(*sessions: Mapping[str, Sequence[Row]]) -> rows.Tables:
    """One dataset's tables, complete; equal prompts once."""
    found: rows.Tables = {name: [] for name in rows.small()}
    for one in sessions:
        for name, own in one.items():
            found[name] += copy.deepcopy(list(own))
    found["prompts"] = list({row["prompt_id"]: row for row in found["prompts"]}.values())
    rows.complete(found)
    for turn in found["turns"]:
        for name in ("tool_us", "user_us"):
            turn[name] = None
    return found


def fleet(count: int = 24, per: int = 2) -> rows.Tables:
    """So many repositories of `per` sessions each, a system prompt of its own for each."""
    return together(
        *(
            session(
                f"s{number}-{one}",
                repository(f"github.com/owner{number}/name{number}"),
                turns=1 + number % 5,
                system=f"You work on {number}. {rows.words(60, f'system {number}')}",
            )
            for number in range(count)
            for one in range(per)
        )
    )


def key_file(folder: Path, text: str = KEY) -> Path:
    """A split's key, always the same."""
    file = folder / "split.key"
    file.write_text(text)
    file.chmod(0o600)
    return file


def options(folder: Path, **over: Any) -> SplitOptions:
    """Options with the key that is always the same."""
    return SplitOptions(key_file(folder), **over)
