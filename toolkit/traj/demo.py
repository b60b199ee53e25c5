"""`traj demo`: the sample sessions through record, validate, export and a capacity, offline."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import traj
from traj.capacity import Procedure, find_tiers, plan
from traj.engine.parameters import open_parameters
from traj.errors import DatasetError, UsageError
from traj.pipeline import record
from traj.report.capacity import carried
from traj.report.exports import exported
from traj.report.text import recording, validation
from traj.workload.options import LoadOptions

FORMATS = ("claude_code", "codex")


def samples() -> list[Path]:
    """Where the sample sessions are: in the installed package, or in the checkout."""
    package = Path(__file__).parent
    for root in (package / "_sample_data", package.parents[1] / "sample_data"):
        found = [root / name for name in FORMATS]
        if all(folder.is_dir() for folder in found):
            return found
    raise DatasetError("the sample sessions are missing: reinstall traj-toolkit")


def run(out: Path | None, say: Callable[[str], None]) -> None:
    """Runs the demo in `out`, which must not exist, or in a folder that is removed at the end.

    Raises UsageError for a folder in use, DatasetError where the dataset turns out unsound.
    """
    if out is not None and out.exists():
        raise UsageError(f"{out}: exists; choose a new folder")
    scratch = None if out is not None else Path(tempfile.mkdtemp(prefix="traj-demo-"))
    try:
        _run(out or scratch or Path(), say)
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def _run(folder: Path, say: Callable[[str], None]) -> None:
    began = time.perf_counter()
    dataset_path = folder / "sample.traj"
    say("$ traj record SAMPLES -o sample.traj")
    say(recording(record(samples(), dataset_path, scrub=True)))
    dataset = traj.load(dataset_path)
    say("\n$ traj validate sample.traj")
    report = traj.validate(dataset)
    say(validation(report))
    if not report.ok:
        raise DatasetError(f"{dataset_path}: the sample dataset is not sound")
    for target in ("aiperf-dag", "weka"):
        say(f"\n$ traj export sample.traj --format {target} -o {target}")
        say(exported(traj.export(dataset, target, folder / target)))
    say("\n$ traj capacity sample.traj --engine demo --slo deepseek-v4-pro")
    load = LoadOptions(prefix="aa", tool_time="baseline")
    tiers, procedure = find_tiers("deepseek-v4-pro"), Procedure(confirmations=0)
    say(carried(plan(dataset, open_parameters("demo"), load, tiers, procedure)))
    say(f"\ndone in {time.perf_counter() - began:.1f} s")
