"""The command line: parse, call one function, print.

Exit codes: 0 done and clean, 1 findings or partial failure, 2 the call is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from traj import __version__
from traj.errors import TrajError, UsageError
from traj.report.text import plain

if TYPE_CHECKING:
    from traj.pipeline import Progress

app = typer.Typer(
    name="traj",
    help="Recorded coding-agent sessions as datasets that any inference benchmark can replay.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
DatasetPath = Annotated[Path, typer.Argument(help="A dataset folder.", metavar="DATASET")]


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


@app.command(
    epilog="Example: traj record ~/.claude/projects ~/.codex/sessions -o my.traj --no-scrub"
)
def record(
    sources: Annotated[list[Path], typer.Argument(help="Session logs, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The dataset folder.")],
    source_format: Annotated[
        str | None, typer.Option("--format", help="Take the logs as this format.")
    ] = None,
    scrub: Annotated[
        bool,
        typer.Option("--scrub/--no-scrub", help="Remove secrets: not built yet, so nothing is."),
    ] = False,
    tokenizer: Annotated[
        str, typer.Option(help="A tiktoken encoding, or the path of a tokenizer.json.")
    ] = "o200k_base",
    jobs: Annotated[int, typer.Option(min=1, help="Worker processes.")] = 1,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Record agent sessions into a dataset; again to add what is new or grew."""
    from traj.pipeline import record as record_sessions
    from traj.report.text import recording

    if scrub:
        raise UsageError("scrubbing is not built yet: leave out --scrub to record as it is")
    with _progress("recording", quiet or as_json) as progress:
        report = record_sessions(
            sources,
            out,
            source_format=source_format,
            tokenizer=tokenizer,
            jobs=jobs,
            progress=progress,
        )
    if not quiet:
        _show(report, recording, as_json)
    for path, problem in report.problems:
        print(f"traj: {plain(path)}: {plain(problem)}", file=sys.stderr)
    raise typer.Exit(1 if report.problems else 0)


@app.command(epilog="Example: traj validate my.traj")
def validate(
    dataset: DatasetPath,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="The dataset's tokenizer.json, where its name alone does not find it."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Prove a dataset sound: every check, and what it found."""
    import traj
    from traj.report.text import validation

    report = traj.validate(traj.load(dataset), tokenizer=tokenizer)
    if not quiet:
        _show(report, validation, as_json)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: traj export my.traj --format aiperf-dag -o out")
def export(
    dataset: Annotated[Path | None, typer.Argument(help="A dataset folder.")] = None,
    target: Annotated[
        str | None, typer.Option("--format", "-f", help="The harness's format: see --list.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model name to write instead of the recorded one.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    list_targets: Annotated[bool, typer.Option("--list", help="Describe the targets.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a dataset's files for a replay harness, and the command that replays them."""
    import traj
    from traj.exporters import describe
    from traj.report.text import exported, targets

    if list_targets:
        _show(describe(), targets, as_json)
        return
    if dataset is None or target is None or out is None:
        raise UsageError("export needs DATASET, --format and --out (see traj export --list)")
    report = traj.export(
        traj.load(dataset), target, out, model=model, split=split, overwrite=overwrite
    )
    if not quiet:
        _show(report, exported, as_json)


@app.command(epilog="Example: traj schema --json")
def schema(as_json: AsJson = False) -> None:
    """Print the tables: every column with its type, unit and meaning."""
    from traj.report.text import schema_table
    from traj.schema import VERSION, as_rows

    _show({"schema_version": VERSION, "columns": as_rows()}, schema_table, as_json)


@app.command(epilog="Example: traj sources")
def sources(as_json: AsJson = False) -> None:
    """List the session formats that traj reads."""
    from traj.report.text import source_table
    from traj.sources import describe

    _show(describe(), source_table, as_json)


@app.command(epilog="Example: traj demo -o demo")
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the results in this new folder.")
    ] = None,
) -> None:
    """Sample sessions through record, validate and export. No network."""
    from traj.demo import run

    run(out, print)


@contextmanager
def _progress(what: str, silent: bool) -> Iterator[Progress | None]:
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


def _show(value: Any, as_text: Any, as_json: bool) -> None:
    """Prints a result, as JSON or by the given renderer."""
    if as_json:
        import orjson

        plain = value.to_dict() if hasattr(value, "to_dict") else value
        print(orjson.dumps(plain, option=orjson.OPT_INDENT_2, default=str).decode())
    else:
        print(as_text(value))
