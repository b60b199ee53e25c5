"""The command `traj export`: its options are those of `traj.workload.options`."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli import options
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
    split: options.Split = None,
    sample: options.Sample = None,
    model: Annotated[
        str | None, typer.Option(help="Model name to write instead of the recorded one.")
    ] = None,
    tokenizer: options.Tokenizer = None,
    lengths: options.Lengths = "recorded",
    output: options.Output = "forced",
    max_context: options.MaxContext = None,
    tool_time: options.ToolTime = "recorded",
    user_time: options.UserTime = None,
    prefix: options.Prefix = "none",
    prefix_tokens: options.PrefixTokens = 64,
    prefix_align: options.PrefixAlign = 1,
    phases: Annotated[int, typer.Option(help="Write this many file sets.")] = 1,
    plays: Annotated[int, typer.Option(help="Times to play a trajectory in a phase.")] = 1,
    run: options.RunName = "",
    seed: options.Seed = "0",
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
    _return_memory()
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


def _return_memory() -> None:
    """Has glibc give large blocks back at once: a quarter of the memory of an export."""
    import ctypes

    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(-3, 1 << 17)  # M_MMAP_THRESHOLD, which otherwise grows with what is freed
