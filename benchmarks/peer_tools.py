"""The peers: how each is called on Claude Code sessions, and where it puts its token counts.

A tool is one entry of `TOOLS`. `call` gives the command for a project folder; tools that take
one session only are called once for each. `tokens` reads what the tool itself wrote, and leaves
out (None) what the tool does not tell.
"""

from __future__ import annotations

import csv
import re
import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from benchmarks.peer_install import Package

Counts = dict[str, int | None]


@dataclass(frozen=True, slots=True)
class Job:
    """What a tool is to read: the folder Claude Code keeps, and one session in it."""

    home: Path
    session: Path
    out: Path
    commands: Path


@dataclass(frozen=True, slots=True)
class Tool:
    """A peer. `whole_folder` tools read all sessions in one call."""

    package: Package
    writes: str
    whole_folder: bool
    call: Callable[[Job], list[str]]
    tokens: Callable[[Path], Counts] | None
    env: Mapping[str, str] = field(default_factory=dict)


def environment(job: Job, tool: Tool) -> dict[str, str]:
    """An empty home, so that no tool finds the sessions of whoever runs this."""
    empty = str(job.out / "home")
    return {
        "HOME": empty,
        "XDG_CONFIG_HOME": f"{empty}/.config",
        "CODEX_HOME": f"{empty}/.codex",
        "CLAUDE_CONFIG_DIR": str(job.home),
        "PYTHONPATH": "",
        "NO_COLOR": "1",
        **tool.env,
    }


def _ccusage(job: Job) -> list[str]:
    return [str(job.commands / "ccusage"), "claude", "session", "--json", "--offline"]


def _ccusage_tokens(out: Path) -> Counts:
    totals = orjson.loads((out / "stdout").read_bytes())["totals"]
    read, write = totals["cacheReadTokens"], totals["cacheCreationTokens"]
    return {
        "prompt_tokens": totals["inputTokens"] + read + write,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "output_tokens": totals["outputTokens"],
    }


def _aiburn(job: Job) -> list[str]:
    return [str(job.commands / "aiburn"), "session", "--all", "--claude", "--json"]


def _aiburn_tokens(out: Path) -> Counts:
    groups = orjson.loads((out / "stdout").read_bytes())["groups"]
    return {
        "prompt_tokens": sum(each["input"] + each["cache"] for each in groups),
        "output_tokens": sum(each["output"] for each in groups),
    }


def _agentrecap(job: Job) -> list[str]:
    command = [str(job.commands / "agentrecap"), "--output-dir", str(job.out / "report")]
    command += ["--claude-input", str(job.home / "projects")]
    for other in ("codex", "opencode", "pi", "omp"):
        command += [f"--{other}-input", str(job.out / "nowhere")]
    return command


def _agentrecap_tokens(out: Path) -> Counts:
    csv.field_size_limit(sys.maxsize)
    with (out / "report" / "threads.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["usage_canonical"] == "True"]
    return {
        "calls": len(rows),
        "prompt_tokens": _column(rows, "call_served_input_tokens"),
        "cache_read_tokens": _column(rows, "call_cached_input_tokens"),
        "cache_write_tokens": _column(rows, "call_cache_creation_input_tokens"),
        "output_tokens": _column(rows, "call_output_tokens"),
    }


def _column(rows: list[dict[str, str]], name: str) -> int:
    return sum(int(float(row[name] or 0)) for row in rows)


def _atif_sql(job: Job) -> list[str]:
    out = str(job.out / "trajectory.json")
    return [str(job.commands / "atif-sql"), "convert", str(job.session), "--trajectory-out", out]


def _atif_make(job: Job) -> list[str]:
    out = str(job.out / "trajectory.json")
    return [str(job.commands / "atif-make"), "convert", str(job.session), "-q", "-o", out]


def _harbor(job: Job) -> list[str]:
    """Takes a folder per session: copies lay out the one it is to read."""
    project = job.out / "logs" / "sessions" / "projects" / "-project"
    project.mkdir(parents=True)
    for path in (job.session, *_siblings(job.session)):
        shutil.copyfile(path, project / path.name)
    if job.session.with_suffix("").is_dir():
        shutil.copytree(job.session.with_suffix(""), project / job.session.stem)
    driver = str(Path(__file__).with_name("harbor_convert.py"))
    out = str(job.out / "trajectory.json")
    return [str(job.commands / "python"), driver, str(job.out / "logs"), out]


def _siblings(session: Path) -> list[Path]:
    """Sub-agent files of the old layout: beside the session, told apart by the id inside."""
    mark = f'"sessionId":"{session.stem}"'.encode()
    return [path for path in session.parent.glob("agent-*.jsonl") if mark in path.read_bytes()]


def _atif_tokens(out: Path) -> Counts:
    """Sums what the trajectory and the sub-agents' trajectories within it tell."""
    root = orjson.loads((out / "trajectory.json").read_bytes())
    total = dict.fromkeys(("calls", "prompt_tokens", "cache_read_tokens", "output_tokens"), 0)
    writes: list[int] = []
    for one in _trajectories(root):
        final = one.get("final_metrics") or {}
        total["calls"] += sum(1 for step in one.get("steps", []) if step.get("metrics"))
        total["prompt_tokens"] += final.get("total_prompt_tokens") or 0
        total["cache_read_tokens"] += final.get("total_cached_tokens") or 0
        total["output_tokens"] += final.get("total_completion_tokens") or 0
        write = (final.get("extra") or {}).get("total_cache_creation_input_tokens")
        writes += [write] if write is not None else []
    return {**total, "cache_write_tokens": sum(writes) if writes else None}


def _trajectories(root: dict[str, Any]) -> list[dict[str, Any]]:
    inner = root.get("subagent_trajectories") or []
    return [root, *(each for one in inner for each in _trajectories(one))]


def _claude_code_log(job: Job) -> list[str]:
    out = str(job.out / "log.json")
    return [str(job.commands / "claude-code-log"), str(job.session), "-o", out, "--no-cache"]


_SUMMARY = {
    "input": re.compile(r"\bInput: (\d+)"),
    "output_tokens": re.compile(r"\bOutput: (\d+)"),
    "cache_write_tokens": re.compile(r"\bCache Creation: (\d+)"),
    "cache_read_tokens": re.compile(r"\bCache Read: (\d+)"),
}


def _claude_code_log_tokens(out: Path) -> Counts:
    sessions = orjson.loads((out / "log.json").read_bytes())["sessions"]
    told = " ".join(each["token_summary"] or "" for each in sessions)
    sums = {name: sum(map(int, found.findall(told))) for name, found in _SUMMARY.items()}
    read, write = sums["cache_read_tokens"], sums["cache_write_tokens"]
    return {
        "prompt_tokens": sums["input"] + read + write,
        "cache_read_tokens": read,
        "cache_write_tokens": write,
        "output_tokens": sums["output_tokens"],
    }


def _transcripts(job: Job) -> list[str]:
    command = str(job.commands / "claude-code-transcripts")
    return [command, "json", str(job.session), "-o", str(job.out / "html")]


_NO_DOWNLOADS = {"LITELLM_LOCAL_MODEL_COST_MAP": "True"}

TOOLS: dict[str, Tool] = {
    "atif-sql": Tool(
        Package("atif-sql", "0.4.0", python=(3, 13)),
        "ATIF JSON + edges",
        False,
        _atif_sql,
        _atif_tokens,
        _NO_DOWNLOADS,
    ),
    "atif-make": Tool(
        Package("atif-make", "0.10.0", python=(3, 12)), "ATIF JSON", False, _atif_make, _atif_tokens
    ),
    "harbor": Tool(
        Package("harbor", "0.24.0", python=(3, 12)),
        "ATIF JSON",
        False,
        _harbor,
        _atif_tokens,
        _NO_DOWNLOADS,
    ),
    "claude-code-log": Tool(
        Package("claude-code-log", "1.7.0"),
        "JSON transcript",
        False,
        _claude_code_log,
        _claude_code_log_tokens,
    ),
    "claude-code-transcripts": Tool(
        Package("claude-code-transcripts", "0.6"), "HTML pages", False, _transcripts, None
    ),
    "agentrecap": Tool(
        Package("agentrecap", "0.13.1"),
        "CSV events + HTML report",
        True,
        _agentrecap,
        _agentrecap_tokens,
        {"MPLBACKEND": "Agg"},
    ),
    "ccusage": Tool(
        Package("ccusage", "20.0.24", registry="npm"),
        "totals a session",
        True,
        _ccusage,
        _ccusage_tokens,
    ),
    "aiburn": Tool(Package("aiburn", "0.4.5"), "totals a session", True, _aiburn, _aiburn_tokens),
}
