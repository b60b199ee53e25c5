"""How late the event loop wakes: what no measurement of this process can be better than."""

from __future__ import annotations

import asyncio

from traj.replay.outcome import now_us

EVERY_US = 20_000


class LoopLag:
    """Asks to be woken, again and again, and writes down how late that was."""

    def __init__(self) -> None:
        self.lags_us: list[int] = []

    async def watch(self) -> None:
        """Until cancelled."""
        while True:
            due_us = now_us() + EVERY_US
            await asyncio.sleep(EVERY_US / 1e6)
            self.lags_us.append(max(0, now_us() - due_us))
