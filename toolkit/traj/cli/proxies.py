"""The command `traj proxy`: a recording proxy for agents that are started elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from traj.report.text import plain

app = typer.Typer(rich_markup_mode=None)


class Sockets(StrEnum):
    """What becomes of WebSockets."""

    REFUSE = "refuse"
    FORWARD = "pass"


WebSockets = Annotated[
    Sockets,
    typer.Option(help="Answer WebSockets 426, so that agents send requests, or pass them on."),
]


@app.command(epilog="Example: traj proxy logs --upstream openai=http://localhost:8000/v1")
def proxy(
    logs: Annotated[Path, typer.Argument(help="The folder for the logs, one file a run.")],
    upstream: Annotated[
        list[str] | None,
        typer.Option(help="NAME=URL: where requests may go; known names have usual addresses."),
    ] = None,
    host: Annotated[
        str, typer.Option(help="Where to listen. Elsewhere than here TRAJ_PROXY_TOKEN is needed.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    websockets: WebSockets = Sockets.REFUSE,
) -> None:
    """Pass agents' requests on to their models and log them, for `traj record`."""
    from traj.proxy.alone import serve

    ran = serve(
        logs,
        named=upstream or (),
        host=host,
        port=port,
        sockets=websockets is Sockets.FORWARD,
        tell=lambda line: print(plain(line), flush=True),
    )
    print(f"{ran.requests:,} requests")
    raise typer.Exit(1 if told_troubles(ran.failed, ran.lost) else 0)


def told_troubles(failed: Mapping[str, int], lost: int) -> bool:
    """Says what went wrong in the proxy; whether something of the record is missing."""
    for name, times in sorted(failed.items()):
        print(f"traj: upstream {name} could not be reached {times} times", file=sys.stderr)
    if lost:
        print(f"traj: {lost} lines of the log could not be written", file=sys.stderr)
    return lost > 0
