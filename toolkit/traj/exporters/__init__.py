"""Writes a dataset as the files that a replay harness reads.

A target is one module with `NAME`, `SUMMARY`, `CARRIES` and `DROPS` (what of a trajectory arrives
at the engine, and what does not: kind of loss to reason), and `write(dataset, out, options)`, which
writes its files into an empty folder, a trajectory at a time, and gives back what it counted.
`export` does what all targets share: the folder appears whole or not at all, and `export.json`
in it says what was written, how long it is, what was lost, and how to replay it.
"""

from __future__ import annotations

import hashlib
import importlib
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, cast

from traj.errors import DatasetError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from traj.dataset import Dataset
    from traj.exporters.tally import Tally

TARGETS = {
    "aiperf-dag": "traj.exporters.aiperf_dag",
    "weka": "traj.exporters.weka",
}
VERSION = "1.0"
REPORT = "export.json"


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """What a person may ask of an export."""

    model: str | None = None  # the name to ask the engine for, in place of the recorded ones
    split: str | None = None


@dataclass(frozen=True, slots=True)
class ExportReport:
    """What export.json says."""

    version: str
    target: str
    options: dict[str, Any]
    dataset: dict[str, Any]
    counts: dict[str, int]
    percentiles: dict[str, dict[str, float]]
    ideal_hit_rate: float | None
    losses: tuple[dict[str, Any], ...]
    files: tuple[dict[str, Any], ...]
    command: str

    def to_json(self) -> bytes:
        import orjson

        return orjson.dumps(asdict(self), option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class Exporter(Protocol):
    """What a target's module offers."""

    NAME: str
    SUMMARY: str
    CARRIES: tuple[str, ...]
    DROPS: Mapping[str, str]

    def command(self, tally: Tally, options: ExportOptions) -> str: ...

    def write(self, dataset: Dataset, out: Path, options: ExportOptions) -> Tally: ...


def exporter(target: str) -> Exporter:
    """The module of a target.

    Raises UsageError naming the known targets.
    """
    try:
        module = TARGETS[target]
    except KeyError:
        known = ", ".join(sorted(TARGETS))
        raise UsageError(f"unknown export target {target!r}: known are {known}") from None
    return cast("Exporter", importlib.import_module(module))


def describe() -> list[dict[str, Any]]:
    """The targets, as data: what each carries and what it drops."""
    modules = [exporter(target) for target in sorted(TARGETS)]
    return [
        {
            "target": module.NAME,
            "summary": module.SUMMARY,
            "carries": list(module.CARRIES),
            "drops": dict(module.DROPS),
        }
        for module in modules
    ]


def export(
    dataset: Dataset,
    target: str,
    out: Path,
    options: ExportOptions | None = None,
    *,
    overwrite: bool = False,
) -> ExportReport:
    """Writes the target's files and export.json to the folder `out`.

    With `overwrite` an earlier export there is replaced. Raises UsageError for an unknown target or
    a folder that is in use, DatasetError for a dataset that cannot be read.
    """
    options = options or ExportOptions()
    module = exporter(target)
    out = Path(out)
    _check_free(out, overwrite)
    # Beside the goal, so that the last step is a rename within one file system.
    unfinished = out.parent / f".{out.name}.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        tally = module.write(dataset, unfinished, options)
        report = _report(dataset, module, options, tally, unfinished)
        (unfinished / REPORT).write_bytes(report.to_json())
        _put(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _check_free(out: Path, overwrite: bool) -> None:
    if not out.exists() and not out.is_symlink():
        return
    if not out.is_dir() or out.is_symlink():
        raise UsageError(f"{out}: not a folder: choose another place for the export")
    if not any(out.iterdir()):
        return
    if not (out / REPORT).is_file():
        raise UsageError(f"{out}: holds something that is not an export: choose another folder")
    if not overwrite:
        raise UsageError(
            f"{out}: holds an earlier export: give --overwrite, or choose another folder"
        )


def _put(unfinished: Path, out: Path) -> None:
    """Moves the finished folder to its place; an earlier one goes aside first, then away."""
    old = out.parent / f".{out.name}.replaced"
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    try:
        unfinished.rename(out)
    except OSError:
        if old.exists():
            old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _report(
    dataset: Dataset, module: Exporter, options: ExportOptions, tally: Tally, folder: Path
) -> ExportReport:
    from traj.dataset import MANIFEST

    try:
        manifest = (dataset.path / MANIFEST).read_bytes()
    except OSError as error:
        raise DatasetError(f"{dataset.path / MANIFEST}: {error}") from None
    return ExportReport(
        version=VERSION,
        target=module.NAME,
        options=asdict(options),
        dataset={
            "name": dataset.manifest.name,
            "version": dataset.manifest.version,
            "schema_version": dataset.manifest.schema_version,
            "tokenizer": dataset.manifest.tokenizer,
            "sha256": hashlib.sha256(manifest).hexdigest(),
        },
        counts=tally.counts(),
        percentiles=tally.percentiles(),
        ideal_hit_rate=tally.ideal_hit_rate(),
        losses=tuple(tally.losses(module.DROPS)),
        files=tuple(_file(path, folder) for path in sorted(folder.rglob("*")) if path.is_file()),
        command=module.command(tally, options),
    )


def _file(path: Path, folder: Path) -> dict[str, Any]:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    name = path.relative_to(folder).as_posix()
    return {"name": name, "bytes": path.stat().st_size, "sha256": digest}
