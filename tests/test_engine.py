"""The simulated engine: its batching and cache against naive ones, agents in virtual time."""

from __future__ import annotations

from itertools import count, cycle

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from naive_engine import NaiveEngine
from traj.engine.cache import PrefixCache
from traj.engine.forward import simulate
from traj.engine.known import known
from traj.engine.parameters import PS_PER_US, Parameters, open_parameters, shipped
from traj.engine.request import Progress, Request
from traj.engine.scheduler import Engine
from traj.engine.series import Series
from traj.errors import UsageError

PLAIN = Parameters(
    name="plain",
    source="of a test",
    model=True,
    max_context=10**6,
    block_tokens=4,
    kv_blocks=1_000,
    max_batch=8,
    max_batched_tokens=64,
    step_us=100,
)


def over(parameters: Parameters, **values: object) -> Parameters:
    return msgspec.structs.replace(parameters, **values)


class Chains:
    """Block ids of prompts that are given as tokens."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.known: dict[tuple[int, ...], int] = {}

    def ids(self, tokens: list[int]) -> list[int]:
        fronts = (tuple(tokens[:stop]) for stop in range(self.size, len(tokens) + 1, self.size))
        return [self.known.setdefault(front, len(self.known)) for front in fronts]

    def request(self, prompt: list[int], answer: list[int], *, comes_back: bool) -> Request:
        ids, whole = self.ids(prompt + answer), len(prompt) // self.size
        output = ids[whole:] if comes_back else None
        return Request(len(prompt), len(answer), ids[:whole], output)


@st.composite
def loads(draw: st.DrawFn, blocks: st.SearchStrategy[int]) -> tuple[Parameters, list]:
    """A small engine, and requests with their arrivals whose prompts go on from earlier ones."""
    size, kv_blocks = draw(st.integers(1, 5)), draw(blocks)
    parameters = over(
        PLAIN,
        block_tokens=size,
        kv_blocks=kv_blocks,
        max_batch=draw(st.integers(1, 6)),
        max_batched_tokens=draw(st.integers(6, 40)),
        # Picoseconds: arrivals shall fall into and between steps.
        step_us=draw(st.integers(1, 300)) / PS_PER_US,
        sequence_us=draw(st.integers(0, 9)) / PS_PER_US,
        prefill_us=draw(st.integers(0, 9)) / PS_PER_US,
        context_ns=draw(st.integers(0, 3)) / 1_000,
        pair_ps=draw(st.integers(0, 2)),
    )
    chains, room = Chains(size), size * kv_blocks
    texts: list[list[int]] = [[]]
    requests, at = [], 0
    for number in range(draw(st.integers(1, 14))):
        at += draw(st.sampled_from([0, 0, 1, 50, 500, 3_000]))
        base = draw(st.sampled_from(texts))
        kept = base[: draw(st.integers(0, len(base)))] if draw(st.booleans()) else base
        prompt = (kept + draw(st.lists(st.integers(0, 1), max_size=12)))[: room - 1] or [0]
        answer = [9 + number] * draw(st.integers(1, min(40, room + 1 - len(prompt))))
        comes_back = draw(st.booleans())
        requests.append((at, chains.request(prompt, answer, comes_back=comes_back)))
        texts.append(prompt + (answer if comes_back else []))
    return parameters, requests


def run(parameters: Parameters, requests: list, most: int | None = None) -> list[Progress]:
    """Has an engine work, and holds it to its books at every step."""
    engine, found = Engine(parameters), [Progress(request) for _, request in requests]
    coming = [(at, progress) for (at, _), progress in zip(requests, found, strict=True)]
    done: list[Progress] = []
    while coming or engine.running or engine.waiting:
        times = [engine.ends_ps] if engine.ends_ps is not None else []
        now = min(times + [at for at, _ in coming[:1]])
        if engine.ends_ps == now:
            done += engine.complete()
            assert 0 <= engine.cache.idle <= engine.cache.blocks
            assert 0 <= engine.used_blocks <= engine.held_blocks <= parameters.kv_blocks
            assert len(engine.running) <= parameters.max_batch
        while coming and coming[0][0] <= now:
            at, progress = coming.pop(0)
            engine.submit(progress, at)
        if engine.ends_ps is None:
            engine.begin(now, most)
    assert engine.used_blocks == 0
    assert engine.cache.blocks == sum(stretches(engine.cache))
    assert len(done) == len(found)
    assert set(done) == set(found)
    assert all(one.generated == one.request.output_tokens for one in found)
    return found


def stretches(cache: PrefixCache) -> list[int]:
    """Lengths of all that a cache holds, none of it in use."""
    found, todo = [], list(cache.root.branches.values())
    while todo:
        stretch = todo.pop()
        assert stretch.locks == 0
        found.append(stretch.length)
        todo += stretch.branches.values()
    return found


def outcome(one: Progress) -> tuple[int | None, ...]:
    times = (one.admitted_ps, one.first_ps, one.last_ps)
    return (*times, one.cached_tokens, one.preemptions)


@settings(max_examples=300, deadline=None)
@given(loads(st.integers(8, 60)))
def test_an_engine_does_what_a_naive_one_does(load):
    """To the picosecond, however many steps are taken at once, and no block is lost or made up."""
    parameters, requests = load
    naive = NaiveEngine(parameters).run(requests)
    wanted = [(one.admitted, one.first, one.last, one.cached, one.preempted) for one in naive]
    for most in (None, 1, 3):
        assert [outcome(one) for one in run(parameters, requests, most)] == wanted


@settings(max_examples=150, deadline=None)
@given(loads(st.just(5_000)))
def test_a_cache_without_end_finds_what_earlier_prompts_began_with(load):
    """One request after the other: cached is what the longest common front has in whole blocks."""
    parameters, requests = load
    size = parameters.block_tokens
    apart = [(number * 10**9, request) for number, (_, request) in enumerate(requests)]
    seen: set[int] = set()
    for one in run(parameters, apart):
        blocks = list(one.request.blocks)[: (one.request.input_tokens - 1) // size]
        common = next((at for at, block in enumerate(blocks) if block not in seen), len(blocks))
        assert one.cached_tokens == common * size
        whole = (one.request.input_tokens + one.request.output_tokens - 1) // size
        seen.update([*one.request.blocks, *(one.request.output_blocks or ())][:whole])


@given(st.integers(1, 10**13), st.one_of(st.just(0), st.integers(1, 10**9)), st.integers(0, 10**16))
def test_a_series_ends_with_the_first_step_that_reaches_a_time(first, growth, wanted):
    """The inverse of an arithmetic series, in whole numbers of any size."""
    series = Series(first, min(growth, first))
    found = series.until(wanted)
    assert series.span_ps(found) >= wanted
    assert found == 1 or series.span_ps(found - 1) < wanted


def test_what_was_used_least_recently_goes_first_and_from_its_end():
    """Three conversations where two have room: the middle one was silent longest."""
    cache = PrefixCache()
    ids = {name: list(range(start, start + 4)) for name, start in (("a", 10), ("b", 20))}
    for name in ("a", "b", "a"):
        held = cache.hold(cache.find(ids[name], 4))
        start = cache.find(ids[name], 4).blocks
        cache.release(cache.add(held, ids[name], start, 4))
    assert (cache.blocks, cache.idle) == (8, 8)
    cache.evict(3)
    assert cache.find(ids["b"], 4).blocks == 1
    assert cache.find(ids["a"], 4).blocks == 4
    cache.evict(2)
    assert cache.find(ids["b"], 4).blocks == 0
    assert cache.find(ids["a"], 4).blocks == 3


def test_what_is_in_use_does_not_go():
    """A held front stays while what branches off behind it goes."""
    cache = PrefixCache()
    first = cache.add(cache.hold(cache.find([], 0)), [1, 2, 3, 4], 0, 4)
    cache.release(first)
    held = cache.hold(cache.find([1, 2, 7], 3))
    assert (cache.blocks, cache.idle) == (4, 2)
    cache.evict(2)
    assert cache.find([1, 2, 3], 3).blocks == 2
    cache.release(held)
    assert (cache.blocks, cache.idle) == (2, 2)


def test_a_full_cache_costs_the_oldest_conversation_its_prompt():
    """Through the engine: the third conversation takes the blocks of the first."""
    parameters = over(PLAIN, kv_blocks=22)  # a conversation has 11

    def talk(*order: int) -> list[int | None]:
        prompts = (
            (number, Request(41, 4, range(number * 100, number * 100 + 10))) for number in order
        )
        requests = [(at * 10**9, one) for at, (_, one) in enumerate(prompts)]
        return [one.cached_tokens for one in run(parameters, requests)]

    assert talk(1, 2, 1, 2) == [0, 0, 40, 40]
    assert talk(1, 2, 3, 2, 1) == [0, 0, 0, 40, 0]


@pytest.mark.parametrize("seed", range(50))
def test_known_engines_are_as_fast_as_they_say(seed):
    """All requests in virtual time: TTFT and speed to the microsecond, and so the capacity."""
    engine = known(seed)
    for agents in (1, 2, 13):
        found = simulate(engine.parameters, engine.agents(agents), until_us=8_000_000)
        assert len(found) > agents
        assert set(found.ttft_us()) == {engine.step_us(agents)}
        assert {round(speed, 9) for speed in found.speed()} == {round(engine.speed(agents), 9)}
        assert engine.capacity(engine.speed(agents), 9e9) == agents
        assert engine.capacity(1e-9, engine.ttft_s(agents)) == agents
        assert engine.capacity(engine.speed(agents) * (1 + 1e-9), 9e9) == agents - 1


def test_agents_wait_for_what_they_wait_for_and_for_their_delays():
    """Two sub-agents beside each other, joined by a third request; then the next trajectory."""
    step = 100
    first = [
        Request(3, 2),
        Request(3, 5, delay_us=7, waits=(0,)),
        Request(3, 3, delay_us=1_000, waits=(0,)),
        Request(3, 1, delay_us=20, waits=(1, 2)),
    ]
    found = simulate(PLAIN, [iter([first, [Request(3, 1, delay_us=50)]])], starts_us=[1_000])
    order = list(zip(found.trajectory, found.request, strict=True))
    assert order == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0)]
    ends = found.last_us
    assert found.send_us[0] == 1_000
    assert ends[0] == 1_000 + 2 * step
    assert found.send_us[1] == ends[0] + 7
    assert found.send_us[2] == ends[0] + 1_000
    assert found.send_us[3] == max(ends[1], ends[2]) + 20
    assert found.send_us[4] == ends[3] + 50
    assert list(found.output_tokens) == [2, 5, 3, 1, 1]


def test_the_way_to_the_engine_and_back_counts():
    """Both are in the client's times, and the agent goes on when the answer has arrived."""
    parameters = over(PLAIN, arrive_us=30, reply_us=4)
    found = simulate(parameters, [iter([[Request(3, 2), Request(3, 1)]])])
    assert list(found.send_us) == [0, 234]
    assert list(found.admitted_us) == [30, 264]
    assert list(found.first_us) == [134, 368]
    assert list(found.last_us) == [234, 368]


def test_agents_draw_from_one_source_in_the_order_in_which_they_need_it():
    """A common iterator: who is done first takes the next trajectory."""
    lengths = iter([50, 5, 5, 5])
    source = ([Request(3, length)] for length in lengths)
    found = simulate(PLAIN, [source, source])
    assert list(zip(found.agent, found.output_tokens, strict=True)) == [
        *[(1, 5)] * 3,
        (0, 50),
    ]


def test_what_cannot_be_served_is_listed_and_the_agent_goes_on():
    """A prompt beyond the context, one beyond the cache, and what waits for them."""
    parameters = over(PLAIN, max_context=5_000)
    script = [Request(6_000, 1), Request(4_500, 1, delay_us=9), Request(3, 1, delay_us=9)]
    found = simulate(parameters, [iter([script])])
    assert [one.error for one in found.unanswered] == [
        "6001 tokens are more than the context of 5000",
        "4501 tokens are more than the cache of 1000 blocks holds",
    ]
    assert list(found.request) == [2]
    assert PLAIN.refusal(3_990, 11) is None  # of the last token nothing is kept
    assert PLAIN.refusal(3_990, 12) is not None
    endless = simulate(parameters, [cycle([script[:1]])], until_us=500)
    assert len(endless) == 0
    assert len(endless.unanswered) > 400


def test_until_lists_what_was_under_way():
    """Nothing is taken for answered that was not, and nothing goes missing."""
    agents = [cycle([[Request(5, 7)]]) for _ in range(20)]
    found = simulate(over(PLAIN, max_batch=3), agents, until_us=5_050)
    assert found.end_us == 5_050
    assert max(found.last_us) <= 5_050
    assert len(found.unanswered) == 20
    assert {one.error for one in found.unanswered} == {None}


def test_a_conversation_stays_with_its_replica():
    """Replicas share nothing: a second turn finds its first one's blocks, and load is even."""
    parameters = over(PLAIN, replicas=3)

    def trajectory(number: int) -> list[Request]:
        ids = range(number * 1_000, number * 1_000 + 500)
        return [
            Request(400 + 40 * turn, 5, ids[: 100 + 10 * turn], delay_us=number * 211 * turn % 997)
            for turn in range(4)
        ]

    agents = [iter([trajectory(number)]) for number in range(9)]
    found = simulate(parameters, agents)
    homes = {(agent, replica) for agent, replica in zip(found.agent, found.replica, strict=True)}
    assert len(homes) == 9
    assert [[replica for _, replica in homes].count(number) for number in range(3)] == [3] * 3
    cached = [
        tokens for tokens, turn in zip(found.cached_tokens, found.request, strict=True) if turn
    ]
    assert min(cached) >= 396


def test_the_same_load_gives_the_same_columns_with_or_without_replicas():
    """Nothing depends on chance; the table has every integer column."""
    engine = known(7)

    def columns(replicas: int) -> list[int]:
        parameters = over(engine.parameters, replicas=replicas)
        return simulate(parameters, engine.agents(9, trajectories=3)).table().to_pylist()

    assert columns(1) == columns(1)
    assert columns(4) == columns(4) != columns(1)
    assert columns(1)[0].keys() >= {"agent", "send_us", "first_us", "last_us", "cached_tokens"}
    assert sum(row["output_tokens"] for row in columns(1)) == sum(
        request.output_tokens
        for agent in engine.agents(9, trajectories=3)
        for trajectory in agent
        for request in trajectory
    )


def test_agents_are_asked_for_no_more_than_they_need():
    """An endless agent's iterator is drawn from as virtual time goes on."""
    drawn = count()
    agent = ([Request(5, 5, delay_us=next(drawn) and 0)] for _ in count())
    found = simulate(PLAIN, [agent], until_us=10_000)
    assert next(drawn) == len(found) + 1


def test_shipped_engines_are_marked_as_models_and_say_where_they_come_from():
    """Each is called as its file, and serves a request as long as its context."""
    engines = shipped()
    assert "demo" in engines
    for name, engine in engines.items():
        assert engine.name == name
        assert engine.model
        assert "model" in engine.source or "made up" in engine.source
        assert engine.power_w
        assert engine.accelerators % engine.replicas == 0
        assert engine.refusal(engine.max_context - 1, 1) is None


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("", None),
        ("speed = 3", "unknown field `speed`"),
        ("max_batch = 0", "at `$.max_batch`"),
        ("step_us = -1", "at `$.step_us`"),
        ("max_batched_tokens = 3", "max_batched_tokens must be at least max_batch"),
        ("max_batch = ", "Invalid value"),
    ],
)
def test_a_parameter_file_is_read_or_refused_in_a_line(tmp_path, change, said):
    """What is wrong, and where."""
    values = {
        "name": '"mine"', "source": '"measured"', "model": "false", "max_context": "100",
        "block_tokens": "4", "kv_blocks": "10", "max_batch": "4", "max_batched_tokens": "9",
        "step_us": "5",
    }  # fmt: skip
    name, _, value = change.partition(" = ")
    values |= {name: value} if change else {}
    file = tmp_path / "mine.toml"
    file.write_text("\n".join(f"{name} = {value}" for name, value in values.items()))
    if said is None:
        assert open_parameters(str(file)).step_us == 5
        return
    with pytest.raises(UsageError, match=r"mine\.toml: no parameters of an engine") as caught:
        open_parameters(str(file))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_an_unknown_engine_is_told_which_there_are():
    """By name, or by a file that is not there."""
    with pytest.raises(UsageError, match=r"or one of .*h100-8b"):
        open_parameters("h1000")
    with pytest.raises(UsageError, match="No such file"):
        open_parameters("nowhere.toml")


def test_aborted_requests_leave_nothing_behind():
    """Running or waiting, they are gone with the next step, and others take their place."""
    engine = Engine(over(PLAIN, max_batch=2))
    requests = [Progress(Request(9, 50, [number])) for number in range(4)]
    for request in requests:
        engine.submit(request, 0)
    engine.begin(0, most=1)
    engine.complete()
    assert list(engine.running) == requests[:2]
    for number in (0, 2):
        engine.abort(requests[number])
    engine.begin(10**9)
    assert list(engine.running) == [requests[1], requests[3]]
    while engine.ends_ps is not None:
        now = engine.ends_ps
        engine.complete()
        engine.begin(now)
    assert engine.used_blocks == 0
    assert [one.last_ps is None for one in requests] == [True, False, True, False]


@pytest.mark.parametrize("prompt", [3, 4, 5, 6, 7])
def test_who_came_last_makes_room_and_comes_back(prompt):
    """Four answers outgrow the cache: preempted ones find what is left of their own blocks."""
    parameters, chains = over(PLAIN, block_tokens=2, kv_blocks=16), Chains(2)
    requests = [
        (place, chains.request([1] * prompt, [2 + place] * 12, comes_back=False))
        for place in range(4)
    ]
    found = run(parameters, requests)
    assert found[0].preemptions == 0
    assert found[3].preemptions > 0
    assert found[3].cached_tokens == (prompt - 1) // 2 * 2
    naive = NaiveEngine(parameters).run(requests)
    assert [one.last_ps for one in found] == [one.last for one in naive]
