"""Answers of a Qwen Code session, and the telemetry of the requests that they answer."""

from __future__ import annotations

from typing import NamedTuple

from traj.sources.lines import epoch_us
from traj.sources.qwen_code import wire


class Told(NamedTuple):
    """A request that telemetry tells of, and where."""

    event: wire.Event
    line: int


class Answer:
    """An answer that may still grow."""

    def __init__(self, line: wire.Line, number: int) -> None:
        self.uuid = line.uuid
        self.number = number
        self.parts = list(line.message.parts) if line.message else []
        self.usage = line.usage_metadata
        self.model = line.model
        self.times = [time for time in (epoch_us(line.timestamp),) if time is not None]

    def takes(self, line: wire.Line) -> bool:
        """Whether a line goes on with this answer."""
        if line.uuid is not None and line.uuid == self.uuid:
            return True
        parts = line.message.parts if line.message else []
        bare = line.usage_metadata is None and line.agent_round is None and line.model is None
        return bare and bool(parts) and all(part.function_call for part in parts)

    def add(self, line: wire.Line) -> None:
        self.uuid = line.uuid
        self.parts += line.message.parts if line.message else []
        self.usage = line.usage_metadata or self.usage
        self.model = line.model or self.model
        time = epoch_us(line.timestamp)
        self.times += [time] if time is not None else []


def telemetry_of(held: Answer, told: list[Told], *, main: bool) -> wire.Event | None:
    """Takes an answer's request out of what was told: the one with the same figures; in the main
    agent's file, for an answer without any, the last."""
    raw = held.usage
    if raw is None:
        return told.pop().event if told and main else None
    wanted = (raw.prompt_token_count, raw.candidates_token_count)
    for place, (event, _) in enumerate(told):
        if (event.input_token_count, event.output_token_count) == wanted:
            return told.pop(place).event
    return None
