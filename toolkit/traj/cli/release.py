"""The commands of a release: split, reveal, verify."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)

KeyFile = Annotated[
    Path | None, typer.Option(help="The split's secret; by default DATASET.key beside it.")
]
Identity = Annotated[
    Path | None,
    typer.Option(help="Your age or ssh key, for a private part that is encrypted."),
]


@app.command(epilog="Example: traj split my.traj --private-out private.traj --encrypt-to age1...")
def split(
    dataset: DatasetPath,
    private_share: Annotated[
        float, typer.Option(help="The part of the trajectories that is to be private.")
    ] = 0.2,
    key: KeyFile = None,
    families: Annotated[
        Path | None,
        typer.Option(help="TOML or CSV: repositories that belong together (renames, forks)."),
    ] = None,
    lone_sessions: Annotated[
        bool, typer.Option(help="Sessions of unknown repositories stand for themselves.")
    ] = False,
    settle_public: Annotated[
        bool, typer.Option(help="A family that turns out to lie in both splits becomes public.")
    ] = False,
    private_out: Annotated[
        Path | None, typer.Option(help="Keep the private split in this folder of its own.")
    ] = None,
    encrypt_to: Annotated[
        list[str] | None, typer.Option(help="An age or ssh public key that may read it; repeat.")
    ] = None,
    parquet_encryption: Annotated[
        bool,
        typer.Option(help="With --encrypt-to: Parquet that other readers open with its key."),
    ] = False,
    identity: Identity = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Assign public and private by repository family; again when the dataset has grown."""
    from traj.release import SplitOptions
    from traj.release import split as make_split
    from traj.report.release import split_made

    options = SplitOptions(
        key or _key_of(dataset),
        private_share=private_share,
        families=families,
        lone_sessions=lone_sessions,
        settle_public=settle_public,
        private_out=private_out,
        encrypt_to=tuple(encrypt_to or ()),
        parquet_encryption=parquet_encryption,
        identity=identity,
    )
    report = make_split(dataset, options)
    if not quiet:
        show(report, split_made, as_json)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: traj reveal private.traj 3fa9 --key my.traj.key -o disclosure.json")
def reveal(
    private: Annotated[Path, typer.Argument(help="The private dataset.", metavar="PRIVATE")],
    trajectories: Annotated[
        list[str], typer.Argument(help="Ids, or their first digits.", metavar="TRAJECTORY...")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The file to write.")],
    key: KeyFile = None,
    identity: Identity = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Disclose private trajectories, with proofs that they were committed to."""
    from traj.dataset import Dataset
    from traj.release import reveal as disclose
    from traj.report.release import revealed

    opened = Dataset.open(private, identity)
    report = disclose(opened, trajectories, out, key or _key_of(private))
    if not quiet:
        show(report, revealed, as_json)


@app.command(epilog="Example: traj verify disclosure.json --public my.traj")
def verify(
    file: Annotated[Path, typer.Argument(help="A disclosure.", metavar="FILE")],
    public: Annotated[Path, typer.Option(help="The public dataset, with the commitment.")],
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove that disclosed trajectories were in the private split that was committed to."""
    from traj.dataset import Dataset
    from traj.release import verify as check
    from traj.report.release import verified

    verdict = check(file, Dataset.open(public))
    if not quiet:
        show(verdict, verified, as_json)
    raise typer.Exit(0 if verdict.ok else 1)


def _key_of(dataset: Path) -> Path:
    folder = dataset if dataset.name not in ("", "..") else dataset.resolve()
    return folder.with_name(f"{folder.name}.key")
