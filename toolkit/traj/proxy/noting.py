"""When requests and answers are written down: each once, an answer behind its request."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from traj.proxy.log import Answer, Log, Request


def note(answer: Answer, log: Log, done: asyncio.Future[None] | None = None) -> None:
    """Writes an answer down, once; `done` has a result when it is in the file."""
    if answer.noted:
        return
    answer.noted = True
    note_request(answer.request, log)
    answer.at_us = answer.at_us or log.clock.at_us()

    def tell() -> None:
        if done is not None:
            with suppress(RuntimeError):  # the loop was closed
                done.get_loop().call_soon_threadsafe(_resolve, done)

    log.end(answer, tell)


def note_request(asked: Request, log: Log) -> None:
    """Writes a request down, once."""
    if not asked.noted:
        asked.noted = True
        if asked.pending is not None:
            asked.pending.cancel()
        log.ask(asked)


def _resolve(done: asyncio.Future[None]) -> None:
    if not done.done():
        done.set_result(None)
