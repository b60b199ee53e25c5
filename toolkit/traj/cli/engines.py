"""The commands on engines."""

from __future__ import annotations

from typing import Annotated

import typer

from traj.cli.options import AsJson

app = typer.Typer(rich_markup_mode=None)


@app.command("simulate-engine", epilog="Example: traj simulate-engine h100-8b --port 8000")
def simulate_engine(
    engine: Annotated[
        str, typer.Argument(help="A shipped engine's name, or a parameter file (.toml).")
    ] = "demo",
    port: Annotated[int, typer.Option(help="Where to listen; 0 takes any free port.")] = 8000,
    host: Annotated[str, typer.Option(help="The address to listen at.")] = "127.0.0.1",
    model: Annotated[
        str | None, typer.Option(help="The model name to answer to. Default: the engine's.")
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="Counts prompts: an encoding, or a tokenizer.json.")
    ] = "o200k_base",
    answer_tokens: Annotated[
        int, typer.Option(help="Tokens of an answer whose length is not forced.")
    ] = 200,
    stream_interval: Annotated[int, typer.Option(help="Tokens in an event of a stream.")] = 1,
    fault: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME:SHARE",
            help="Requests that go wrong: error, overload, hang, truncate, no-usage; repeatable.",
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of answers and faults.")] = 0,
    show: Annotated[
        bool, typer.Option("--list", help="Print the shipped engines and end.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Serve a simulated engine: OpenAI's and Anthropic's APIs, batching and a prefix cache.

    Times come from the parameter file, not from a model: see docs/engine.md.
    """
    from traj.engine.faults import Faults
    from traj.engine.options import ServerOptions
    from traj.engine.parameters import open_parameters, shipped
    from traj.report.engines import engines, listening
    from traj.report.output import show as print_result

    if show:
        print_result(list(shipped().values()), engines, as_json)
        return
    from traj.engine.serving import serve

    parameters = open_parameters(engine)
    options = ServerOptions(
        host, port, model, tokenizer, answer_tokens, stream_interval, seed, Faults.of(fault or [])
    )
    serve(parameters, options, lambda url: print(listening(parameters, url), flush=True))
