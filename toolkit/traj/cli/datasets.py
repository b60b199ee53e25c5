"""The commands that make and describe datasets: record, scrub, validate, schema, sources, demo."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet, progress_bar
from traj.report.output import show
from traj.report.text import plain

app = typer.Typer(rich_markup_mode=None)

Rules = Annotated[
    Path | None, typer.Option(help="TOML: words and patterns of your own, and what may stay.")
]


@app.command(epilog="Example: traj record ~/.claude/projects ~/.codex/sessions -o my.traj")
def record(
    sources: Annotated[list[Path], typer.Argument(help="Session logs, or folders of them.")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The dataset folder.")],
    source_format: Annotated[
        str | None, typer.Option("--format", help="Take the logs as this format.")
    ] = None,
    scrub: Annotated[
        bool,
        typer.Option("--scrub/--no-scrub", help="Replace secrets and personal data by stand-ins."),
    ] = True,
    rules: Rules = None,
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

    with progress_bar("recording", quiet or as_json) as progress:
        report = record_sessions(
            sources,
            out,
            source_format=source_format,
            tokenizer=tokenizer,
            scrub=scrub,
            rules=rules,
            jobs=jobs,
            progress=progress,
        )
    if not quiet:
        show(report, recording, as_json)
    for path, problem in report.problems:
        print(f"traj: {plain(path)}: {plain(problem)}", file=sys.stderr)
    raise typer.Exit(1 if report.problems else 0)


@app.command(epilog="Example: traj scrub my.traj --rules own.toml")
def scrub(
    dataset: DatasetPath,
    rules: Rules = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(help="The dataset's tokenizer.json, where its name alone does not find it."),
    ] = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Scrub a dataset that was recorded without, or by older rules."""
    from traj.report.text import scrubbing
    from traj.rescrub import scrub_dataset
    from traj.scrub import open_detector

    report = scrub_dataset(dataset, open_detector(rules), tokenizer)
    if not quiet:
        show(report, scrubbing, as_json)


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
        show(report, validation, as_json)
    raise typer.Exit(0 if report.ok else 1)


@app.command(epilog="Example: traj schema --json")
def schema(as_json: AsJson = False) -> None:
    """Print the tables: every column with its type, unit and meaning."""
    from traj.report.text import schema_table
    from traj.schema import VERSION, as_rows

    show({"schema_version": VERSION, "columns": as_rows()}, schema_table, as_json)


@app.command(epilog="Example: traj sources")
def sources(as_json: AsJson = False) -> None:
    """List the session formats that traj reads."""
    from traj.report.text import source_table
    from traj.sources import describe

    show(describe(), source_table, as_json)


@app.command(epilog="Example: traj demo -o demo")
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the results in this new folder.")
    ] = None,
) -> None:
    """Sample sessions through record, validate and export. No network."""
    from traj.demo import run

    run(out, print)
