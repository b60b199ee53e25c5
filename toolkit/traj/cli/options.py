"""What several commands have in common: options, and a progress bar."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
DatasetPath = Annotated[Path, typer.Argument(help="A dataset folder.", metavar="DATASET")]


@contextmanager
def progress_bar(what: str, silent: bool) -> Iterator[Callable[[int, int], None] | None]:
    """A progress bar on a terminal, nothing elsewhere."""
    if silent or not sys.stderr.isatty():
        yield None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn(what), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, whole: bar.update(task, completed=done, total=whole)


# Of a load: what is sent (see traj.workload.options). Exports and replays take the same.
Split = Annotated[str | None, typer.Option(help="Only this split.")]
Sample = Annotated[int | None, typer.Option(help="This many trajectories, by the seed.")]
Tokenizer = Annotated[
    str | None, typer.Option(help="Count anew: an encoding, or a tokenizer.json.")
]
Lengths = Annotated[
    str, typer.Option(help="recorded: fill what the record lacks. text: send what it holds.")
]
Output = Annotated[
    str, typer.Option(help="Answers forced to their recorded length, or capped at it.")
]
MaxContext = Annotated[
    int | None, typer.Option(help="End a trajectory before a request of more tokens.")
]
ToolTime = Annotated[
    str, typer.Option(help="recorded, baseline, baseline:PROFILE, scaled:X or none.")
]
UserTime = Annotated[
    str | None, typer.Option(help="Waiting for a person: recorded, none or cap:SECONDS.")
]
Prefix = Annotated[
    str, typer.Option(help="Fresh text: aa, shared-system, mlperf, context or none.")
]
PrefixTokens = Annotated[int, typer.Option(help="Length of a prefix.")]
PrefixAlign = Annotated[int, typer.Option(help="Round it up to whole blocks of this many tokens.")]
RunName = Annotated[str, typer.Option(help="Name of the run: another one, other prefixes.")]
Seed = Annotated[str, typer.Option(help="What all that is drawn is drawn from.")]
