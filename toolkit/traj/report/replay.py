"""A replay as text: what was measured, how well the harness kept time, what failed."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, TextIO

from traj.report.text import plain, table

if TYPE_CHECKING:
    from traj.replay.player import Seen, State
    from traj.replay.results import Run

_SPREAD = ("p5", "p25", "p50", "p75", "p95", "p99", "max")


def replayed(run: Run) -> str:
    """What `traj replay` prints at its end."""
    found = run.summary()
    seconds = run.duration_us / 1e6
    lines = [
        f"{found['requests']:,} requests of {found['plays']:,} plays by "
        f"{run.options['agents']:,} agents in {seconds:.1f} s"
        + (", interrupted" if run.interrupted else ""),
        f"{found['answered']:,} answered, {found['failed']:,} failed",
    ]
    if found["failed"] or found["answered"] < found["requests"]:
        said = found["first_errors"]
        rows = [
            (name, count, said.get(name, "")[:100])
            for name, count in found["by_status"].items()
            if name != "ok"
        ]
        lines += ["", *table(rows, ("not answered", "requests", "the first said"), right={1})]
    spreads = [
        ("time to first token, ms", _scaled(found["ttft_us"], 1e3)),
        ("output speed, tokens/s", _scaled(found["output_tokens_per_s"], 1)),
        ("whole request, ms", _scaled(found["latency_us"], 1e3)),
        ("sent later than due, ms", _scaled(run.client.schedule_error_us, 1e3)),
        ("event loop late, ms", _scaled(run.client.loop_lag_us, 1e3)),
    ]
    spread = [(name, *values) for name, values in spreads]
    lines += ["", *table(spread, ("", *_SPREAD), right=set(range(1, 8)))]
    lines += ["", *_tokens(found)]
    if run.valid:
        lines.append("valid: the harness kept its time")
    else:
        lines += [f"INVALID: {reason}" for reason in run.reasons]
    return "\n".join(lines)


def progress_line(out: TextIO) -> Callable[[State], None]:
    """A line that is written over: the time, agents, requests, how quick the last answers were,
    failures by name."""
    began_s = time.monotonic()

    def say(state: State) -> None:
        text = f"{time.monotonic() - began_s:.0f} s: {state.active} agents, "
        text += f"{state.answered} of {state.sent} requests answered"
        text += _quick(state.recent)
        text += "".join(f", {count} {name}" for name, count in state.failed_by.most_common())
        out.write(f"\r{plain(text)[:120]:<120}")
        out.flush()

    return say


def _quick(recent: Collection[Seen]) -> str:
    """The last answers, as a service level would look at them."""
    if not recent:
        return ""
    ttft_s = sorted(seen.ttft_us / 1e6 for seen in recent)
    text = f", TTFT {ttft_s[len(ttft_s) // 2]:.2f} s (P95 {ttft_s[len(ttft_s) * 95 // 100]:.2f})"
    speeds = sorted(seen.tokens_per_s for seen in recent if seen.tokens_per_s is not None)
    return text + (f", P25 {speeds[len(speeds) // 4]:.0f} tokens/s" if speeds else "")


def _tokens(found: dict[str, Any]) -> list[str]:
    lines = []
    if found["input_tokens"] is not None:
        lines.append(
            f"tokens by the engine: {found['input_tokens']:,} in, {found['output_tokens'] or 0:,} "
            f"out; answers counted here: {found['counted_output_tokens'] or 0:,}"
        )
    if found["usage_missing"]:
        lines.append(f"{found['usage_missing']:,} answers came without usage")
    cached, predicted = found["cached_share"], found["predicted_cached_share"]
    said = "not reported" if cached is None else f"{cached:.1%} reported"
    if predicted is not None:
        lines.append(f"cached: {said}, {predicted:.1%} predicted of an ideal cache")
    return lines


def _scaled(spread: dict[str, Any], by: float) -> list[str]:
    return ["-" if spread[p] is None else f"{spread[p] / by:,.1f}" for p in _SPREAD]
