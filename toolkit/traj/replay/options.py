"""What a replay is asked for, beside the load itself (`traj.workload.options`)."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from traj.errors import UsageError
from traj.replay.apis import open_api
from traj.workload.options import LoadOptions


@dataclass(frozen=True, slots=True)
class Steady:
    """When enough was seen of a steady state: all agents were active for `settle_s`, then for
    `window_s`, and so many trajectories were played to their ends."""

    settle_s: float
    window_s: float
    trajectories: int


@dataclass(frozen=True, slots=True)
class ReplayOptions:
    """Where a load goes, and how it is driven. Times are in seconds."""

    url: str  # with or without /v1
    model: str
    api: str = "chat"  # or responses, messages
    agents: int = 1
    phase: int = 0  # of the prefixes
    trajectories: int | None = None  # play this many, around the dataset; None: each once
    duration_s: float | None = None  # send nothing new after this; None: until all is played
    steady: Steady | None = None  # play around the dataset until this is reached
    ramp_s: float = 0.0  # agents begin one after another within this
    timeout_s: float = 600.0  # without a byte from the engine
    processes: int = 1
    on_ray: bool = False  # they are placed on the machines of a Ray cluster
    api_key: str | None = field(default=None, repr=False)
    load: LoadOptions = field(default_factory=LoadOptions)

    def __post_init__(self) -> None:
        """Raises UsageError for what cannot be meant."""
        if urlsplit(self.url).scheme not in ("http", "https") or not urlsplit(self.url).netloc:
            raise UsageError(f"{self.url!r} is no URL of an engine: http://HOST:PORT/v1")
        for name in ("agents", "processes", "trajectories"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise UsageError(f"{name} must be 1 or more, not {value}")
        if self.processes > self.agents:
            raise UsageError(f"{self.processes} processes for {self.agents} agents: too many")
        open_api(self.api)
        if self.duration_s is not None and self.duration_s <= 0:
            raise UsageError("the duration must be more than nothing")

    @property
    def endless(self) -> bool:
        """Whether the dataset is played again and again."""
        return self.trajectories is None and bool(self.duration_s or self.steady)

    @property
    def endpoint(self) -> str:
        """The URL that requests go to."""
        base = self.url.rstrip("/")
        return f"{base if base.endswith('/v1') else base + '/v1'}/{open_api(self.api).PATH}"

    def headers(self) -> dict[str, str]:
        """Of every request; the key from OPENAI_API_KEY where none is given."""
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        known = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        return {**known, "Authorization": f"Bearer {key}"} if key else known
