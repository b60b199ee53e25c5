"""What replays of whole graphs must have kept: what an engine received, held to the dataset."""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import mock_engine
import recorded

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from traj.dataset import Dataset
    from traj.exporters import ExportReport

Key = tuple[str, int]  # trajectory and turn
EARLY_S = 0.002  # the event loop's timers may fire a tick early


@dataclass(frozen=True)
class Replay:
    """What was sent for an export: the logged request of each turn."""

    report: ExportReport
    folder: Path
    requests: dict[Key, recorded.Request]
    sent: dict[Key, dict[str, Any]]
    extra: int  # requests that are no turn's

    def lateness_s(self) -> dict[Key, float]:
        """By turn that waits for something: the time from when it could be sent to its arrival."""
        found = {}
        for key, request in self.requests.items():
            if request.waits:
                ended = max(self.sent[key[0], wait]["completed"] for wait in request.waits)
                found[key] = self.sent[key]["arrived"] - ended - request.delay_us / 1e6
        return found


def replay(
    dataset: Dataset,
    report: ExportReport,
    folder: Path,
    log: list[dict[str, Any]],
    body: Callable[[recorded.Request], dict[str, Any]],
) -> Replay:
    """Finds each turn's request by its whole body, `body` being what must be sent for it."""
    requests = recorded.requests(dataset)
    received = defaultdict(list)
    for entry in log:
        received[_text(entry["body"])].append(entry)
    sent = {}
    for key, request in requests.items():
        same = received[_text(body(request))]
        assert same, f"never sent as recorded: {key}"
        sent[key] = same.pop(0)
    return Replay(report, folder, requests, sent, sum(map(len, received.values())))


def fresh(
    log: list[dict[str, Any]],
    play: Callable[[dict[str, Any]], str],
    encode: mock_engine.Tokens,
) -> list[int]:
    """How many tokens of each logged prompt the earlier ones of its play leave in a cache, where
    tools are known from any earlier prompt: they stand before all that is the play's own.
    """
    engines: dict[str, mock_engine.Engine] = defaultdict(mock_engine.Engine)
    tools: list[dict[str, Any]] = []
    found = []
    for entry in log:
        engine = engines[play(entry)]
        for known in tools:
            engine.cached(encode(mock_engine.render(known)))
        found.append(engine.cached(encode(mock_engine.render(entry["body"]))))
        alone = {"tools": entry["body"].get("tools"), "messages": []}
        if alone["tools"] and alone not in tools:
            tools.append(alone)
    return found


def _text(body: dict[str, Any]) -> str:
    return json.dumps(body, sort_keys=True)
