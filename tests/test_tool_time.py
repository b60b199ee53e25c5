"""Tool time: what a replay waits under each policy, and what the report says of it."""

from __future__ import annotations

from itertools import combinations, pairwise
from math import exp, log
from statistics import NormalDist, median

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import rows
from traj import schema
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.workload.schedule import Schedule
from traj.workload.tool_time import TURNS, Calls, Parts, profiles, tool_time
from traj.workload.tool_time.baseline import factor
from traj.workload.tool_time.calls import critical_path_us, union_us
from traj.workload.turns import Columns

ONE, TWO = rows.trajectory_id("one"), rows.trajectory_id("two")
SECOND = 1_000_000


class InMemory:
    """As much of a dataset as tool time reads, without files."""

    def __init__(self, tables: rows.Tables) -> None:
        self.rows = tables

    def table(self, name: str, columns: list[str]) -> pa.Table:
        found = sorted(self.rows[name], key=lambda row: row["trajectory_id"])
        return pa.Table.from_pylist(found, schema=schema.arrow(name)).select(columns)

    def of(self, name: str, trajectory_id: str) -> pa.Table:
        found = [row for row in self.rows[name] if row["trajectory_id"] == trajectory_id]
        return pa.Table.from_pylist(found, schema=schema.arrow(name))

    def ids(self) -> list[str]:
        return sorted({row["trajectory_id"] for row in self.rows["turns"]})


def delays(tables: rows.Tables, policy: str, **over) -> dict[str, list[int | None]]:
    """What each trajectory's turns wait."""
    return ask(InMemory(tables), policy, **over)[0]


def ask(dataset: InMemory, policy: str, order: list[str] | None = None, **over):
    times = tool_time(policy, dataset, **over)
    found = {}
    for one in order or dataset.ids():
        turns = Columns(dataset.of("turns", one), TURNS)
        found[one] = times.delays_us(one, turns, Calls.of(dataset.of("tool_calls", one)))
    return found, times.report()


def lane_of(calls: list[dict], beside: dict | None = None, **turn) -> rows.Tables:
    """A lane of two turns: the second waits for the calls, which are given with times from the
    first turn's end at 10 s. It starts at 100 s; `turn` overrides it. `beside` is a turn of another
    lane, numbered between the two, that it waits for as well."""
    turns = [rows.turn("one", 0, 0, 10 * SECOND, output=1)]
    if beside is not None:
        turns.append(rows.turn("one", 1, None, None, lane=1, output=2) | beside)
    waits = list(range(len(turns)))
    last = rows.turn("one", len(turns), 100 * SECOND, 110 * SECOND, wait_for=waits, output=3)
    turns.append(last | turn)
    for row in turns:
        row["delay_us"] = rows._delay(row, turns)
    found = []
    for number, call in enumerate(calls):
        times = {name: 10 * SECOND + call[name] for name in ("start_us", "end_us") if name in call}
        found.append(rows.tool_call("one", number, 0, "tool") | call | times)
    return {"turns": turns, "tool_calls": found}


def many(seconds: dict[str, list[float]], session: str = "one") -> rows.Tables:
    """Calls of known durations by category, each in a turn of its own."""
    tables: rows.Tables = {"turns": [], "tool_calls": []}
    number = 0
    for category, durations in seconds.items():
        for duration in durations:
            end = round(duration * SECOND)
            over = {"category": category, "start_us": 0, "end_us": end}
            tables["tool_calls"].append(rows.tool_call(session, number, number, "tool", **over))
            number += 1
    for turn in range(number + 1):
        waits = [turn - 1] if turn else []
        tables["turns"].append(rows.turn(session, turn, None, None, wait_for=waits, output=turn))
    return tables


# Policies.


def test_recorded_is_the_record():
    """Under `recorded` every delay is the recorded one; unknown stays unknown."""
    tables = rows.small()
    tables["turns"][4]["delay_us"] = None
    found = delays(tables, "recorded")
    for one in (ONE, TWO):
        own = [row["delay_us"] for row in tables["turns"] if row["trajectory_id"] == one]
        assert found[one] == own
    assert found[ONE][4] is None


@pytest.mark.parametrize(
    ("policy", "user_time", "expected"),
    [
        ("recorded", None, 10 + 40 + 5),
        ("recorded", "none", 10 + 5),
        ("recorded", "cap:30", 10 + 30 + 5),
        ("recorded", "cap:50", 10 + 40 + 5),
        ("scaled:2", None, 20 + 10),
        ("scaled:2", "recorded", 20 + 40 + 10),
        ("scaled:0.5", "cap:1.5", 5 + 1.5 + 2.5),
        ("scaled:0", None, 0),
        ("none", None, 0),
        ("none", "recorded", 40),
        ("none", "cap:3", 3),
    ],
)
def test_each_part_of_a_delay_has_its_own_rule(policy, user_time, expected):
    """Tools and the agent's own time follow the policy, a person's time the user time."""
    times = {"tool_us": 10 * SECOND, "user_us": 40 * SECOND, "start_us": 65 * SECOND}
    found = delays(lane_of([{}], **times), policy, user_time=user_time)
    assert found[ONE] == [0, expected * SECOND]


def test_unknown_delays():
    """Unknown stays unknown where the record is followed; elsewhere what can be is worked out."""
    tables = lane_of([{"category": "read"}], start_us=None)
    assert delays(tables, "recorded")[ONE] == [0, None]
    assert delays(tables, "scaled:2")[ONE] == [0, None]
    assert delays(tables, "none", user_time="recorded")[ONE] == [0, 0]
    assert delays(tables, "baseline")[ONE] == [0, SECOND]


def test_questions_permission_and_refusals_are_a_persons_time():
    """The record's tool part holds them; a cap on people's time takes them away all the same."""
    asked = {"category": "ask_user", "start_us": 0, "end_us": 50 * SECOND}
    ran = {"category": "test", "start_us": 40 * SECOND, "end_us": 60 * SECOND}
    ran["permission_us"] = 15 * SECOND
    refused = {"status": "rejected", "start_us": 60 * SECOND, "end_us": 70 * SECOND}
    tables = lane_of([asked, ran, refused], tool_us=70 * SECOND, user_us=5 * SECOND)
    assert delays(tables, "recorded")[ONE][1] == 90 * SECOND
    report = ask(InMemory(tables), "scaled:1", user_time="recorded")[1]
    assert report.recorded == report.sent == Parts(tool_s=5, user_s=70, rest_s=15)
    assert delays(tables, "recorded", user_time="none")[ONE][1] == 20 * SECOND


# Which calls a turn waits for, under baseline.


def test_who_waits_for_tools_in_the_small_dataset():
    """Only turns whose lane's turn before asked for tools that no sub-agent's time covers."""
    found, report = ask(InMemory(rows.small()), "baseline")
    waiting = {one: {turn for turn, us in enumerate(found[one]) if us} for one in found}
    # Not: joins of sub-agents (6, then 4 in two), retries of them (7), or what follows a side lane
    # that began when the tools were done (9).
    assert waiting == {ONE: {2, 5, 10}, TWO: {3}}
    assert report.dataset_median_s == 1
    assert report.calls == 6


def test_a_failed_attempt_and_its_retry_wait_for_the_tools_once():
    """The tools ran before the failed attempt; the schedule adds its delay to the retry's."""
    tables = lane_of([{"category": "read"}], output=None, status="error")
    retry = rows.turn("one", 2, 120 * SECOND, 130 * SECOND, wait_for=[1], output=3, attempt=1)
    tables["turns"].append(retry)
    found = delays(tables, "baseline")[ONE]
    assert found == [0, SECOND, 0]
    columns = Columns(InMemory(tables).of("turns", ONE), Schedule.COLUMNS)
    assert Schedule(columns, delays_us=found).delay_us(2) == SECOND


@pytest.mark.parametrize(("end_s", "counts"), [(20, False), (30, False), (31, True), (None, False)])
def test_tools_beside_a_sub_agent_had_their_time(end_s, counts):
    """A turn that brings a report waits from the sub-agent's end, 30 s after its own lane's turn:
    for what was still at work then."""
    call = {"category": "test"}
    if end_s is not None:
        call |= {"start_us": 0, "end_us": end_s * SECOND}
    calls = [call, {"category": "agent", "spawned_lane": 1}]
    beside = {"start_us": 11 * SECOND, "end_us": 40 * SECOND, "wait_for": [0]}
    assert delays(lane_of(calls, beside), "baseline")[ONE] == [0, 0, SECOND if counts else 0]


def test_where_a_sub_agents_end_is_unknown_tools_had_their_time_beside_it():
    """The times of the calls say nothing then; nor do they where the lane's own end is unknown."""
    calls = [{"category": "test", "start_us": 0, "end_us": SECOND}]
    tables = lane_of(calls, {"start_us": SECOND, "wait_for": [0]})
    assert delays(tables, "baseline")[ONE] == [0, 0, 0]
    tables["turns"][1]["end_us"], tables["turns"][0]["end_us"] = 2 * SECOND, None
    assert delays(tables, "baseline")[ONE] == [0, 0, 0]


def test_a_report_that_came_before_the_answer_ended_changes_nothing():
    """A sub-agent that ended before the turn before in the lane leaves that turn's tools to wait
    for."""
    calls = [{"category": "test", "start_us": 0, "end_us": SECOND}]
    found = delays(lane_of(calls, {"start_us": SECOND, "end_us": 9 * SECOND}), "baseline")
    assert found[ONE] == [0, 0, SECOND]


@pytest.mark.parametrize(
    "call",
    [
        {"category": "ask_user"},
        {"category": "agent"},
        {"category": "execute", "spawned_lane": 1},
        {"category": "edit", "status": "rejected"},
    ],
)
def test_what_no_tool_did_takes_no_tool_time(call):
    """Sub-agents, questions to a person and refused calls have no duration, and no fit."""
    times = {"start_us": 0, "end_us": 7 * SECOND}
    found, report = ask(InMemory(lane_of([call | times])), "baseline")
    assert found[ONE] == [0, 0]
    assert report.calls == report.recorded_calls == 0
    assert report.dataset_median_s is None
    assert sum(fit.calls for fit in report.profile) == 0


def test_calls_in_a_row_add_up_and_calls_side_by_side_do_not():
    """By their order in the record after the answer was complete; those that ran while it came in,
    and those of unknown times, are side by side."""
    row = [{"start_us": n * SECOND + 1, "end_us": (n + 1) * SECOND} for n in range(3)]
    beside = [{"start_us": 1, "end_us": SECOND} for _ in range(3)]
    early = [{"start_us": -(n + 1) * SECOND, "end_us": -n * SECOND} for n in range(3)]
    unknown = [{} for _ in range(3)]
    found, seeds = {}, [str(seed) for seed in range(20)]
    for name, calls in {"row": row, "beside": beside, "early": early, "unknown": unknown}.items():
        tables = lane_of([dict(call, category="read") for call in calls])
        found[name] = [delays(tables, "baseline", seed=seed)[ONE][1] for seed in seeds]
    assert found["beside"] == found["early"] == found["unknown"]
    assert all(a > b for a, b in zip(found["row"], found["beside"], strict=True))


TIMES = st.one_of(st.none(), st.integers(0, 12))


@given(
    st.lists(st.tuples(TIMES, st.integers(0, 4), st.integers(1, 100)), max_size=7),
    st.integers(0, 6),
)
def test_critical_path_is_the_longest_chain(found, since):
    """Against every subset of the calls that follow one another."""
    calls = [(start, None if start is None else start + more, us) for start, more, us in found]

    def follows(later, earlier):
        if None in (later[0], earlier[0]):
            return False
        after = later[0] > since and earlier[1] > since
        return after and later[0] >= earlier[1] and later[0] > earlier[0]

    longest = 0
    for size in range(1, len(calls) + 1):
        for chosen in combinations(sorted(calls, key=lambda one: one[0] or 0), size):
            if all(follows(later, earlier) for earlier, later in pairwise(chosen)):
                longest = max(longest, sum(one[2] for one in chosen))
    assert critical_path_us(calls, since) == longest


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 30))), st.integers(0, 15))
def test_union_counts_each_moment_once(spans, start):
    """Against the set of moments."""
    stop = start + 10
    covered = {moment for a, b in spans for moment in range(max(a, start), min(b, stop))}
    assert union_us([*spans, None, (None, 3)], start, stop) == len(covered)


# The baseline's durations.

SECONDS = st.floats(0.001, 1e5)


@given(st.lists(SECONDS, min_size=1, max_size=60))
def test_the_factor_gives_a_median_of_one_second(seconds):
    """Also where clipping raises the lower one of an even number's middle two."""
    scaled = [min(max(one * factor(seconds), 0.1), 5.0) for one in seconds]
    assert median(scaled) == pytest.approx(1.0, rel=1e-5)


WORK = st.dictionaries(
    st.sampled_from(profiles.categories()), st.lists(SECONDS, min_size=1, max_size=40), min_size=1
)


@given(WORK, st.integers(0, 3))
def test_baseline_has_a_median_of_one_second_within_its_bounds(seconds, seed):
    """For any record: the median over all calls is 1.0 s after clipping, to the millisecond."""
    found, report = ask(InMemory(many(seconds)), "baseline", seed=str(seed))
    every = found[ONE][1:]
    assert all(SECOND // 10 <= us <= 5 * SECOND and us % 1000 == 0 for us in every)
    assert median(every) == pytest.approx(SECOND, abs=1000)
    assert report.median_s == report.dataset_median_s == median(every) / SECOND
    assert report.calls == len(every) == sum(fit.calls for fit in report.profile)
    assert report.sent == Parts(tool_s=sum(every) / SECOND)
    assert report.clipped_low <= sum(us == SECOND // 10 for us in every)
    assert report.clipped_high <= sum(us == 5 * SECOND for us in every)


def wide() -> rows.Tables:
    """Two trajectories with the same calls of several categories."""
    seconds = {name: [0.5, 2.0] * 15 for name in ("read", "test", "vcs")}
    one, two = many(seconds), many(seconds, "two")
    return {name: one[name] + two[name] for name in one}


def test_a_seed_is_the_same_everywhere_and_another_is_another():
    """Draws hang on seed, trajectory and call alone: not on the order of work, nor on what else is
    asked for."""
    dataset = InMemory(wide())
    first = ask(dataset, "baseline", seed="7")[0]
    assert ask(dataset, "baseline", seed="7")[0] == first
    assert ask(dataset, "baseline", order=dataset.ids()[::-1], seed="7")[0] == first
    assert ask(dataset, "baseline", order=[ONE], seed="7")[0][ONE] == first[ONE]
    assert first[ONE] != first[TWO]
    assert ask(dataset, "baseline", seed="8")[0] != first


@pytest.fixture
def narrow(tmp_path):
    """The policy of a profile in which no call is clipped."""
    shape = profiles.Profile("narrow", "x", "2026-11-22", {"read": profiles.Shape(1, 0.3)})
    profiles.write(shape, tmp_path / "narrow.toml")
    return f"baseline:{tmp_path / 'narrow.toml'}"


def test_draws_do_not_change_between_systems_or_versions(narrow):
    """The durations of a known case, as they came out when this was written."""
    found = delays(many({"read": [1.0] * 7}), narrow, seed="golden")
    assert [us // 1000 for us in found[ONE]] == [0, 1223, 838, 1715, 1101, 875, 1000, 867]


def test_draws_have_the_distribution_that_was_asked_for(narrow):
    """Median and spread of 3,000 draws, fitted again."""
    found = delays(many({"read": [1.0] * 3000}), narrow)
    shape = profiles.fitted([us / SECOND for us in found[ONE][1:]])
    assert shape.median_s == pytest.approx(1, rel=0.001)
    assert shape.sigma == pytest.approx(0.3, rel=0.05)


def test_a_cut_trajectory_keeps_its_delays():
    """The first turns of a trajectory wait as they do in all of it; later calls are not counted."""
    dataset = InMemory(many({"read": [1.0] * 30}))
    whole = ask(dataset, "baseline")[0][ONE]
    times = tool_time("baseline", dataset)
    head = Columns(dataset.of("turns", ONE).slice(0, 11), TURNS)
    calls = Calls.of(dataset.of("tool_calls", ONE))
    assert times.delays_us(ONE, head, calls) == whole[:11]
    assert times.report().calls == times.report().recorded_calls == 11
    assert times.delays_us(ONE, head, calls) == whole[:11]
    assert times.report().calls == 11


# Fits and profiles.


def test_fitted_finds_a_lognormal_again():
    """From its quantiles; durations under a millisecond count as one."""
    draws = [NormalDist().inv_cdf((n + 0.5) / 2000) for n in range(2000)]
    shape = profiles.fitted([0.3 * exp(1.7 * draw) for draw in draws])
    assert shape.median_s == pytest.approx(0.3, rel=0.01)
    assert shape.sigma == pytest.approx(1.7, rel=0.01)
    assert profiles.fitted([0.0]) == (0.001, 0)
    assert profiles.fitted([0.0, 0.0, 0.001]) == (0.001, 0)


def test_categories_with_twenty_calls_have_their_own_fit():
    """Fewer take the default's shape, as much faster as the dataset is where both have figures."""
    default = profiles.read("default").categories
    tables = many({"read": [default["read"].median_s / 3] * 20, "test": [9.0] * 19})
    fits = {fit.category: fit for fit in ask(InMemory(tables), "baseline")[1].profile}
    assert (fits["read"].origin, fits["read"].calls, fits["read"].sigma) == ("dataset", 20, 0)
    assert (fits["test"].origin, fits["test"].calls) == ("default", 19)
    assert fits["test"].sigma == default["test"].sigma
    assert fits["test"].median_s == pytest.approx(default["test"].median_s / 3, rel=1e-4)


def test_a_fit_takes_permission_away_and_leaves_background_calls_out():
    """20 calls of 2 s after 8 s of permission are 2 s long; background calls have no end."""
    tables = many({"read": [10.0] * 20 + [500.0] * 20})
    for number, call in enumerate(tables["tool_calls"]):
        call.update({"permission_us": 8 * SECOND} if number < 20 else {"background": True})
    report = ask(InMemory(tables), "baseline")[1]
    read = next(fit for fit in report.profile if fit.category == "read")
    assert (read.median_s, read.calls, report.recorded_calls, report.calls) == (2.0, 20, 20, 40)


def test_the_shipped_profile_is_whole_and_says_where_it_is_from():
    """Every kind of work that takes tool time has figures with a source."""
    default = profiles.read("default")
    assert set(default.categories) == set(profiles.categories())
    assert not {"agent", "ask_user"} & set(profiles.categories())
    assert all(shape.source for shape in default.categories.values())
    assert default.source
    assert default.date


def test_baseline_of_a_named_profile(tmp_path):
    """Figures of a file are taken as they are, those of `default` in place of the dataset's."""
    dataset = InMemory(many({"read": [1.0] * 40}))
    default = ask(dataset, "baseline:default")[1]
    assert {fit.origin for fit in default.profile} == {"default"}
    mine = profiles.Profile("mine", "test", "2026-11-22", {"read": profiles.Shape(3, 0)})
    profiles.write(mine, tmp_path / "mine.toml")
    found, report = ask(dataset, f"baseline:{tmp_path / 'mine.toml'}")
    fits = {fit.category: fit for fit in report.profile}
    assert (fits["read"].median_s, fits["read"].origin) == (3, "mine")
    speed = 3 / profiles.read("default").categories["read"].median_s
    assert fits["web"].origin == "default"
    assert log(fits["web"].median_s / profiles.read("default").categories["web"].median_s) == (
        pytest.approx(log(speed), abs=1e-4)
    )
    assert set(found[ONE][1:]) == {SECOND}
    assert report.factor == pytest.approx(1 / 3, rel=1e-5)


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


@given(TEXT, st.dictionaries(TEXT.filter(bool), TEXT, max_size=3))
def test_profiles_are_read_as_written(tmp_path_factory, text, versions):
    """Whatever programs say of their versions."""
    path = tmp_path_factory.mktemp("profile") / "x.toml"
    profile = profiles.Profile(
        name=text,
        source=text,
        date="2026-11-22",
        categories={"read": profiles.Shape(0.5, 1.25, 3), "vcs": profiles.Shape(1e-5, 0.0)},
        hardware=profiles.Hardware(cpu=text, cores=3),
        load_before=0.5,
        versions=versions,
        tasks=(profiles.Task("read", text, 2, 0.5, 0.1), profiles.Task("vcs", text, 2, 1e-5, 0.0)),
    )
    profiles.write(profile, path)
    assert profiles.read(str(path)) == profile


# The report.


def test_what_clipping_removes_is_said():
    """One call in ten holds 91 % of tool time; at 5 s a call is not clipped."""
    seconds = [1.0] * 4 + [5.0] + [0.0] * 4 + [91.0]
    report = ask(InMemory(many({"test": seconds})), "recorded")[1]
    assert report.recorded_calls == 10
    assert report.recorded_over_5s_calls == 0.1
    assert report.recorded_over_5s_time == 0.91
    assert report.profile is None


def test_clipped_calls_are_counted():
    """With no spread within categories: reads too short by far, tests too long, the median 1 s."""
    seconds = {"read": [0.001] * 25, "edit": [0.5] * 31, "test": [60.0] * 30}
    found, report = ask(InMemory(many(seconds)), "baseline")
    assert (report.clipped_low, report.clipped_high, report.factor) == (25, 30, 2)
    assert sorted(found[ONE])[1:] == [100_000] * 25 + [SECOND] * 31 + [5 * SECOND] * 30


def test_sample_sessions_under_baseline(sample: Dataset):
    """A recorded dataset, read from its files: as many calls as it has, the median 1.0 s."""
    times = tool_time("baseline", sample)
    waited = 0
    for one in sample.trajectories(("turns", "tool_calls")):
        found = times.delays_us(
            one.trajectory_id, Columns(one.turns, TURNS), Calls.of(one.tool_calls)
        )
        waited += sum(found)
    report = times.report()
    assert report.median_s == pytest.approx(1.0, rel=0.01)
    assert report.sent == Parts(tool_s=waited / SECOND)
    assert 100 < report.calls <= sample.table("tool_calls", columns=["call"]).num_rows
    assert report.recorded.tool_s > 0


# Wrong calls.


@pytest.mark.parametrize(
    "policy",
    [
        *("", "fast", "Recorded", "recorded:", "none:1", "baseline:", "scaled", "scaled:"),
        *("scaled:x", "scaled:-1", "scaled:nan", "scaled:inf", "baseline:no/such.toml"),
    ],
)
def test_unknown_tool_times_are_wrong_calls(policy):
    """One line that names what was given."""
    with pytest.raises(UsageError) as caught:
        tool_time(policy, InMemory(rows.small()))
    assert "\n" not in str(caught.value)
    assert policy.rpartition(":")[2] in str(caught.value)


@pytest.mark.parametrize("user_time", ["", "all", "cap", "cap:", "cap:-1", "cap:x", "cap:nan"])
def test_unknown_user_times_are_wrong_calls(user_time):
    """Whatever the tool time."""
    with pytest.raises(UsageError):
        tool_time("none", InMemory(rows.small()), user_time=user_time)


HEAD = 'name = "x"\nsource = "x"\ndate = "x"\n'


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("name = ", "baseline profile"),
        ('name = "x"', "source"),
        (HEAD, "categories"),
        (HEAD + "[categories.read]\nmedian_s = 1", "sigma"),
        (HEAD + "[categories.read]\nmedian_s = 0\nsigma = 1", "> 0"),
        (HEAD + "[categories.read]\nmedian_s = nan\nsigma = 1", "> 0"),
        (HEAD + "[categories.read]\nmedian_s = 1\nsigma = inf", "<= 10"),
        (HEAD + "[categories.naps]\nmedian_s = 1\nsigma = 1", "naps"),
        ("\xff", "utf-8"),
    ],
)
def test_a_profile_that_is_none_is_a_wrong_call(tmp_path, text, says):
    """The file and what is wrong with it are named."""
    path = tmp_path / "bad.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=says) as caught:
        tool_time(f"baseline:{path}", InMemory(rows.small()))
    assert str(path) in str(caught.value)
