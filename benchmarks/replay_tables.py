"""The tables of `replay.py`'s results."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from benchmarks.results import machine_line, table

PERCENTILES = (5, 25, 50, 75, 95)
MEASURED = {
    "ttft_ms": ("time to first token, ms", 1),
    "tokens_per_s": ("output speed, tokens/s", 2),
    "latency_ms": ("from request to end, ms", 1),
}


def tables(result: dict[str, Any]) -> str:
    """What `replay.py` measured."""
    renderers = {"check": _check, "timing": _timing, "real": _real}
    sections = [render(result[name]) for name, render in renderers.items() if name in result]
    return "\n\n".join(sections) + "\n"


def _about(part: dict[str, Any], what: str) -> str:
    said = machine_line(part)
    return (
        f"{said} {what} at real-time priority, since others used it too."
        if part["real_time"]
        else said
    )


def _check(part: dict[str, Any]) -> str:
    counts = table(["", "planned", "traj replay", "aiperf"], count_rows(part))
    header = ["", "traj replay", "its engine", "aiperf", "its engine", "apart", "runs apart"]
    about = (
        f"**The same load through `traj replay` and aiperf {part['aiperf']}**, {part['agents']} "
        f"agents, {part['repeats']} runs of each in turn (`{part['options']}`).\n"
        f"{_about(part, 'The engine ran')}"
    )
    told = (
        "What each harness measured, and what the engine knows of the same requests: medians of "
        "the runs; how far the two harnesses lie apart, and how far at most the runs of one do."
    )
    return "\n\n".join([about, counts, told, table(header, measured_rows(part))])


def count_rows(part: dict[str, Any]) -> list[list[str]]:
    """A row a count: planned, by `traj replay`, by aiperf."""
    counts = {
        "requests": ("requests", part["planned_requests"]),
        "whose prompt or tools are not the load's": ("not_planned", 0),
        "of the load that did not come": ("not_sent", 0),
        "prompt tokens": ("prompt_tokens", None),
        "of them a prefix cache would hold": ("cached_tokens", None),
        "answers of another length": ("other_length", 0),
        "answer tokens": ("answer_tokens", part["planned_answer_tokens"]),
        "came before what they wait for had ended": ("before_waits", 0),
        "came before their delay was over": ("early", 0),
        f"the same, of the {part['joins']} that join another lane": ("early_joins", 0),
    }
    sides = [part["harnesses"][name] for name in ("traj", "aiperf")]
    found = [
        [text, "" if plan is None else f"{plan:,}", *(_all(one, name) for one in sides)]
        for text, (name, plan) in counts.items()
    ]
    for p in PERCENTILES:
        late = [f"{median(run['late_ms'][f'p{p}'] for run in one):.1f}" for one in sides]
        found.append([f"came after their time, ms, p{p}", "0.0", *late])
    return found


def measured_rows(part: dict[str, Any]) -> list[list[str]]:
    """A row a percentile: as each harness measured it, and as the engine knows it; medians of the
    runs, and how far those of the harnesses lie apart, beside how far a harness's own do."""
    found = []
    for name, (text, digits) in MEASURED.items():
        for p in PERCENTILES:
            sides = [
                [run[source][name][f"p{p}"] for run in part["harnesses"][harness]]
                for harness in ("traj", "aiperf")
                for source in ("measured", "engine")
            ]
            middle = [median(side) for side in sides]
            spread = max(max(side) - min(side) for side in (sides[0], sides[2]))
            numbers = [*middle, abs(middle[0] - middle[2]), spread]
            found.append([f"{text}, p{p}", *(f"{number:.{digits}f}" for number in numbers)])
    return found


def _all(runs: Sequence[dict[str, Any]], name: str) -> str:
    """A count, or the least and the most where the runs differ."""
    values = sorted({run[name] for run in runs})
    return " to ".join(f"{value:,}" for value in dict.fromkeys((values[0], values[-1])))


def _timing(part: dict[str, Any]) -> str:
    header = ["agents", "processes", "tokens/s", "requests", "events/s", "late p50 ms"]
    header += ["p99", "max", "loop p99", "max", "client's core", "engine's core"]
    header += ["TTFT p99 - 0.3 s, ms", "valid"]
    rows = [
        [
            f"{one['agents']:,}",
            one["processes"],
            f"{one['rate']:g}",
            f"{one['requests']:,}",
            f"{one['events_per_s']:,.0f}",
            *(_ms(one["client"]["schedule_error_us"][name]) for name in ("p50", "p99", "max")),
            *(_ms(one["client"]["loop_lag_us"][name]) for name in ("p99", "max")),
            f"{one['client']['cpu_share']:.0%}",
            f"{one['engine_cpu_share']:.0%}",
            _ms(one["ttft_us"]["p99"] - part["first_s"] * 1e6),
            "yes" if one["valid"] else "no: " + "; ".join(one["reasons"]),
        ]
        for one in part["cases"]
    ]
    about = f"**Time kept** (`{part['options']}`).\n{_about(part, 'Client and engine ran')}"
    return f"{about}\n\n{table(header, rows)}"


def _ms(value_us: float | None) -> str:
    return "-" if value_us is None else f"{value_us / 1e3:.2f}"


def _real(part: dict[str, Any]) -> str:
    names = {
        "requests": "requests",
        "failed": "failed",
        "lengths_otherwise": "answers of another length than asked for",
        "prompt_tokens": "prompt tokens, as the engine counts",
        "rendered_otherwise": "prompts that the engine counts otherwise",
        "cached_tokens": "cached tokens, as the engine says",
        "predicted_tokens": "cached tokens, predicted with the engine's template and blocks",
        "predicted_otherwise": "requests whose cached tokens are not the predicted ones",
        "foreign_tokens": "cached tokens that were not the play's own",
        "planned_input_tokens": "prompt tokens, as `traj replay` plans",
        "replay_predicted_tokens": "cached tokens, as `traj replay` predicts",
    }
    phases = part["phases"]
    header = ["", *(f"phase {number}" for number in range(len(phases)))]
    rows = [[text, *(f"{phase[name]:,}" for phase in phases)] for name, text in names.items()]
    for name, text in (
        ("cached_share", "share cached, as the engine says"),
        ("predicted_cached_share", "share cached, as `traj replay` predicts"),
    ):
        rows.append([text, *(f"{phase[name]:.2%}" for phase in phases)])
    about = (
        f"**`traj replay` against vLLM {part['vllm']}** on the CPU, blocks of "
        f"{part['block_size']} tokens, {part['agents']} agents (`{part['options']}`).\n"
        f"Engine: `{part['serve_command']}`. {machine_line(part)}"
    )
    return f"{about}\n\n{table(header, rows)}"
