"""Plays one script: each request when all that it waits for is complete and its delay is over."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson

from traj.replay.client import Client, Outcome, now_us
from traj.replay.results import Requests, Sent

if TYPE_CHECKING:
    from collections.abc import Callable

    from traj.replay.options import ReplayOptions
    from traj.replay.scripts import Script, Step

HOPELESS = 20  # failures, and not one answer or one request under way: nobody is there


@dataclass(slots=True)
class State:
    """What all agents of a process share."""

    stopping: bool = False
    active: int = 0  # agents that play
    all_active_us: int | None = None  # since when all of them do
    played: int = 0  # trajectories, to their ends
    sent: int = 0
    answered: int = 0
    failed: int = 0
    cancelled: int = 0
    first_error: str | None = None

    @property
    def hopeless(self) -> bool:
        """Whether nothing was answered and nothing more can be hoped for."""
        under_way = self.sent - self.failed - self.cancelled
        enough = HOPELESS if not under_way else HOPELESS + 10 * self.active
        return not self.answered and self.failed >= enough


class Player:
    """Plays scripts for agents, one each at a time, and writes down what came of every request."""

    def __init__(
        self,
        client: Client,
        options: ReplayOptions,
        requests: Requests,
        state: State,
        count: Callable[[str], int],
    ) -> None:
        """`count` gives the tokens of a text, by the load's tokenizer."""
        self._client, self._requests, self._state, self._count = client, requests, state, count
        self._forced = options.load.output == "forced"
        self._model = orjson.dumps(options.model)

    async def play(self, script: Script, agent: int) -> None:
        """Until all requests of the script are answered, or the run stops."""
        steps = script.steps
        left = [len(step.waits) for step in steps]
        ready_us = [now_us()] * len(steps)
        followers: list[list[int]] = [[] for _ in steps]
        for index, step in enumerate(steps):
            for wait in step.waits:
                followers[wait].append(index)

        async def follow(index: int) -> None:
            await self._request(script, steps[index], agent, ready_us[index])
            for other in followers[index]:
                left[other] -= 1
                ready_us[other] = max(ready_us[other], now_us())
                if not left[other] and not self._state.stopping:
                    group.create_task(follow(other))

        async with asyncio.TaskGroup() as group:
            for index, waits in enumerate(left):
                if not waits:
                    group.create_task(follow(index))

    async def _request(self, script: Script, step: Step, agent: int, ready_us: int) -> None:
        body = self.body(script, step)  # before the delay, so that sending is all that is left
        due_us = ready_us + step.delay_us
        while (left_us := due_us - now_us()) > 0:  # noqa: ASYNC110 - timers may ring early
            await asyncio.sleep(left_us / 1e6)
        if self._state.stopping:
            return
        outcome = Outcome()
        self._state.sent += 1
        try:
            await self._client.send(body, outcome)
        except asyncio.CancelledError:
            outcome.status, outcome.end_us = "cancelled", now_us()
            raise
        finally:
            self._note(outcome)
            counted = self._count(outcome.text) if outcome.text else None
            self._requests.add(Sent(script, step, agent, due_us, outcome, counted))

    def _note(self, outcome: Outcome) -> None:
        state = self._state
        if outcome.status == "ok":
            state.answered += 1
        elif outcome.status == "cancelled":
            state.cancelled += 1
        else:
            state.failed += 1
            state.first_error = state.first_error or f"{outcome.status}: {outcome.error}"
            state.stopping = state.stopping or state.hopeless

    def body(self, script: Script, step: Step) -> bytes:
        """The request as it goes over the wire."""
        texts = script.texts
        tokens = step.output_tokens
        length = f'"max_tokens":{tokens},'
        if self._forced:
            length += f'"min_tokens":{tokens},"ignore_eos":true,'
        parts = [
            b'{"model":',
            self._model,
            b',"stream":true,"stream_options":{"include_usage":true},',
            length.encode(),
        ]
        if step.tools is not None:
            parts += [b'"tools":', texts[step.tools], b","]
        parts += [b'"messages":[', b",".join([texts[place] for place in step.messages]), b"]}"]
        return b"".join(parts)
