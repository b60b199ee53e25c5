"""Splits, disclosures and verdicts as plain text."""

from __future__ import annotations

from typing import Any

from traj.report.text import plain, table


def split_made(report: Any) -> str:
    """What `traj split` did, how even it came out, and what speaks against it."""
    lines: list[str] = []
    if report.key_made:
        lines += [f"made a key, {plain(report.key)}: keep a copy of it, apart from the dataset", ""]
    splits = [
        (name, report.families[name], report.trajectories[name], report.assigned[name])
        for name in report.families
    ]
    lines += table(splits, ("split", "families", "trajectories", "of them new"), right={1, 2, 3})
    levels = [
        (one["property"], one["value"], one["trajectories"], one["private"])
        for one in report.levels
    ]
    lines += ["", *table(levels, ("", "", "trajectories", "private"), right={2, 3})]
    if report.distances:
        apart = [(x.column, f"{x.distance:.3f}", f"{x.chance:.3f}") for x in report.distances]
        lines += ["", "public and private apart (Kolmogorov-Smirnov), and what chance may do:"]
        lines += table(apart, ("column", "distance", "chance"), right={1, 2})
    if report.findings:
        found = [(f.severity, f.check, f.count, f.where, f.message) for f in report.findings]
        heads = ("severity", "check", "count", "first at", "what")
        lines += ["", *table(found, heads, right={2})]
    if not report.ok:
        lines += ["", "NOTHING WRITTEN: the splits would share what is listed as errors"]
    elif report.root:
        lines += ["", f"committed to the private split: {report.root}"]
    return "\n".join(lines)


def revealed(report: Any) -> str:
    """What `traj reveal` wrote."""
    rows = ", ".join(f"{count:,} {name}" for name, count in report.rows.items())
    return f"{plain(report.file)}: {len(report.trajectories)} trajectories: {rows}"


def verified(verdict: Any) -> str:
    """Whether a disclosure is what was committed to."""
    rows = ", ".join(f"{count:,} {name}" for name, count in verdict.rows.items())
    lines = [f"  {plain(problem)}" for problem in verdict.problems[:20]]
    if len(verdict.problems) > 20:
        lines.append("  ... (--json lists all)")
    word = "PROVEN" if verdict.ok else "NOT PROVEN"
    return "\n".join([*lines, f"{word}: {len(verdict.trajectories)} trajectories: {rows}"])
