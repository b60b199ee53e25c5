"""The commands that make and describe datasets: record, scrub, validate, schema, sources, demo."""

from __future__ import annotations

import os
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, DatasetPath, Quiet, progress_bar
from traj.cli.proxies import Sockets, WebSockets
from traj.errors import UsageError
from traj.report.output import show
from traj.report.text import plain

app = typer.Typer(rich_markup_mode=None)

Rules = Annotated[
    Path | None, typer.Option(help="TOML: words and patterns of your own, and what may stay.")
]


@app.command(epilog="Example: traj record ~/.claude/projects ~/.codex/sessions -o my.traj")
def record(
    sources: Annotated[
        list[str] | None,
        typer.Argument(help="Session logs, or folders of them; with --live a command to run."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The dataset folder.", show_default=False)
    ] = None,
    discover: Annotated[
        bool, typer.Option("--discover", help="Take the known agents' folders under home, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be taken, and write nothing.")
    ] = False,
    live: Annotated[
        bool, typer.Option("--live", help="Run a command and record its requests on the wire.")
    ] = False,
    upstream: Annotated[
        list[str] | None,
        typer.Option(help="Live: NAME=URL of a model's API, where variables do not say it."),
    ] = None,
    logs: Annotated[
        Path | None, typer.Option(help="Live: keep the log here, not in DATASET.live.")
    ] = None,
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Live: the proxy's port, for agents' settings.")
    ] = 0,
    websockets: WebSockets = Sockets.REFUSE,
    join: Annotated[
        bool,
        typer.Option("--join/--no-join", help="Live: take the agent's own log into the session."),
    ] = True,
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

    code = 0
    if live:
        if out is None or discover or dry_run:
            raise UsageError("say: traj record --live -o DATASET -- COMMAND...")
        places, code = _ran(
            sources or [],
            logs or out.with_name(f"{out.name}.live"),
            upstream,
            port,
            sockets=websockets is Sockets.FORWARD,
            join=join,
        )
    else:
        places = _places([Path(name) for name in sources or []], discover)
    if dry_run:
        from traj.report.text import preview
        from traj.sources import find

        show(find(places, source_format, join=join), preview, as_json)
        return
    if out is None:
        raise UsageError("say where the dataset is to be: -o DATASET")
    with progress_bar("recording", quiet or as_json) as progress:
        report = record_sessions(
            places,
            out,
            source_format=source_format,
            tokenizer=tokenizer,
            join=join,
            scrub=scrub,
            rules=rules,
            jobs=jobs,
            progress=progress,
        )
    if not quiet:
        with redirect_stdout(sys.stderr if live else sys.stdout):  # a command's output is its own
            show(report, recording, as_json)
    for path, problem in report.problems:
        print(f"traj: {plain(path)}: {plain(problem)}", file=sys.stderr)
    raise typer.Exit(code or (1 if report.problems else 0))


def _ran(
    command: list[str],
    logs: Path,
    upstream: list[str] | None,
    port: int,
    *,
    sockets: bool,
    join: bool,
) -> tuple[list[Path], int]:
    """Runs a command under the proxy; its log, with the agent's own, and the exit code so far."""
    from traj.cli.proxies import told_troubles
    from traj.proxy.own import keep
    from traj.proxy.run import run

    ran = run(command, logs, named=upstream or (), port=port, sockets=sockets)
    missing = told_troubles(ran.failed, ran.lost)
    if ran.log is None:
        print(
            "traj: no request came through the proxy: see docs/live.md for how agents are told",
            file=sys.stderr,
        )
        raise typer.Exit(ran.exit_code or 1)
    kept = keep(ran.log, command, os.environ) if join else None
    if kept is not None and kept.problem is not None:
        problem = f"the agent's own log is joined, and could not be kept: {plain(kept.problem)}"
        print(f"traj: {logs}: {problem}", file=sys.stderr)
    return [ran.log, *(kept.places if kept else ())], ran.exit_code or int(missing)


def _places(named: list[Path], discover: bool) -> list[Path]:
    """What is to be recorded. Raises UsageError where that is nothing."""
    from traj.sources import discover as agents_folders

    places = [*named, *(agents_folders(Path.home(), os.environ) if discover else ())]
    if not places:
        raise UsageError(
            "no agent's sessions under your home directory: name logs or folders"
            if discover
            else "name session logs or folders of them, or say --discover"
        )
    return places


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
    """List the session formats that traj reads, and what each can and cannot tell."""
    from traj.report.sources import source_list
    from traj.sources import describe

    show(describe(), source_list, as_json)


@app.command(epilog="Example: traj demo -o demo")
def demo(
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the results in this new folder.")
    ] = None,
) -> None:
    """Sample sessions through record, validate, export and capacity. No network."""
    from traj.demo import run

    run(out, print)
