"""The proxy by itself, until it is told to end: for agents in containers and on other machines."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from traj.errors import UsageError
from traj.proxy.run import LOOPBACK, Ran, new_loop, new_run, proxy_class, writable
from traj.proxy.upstreams import Upstreams, upstreams, variables_of

TOKEN = "TRAJ_PROXY_TOKEN"  # noqa: S105 - the variable's name
_SHORTEST = 16  # characters of a token that cannot be tried out


def serve(
    folder: Path,
    *,
    named: Iterable[str] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    sockets: bool = False,
    environment: Mapping[str, str] | None = None,
    tell: Callable[[str], None],
) -> Ran:
    """Serves until an interrupt or SIGTERM; `tell` is given lines for a person. WebSockets are
    refused but with `sockets`. Raises UsageError."""
    variables = os.environ if environment is None else environment
    token = variables.get(TOKEN) or None
    if host not in LOOPBACK and token is None:
        raise UsageError(f"{host}: others can reach it there: put a token into {TOKEN}")
    if token is not None and (len(token) < _SHORTEST or not token.isalnum()):
        raise UsageError(f"{TOKEN}: letters and digits, at least {_SHORTEST}")
    places = upstreams(named, variables, token)
    writable(folder)
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        return runner.run(_serve(places, folder, host, port, tell, sockets=sockets))


async def _serve(
    places: Upstreams,
    folder: Path,
    host: str,
    port: int,
    tell: Callable[[str], None],
    *,
    sockets: bool,
) -> Ran:
    proxy = proxy_class()(places, folder, new_run(), host=host, port=port, sockets=sockets)
    ended = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, ended.set)
    address = await proxy.start()
    tell(f"listening on {address}, logs in {folder}")
    for name, base in places.bases(address, None).items():
        shown = base if places.token is None else base.replace(places.token, f"${TOKEN}")
        tell(f"{variables_of(name)[0]}={shown}")
    await ended.wait()
    lost = await proxy.close()
    return Ran(0, None, proxy.requests, lost, proxy.failed)
