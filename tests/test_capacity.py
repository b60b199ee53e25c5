"""The search for a capacity: exact where it is known, honest where it cannot be."""

from __future__ import annotations

import asyncio
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace

import polars as pl
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

import mock_engine
from served import Served
from traj.capacity import Capacity, Procedure, Tier, find_tiers, measure, plan
from traj.capacity.phase import Phase, Spread, assess, spread
from traj.capacity.search import Search
from traj.capacity.simulated import assess_simulated
from traj.dataset import Dataset
from traj.engine.forward import simulate
from traj.engine.known import known
from traj.engine.parameters import shipped
from traj.errors import UsageError
from traj.replay import ReplayOptions
from traj.report.capacity import phase_line
from traj.workload.options import LoadOptions

SHORT = Procedure(window_s=20, settle_s=2, trajectories=4, per_agent=1, confirmations=0)


def phase(agents: int, number: int, speed: float, ttft_s: float = 1.0, **over) -> Phase:
    """A phase that saw these figures."""
    found = {
        "window_us": 1,
        "plays": 1,
        "answered": 100,
        "failed": 0,
        "unfinished": 0,
        "speed": Spread(speed, speed, speed),
        "ttft_us": Spread(ttft_s * 1e6, ttft_s * 1e6, ttft_s * 1e6),
        "output_tokens_per_s": 1.0,
        "cached_share": None,
        "power_w": None,
        "trouble": (),
    }
    return Phase(agents, number, **{**found, **over})


@pytest.mark.parametrize("seed", range(50))
def test_a_known_capacity_is_found_exactly(seed: int) -> None:
    """Fifty systems whose speed and time to first token change with the agents by formulas; for
    each of three tiers the most agents that meet it, whatever the search starts from."""
    rng = random.Random(seed)
    top, half = rng.uniform(50, 400), rng.uniform(1, 300)
    wait, knee = rng.uniform(0.05, 1.5), rng.uniform(2, 600)
    tiers = [Tier("x", rng.uniform(1, 450), rng.uniform(0.1, 12), "") for _ in range(3)]
    procedure = Procedure(start=rng.choice([1, 2, 5]), most=2000, confirmations=rng.choice([0, 2]))

    def speed(agents: int) -> float:
        return top / (1 + agents / half)

    def ttft_s(agents: int) -> float:
        return wait * (1 + (agents / knee) ** 2)

    search = Search(lambda n, k: phase(n, k, speed(n), ttft_s(n)), tiers, procedure)
    for found in search.find():
        tier = found.tier
        good = [
            n
            for n in range(1, 2001)
            if speed(n) >= tier.output_tokens_per_s and ttft_s(n) <= tier.ttft_s
        ]
        assert found.agents == max(good, default=0)
        assert found.above == (None if found.agents == 2000 else found.agents + 1)
        if found.above is not None:
            assert found.missed
        if found.agents:
            assert found.passed == (procedure.confirmations + 1,) * 2
    assert [one.number for one in search.phases] == list(range(len(search.phases)))


@pytest.mark.parametrize("seed", range(50))
def test_a_simulated_engine_of_known_capacity_is_found_exactly(seed: int) -> None:
    """Fifty engines whose scheduler makes the capacity a division: the search through phases in
    virtual time, windows and percentiles finds it to the agent."""
    engine = known(seed)
    rng = random.Random(seed)
    truth = rng.randrange(1, 60)
    # Limits just between what that many agents and one more get.
    between_s = (engine.ttft_s(truth) + engine.ttft_s(truth + 1)) / 2
    by_speed = rng.random() < 0.5
    tier = Tier("x", 1 / between_s if by_speed else 1e-3, 1e3 if by_speed else between_s, "")
    procedure = Procedure(window_s=20, settle_s=1, trajectories=1, per_agent=1, confirmations=0)

    def run(agents: int, number: int) -> Phase:
        found = simulate(engine.parameters, engine.agents(agents), until_us=21_000_000)
        return assess_simulated(found, agents, number, procedure, agents)

    (found,) = Search(run, [tier], procedure).find()
    assert engine.capacity(tier.output_tokens_per_s, tier.ttft_s) == truth
    assert found.agents == truth
    assert found.above == truth + 1


def test_the_majority_of_phases_decides() -> None:
    """A lucky phase is not confirmed: what passes once of three times is no capacity."""
    seen: dict[int, int] = {}

    def run(agents: int, number: int) -> Phase:
        seen[agents] = seen.get(agents, 0) + 1
        lucky = agents == 16 and seen[agents] == 1
        return phase(agents, number, 100 if agents <= 11 or lucky else 10)

    (found,) = Search(run, find_tiers("50/5"), Procedure(confirmations=2)).find()
    assert found.agents == 11
    assert found.passed == (3, 3)
    assert found.passed_above == (0, 3)


def test_a_resolution_saves_phases_and_keeps_its_word() -> None:
    """The capacity lies between what passed and what failed, which are as close as was asked."""
    counts = []
    for resolution in (0.0, 0.1):
        search = Search(
            lambda n, k: phase(n, k, 100 if n <= 777 else 10),
            find_tiers("50/5"),
            Procedure(resolution=resolution, confirmations=0),
        )
        (found,) = search.find()
        assert found.agents <= 777 < found.above
        assert found.above - found.agents <= max(1, found.agents * resolution + 1)
        counts.append(len(search.phases))
    assert counts[1] < counts[0]


@pytest.mark.parametrize(
    ("over", "reason"),
    [
        ({"failed": 5}, "5 of 105 requests failed"),
        ({"answered": 0, "speed": None, "ttft_us": None}, "nothing was answered"),
        ({"trouble": ("requests were sent 80 ms late",)}, "nothing can be said"),
        ({"ttft_s": 6.0}, "6.00 s to the first token"),
        ({"speed": 49.0}, "49.0 tokens/s"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_each_way_to_miss_a_tier_is_named(over: dict, reason: str) -> None:
    """Failures count, and a harness that was late proves nothing."""
    (tier,) = find_tiers("50/5")
    ttft_us = {"ttft_s": over.get("ttft_s", 1.0)}
    rest = {name: value for name, value in over.items() if name not in ("ttft_s", "speed")}
    found = phase(4, 0, over.get("speed") or 100.0, **ttft_us)
    found = replace(found, **rest, **({"speed": None} if "answered" in over else {}))
    assert reason in (found.misses(tier, 0.01) or "")
    assert phase(4, 0, 100.0).misses(tier, 0.01) is None


def test_requests_count_within_the_window_alone() -> None:
    """Sent once all agents had been active for the settling time, answered before the end."""
    rows = pl.DataFrame(
        [
            # agent, sent, end, status, ttft, speed
            (0, 0, 90, "ok", 1, 1.0),
            (1, 50, 99, "ok", 2, 2.0),
            (0, 149, 180, "ok", 3, 3.0),  # all active since 50, settled at 150
            (0, 150, 180, "ok", 40, 40.0),
            (1, 160, 200, "ok", 50, 50.0),
            (1, 170, 190, "http_500", None, None),
            (0, 185, 200, "cancelled", None, None),
            (0, 140, 200, "cancelled", None, None),
        ],
        schema=["agent", "sent_us", "end_us", "status", "ttft_us", "output_tokens_per_s"],
        orient="row",
    ).with_columns(
        pl.lit(10).alias("output_tokens"),
        pl.lit(100).alias("input_tokens"),
        pl.lit(25).alias("cached_tokens"),
    )
    found = assess(rows, agents=2, number=7, settle_us=100, end_us=200, plays=3)
    assert (found.answered, found.failed, found.unfinished) == (2, 1, 1)
    assert found.window_us == 50
    assert found.speed is not None
    assert found.speed.value == pytest.approx(42.5)
    assert found.cached_share == 0.25
    assert found.output_tokens_per_s == pytest.approx(20 / 50e-6)
    few = assess(rows, agents=3, number=0, settle_us=100, end_us=200, plays=3)
    assert few.trouble == ("1 of 3 agents never sent a request",)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=300), st.sampled_from([0.25, 0.95]))
def test_a_percentile_lies_in_its_interval(values: list[float], at: float) -> None:
    """Which is made of values that were seen."""
    found = spread(pl.Series(values), at)
    assert found is not None
    assert found.low in values
    assert found.high in values
    assert found.low <= found.high
    assert min(values) <= found.value <= max(values)


def test_the_interval_holds_the_true_percentile_about_as_often_as_it_says() -> None:
    """Of uniform samples, whose percentiles are known."""
    rng = random.Random(0)
    hits = 0
    for _ in range(400):
        found = spread(pl.Series([rng.random() for _ in range(200)]), 0.25)
        assert found is not None
        hits += found.low <= 0.25 <= found.high
    assert hits >= 0.93 * 400


def test_published_tiers_are_data_with_their_source() -> None:
    """Both tables of one model, and the other model's; one's own are told apart."""
    assert [t.name for t in find_tiers("deepseek-v4-pro")] == ["20/10", "60/5", "180/3"]
    assert [t.name for t in find_tiers("deepseek-v4-pro-launch")] == ["30/10", "100/5", "300/3"]
    assert len(find_tiers("gpt-oss-120b")) == 4
    assert all("AA-AgentPerf" in t.source for t in find_tiers("gpt-oss-120b"))
    assert find_tiers("12.5/3")[0] == Tier("12.5/3", 12.5, 3.0, "the user")
    for wrong in ("fast", "10/0", "10", ""):
        with pytest.raises(UsageError, match="unknown service level"):
            find_tiers(wrong)


def test_less_than_the_procedure_is_said() -> None:
    """The published procedure is the default, and nothing else goes without a word."""
    assert Procedure().reduced() == ()
    short = Procedure(window_s=60, trajectories=5).reduced()
    assert short == ("5 trajectories instead of 30", "60 s of steady state instead of 600")


def test_a_plan_repeats_itself_and_says_that_it_is_one(sample: Dataset, tmp_path) -> None:
    """Virtual time: the same twice; the page and the JSON hold the result and its limits."""
    load = LoadOptions(prefix="aa", tool_time="baseline")
    tiers = find_tiers("60/5,20/10")
    one, other = (plan(sample, shipped()["demo"], load, tiers, SHORT) for _ in range(2))
    assert [t.agents for t in one.tiers] == [t.agents for t in other.tiers]
    assert one.phases == other.phases
    assert 0 < one.tiers[0].agents < one.tiers[1].agents
    assert one.simulated
    assert one.tiers[0].agents_per_accelerator == one.tiers[0].agents
    one.write(tmp_path / "c.json")
    one.write(tmp_path / "c.html")
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["tiers"][0]["agents"] == one.tiers[0].agents
    text = (tmp_path / "c.html").read_text()
    assert "not a measurement" in text
    assert "Reduced" in text
    assert "<svg" in text


def _crowded(most: int) -> tuple[web.Application, Callable[[], int]]:
    """An engine that answers at most so many requests at once, and refuses the others."""
    engine, now, peak = mock_engine.Engine(), [0], [0]

    async def chat(request: web.Request) -> web.StreamResponse:
        now[0] += 1
        peak[0] = max(peak[0], now[0])
        try:
            if now[0] > most:
                await asyncio.sleep(0.02)
                return web.json_response({"error": "full"}, status=503)
            return await engine.chat(request)
        finally:
            now[0] -= 1

    app = web.Application(client_max_size=1 << 30)
    app.router.add_post("/v1/chat/completions", chat)
    return app, lambda: peak[0]


def test_a_real_engine_of_known_capacity_is_found(sample: Dataset, monkeypatch) -> None:
    """Over HTTP: an engine that refuses what goes beyond three requests at once carries three
    agents that never pause."""
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0)
    monkeypatch.setattr("traj.replay.health.MAX_LATE_US", 10**9)  # whatever else this machine does
    monkeypatch.setattr("traj.replay.health.MAX_CPU_SHARE", 10**9)
    app, peak = _crowded(3)
    served = Served(app)
    load = LoadOptions(prefix="aa", tool_time="none", user_time="none", sample=3)
    procedure = Procedure(
        window_s=1.5, settle_s=0.2, trajectories=1, per_agent=0, confirmations=0, failures=0.0
    )
    heard: list[Phase] = []
    try:
        found = measure(
            sample,
            ReplayOptions(served.url, "m", load=load),
            find_tiers("1/30"),
            procedure,
            accelerators=2,
            power_w=500.0,
            said=heard.append,
        )
    finally:
        served.stop()
    assert isinstance(found, Capacity)
    (tier,) = found.tiers
    assert tier.agents == 3
    assert tier.agents_per_accelerator == 1.5
    assert tier.agents_per_megawatt == 6000
    assert "requests failed" in (tier.missed or "")
    assert [phase.agents for phase in heard] == [2, 4, 3]
    assert peak() == 4


def test_a_phase_that_the_client_bound_is_shown_and_passes_nothing(
    sample: Dataset, monkeypatch
) -> None:
    """An engine that meets the tier, behind a harness with no time left: each phase says so, and
    no capacity comes of it."""
    monkeypatch.setattr(mock_engine, "PER_TOKEN_S", 0)
    monkeypatch.setattr("traj.replay.health.MAX_CPU_SHARE", -1.0)
    served = Served(mock_engine.Engine().app())
    load = LoadOptions(prefix="aa", tool_time="none", user_time="none", sample=1)
    procedure = Procedure(
        start=1, window_s=0.3, settle_s=0.1, trajectories=1, per_agent=0, confirmations=0
    )
    heard: list[Phase] = []
    said = io.StringIO()
    try:
        found = measure(
            sample,
            ReplayOptions(served.url, "m", load=load),
            find_tiers("1/30"),
            procedure,
            said=lambda phase: (heard.append(phase), phase_line(said)(phase))[0],
        )
    finally:
        served.stop()
    (tier,) = found.tiers
    assert not tier.agents
    assert "nothing can be said" in (tier.missed or "")
    assert heard
    assert all(any("a client process used" in why for why in one.trouble) for one in heard)
    assert all("a client process used" in line for line in said.getvalue().splitlines())


def test_phases_without_prefixes_are_refused(sample: Dataset) -> None:
    """They would find what earlier ones left in the cache."""
    with pytest.raises(UsageError, match="--prefix"):
        measure(sample, ReplayOptions("http://x", "m"), find_tiers("1/30"), SHORT)
