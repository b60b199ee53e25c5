"""What the recording proxy costs: time to first byte and to the end, direct and through it.

    python benchmarks/proxy.py [--rounds 400] [--body-kb 100] [--concurrency 1]

A local server streams a short answer at once. Requests go to it in turns, one direct, one through
`traj proxy` (a process of its own), on connections that are kept, as agents keep them. Latencies
are in microseconds; the difference of the medians is the proxy's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
from aiohttp import web

EVENT = b'data: {"choices":[{"delta":{"content":"word "}}]}\n\n'
EVENTS = 40


async def answer(request: web.Request) -> web.StreamResponse:
    """An answer that is streamed as fast as it can be."""
    await request.read()
    response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
    await response.prepare(request)
    for _ in range(EVENTS):
        await response.write(EVENT)
        await asyncio.sleep(0)
    await response.write_eof()
    return response


def upstream(port: int) -> None:
    """Serves until it is ended."""
    app = web.Application(client_max_size=1 << 28)
    app.router.add_post("/v1/chat/completions", answer)
    web.run_app(app, host="127.0.0.1", port=port, print=lambda _: None, access_log=None)


async def ask(client: aiohttp.ClientSession, url: str, body: bytes) -> tuple[float, float]:
    """Microseconds to the first byte of the answer, and to its end."""
    start = time.perf_counter_ns()
    async with client.post(url, data=body) as response:
        await response.content.readany()
        first = time.perf_counter_ns()
        await response.read()
    return (first - start) / 1e3, (time.perf_counter_ns() - start) / 1e3


async def compare(direct: str, proxied: str, args: argparse.Namespace) -> dict[str, object]:
    """Both ways in turns, so that what else the machine does meets both."""
    ways = {"direct": direct, "proxied": proxied}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    messages = [{"role": "user", "content": "x" * 1000} for _ in range(args.body_kb)]
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        for number in range(args.rounds + 20):
            messages[-1] = {"role": "user", "content": f"{number:>1000}"}
            body = json.dumps({"model": "m", "messages": messages, "stream": True}).encode()
            for name, url in ways.items():
                several = await asyncio.gather(
                    *(
                        ask(client, f"{url}/v1/chat/completions", body)
                        for _ in range(args.concurrency)
                    )
                )
                if number >= 20:  # connections are open, code is warm
                    found[name] += several
    result: dict[str, object] = {"rounds": args.rounds, "body_kb": args.body_kb}
    result["concurrency"] = args.concurrency
    for place, what in enumerate(("first_byte_us", "end_us")):
        medians = {}
        for name, times in found.items():
            values = sorted(one[place] for one in times)
            medians[name] = statistics.median(values)
            result[f"{name}_{what}"] = {
                "p50": round(medians[name]),
                "p90": round(values[len(values) * 9 // 10]),
                "p99": round(values[len(values) * 99 // 100]),
            }
        result[f"added_{what}"] = round(medians["proxied"] - medians["direct"])
    return result


def main() -> None:
    """Starts both servers, measures, prints JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=400)
    parser.add_argument("--body-kb", type=int, default=100)
    parser.add_argument("--concurrency", type=int, default=1)
    parser.add_argument("--upstream", type=int, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.upstream:
        upstream(args.upstream)
        return
    port = 18765
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen([sys.executable, __file__, "--upstream", str(port)])
        command = [sys.executable, "-m", "traj", "proxy", folder]
        command += ["--upstream", f"openai=http://127.0.0.1:{port}/v1"]
        proxy = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert proxy.stdout is not None
            address = proxy.stdout.readline().split()[2].rstrip(",")
            time.sleep(1)
            result = asyncio.run(compare(f"http://127.0.0.1:{port}", address, args))
        finally:
            proxy.terminate()
            server.terminate()
            proxy.wait()
            server.wait()
        logged = sum(path.stat().st_size for path in Path(folder).iterdir())
        result["log_bytes"] = logged
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
