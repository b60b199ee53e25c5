"""Answers of a Qwen Code session, and the telemetry of the requests that they answer."""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from traj.sources.lines import epoch_us
from traj.sources.qwen_code import wire

Figures = tuple[int | None, int | None]


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


class Ledger:
    """Requests that telemetry tells of and no answer has been found for yet."""

    def __init__(self) -> None:
        self._open: dict[int, Told] = {}
        self._places: dict[Figures, deque[int]] = {}

    def __len__(self) -> int:
        return len(self._open)

    def add(self, told: Told) -> None:
        """Takes note of one."""
        event = told.event
        self._open[told.line] = told
        figures = (event.input_token_count, event.output_token_count)
        self._places.setdefault(figures, deque()).append(told.line)

    def take(self, held: Answer, *, main: bool) -> wire.Event | None:
        """An answer's request: the one with the same figures; in the main agent's file, for an
        answer without any, the last."""
        if held.usage is None:
            return self._open.popitem()[1].event if self._open and main else None
        usage = held.usage
        places = self._places.get((usage.prompt_token_count, usage.candidates_token_count))
        while places:
            told = self._open.pop(places.popleft(), None)
            if told is not None:
                return told.event
        return None

    def rest(self) -> list[Told]:
        """Those that no answer was found for."""
        return list(self._open.values())
