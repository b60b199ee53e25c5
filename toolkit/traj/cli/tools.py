"""The commands `traj tools ...`: what is useful beside datasets."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.cli.release import Identity
from traj.report.output import show

app = typer.Typer(help="Tools beside the datasets.", no_args_is_help=True, rich_markup_mode=None)


@app.command(epilog="Example: traj tools calibrate -o mine.toml")
def calibrate(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write the profile to this new file.")
    ] = None,
    repeats: Annotated[
        int | None, typer.Option(min=1, help="Runs of each task; by default 20 within 40 s.")
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure an agent's usual commands on this machine, for --tool-time baseline:FILE."""
    from traj.calibrate import calibrate as measure
    from traj.report.calibration import calibrated, rounds

    profile = measure(out, repeats, None if quiet or as_json else rounds(sys.stderr))
    if not quiet:
        show(profile, calibrated, as_json)


@app.command(epilog="Example: traj tools parquet-key private.traj -o private.parquet-key")
def parquet_key(
    dataset: DatasetPath,
    out: Annotated[Path, typer.Option("--out", "-o", help="The new file, outside the dataset.")],
    identity: Identity = None,
) -> None:
    """Write the key of encrypted Parquet files to a file, for other readers."""
    from traj.dataset import Dataset
    from traj.release.keys import save_parquet_key

    save_parquet_key(Dataset.open(dataset, identity), out)
