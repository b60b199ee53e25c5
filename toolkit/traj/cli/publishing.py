"""The command `traj publish`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: traj publish my.traj org/name --private-repo org/name-private "
    "--private-dataset private.traj --version 1.0.0 --dry-run"
)
def publish(
    dataset: DatasetPath,
    repository: Annotated[
        str, typer.Argument(help="The repository of the public split.", metavar="ORG/NAME")
    ],
    private_repo: Annotated[
        str | None, typer.Option(help="Publish the private split too, in this private repository.")
    ] = None,
    private_dataset: Annotated[
        Path | None, typer.Option(help="The folder of the private split, where it lies apart.")
    ] = None,
    identity: Annotated[
        Path | None, typer.Option(help="Your age or ssh key, where that folder is encrypted.")
    ] = None,
    version: Annotated[
        str | None, typer.Option(help="The version, and tag: by default the dataset's own.")
    ] = None,
    traces: Annotated[
        bool, typer.Option("--traces", help="Add files for the Hub's trace viewer.")
    ] = False,
    permit_license: Annotated[
        list[str] | None, typer.Option(help="An SPDX licence to permit beside the list; repeat.")
    ] = None,
    rules: Annotated[
        Path | None, typer.Option(help="The rules file that it was scrubbed with.")
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="The dataset's tokenizer.json, where its name alone does not find it."),
    ] = None,
    load_back: Annotated[
        bool, typer.Option(help="Load what was published with every client, and compare.")
    ] = True,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show all of it; nothing touches the network.")
    ] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Publish a dataset on the Hugging Face Hub, or say why not; again to go on or to update."""
    from traj.publish import PublishOptions
    from traj.publish import publish as carry_out
    from traj.report.publishing import published

    options = PublishOptions(
        repository,
        private_repo_id=private_repo,
        private_dataset=private_dataset,
        identity=identity,
        version=version,
        traces=traces,
        permit_licenses=tuple(permit_license or ()),
        rules=rules,
        tokenizer=tokenizer,
        dry_run=dry_run,
        load_back=load_back,
    )
    shown = sys.stderr.isatty() and not (quiet or as_json)
    report = carry_out(dataset, options, progress=shown)
    if not quiet:
        show(report, published, as_json)
    raise typer.Exit(0 if report.ok else 1)
