"""Exports and their targets as text: for a terminal, and for the documentation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from traj.report.text import number, table


def exported(report: Any) -> str:
    """What `traj export` wrote, what a cache would find of it, what it lost, how to replay it."""
    counts = ", ".join(f"{count:,} {what}" for what, count in report.counts.items())
    lines = [f"{report.target}: {counts}"]
    if len(report.phases) > 1:
        lines.append(f"in each of {len(report.phases)} phases, {report.phases[0]['folder']} and on")
    rows = [
        (name, *(number(spread.get(key)) for key in ("p5", "p50", "p95", "mean", "max")))
        for name, spread in report.percentiles.items()
    ]
    lines += table(rows, ("", "p5", "p50", "p95", "mean", "max"), right=set(range(1, 6)))
    if report.ideal_hit_rate is not None:
        lines.append(f"ideal hit rate of the record's text {report.ideal_hit_rate:.1%}")
    if report.uncut_hit_rate is not None:
        lines.append(f"before --max-context cut it {report.uncut_hit_rate:.1%}")
    if report.cache is not None:
        lines += ["", hit_rates(report.cache)]
    if report.tool_time is not None and report.tool_time.policy != "recorded":
        lines += ["", tool_time(report.tool_time)]
    if report.losses:
        lines += ["", "lost on the way:"]
        rows = [(loss["kind"], loss["count"], loss["why"]) for loss in report.losses]
        lines += table(rows, ("loss", "count", "why"), right={1})
    if report.command:
        where = ", in each phase's folder," if len(report.phases) > 1 else ""
        lines += ["", f"replay it{where} with:", f"  {report.command}"]
    return "\n".join(lines)


def tool_time(report: Any) -> str:
    """What became of the time between requests."""
    parts = [(name, report.recorded, report.sent) for name in ("tool_s", "user_s", "rest_s")]
    rows = [(name, getattr(one, name), getattr(other, name)) for name, one, other in parts]
    lines = [f"tool time {report.policy}, a person's {report.user_time}: seconds of delay"]
    lines += table(rows, ("", "recorded", "sent"), right={1, 2})
    if report.median_s is not None:
        lines.append(
            f"{report.calls:,} calls, median {report.median_s:.3g} s, clipped below "
            f"{report.clipped_low:,}, above {report.clipped_high:,}"
        )
    if report.recorded_over_5s_calls is not None:
        lines.append(
            f"of the recorded calls {report.recorded_over_5s_calls:.1%} took over 5 s and "
            f"{report.recorded_over_5s_time:.1%} of the time"
        )
    return "\n".join(lines)


def targets(found: Sequence[dict[str, Any]]) -> str:
    """The export targets: a table of what each carries, then what each drops and why."""
    from traj.exporters import ASPECTS, PROOFS

    heads = ("target", "for", "known by", *(name.replace("_", " ") for name in ASPECTS))
    rows = [_target_row(target, "x", "") for target in found]
    lines = table(rows, heads)
    lines += ["", *(f"  {name}: {meaning}" for name, meaning in PROOFS.items())]
    for target in found:
        lines += ["", f"{target['target']}: {target['summary']}"]
        lines += [f"  drops {kind}: {why}" for kind, why in target["drops"].items()]
    lines += ["", "any target that sends text or lengths may lose:"]
    lines += [f"  {kind}: {why}" for kind, why in _any_losses().items()]
    return "\n".join(lines)


def targets_markdown(found: Sequence[dict[str, Any]]) -> str:
    """The same for the documentation: docs/targets.md."""
    from traj.exporters import ASPECTS, PROOFS

    heads = ["target", "for", "known by", *(name.replace("_", " ") for name in ASPECTS)]
    lines = [
        "# Export targets",
        "",
        "Made from the code by `make docs`; see also [exports.md](exports.md).",
        "",
    ]
    lines += ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    lines += ["| " + " | ".join(_target_row(target, "yes", "-")) + " |" for target in found]
    lines += ["", *(f"- *{name}*: {meaning}" for name, meaning in PROOFS.items())]
    for target in found:
        lines += ["", f"## {target['target']}", "", target["summary"] + "."]
        if target["drops"]:
            lines += ["", "| drops | why |", "| --- | --- |"]
            lines += [f"| `{kind}` | {why} |" for kind, why in target["drops"].items()]
    lines += ["", "## Losses of any load", "", "| drops | why |", "| --- | --- |"]
    lines += [f"| `{kind}` | {why} |" for kind, why in _any_losses().items()]
    return "\n".join(lines) + "\n"


def hit_rates(found: Any) -> str:
    """What a cache that forgets nothing holds of an export's prompts, by block size and scope."""
    names = ("within", "across_trajectories", "across_phases")
    sizes = found.hit_tokens
    rows = [(size, *(_share(sizes[size][name], found.tokens) for name in names)) for size in sizes]
    heads = ("block", "within a play", "across trajectories", "across phases")
    longest = found.longest_tokens
    lines = [f"in an unlimited cache, of {found.tokens:,} tokens in {found.prompts:,} prompts:"]
    lines += table(rows, heads, right={0, 1, 2, 3})
    lines.append(
        f"longest front shared: {longest['across_trajectories']:,} tokens across trajectories, "
        f"{longest['across_phases']:,} across phases"
    )
    return "\n".join(lines)


def _target_row(target: dict[str, Any], yes: str, no: str) -> list[str]:
    from traj.exporters import ASPECTS

    marks = [yes if aspect in target["carries"] else no for aspect in ASPECTS]
    return [target["target"], target["harness"], target["proof"], *marks]


def _any_losses() -> dict[str, str]:
    from traj.workload.losses import FILLED, SENT, TEXT

    return {**SENT, **FILLED, **TEXT}


def _share(part: int, whole: int) -> str:
    """Nothing reads otherwise than next to nothing."""
    if not part:
        return "0"
    return "<0.01%" if part < whole / 10_000 else f"{part / whole:.2%}"


if __name__ == "__main__":
    from traj.exporters import describe

    print(targets_markdown(describe()), end="")
