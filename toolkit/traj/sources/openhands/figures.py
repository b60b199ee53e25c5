"""What OpenHands notes of requests beside its events: tokens and latency by response id, or sums
that grow as requests are answered."""

from __future__ import annotations

from collections.abc import Container

from msgspec import Raw, Struct, field

from traj.events import Usage
from traj.sources.openhands import wire
from traj.sources.raw_responses import MEANING
from traj.sources.requests.pieces import fit


def usage(told: wire.TokenUsage, *, whole: bool = True) -> Usage:
    """The schema's figures of one request."""
    return MEANING.usage(
        told.prompt_tokens,
        told.cache_read_tokens,
        told.completion_tokens,
        written_tokens=told.cache_write_tokens,
        reasoning_tokens=told.reasoning_tokens,
        whole=whole,
    )


class Noted(Struct):
    """A request of which only the figures are known."""

    response_id: str | None = None
    model: str | None = None
    usage: Usage = Usage()
    took_us: int | None = None
    condenser: bool = False


class Figures(Struct):
    """Requests' figures by response id, and the order in which they were answered."""

    usages: dict[str, wire.TokenUsage] = field(default_factory=dict)
    took_us: dict[str, int] = field(default_factory=dict)
    listed: list[str] = field(default_factory=list)  # ids as they were answered
    places: dict[str, int] = field(default_factory=dict)  # of them
    given: int = 0  # places up to which `before` has told
    sums: dict[str, wire.TokenUsage] = field(default_factory=dict)
    pending: list[Noted] = field(default_factory=list)

    def add(self, metrics: wire.Metrics) -> None:
        """Takes a model's list of requests."""
        for one in metrics.token_usages:
            if one.response_id:
                self.usages.setdefault(one.response_id, one)
        for late in metrics.response_latencies:
            if late.response_id and late.latency is not None:
                self.took_us.setdefault(late.response_id, round(late.latency * 1e6))
        listed = [late.response_id for late in metrics.response_latencies]
        listed += [one.response_id for one in metrics.token_usages]
        for name in listed:
            if name and name not in self.places:
                self.places[name] = len(self.listed)
                self.listed.append(name)

    def snapshot(self, metrics: dict[str, wire.Metrics]) -> None:
        """Takes sums as they are now: what was added is a request's, where it is one's."""
        for name, one in metrics.items():
            now = one.accumulated_token_usage
            if now is None:
                continue
            before = self.sums.get(name, wire.TokenUsage())
            self.sums[name] = now
            added = wire.TokenUsage(
                prompt_tokens=_less(now.prompt_tokens, before.prompt_tokens),
                completion_tokens=_less(now.completion_tokens, before.completion_tokens),
                cache_read_tokens=_less(now.cache_read_tokens, before.cache_read_tokens),
                cache_write_tokens=_less(now.cache_write_tokens, before.cache_write_tokens),
                reasoning_tokens=_less(now.reasoning_tokens, before.reasoning_tokens),
            )
            both = (added.prompt_tokens or 0) + (added.completion_tokens or 0)
            if not both:
                continue
            found = usage(added, whole=now.per_turn_token in (None, 0, both))
            self.pending.append(Noted(None, now.model, found, condenser="condenser" in name))

    def of(self, response_id: str) -> Noted | None:
        """What is known of a response by its id."""
        told = self.usages.get(response_id)
        if told is None and response_id not in self.took_us:
            return None
        return Noted(
            response_id,
            told.model if told else None,
            usage(told) if told else Usage(),
            self.took_us.get(response_id),
        )

    def take(self, *, condenser: bool) -> tuple[Noted | None, list[Noted]]:
        """The newest noted request of its kind, and those before it that nothing came of."""
        mine = [one for one in self.pending if one.condenser == condenser]
        self.pending = [one for one in self.pending if one.condenser != condenser]
        return (mine[-1], mine[:-1]) if mine else (None, [])

    def before(self, response_id: str | None, claimed: Container[str]) -> list[str]:
        """Ids that were answered before this one, and that no event names; each is given once. All
        that are left, for None."""
        at = len(self.listed) if response_id is None else self.places.get(response_id, -1)
        ids = self.listed[self.given : max(at, self.given)]
        self.given = max(self.given, at + 1)
        return [one for one in ids if one not in claimed]

    def next(self, claimed: Container[str]) -> str | None:
        """The id that was answered next, if no event names it."""
        if self.given >= len(self.listed) or self.listed[self.given] in claimed:
            return None
        self.given += 1
        return self.listed[self.given - 1]


def _less(now: int | None, before: int | None) -> int | None:
    return None if now is None else max(0, now - (before or 0))


def moments(stats: wire.Stats) -> dict[str, int]:
    """When responses had come, by response id, where their costs say: seconds of UTC."""
    found: dict[str, int] = {}
    for metrics in stats.usage_to_metrics.values():
        costs = [one.timestamp for one in _costs(metrics.costs)]
        if len(costs) != len(metrics.token_usages):
            continue
        for used, moment in zip(metrics.token_usages, costs, strict=True):
            if used.response_id and moment is not None:
                found[used.response_id] = round(moment * 1e6)
    return found


def _costs(raws: list[Raw]) -> list[wire.Cost]:
    """Costs; those of version 0 are bare numbers, without a time."""
    return [fit(raw, wire.Cost) or wire.Cost() for raw in raws]
