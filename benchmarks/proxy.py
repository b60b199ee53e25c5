"""What the recording proxy adds: to the first byte of an answer, to each event, to its end.

    python -m benchmarks.proxy --json benchmarks/results/proxy.json

A local server streams answers whose events carry the time at which they were written. Requests go
to it in turns, one direct, one through `traj proxy` (a process of its own, which logs all of it),
on connections that are kept, as agents keep them. Two kinds of answer: paced, an event every few
milliseconds, as engines write them; and a burst, all events at once, which is all overhead and no
waiting. Times are medians in microseconds; the difference is the proxy's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import aiohttp
from aiohttp import web

from benchmarks import corpus, measure
from benchmarks.results import machine_line, table

PORT = 18765
WARM = 20  # rounds in which connections are opened and code gets warm
EVENT = b'data: {"at":%d,"choices":[{"delta":{"content":"word "}}]}\n\n'
LEADS = b'data: {"at":'


@dataclass(frozen=True, slots=True)
class Case:
    """One kind of request: how large it is, and how its answer comes."""

    body_kb: int
    events: int
    every_ms: float  # 0: all at once
    rounds: int


CASES = (
    Case(10, 40, 5, 100),
    Case(100, 40, 5, 100),
    Case(1_000, 40, 5, 100),
    Case(10, 40, 0, 400),
    Case(100, 40, 0, 400),
)


async def answer(request: web.Request) -> web.StreamResponse:
    """A streamed answer, as the request's headers ask for."""
    await request.read()
    events, every_s = int(request.query["events"]), float(request.query["every_ms"]) / 1e3
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(events):
        await response.write(EVENT % time.monotonic_ns())
        await asyncio.sleep(every_s)
    await response.write_eof()
    return response


def upstream(port: int) -> None:
    """Serves until it is ended."""
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=lambda _: None, access_log=None)


@dataclass(slots=True)
class Latencies:
    """Of one way, in nanoseconds."""

    first_byte: list[int]
    event: list[int]  # from when it was written to when it was there
    end: list[int]


async def ask(client: aiohttp.ClientSession, url: str, body: bytes, found: Latencies) -> None:
    """One request, its answer read as it comes."""
    start = time.monotonic_ns()
    first = None
    async with client.post(url, data=body) as response:
        async for chunk in pieces(response):
            now = time.monotonic_ns()
            first = first or now
            written = (int(line.partition(b",")[0]) for line in chunk.split(LEADS)[1:])
            found.event += [now - at for at in written]
    found.first_byte.append((first or 0) - start)
    found.end.append(time.monotonic_ns() - start)


async def pieces(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    """What was there each time that something was, in whole events."""
    rest = b""
    async for chunk in response.content.iter_any():
        whole, gap, rest = (rest + chunk).rpartition(b"\n\n")
        if gap:
            yield whole


async def compare(ways: Mapping[str, str], case: Case) -> dict[str, Any]:
    """All ways in turns, so that what else the machine does meets each of them."""
    messages = [{"role": "user", "content": "x" * 1000} for _ in range(case.body_kb)]
    query = f"events={case.events}&every_ms={case.every_ms}"
    found = {name: Latencies([], [], []) for name in ways}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        for number in range(case.rounds + WARM):
            messages[-1] = {"role": "user", "content": f"{number:>1000}"}
            body = json.dumps({"model": "m", "messages": messages, "stream": True}).encode()
            for name, base in ways.items():
                kept = found[name] if number >= WARM else Latencies([], [], [])
                await ask(client, f"{base}/v1/chat/completions?{query}", body, kept)
    result: dict[str, Any] = asdict(case)
    for what in _measured(case):
        spread = {name: _spread(getattr(one, what)) for name, one in found.items()}
        added = spread["proxied"]["p50"] - spread["direct"]["p50"]
        result[f"{what}_us"] = {**spread, "added": round(added, 1)}
    return result


def _measured(case: Case) -> tuple[str, ...]:
    """The end of a paced answer is when its pacing says, and that drifts."""
    return ("first_byte", "event") if case.every_ms else ("first_byte", "event", "end")


def _spread(times: Sequence[int]) -> dict[str, float]:
    values = sorted(times)
    return {f"p{p}": values[len(values) * p // 100] / 1e3 for p in (50, 90, 99)}


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """The upstream, and the proxy before it: their addresses."""
    own = [sys.executable, "-m", "benchmarks.proxy", "--upstream", str(PORT)]
    command = [sys.executable, "-m", "traj", "proxy", str(folder)]
    command += ["--upstream", f"openai=http://127.0.0.1:{PORT}/v1"]
    with (
        subprocess.Popen(own, cwd=corpus.ROOT) as server,
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as proxy,
    ):
        try:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[2].rstrip(",")
            time.sleep(1)
            yield {"direct": f"http://127.0.0.1:{PORT}", "proxied": address}
        finally:
            proxy.terminate()
            server.terminate()


def tables(result: dict[str, Any]) -> str:
    """What was measured, as Markdown."""
    rows = []
    for case in result["cases"]:
        how = f"every {case['every_ms']:g} ms" if case["every_ms"] else "at once"
        row = [f"{case['body_kb']:,} KB", f"{case['events']} events, {how}"]
        for what in ("first_byte", "event", "end"):
            told = case.get(f"{what}_us")
            if told is None:
                row += ["", "", ""]
                continue
            medians = (told["direct"]["p50"], told["proxied"]["p50"], told["added"])
            row += [f"{each / 1e3:.2f}" for each in medians]
        rows.append(row)
    header = ["request", "answer"]
    for what in ("first byte", "an event", "the end"):
        header += [f"{what}: direct, ms", "proxied", "added"]
    return "\n\n".join([machine_line(result), table(header, rows)]) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--json", type=Path, help="file for the result")
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.upstream:
        upstream(options.upstream)
        return
    result: dict[str, Any] = {"benchmark": "proxy", **measure.machine()}
    with tempfile.TemporaryDirectory() as folder, servers(Path(folder)) as ways:
        result["cases"] = [asyncio.run(compare(ways, case)) for case in CASES]
    if options.json:
        measure.write_json(options.json, result)
    print(tables(result))


if __name__ == "__main__":
    main()
