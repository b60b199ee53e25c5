"""Carrying out checks: what they yield becomes findings, and how each one went is kept."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from traj.validation.report import (
    Check,
    CheckResult,
    Fault,
    Finding,
    NotApplicableError,
    Report,
    Severity,
    Status,
    UnavailableError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from traj.validation.tables import Tables

Kind = tuple[str, Severity, str, str]  # check, severity, table, what


class Run:
    """The state of one validation."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._checks = {check.name: check for check in checks}
        self._faults: dict[Kind, Fault] = {}
        self._counts: dict[Kind, int] = {}
        self._seconds = dict.fromkeys(self._checks, 0.0)
        self._not_run: dict[str, str] = {}
        self._not_applicable: dict[str, str] = {}

    def carry_out(self, checks: Iterable[Check], tables: Tables) -> None:
        """Runs checks over one part of the dataset."""
        for check in checks:
            began = time.perf_counter()
            self._one(check, tables)
            self._seconds[check.name] += time.perf_counter() - began

    def report(self, rows: dict[str, int]) -> Report:
        """What was found so far; `rows` are the rows read, by table."""
        findings = (
            Finding(
                check=kind[0],
                severity=kind[1],
                table=fault.table,
                where=fault.where,
                message=f"{fault.what} ({fault.seen})" if fault.seen else fault.what,
                count=self._counts[kind],
            )
            for kind, fault in self._faults.items()
        )
        places = {name: place for place, name in enumerate(self._checks)}
        ordered = sorted(findings, key=lambda finding: places[finding.check])
        return Report(tuple(ordered), tuple(map(self._result, self._checks.values())), rows)

    def _one(self, check: Check, tables: Tables) -> None:
        import polars as pl
        import pyarrow as pa

        if check.name in self._not_run:
            return  # what is missing for one shard, a tokenizer say, is most often so for all
        try:
            for fault in check.run(tables):
                severity = fault.severity or check.severity
                kind = (check.name, severity, fault.table, fault.what)
                self._faults.setdefault(kind, fault)
                self._counts[kind] = self._counts.get(kind, 0) + fault.count
        except NotApplicableError as reason:
            self._not_applicable[check.name] = str(reason)
        except UnavailableError as reason:
            self._not_run[check.name] = str(reason)
        except (pl.exceptions.PolarsError, pa.ArrowException) as error:
            self._not_run[check.name] = f"the data could not be worked with: {error}"

    def _result(self, check: Check) -> CheckResult:
        name = check.name
        status: Status = "passed"
        if any(kind[0] == name for kind in self._faults):
            status = "failed"
        elif name in self._not_run:
            status = "not_run"
        elif name in self._not_applicable:
            status = "not_applicable"
        reason = self._not_run.get(name) or self._not_applicable.get(name)
        seconds = round(self._seconds[name], 3)
        return CheckResult(name, check.proves, check.severity, status, seconds, reason)
