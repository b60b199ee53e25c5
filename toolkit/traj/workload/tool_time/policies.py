"""What a person may ask of tool time and of the time that people took, as strings."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite

from traj.errors import UsageError

POLICIES = {
    "recorded": "as it was",
    "baseline[:PROFILE]": "one draw a call, the same for every system: overall median 1.0 s, 0.1 "
    "to 5 s; shapes fitted to the dataset, or of a profile (`default`, or the path of a file)",
    "scaled:X": "tools and the agent's own time, X times as long as they were",
    "none": "none: a request is sent as soon as what it waits for is complete",
}
USER_TIMES = {
    "recorded": "people take as long as they did",
    "none": "people answer at once",
    "cap:SECONDS": "people take as long as they did, but no longer than that",
}


@dataclass(frozen=True, slots=True)
class Policy:
    """A tool time. `factor` is that of `scaled`; `profile` is given with `baseline` or absent."""

    kind: str  # recorded, baseline, scaled, none
    factor: float = 1.0
    profile: str | None = None


@dataclass(frozen=True, slots=True)
class UserTime:
    """How much of a person's time is kept of each delay; `most_us` None: all."""

    name: str
    most_us: int | None

    def of(self, user_us: int) -> int:
        return user_us if self.most_us is None else min(user_us, self.most_us)


def parse_policy(text: str) -> Policy:
    """A tool time. Raises UsageError naming the known ones."""
    kind, colon, rest = text.partition(":")
    if kind == "scaled" and colon:
        return Policy(kind, factor=_number(rest, f"tool time {text!r}"))
    if kind == "baseline" and (rest or not colon):
        return Policy(kind, profile=rest or None)
    if kind in ("recorded", "none") and not colon:
        return Policy(kind)
    raise UsageError(f"unknown tool time {text!r}: known are {', '.join(POLICIES)}")


def parse_user_time(text: str | None, policy: Policy) -> UserTime:
    """What is left of people's time; None: all of it where tools too take as long as recorded,
    else nothing. Raises UsageError naming the known ones.
    """
    if text is None:
        text = "recorded" if policy.kind == "recorded" else "none"
    kind, colon, rest = text.partition(":")
    if kind == "cap" and colon:
        return UserTime(text, round(_number(rest, f"user time {text!r}") * 1e6))
    if text in ("recorded", "none"):
        return UserTime(text, None if text == "recorded" else 0)
    raise UsageError(f"unknown user time {text!r}: known are {', '.join(USER_TIMES)}")


def _number(text: str, what: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not isfinite(number) or number < 0 or number > 1e9:
        raise UsageError(f"{what}: {text!r} is no number from 0 to a billion")
    return number
