"""Results as plain text for a terminal: one function a result."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from traj.sources import Found


def recording(report: Any) -> str:
    """What `traj record` did, what the sources held that the dataset does not."""
    lines = [
        f"recorded {report.recorded} sessions, unchanged {report.unchanged}",
        f"{report.turns:,} turns, {report.messages:,} messages, {report.tool_calls:,} tool calls",
        f"read {_bytes(report.source_bytes)}, dataset {_bytes(report.dataset_bytes)}, "
        + (f"scrubbed by rules {report.scrubbed}" if report.scrubbed else "NOT SCRUBBED"),
    ]
    if report.kept_longer:
        lines.append(f"kept {report.kept_longer} sessions of which the dataset holds more")
    if report.joined:
        missing = report.losses.get("not_on_the_wire", 0)
        count, said = report.disagreements, f"joined {report.joined} with the agent's own log"
        if count or missing:
            said += f": {count:,} requests with other figures there, {missing:,} answers not on the"
            lines.append(f"{said} wire")
        else:
            lines.append(f"{said}, no disagreement")
    if report.losses:
        lines += ["", "what the dataset does not hold:"]
        lines += table(report.losses.items(), ("loss", "count"), right={1})
    return "\n".join([*lines, *_passed_over(report.passed_over)])


def _passed_over(files: Sequence[tuple[object, str]]) -> list[str]:
    if not files:
        return []
    lines = ["", f"passed over {len(files)} files, no sessions to take:"]
    lines += [f"  {plain(str(path))}: {plain(reason)}" for path, reason in files[:5]]
    return [*lines, "  ... (--json lists all)"] if len(files) > 5 else lines


def preview(found: Found) -> str:
    """What `traj record --dry-run` would take, by format and folder."""
    sessions: dict[tuple[str, str], list[int]] = {}
    for session in found.sessions:
        folder = str(session.parts[0].path.parent)
        sessions.setdefault((session.format, folder), []).append(session.bytes)
    rows = [
        (name, len(sizes), _bytes(sum(sizes)), folder)
        for (name, folder), sizes in sorted(sessions.items())
    ]
    lines = table(rows, ("format", "sessions", "read", "in"), right={1, 2})
    lines.append(f"{len(found.sessions):,} sessions would be taken; nothing was written")
    return "\n".join([*lines, *_passed_over(found.refused)])


def scrubbing(report: Any) -> str:
    """What `traj scrub` replaced, by kind, never what it was."""
    lines = [
        f"{report.trajectories:,} trajectories scrubbed by rules {report.rules}",
        f"{report.redactions:,} pieces of text replaced, in {report.changed:,} of them",
    ]
    if report.kinds:
        lines += ["", *table(report.kinds.items(), ("kind", "replaced"), right={1})]
    return "\n".join(lines)


def validation(report: Any) -> str:
    """The outcome of `traj validate`: findings, then a line of sums."""
    lines: list[str] = []
    if report.findings:
        rows = [
            (f.severity, f.check, f.count, f"{f.table}: {f.where}", f.message)
            for f in report.findings
        ]
        heads = ("severity", "check", "count", "first at", "what")
        lines += [*table(rows, heads, right={2}), ""]
    missed = [check for check in report.checks if check.status == "not_run"]
    lines += [f"not run: {check.name}: {check.reason}" for check in missed]
    counted = ", ".join(f"{rows:,} {name}" for name, rows in report.rows.items())
    passed = sum(check.status == "passed" for check in report.checks)
    verdict = "sound" if report.ok else "NOT SOUND"
    lines.append(f"{verdict}: {passed} of {len(report.checks)} checks passed over {counted}")
    return "\n".join(lines)


def schema_table(schema: dict[str, Any]) -> str:
    """Every column of every table."""
    lines = [f"schema {schema['schema_version']}"]
    by_table: dict[str, list[Sequence[Any]]] = {}
    for row in schema["columns"]:
        kind = row["type"] + ("?" if row["nullable"] else "")
        by_table.setdefault(row["table"], []).append(
            (row["column"], kind, row["unit"], row["description"])
        )
    for name, rows in by_table.items():
        lines += ["", name, *table(rows, ("column", "type", "unit", "meaning"))]
    return "\n".join(lines)


def table(
    rows: Iterable[Sequence[Any]], heads: Sequence[str], right: set[int] | None = None
) -> list[str]:
    """Rows in columns, two spaces apart; the columns in `right` are aligned right."""
    cells = [list(heads), *([plain(number(value)) for value in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(heads))]
    lines = []
    for row in cells:
        padded = [
            cell.rjust(width) if right and column in right else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append(("  " + "  ".join(padded)).rstrip())
    return lines


def number(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return f"{value:,.3g}" if abs(value) < 100 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _bytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB" if count >= 100_000 else f"{count / 1e3:,.1f} KB"


def plain(text: str) -> str:
    """Text from outside, safe for a terminal: no control characters, no line breaks."""
    return "".join(c if c.isprintable() else "�" for c in text)
