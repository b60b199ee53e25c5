"""The command line: parse, call one function, print.

Exit codes: 0 done and clean, 1 findings or partial failure, 2 the call is wrong.
"""

from __future__ import annotations

import os
import sys
from typing import Annotated

import typer

from traj.cli import (
    capacities,
    datasets,
    engines,
    exports,
    labels,
    proxies,
    publishing,
    release,
    replays,
    tools,
)
from traj.errors import TrajError
from traj.report.text import plain
from traj.version import __version__

app = typer.Typer(
    name="traj",
    help="Recorded coding-agent sessions as datasets that any inference benchmark can replay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for commands in (
    *(datasets, proxies, labels, release, publishing),
    *(exports, replays, capacities, engines),
):
    app.add_typer(commands.app)
app.add_typer(tools.app, name="tools")


def main() -> None:
    """The command `traj`: errors of ours are one line on standard error."""
    # Arrow's own allocator keeps what it freed: a third of the memory of a recording.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")
    try:
        app()
    except TrajError as error:
        print(f"traj: {plain(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        # The reader of our output went away (`traj ... | head`): nothing is wrong here.
        sys.stderr.close()
        raise SystemExit(0) from None


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"traj {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version",
            help="Print the version and exit.",
            is_eager=True,
            callback=_print_version,
        ),
    ] = False,
) -> None:
    """Options before the command."""
