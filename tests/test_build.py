"""The build: contexts, waits, delays and lengths follow from what happened."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traj.build import build
from traj.build.cached_length import PrefixTree
from traj.build.categories import category
from traj.build.tokens import Counter, Tokenizer
from traj.build.tool_timing import split_delay
from traj.events import Lane, Message, Rebase, Session, ToolCall, ToolRun, Turn, Usage

WORDS = Counter(
    Tokenizer("words", "0", lambda texts: [len(text.split()) for text in texts], lambda a, b: 0)
)
SECOND = 1_000_000


def built(*lanes: Lane, **over) -> dict:
    session = Session("test", "s", "tester", started_us=0, lanes=list(lanes), **over)
    return build(session, WORDS, "0").tables


def ask(text: str, at: float, *, person: bool = True) -> Message:
    return Message("user", text, time_us=int(at * SECOND), by_person=person)


def turn(text: str, first: float, last: float, *calls: str, **over) -> Turn:
    asked = tuple(ToolCall(call, "Bash", '{"command": "ls"}') for call in calls)
    message = Message("assistant", text, tool_calls=asked, time_us=int(last * SECOND))
    fields = {
        "answer": message,
        "answer_us": int(first * SECOND),
        "end_us": int(last * SECOND),
        "clock": "derived",
        "usage": Usage(10, 5, 1, 2, 0, "reported"),
    }
    return Turn(**{**fields, **over})


def result(call: str, text: str, at: float) -> Message:
    return Message("tool", text, tool_call_id=call, time_us=int(at * SECOND))


def test_a_delay_is_split_into_tools_and_person():
    """The gap of 10 s holds 2 s of tools (in parallel), then 5 s of waiting for a prompt."""
    tables = built(
        Lane(
            "main",
            steps=[
                ask("go", 0),
                turn("ok", 1, 2, "a", "b"),
                result("a", "x", 4),
                result("b", "y", 4),
                ask("next", 9),
                turn("fine", 12, 13, start_us=12 * SECOND, clock="logged"),
            ],
        ),
        tool_runs={
            "a": ToolRun(2 * SECOND, 4 * SECOND, "logged"),
            "b": ToolRun(3 * SECOND, 4 * SECOND, "logged"),
        },
    )
    turns = tables["turns"]
    assert turns["delay_us"][1] == 10 * SECOND
    assert turns["tool_us"][1] == 2 * SECOND
    assert turns["user_us"][1] == 5 * SECOND


spans = st.lists(st.tuples(st.integers(0, 100), st.integers(0, 100)), max_size=6)


@given(st.integers(0, 100), st.integers(0, 100), spans, st.none() | st.integers(0, 100))
def test_the_parts_of_a_delay_equal_a_count_instant_by_instant(start, until, tools, person):
    """Union of spans and waiting time agree with marking every microsecond of the delay."""
    delay, tool, user = split_delay(start, until, tools, person)
    instants = range(until, start)
    running = {t for t in instants if any(a <= t < b for a, b in tools)}
    awaited = {t for t in instants if person is not None and t < person} - running
    assert (delay, tool, user) == (len(instants), len(running), len(awaited))


def test_a_subagent_waits_for_its_call_and_its_parent_for_its_report():
    """Spawn and join are edges of the DAG; lanes are numbered by start."""
    main = Lane(
        "main",
        steps=[
            ask("go", 0),
            turn("delegate", 1, 2, "t"),
            result("t", "done", 9),
            turn("thanks", 10, 11),
        ],
    )
    child = Lane("subagent", "explorer", spawned_by="t", joined_by="t")
    child.steps = [ask("look", 2, person=False), turn("a", 3, 4), turn("b", 5, 8)]
    tables = built(main, child, tool_runs={"t": ToolRun(2 * SECOND, 9 * SECOND, "derived")})
    turns = tables["turns"]
    assert list(turns["lane"]) == [0, 1, 1, 0]
    assert list(turns["wait_for"]) == [[], [0], [1], [0, 2]]
    assert turns["delay_us"][3] == SECOND  # from the sub-agent's end to the report's time
    assert list(tables["tool_calls"]["spawned_lane"]) == [1]


def test_a_circle_of_waits_is_broken_and_counted():
    """Damaged ids that make lanes wait for each other cost one edge, listed as a loss."""
    main = Lane("main", spawned_by="x", joined_by="y", steps=[turn("m", 1, 2, "y")])
    child = Lane("subagent", spawned_by="y", joined_by="x", steps=[turn("c", 1, 2, "x")])
    session = Session("test", "s", "t", started_us=0, lanes=[main, child])
    made = build(session, WORDS, "0")
    assert made.losses["broken_dependency"] == 1
    waits = made.tables["turns"]["wait_for"]
    assert all(wait < number for number, row in enumerate(waits) for wait in row)


def test_compaction_and_model_switch_begin_contexts():
    """Each reason is written on the first turn of its context, and on no other."""
    lane = Lane(
        "main",
        steps=[
            ask("one", 0),
            turn("a", 1, 2, model="x"),
            Rebase("compaction", ()),
            ask("summary", 3),
            turn("b", 4, 5, model="x"),
            turn("c", 6, 7, model="y"),
            turn("d", 8, 9, model="y"),
        ],
    )
    turns = built(lane)["turns"]
    assert list(turns["context"]) == [0, 1, 2, 2]
    assert list(turns["context_reason"]) == ["start", "compaction", "model_switch", None]
    assert turns["input"][1] == [(2, 3)]
    assert turns["input"][3] == [(2, 5)]


def test_an_undisturbed_context_is_one_range_however_lanes_interleave():
    """Numbering lane by lane keeps each lane's input a single range."""
    lanes = []
    for index in range(3):
        steps = [ask("go", index / 10)]
        for step in range(5):
            at = 1 + step + index / 10
            steps += [turn("x", at, at + 0.05, f"{index}.{step}")]
            steps += [result(f"{index}.{step}", "r", at + 0.5)]
        lanes.append(Lane("main" if not index else "subagent", steps=steps))
    assert all(len(ranges) == 1 for ranges in built(*lanes)["turns"]["input"])


@pytest.mark.parametrize(("kept", "cached"), [("kept", 6), ("dropped", 1), ("unknown", 1)])
def test_an_answers_reasoning_counts_as_cached_only_where_it_is_sent_again(kept, cached):
    """A stripped answer is another text to the engine than the one it generated."""
    thoughtful = Message("assistant", "the answer", reasoning="deep deep thought", time_us=2)
    lane = Lane(
        "main",
        steps=[
            ask("go", 0),
            Turn(thoughtful, earlier_reasoning=kept),
            ask("on we go", 3),
            Turn(Message("assistant", "done"), earlier_reasoning=kept),
        ],
    )
    turns = built(lane)["turns"]
    assert turns["counted_cached_tokens"][1] == cached
    assert turns["counted_input_tokens"][1] == (9 if kept == "kept" else 6)
    assert turns["counted_output_tokens"][0] == 5


prompts = st.lists(
    st.tuples(
        st.integers(0, 2),
        st.lists(st.tuples(st.integers(0, 9), st.integers(1, 10)), max_size=3),
        st.none() | st.integers(0, 3),
    ),
    max_size=12,
)


@given(prompts)
def test_ideal_cached_lengths_equal_a_search_through_all_earlier_prompts(plays):
    """The incremental tree finds what comparing with every earlier prompt and answer finds."""
    parts = [number % 4 for number in range(10)]
    tree = PrefixTree()
    earlier: list[list[object]] = []
    for lane, raw, answer in plays:
        ranges = [(start, stop) for start, stop in raw if start < stop]
        prompt = ["system"] + [parts[n] for start, stop in ranges for n in range(start, stop)]
        best = max((common(prompt, other) for other in earlier), default=0)
        fronts, cached = tree.add(lane, ["system"], ranges, parts)
        assert fronts + cached == best
        if answer is not None:
            tree.answer(lane, answer)
        earlier.append(prompt if answer is None else [*prompt, answer])


def common(a: list, b: list) -> int:
    pairs = zip(a, b, strict=False)
    return sum(accumulate((x == y for x, y in pairs), lambda x, y: x and y))


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("Bash", '{"command": "pytest -q tests/"}', "test"),
        ("Bash", '{"command": "cd src && git diff --stat"}', "vcs"),
        ("Bash", '{"command": "cargo test --offline 2>&1 | tail -30"}', "test"),
        ("Bash", '{"command": "cargo build"}', "build"),
        ("Bash", '{"command": "python3 -m unittest -v"}', "test"),
        ("Bash", '{"command": "PYTHONPATH=. uv run pytest"}', "test"),
        ("Bash", '{"command": "npm install left-pad"}', "package"),
        ("Bash", '{"command": "make && ./run_tests.sh"}', "test"),
        ("Bash", '{"command": "cat run_tests.sh"}', "read"),
        ("Bash", '{"command": "grep -rn TODO . | head"}', "search"),
        ("Bash", """{"command": "sed -i 's/a/b/' x.c"}""", "edit"),
        ("Bash", '{"command": "sed -n 1,20p x.c"}', "read"),
        ("Bash", '{"command": "python3 - <<\'EOF\'\\nimport pytest; git\\nEOF"}', "execute"),
        ("Bash", "not json", "execute"),
        ("exec_command", '{"cmd": "rg -n foo"}', "search"),
        ("shell", '{"command": ["bash", "-lc", "git status"]}', "vcs"),
        ("Read", "{}", "read"),
        ("Edit", "{}", "edit"),
        ("Agent", "{}", "agent"),
        ("mcp__github__search", "{}", "mcp"),
        ("TodoWrite", "{}", "plan"),
        ("SomethingNew", "{}", "other"),
    ],
)
def test_calls_are_classified_by_what_they_run(name, arguments, expected):
    """Tools by name, shell commands by their weightiest part."""
    assert category(name, arguments) == expected
