"""The command line: parse, call one function, print.

Exit codes: 0 done and clean, 1 findings or partial failure, 2 the call is wrong.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from traj import __version__
from traj.cli_release import app as release_commands
from traj.errors import TrajError, UsageError
from traj.report.output import show as _show
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
    _return_memory()
    try:
        app()
    except TrajError as error:
        print(f"traj: {plain(str(error))}", file=sys.stderr)
        raise SystemExit(error.exit_code) from None
    except BrokenPipeError:
        # The reader of our output went away (`traj ... | head`): nothing is wrong here.
        sys.stderr.close()
        raise SystemExit(0) from None


def _return_memory() -> None:
    """Has glibc give large blocks back at once: a quarter of the memory of an export."""
    import ctypes

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD, which otherwise grows with what is freed


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


@app.command(
    epilog="Example: traj export my.traj --format aiperf-dag --prefix aa --phases 3 -o out"
)
def export(
    dataset: Annotated[Path | None, typer.Argument(help="A dataset folder.")] = None,
    target: Annotated[
        str | None, typer.Option("--format", "-f", help="The harness's format: see --list.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The folder to write.")] = None,
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    sample: Annotated[int | None, typer.Option(help="This many trajectories, by the seed.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Model name to write instead of the recorded one.")
    ] = None,
    tokenizer: Annotated[
        str | None, typer.Option(help="Count anew: an encoding, or a tokenizer.json.")
    ] = None,
    lengths: Annotated[
        str, typer.Option(help="recorded: fill what the record lacks. text: send what it holds.")
    ] = "recorded",
    output: Annotated[
        str, typer.Option(help="Answers forced to their recorded length, or capped at it.")
    ] = "forced",
    max_context: Annotated[
        int | None, typer.Option(help="End a trajectory before a request of more tokens.")
    ] = None,
    tool_time: Annotated[
        str, typer.Option(help="recorded, baseline, baseline:PROFILE, scaled:X or none.")
    ] = "recorded",
    user_time: Annotated[
        str | None, typer.Option(help="Waiting for a person: recorded, none or cap:SECONDS.")
    ] = None,
    prefix: Annotated[
        str, typer.Option(help="Fresh text: aa, shared-system, mlperf, context or none.")
    ] = "none",
    prefix_tokens: Annotated[int, typer.Option(help="Length of a prefix.")] = 64,
    prefix_align: Annotated[
        int, typer.Option(help="Round it up to whole blocks of this many tokens.")
    ] = 1,
    phases: Annotated[int, typer.Option(help="Write this many file sets.")] = 1,
    plays: Annotated[int, typer.Option(help="Times to play a trajectory in a phase.")] = 1,
    run: Annotated[str, typer.Option(help="Name of the run: another one, other prefixes.")] = "",
    seed: Annotated[str, typer.Option(help="What all that is drawn is drawn from.")] = "0",
    text_free: Annotated[bool, typer.Option(help="parquet: no messages, no prompts.")] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace an earlier export.")] = False,
    list_targets: Annotated[bool, typer.Option("--list", help="Describe the targets.")] = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Write a dataset's files for a replay harness, and the command that replays them."""
    import traj
    from traj.exporters import describe
    from traj.report.exports import exported, targets

    if list_targets:
        _show(describe(), targets, as_json)
        return
    if dataset is None or target is None or out is None:
        raise UsageError("export needs DATASET, --format and --out (see traj export --list)")
    report = traj.export(
        traj.load(dataset),
        target,
        out,
        overwrite=overwrite,
        split=split,
        sample=sample,
        model=model,
        tokenizer=tokenizer,
        lengths=lengths,
        output=output,
        max_context=max_context,
        tool_time=tool_time,
        user_time=user_time,
        prefix=prefix,
        prefix_tokens=prefix_tokens,
        prefix_align=prefix_align,
        phases=phases,
        plays=plays,
        run=run,
        seed=seed,
        text_free=text_free,
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


tools = typer.Typer(help="Tools beside the datasets.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(tools, name="tools")
app.add_typer(release_commands)


@tools.command(epilog="Example: traj tools calibrate -o mine.toml")
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
        _show(profile, calibrated, as_json)


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
