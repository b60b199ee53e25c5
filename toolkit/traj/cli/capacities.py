"""The command `traj capacity`: how many agents an engine carries, measured or simulated."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from traj.cli import options
from traj.cli.options import AsJson, DatasetPath, Quiet
from traj.errors import UsageError
from traj.report.output import show

app = typer.Typer(rich_markup_mode=None)


@app.command(
    epilog="Example: traj capacity my.traj --url http://localhost:8000 --model m "
    "--slo gpt-oss-120b -o capacity.html"
)
def capacity(
    dataset: DatasetPath,
    slo: Annotated[
        str,
        typer.Option(
            help="Service levels: deepseek-v4-pro, deepseek-v4-pro-launch, gpt-oss-120b, or your "
            "own as SPEED/SECONDS,... (P25 of output tokens/s, P95 of seconds to first token)."
        ),
    ] = "deepseek-v4-pro",
    url: Annotated[
        str | None, typer.Option(help="Of an OpenAI-compatible engine, with or without /v1.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model to ask it for.")] = None,
    engine: Annotated[
        str | None,
        typer.Option(help="Simulate instead, in virtual time: an engine's name, or a .toml file."),
    ] = None,
    start: Annotated[int, typer.Option(help="Agents of the first phase.")] = 2,
    most: Annotated[int, typer.Option(help="Try no more agents than this.")] = 4096,
    trajectories: Annotated[int, typer.Option(help="To be played in a phase, at least.")] = 30,
    per_agent: Annotated[int, typer.Option(help="And at least so many an agent.")] = 3,
    window: Annotated[float, typer.Option(help="Seconds of steady state.")] = 600.0,
    settle: Annotated[float, typer.Option(help="Seconds before, all agents active.")] = 30.0,
    failures: Annotated[float, typer.Option(help="The share of requests that may fail.")] = 0.01,
    resolution: Annotated[
        float, typer.Option(help="Stop when known to this share; 0: to the agent.")
    ] = 0.0,
    confirmations: Annotated[
        int, typer.Option(help="More phases at the capacity, and just above it.")
    ] = 2,
    accelerators: Annotated[int | None, typer.Option(help="Of the whole system.")] = None,
    power_w: Annotated[
        float | None, typer.Option(help="Of all accelerators, where it cannot be measured.")
    ] = None,
    timeout: Annotated[
        float, typer.Option(help="Seconds without a byte after which a request has failed.")
    ] = 600.0,
    processes: Annotated[int, typer.Option(help="Client processes.")] = 1,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Write a .json or .html file.")
    ] = None,
    split: options.Split = None,
    sample: options.Sample = None,
    tokenizer: options.Tokenizer = None,
    lengths: options.Lengths = "recorded",
    output: options.Output = "forced",
    max_context: options.MaxContext = None,
    tool_time: options.ToolTime = "baseline",
    user_time: options.UserTime = None,
    prefix: options.Prefix = "aa",
    prefix_tokens: options.PrefixTokens = 64,
    prefix_align: options.PrefixAlign = 1,
    run: options.RunName = "",
    seed: options.Seed = "0",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Search for the number of agents that an engine carries within service levels."""
    import traj
    from traj.capacity import Procedure, find_tiers, measure, plan
    from traj.report.capacity import carried, phase_line
    from traj.report.replay import progress_line
    from traj.workload.options import LoadOptions

    if (engine is None) == (url is None):
        raise UsageError("say either --url and --model, or --engine")
    tiers = find_tiers(slo)
    procedure = Procedure(
        start=start,
        most=most,
        trajectories=trajectories,
        per_agent=per_agent,
        window_s=window,
        settle_s=settle,
        failures=failures,
        resolution=resolution,
        confirmations=confirmations if engine is None else 0,  # virtual time repeats itself
    )
    load = LoadOptions(
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
    )
    opened = traj.load(dataset)
    say = None if quiet or as_json else phase_line(sys.stderr)
    if engine is not None:
        from traj.engine.parameters import open_parameters

        found = plan(opened, open_parameters(engine), load, tiers, procedure, say)
    else:
        from traj.replay import ReplayOptions

        if url is None or model is None:
            raise UsageError("say which model to ask for: --model")
        to = ReplayOptions(url, model, timeout_s=timeout, load=load)
        found = measure(
            opened,
            to,
            tiers,
            procedure,
            accelerators=accelerators,
            power_w=power_w,
            processes=processes,
            said=say,
            progress=progress_line(sys.stderr) if say and sys.stderr.isatty() else None,
        )
    if out is not None:
        found.write(out)
    if not quiet:
        show(found, carried, as_json)
