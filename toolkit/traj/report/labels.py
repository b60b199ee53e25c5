"""Labels as plain text."""

from __future__ import annotations

from typing import Any

from traj.report.text import plain, table

_WORDS = {
    "new": "new",
    "changed": "changed",
    "confirmed": "better known",
    "same": "as it was",
    "kept": "better known before",
    "conflict": "conflict",
}


def known(coverage: Any) -> str:
    """How many trajectories have each label, by how it is known."""
    rows = []
    for name, sources in coverage.known.items():
        rest = coverage.trajectories - sum(sources.values())
        by = ", ".join(f"{source} {count:,}" for source, count in sources.items())
        rows.append((name, coverage.trajectories - rest, rest, by))
    heads = ("label", "known", "unknown", "by")
    lines = table(rows, heads, right={1, 2})
    return "\n".join([f"{coverage.trajectories:,} trajectories", *lines])


def exported(facts: Any) -> str:
    """Where the labels were written."""
    return f"{plain(facts['file'])}: {facts['trajectories']:,} trajectories"


def labelled(report: Any) -> str:
    """What labelling did, and what stands against it."""
    used = [word for word in _WORDS if any(word in found for found in report.verdicts.values())]
    rows = [
        (name, *(found.get(word, 0) for word in used)) for name, found in report.verdicts.items()
    ]
    heads = ("label", *(_WORDS[word] for word in used))
    lines = table(rows, heads, right=set(range(1, len(heads)))) if rows else []
    lines += [f"note: {plain(note)}" for note in report.notes]
    if report.conflicts:
        lines += ["", "not written, for what is known stands against it (--overwrite replaces it):"]
        against = [
            (
                *(one.place, one.trajectory[:12], one.label),
                *(_said(one.known, one.known_by), _said(one.said, one.said_by)),
            )
            for one in report.conflicts[:20]
        ]
        lines += table(against, ("where", "trajectory", "label", "known", "said"))
        if len(report.conflicts) > 20:
            lines.append(f"  ... of {len(report.conflicts):,} (--json lists all)")
    if report.raised_from:
        lines.append(f"the dataset's schema is newer now than {plain(report.raised_from)}")
    if report.split_again and report.written:
        lines.append("the commitment is to the private split as it was: run traj split")
    word = "labelled" if report.written else "NOTHING WRITTEN: would label"
    if not report.trajectories:
        word = "nothing to change:"
    return "\n".join([*lines, f"{word} {report.trajectories:,} trajectories"])


def _said(value: str | None, source: str | None) -> str:
    text = "-" if value is None else value if len(value) <= 40 else f"{value[:39]}…"
    return f"{text} ({source})" if source else text
