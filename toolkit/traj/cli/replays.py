"""The command `traj replay`: a dataset against an engine, with the same options as an export."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli import options
from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: traj replay my.traj --url http://localhost:8000 --model m --agents 8 "
    "--prefix aa --tool-time baseline"
)
def replay(
    dataset: DatasetPath,
    url: Annotated[str, typer.Option(help="Of an OpenAI-compatible engine, with or without /v1.")],
    model: Annotated[str, typer.Option(help="The model to ask it for.")],
    api: Annotated[
        str, typer.Option(help="chat (completions), responses, or Anthropic's messages.")
    ] = "chat",
    agents: Annotated[int, typer.Option(help="How many play at once.")] = 1,
    phase: Annotated[int, typer.Option(help="Which phase: prefixes are fresh in each.")] = 0,
    trajectories: Annotated[
        int | None, typer.Option(help="Play this many, around the dataset; else each once.")
    ] = None,
    duration: Annotated[
        float | None, typer.Option(help="Send nothing new after this many seconds.")
    ] = None,
    ramp: Annotated[float, typer.Option(help="Agents begin within this many seconds.")] = 0.0,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a byte after which a request has failed.")
    ] = 600.0,
    processes: Annotated[int, typer.Option(help="Client processes.")] = 1,
    workers: Annotated[
        int | None,
        typer.Option(help="Client processes on the machines of a Ray cluster (RAY_ADDRESS)."),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Keep the run in this new folder.")
    ] = None,
    split: options.Split = None,
    sample: options.Sample = None,
    tokenizer: options.Tokenizer = None,
    lengths: options.Lengths = "recorded",
    output: options.Output = "forced",
    max_context: options.MaxContext = None,
    tool_time: options.ToolTime = "recorded",
    user_time: options.UserTime = None,
    prefix: options.Prefix = "none",
    prefix_tokens: options.PrefixTokens = 64,
    prefix_align: options.PrefixAlign = 1,
    run: options.RunName = "",
    seed: options.Seed = "0",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Play a dataset against an engine and measure every request."""
    import traj
    from traj.replay import ReplayOptions
    from traj.replay import replay as run_replay
    from traj.replay.results import check_free
    from traj.report.replay import progress_line, replayed
    from traj.workload.options import LoadOptions

    if out is not None:
        check_free(out)
    chosen = ReplayOptions(
        url=url,
        model=model,
        api=api,
        agents=agents,
        phase=phase,
        trajectories=trajectories,
        duration_s=duration,
        ramp_s=ramp,
        timeout_s=timeout,
        processes=processes if workers is None else workers,
        on_ray=workers is not None,
        load=LoadOptions(
            split=split,
            sample=sample,
            tokenizer=tokenizer,
            lengths=lengths,
            output=output,
            max_context=max_context,
            tool_time=tool_time,
            user_time=user_time,
            prefix=prefix,
            prefix_tokens=prefix_tokens,
            prefix_align=prefix_align,
            run=run,
            seed=seed,
        ),
    )
    silent = quiet or as_json or not sys.stderr.isatty()
    measured = run_replay(traj.load(dataset), chosen, None if silent else progress_line(sys.stderr))
    if not silent:
        print(file=sys.stderr)
    if out is not None:
        measured.write(out)
    if not quiet:
        show(measured, replayed, as_json)
    found = measured.summary()
    clean = measured.valid and not measured.interrupted and not found["failed"]
    raise typer.Exit(0 if clean else 1)
