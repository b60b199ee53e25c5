"""What a check is, what it finds, and the report that `validate` hands back."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from traj import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import polars as pl

    from traj.validation.tables import Tables

Severity = Literal["error", "finding"]
Status = Literal["passed", "failed", "not_run", "not_applicable"]


class UnavailableError(Exception):
    """Something that a check needs is not there or cannot be read: the check did not run."""


class NotApplicableError(Exception):
    """The dataset holds nothing that the check speaks of (it has no text, say)."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One kind of fault: how many rows have it, and the first of them."""

    check: str
    severity: Severity
    table: str
    where: str  # the first row that has it
    message: str
    count: int


@dataclass(frozen=True, slots=True)
class Fault:
    """What a check yields. Faults of several shards with the same `what` become one Finding."""

    table: str
    where: str
    what: str
    seen: str = ""  # the first row's values
    count: int = 1
    severity: Severity | None = None  # None: the check's own


@dataclass(frozen=True, slots=True)
class Check:
    """A function that yields faults; its name and its docstring's first paragraph are the check's.

    Scope `part`: called for each shard, with the rows of that shard's trajectories. Scope
    `dataset`: called once, for what can only be seen across shards.
    """

    run: Callable[[Tables], Iterator[Fault]]
    severity: Severity = "error"
    scope: Literal["part", "dataset"] = "part"

    @property
    def name(self) -> str:
        return self.run.__name__

    @property
    def proves(self) -> str:
        return " ".join((self.run.__doc__ or "").partition("\n\n")[0].split())


@dataclass(frozen=True, slots=True)
class CheckResult:
    """How one check went; `reason` says why it did not run, where it did not."""

    name: str
    proves: str
    severity: Severity
    status: Status
    seconds: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a validation."""

    findings: tuple[Finding, ...]
    checks: tuple[CheckResult, ...]
    rows: dict[str, int]  # rows read, by table

    @property
    def ok(self) -> bool:
        """No error was found and no check was left out for want of something it needs."""
        found = any(finding.severity == "error" for finding in self.findings)
        return not found and all(check.status != "not_run" for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types: ok, rows, findings, checks."""
        return {
            "ok": self.ok,
            "rows": dict(self.rows),
            "findings": [asdict(finding) for finding in self.findings],
            "checks": [asdict(check) for check in self.checks],
        }


def faults(
    table: str,
    bad: pl.DataFrame,
    what: str,
    *,
    at: Sequence[str] = (),
    show: Sequence[str] = (),
    severity: Severity | None = None,
) -> Iterator[Fault]:
    """One Fault for the rows of `bad`, or none. `at` are the columns that say where (the table's
    key unless given), `show` those whose values go into the message.
    """
    if bad.is_empty():
        return
    row = bad.row(0, named=True)
    where = " ".join(f"{name.removesuffix('_id')} {row[name]}" for name in at or _key(table))
    seen = ", ".join(f"{name} = {_short(row[name])}" for name in show)
    yield Fault(table, where, what, seen, bad.height, severity)


def _key(table: str) -> tuple[str, ...]:
    return schema.table(table).key


def _short(value: object) -> str:
    text = "null" if value is None else str(value)
    return text if len(text) <= 80 else f"{text[:79]}…"
