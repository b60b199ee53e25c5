"""The command `traj label`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.errors import UsageError
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: traj label my.traj --export labels.csv; traj label my.traj --import labels.csv"
)
def label(
    dataset: DatasetPath,
    table: Annotated[
        Path | None,
        typer.Option("--import", help="CSV or Parquet: trajectories, and labels as columns."),
    ] = None,
    sets: Annotated[
        list[str] | None,
        typer.Option("--set", help="FIELD=VALUE for all, or those of --where; repeat."),
    ] = None,
    where: Annotated[
        list[str] | None,
        typer.Option(help="FIELD=VALUE: only these trajectories; repeat, and all must hold."),
    ] = None,
    checkout: Annotated[
        list[Path] | None,
        typer.Option(help="A git checkout of the repository: its URL, licence and languages."),
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="TOML: what follows from a session's rows.")
    ] = None,
    export: Annotated[
        Path | None, typer.Option(help="Write all labels to this CSV or Parquet file.")
    ] = None,
    source: Annotated[
        str, typer.Option(help="How the values of --import and --set are known.")
    ] = "user",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace what is known better or otherwise.")
    ] = False,
    private: Annotated[
        bool,
        typer.Option(
            "--private", help="Label committed private trajectories too; then split again."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would change, and write nothing.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Say what sessions worked on and what came of it; without options, show what is known."""
    from traj.label import Orders, describe, write_out
    from traj.label import label as set_labels
    from traj.report.labels import exported, known, labelled

    orders = Orders(
        table=table,
        sets=tuple(sets or ()),
        checkouts=tuple(checkout or ()),
        rules=rules,
        where=tuple(where or ()),
        source=source,
        overwrite=overwrite,
        private=private,
        dry_run=dry_run,
    )
    asked = table or sets or checkout or rules
    if export is not None:
        if asked:
            raise UsageError("--export: write the labels first, change them in another call")
        rows = write_out(dataset, export)
        if not quiet:
            show({"file": str(export), "trajectories": rows}, exported, as_json)
        return
    if not asked:
        if where:
            raise UsageError("--where: say what is to be set, with --set, --checkout or --rules")
        if not quiet:
            show(describe(dataset), known, as_json)
        return
    report = set_labels(dataset, orders)
    if not quiet:
        show(report, labelled, as_json)
    raise typer.Exit(0 if report.ok else 1)
