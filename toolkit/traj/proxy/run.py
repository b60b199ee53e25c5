"""One agent under the proxy: started with its base URLs turned here, recorded until it ends.

The agent keeps the terminal, its signals and its exit code. What it honours differs: most read
environment variables; Codex reads no variable and is given a setting on its command line instead.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from traj.errors import MissingExtraError, UsageError
from traj.proxy.bodies import Masks
from traj.proxy.checkout import checkout
from traj.proxy.log import Log
from traj.proxy.upstreams import Upstreams, upstreams, variables_of

if TYPE_CHECKING:
    from traj.proxy.server import Proxy

LOOPBACK = ("127.0.0.1", "::1", "localhost")
_CODEX_SETTING = "openai_base_url="
_SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
_PASSED_ON = (signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Ran:
    """What came of a run. `log` is None where no request came through the proxy."""

    exit_code: int
    log: Path | None
    requests: int
    lost: int  # lines of the log that could not be written
    failed: Mapping[str, int]  # upstream: connections that failed


def run(
    command: Sequence[str],
    folder: Path,
    *,
    named: Iterable[str] = (),
    port: int = 0,
    sockets: bool = False,
    environment: Mapping[str, str] | None = None,
) -> Ran:
    """Runs a command under a proxy of its own, which logs into `folder`. `named` are upstreams
    (NAME=URL); WebSockets are refused but with `sockets`. Raises UsageError."""
    if not command:
        raise UsageError("say what to run: traj record --live -o DATASET -- COMMAND...")
    variables = dict(os.environ if environment is None else environment)
    options = list(named)
    told = _told(command)
    if told is not None and not any(one.startswith("openai=") for one in options):
        options.append(f"openai={told}")
    places = upstreams(options, variables)
    writable(folder)
    with asyncio.Runner(loop_factory=new_loop()) as runner:
        return runner.run(_run(list(command), folder, places, port, variables, sockets=sockets))


async def _run(
    command: list[str],
    folder: Path,
    places: Upstreams,
    port: int,
    variables: dict[str, str],
    *,
    sockets: bool,
) -> Ran:
    name = new_run()
    masks = Masks(value for key, value in variables.items() if _SECRET.search(key))
    here = await asyncio.to_thread(checkout, Path.cwd())
    log = Log(folder / f"{name}.jsonl", name, [masks.text(word) for word in command], here)
    proxy = proxy_class()(places, folder, name, port=port, own=log, sockets=sockets)
    address = await proxy.start()
    code = None
    try:
        bases = places.bases(address, name)
        code = await _child(_adapted(command, bases), turned(variables, bases))
    finally:
        lost = await proxy.close(code)
    written = log.path if log.requests and log.path.exists() else None
    return Ran(code, written, proxy.requests, lost, proxy.failed)


async def _child(command: list[str], variables: dict[str, str]) -> int:
    """Runs the command on our own terminal, and gives its exit code as a shell would."""
    try:
        process = await asyncio.create_subprocess_exec(*command, env=variables)
    except FileNotFoundError:
        raise UsageError(f"{command[0]}: no such command") from None
    except OSError as error:
        raise UsageError(f"{command[0]}: {error.strerror or error}") from None
    loop = asyncio.get_running_loop()

    def pass_on(number: int) -> None:
        with suppress(ProcessLookupError):
            process.send_signal(number)

    # An interrupt from the terminal reaches the agent too, and is for it to decide about.
    loop.add_signal_handler(signal.SIGINT, lambda: None)
    for number in _PASSED_ON:
        loop.add_signal_handler(number, pass_on, number)
    code = await process.wait()
    return code if code >= 0 else 128 - code


def turned(variables: Mapping[str, str], bases: Mapping[str, str]) -> dict[str, str]:
    """An environment in which agents find the proxy, and reach it without another one between."""
    found = dict(variables)
    for name, base in bases.items():
        found.update(dict.fromkeys(variables_of(name), base))
    for name in ("NO_PROXY", "no_proxy"):
        kept = [one for one in found.get(name, "").split(",") if one]
        found[name] = ",".join(dict.fromkeys([*kept, *LOOPBACK]))
    return found


def _is_codex(command: Sequence[str]) -> bool:
    return Path(command[0]).name == "codex"


def _told(command: Sequence[str]) -> str | None:
    """The base URL that a Codex command line names."""
    if not _is_codex(command):
        return None
    found = [word for word in command[1:] if word.startswith(_CODEX_SETTING)]
    return found[-1].removeprefix(_CODEX_SETTING).strip("\"'") if found else None


def _adapted(command: list[str], bases: Mapping[str, str]) -> list[str]:
    if not _is_codex(command):
        return command
    setting = f'{_CODEX_SETTING}"{bases["openai"]}"'
    if _told(command) is not None:
        return [setting if word.startswith(_CODEX_SETTING) else word for word in command]
    return [command[0], "-c", setting, *command[1:]]


def writable(folder: Path) -> None:
    """Makes a folder for logs. Raises UsageError where none can be written there."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{folder}: no folder for logs: {error.strerror or error}") from None
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"{folder}: no log can be written there")


def proxy_class() -> type[Proxy]:
    """The proxy, which needs an HTTP stack. Raises MissingExtraError."""
    try:
        from traj.proxy.server import Proxy
    except ImportError:
        raise MissingExtraError("recording live", "live") from None
    return Proxy


def new_loop() -> Callable[[], asyncio.AbstractEventLoop]:
    """The quicker event loop where it is installed."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def new_run() -> str:
    """A name for a run: when it began, and four bytes of chance."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{token_hex(4)}"
