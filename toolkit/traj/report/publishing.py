"""Publications as plain text: what would be or is in the repositories, what speaks against it."""

from __future__ import annotations

from typing import Any

from traj.report.text import plain, table

_FILES = 40  # of a repository, so many are listed


def published(report: Any) -> str:
    """What `traj publish` did, or would do."""
    lines: list[str] = []
    for plan in report.planned:
        lines += [*_planned(plan, listed=report.dry_run), ""]
    if report.refusals:
        lines += [f"REFUSED: {len(report.refusals)} reasons:"]
        for one in report.refusals:
            count = f" ({one.count:,})" if one.count > 1 else ""
            lines.append(f"  {plain(one.where)}: {plain(one.reason)}{count}: {plain(one.remedy)}")
        lines.append("nothing was sent")
    elif report.dry_run:
        lines.append("dry run: nothing speaks against it, nothing was sent")
    for done in report.uploaded:
        lines += _uploaded(done)
    if report.loaded:
        lines += ["", *_loaded(report.loaded)]
    return "\n".join(lines).rstrip()


def _planned(plan: Any, *, listed: bool) -> list[str]:
    kind = "private" if plan.private else "public"
    head = f"{plain(plan.repo_id)} ({kind}), one commit, tag {plain(plan.tag)}: "
    lines = [head + f"{len(plan.files)} files, {plan.bytes:,} bytes"]
    if listed:
        lines += table(plan.files[:_FILES], ("file", "bytes"), right={1})
        if len(plan.files) > _FILES:
            lines.append(f"  ... and {len(plan.files) - _FILES} more (--json lists all)")
    return lines


def _uploaded(done: Any) -> list[str]:
    where = f"{plain(done.repo_id)}: version {plain(done.tag)} at {done.commit[:12]}"
    if done.unchanged:
        return [f"{where}: was there already"]
    gone = f", {len(done.deleted)} deleted" if done.deleted else ""
    lines = [f"{where}: {done.sent} files changed, {done.sent_bytes:,} bytes{gone}"]
    if done.left:
        names = ", ".join(map(plain, done.left[:5]))
        lines.append(f"  left alone, not traj's: {names}")
    return lines


def _loaded(checks: Any) -> list[str]:
    """A line for each client of each repository, and one for each table that is not the same."""
    by_client: dict[tuple[str, str], list[Any]] = {}
    for one in checks:
        by_client.setdefault((one.repo_id, one.client), []).append(one)
    rows = []
    for (repo_id, client), found in by_client.items():
        status = next((one.status for one in found if one.status != "same"), "same")
        read = None if status == "not_run" else sum(one.rows or 0 for one in found)
        rows.append((repo_id, client, read, status.replace("_", " ")))
    lines = table(rows, ("loaded back", "with", "rows", "as published"), right={2})
    for one in checks:
        if one.status != "same":
            where = f"{one.repo_id}, {one.client}, {one.config}"
            lines.append(f"  {plain(where)}: {plain(one.detail)}")
    return lines
