"""The command `traj export`: its options are those of `traj.workload.options`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from traj.cli.options import AsJson, Quiet
from traj.errors import UsageError
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)


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
        show(describe(), targets, as_json)
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
        show(report, exported, as_json)
