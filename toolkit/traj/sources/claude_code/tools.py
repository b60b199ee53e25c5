"""How a tool call ended, from its result block and what Claude Code notes beside it."""

from __future__ import annotations

import re

from traj.events import ToolRun
from traj.sources.claude_code.content import flat
from traj.sources.claude_code.wire import Block, ResultDetails

_EXIT = re.compile(r"\A(?:Error: )?Exit code (\d{1,9})")


def finish_run(
    run: ToolRun, block: Block, details: ResultDetails | None, denial: str | None, time: int | None
) -> None:
    """Writes down how a tool call ended."""
    run.end_us = time
    text = flat(block.content) or ""
    code = _EXIT.match(text) if block.is_error else None
    run.exit_code = int(code.group(1)) if code else None
    run.status = _status(text, bool(block.is_error), denial, details)
    if details is None:
        return
    run.truncated = details.truncated
    if details.exitCode is not None:
        run.exit_code = details.exitCode
    if details.isAsync or details.backgroundTaskId or details.status == "async_launched":
        run.background = True
    took = details.totalDurationMs if details.totalDurationMs is not None else details.durationMs
    if took is not None and took >= 0 and time is not None and run.start_us is not None:
        # The tool's own duration ends where its result line was written.
        start = time - round(took * 1000)
        if start >= run.start_us:
            run.start_us, run.clock = start, "logged"


def _status(text: str, is_error: bool, denial: str | None, details: ResultDetails | None) -> str:
    if denial or text.startswith("The user doesn't want to"):
        return "rejected"
    if (details and details.interrupted) or text.startswith("[Request interrupted"):
        return "interrupted"
    if is_error:
        return "timeout" if text.startswith("Command timed out") else "error"
    return "ok"
