"""What is sent: lengths as recorded, prefixes where their policy says, whole trajectories."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rows
from traj.build.tokens import open_tokenizer
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.exporters import export
from traj.workload.load import Load
from traj.workload.options import PREFIX_POLICIES, LoadOptions
from traj.workload.prefixes import Prefixes
from traj.workload.sampling import choose

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from traj.workload.play import Play

SIZE = 32


@pytest.fixture
def small(tmp_path: Path) -> Dataset:
    return Dataset.open(rows.write(tmp_path / "dataset", rows.small()))


def texts(message: dict[str, Any]) -> Iterator[str]:
    """What of a chat message is counted, each by itself."""
    yield message.get("content") or ""
    yield message.get("reasoning_content") or ""
    for call in message.get("tool_calls") or ():
        yield call["function"]["name"]
        yield call["function"]["arguments"]


def messages(play: Play, turn: int) -> list[dict[str, Any]]:
    assert play.prompts is not None
    return [play.prompts.message(spoken) for spoken in play.prompts.whole(turn)]


def counted(play: Play, turn: int) -> int:
    """Tokens of a turn's prompt as it is sent, counted from its texts."""
    found = [text for message in messages(play, turn) for text in texts(message)]
    tools = play.prompt_tokens.get(play.turns["tools_id"][turn], 0)
    return sum(open_tokenizer().count(found)) + tools


@pytest.mark.parametrize("which", ["small", "sample"])
def test_requests_are_as_long_as_they_were(which: str, request: pytest.FixtureRequest) -> None:
    """Filled prompts have exactly the provider's tokens; those that cannot be are counted, and say
    themselves how long they are."""
    dataset: Dataset = request.getfixturevalue(which)
    exact = other = 0
    for play in Load(dataset, LoadOptions(), text=True).plays():
        longer = 0
        for turn in play.sent:
            reported = play.turns["input_tokens"][turn]
            sent = counted(play, turn)
            assert sent == play.input_tokens(turn)
            exact += sent == reported
            longer += sent != reported
        assert longer <= play.losses()["overlong"] + play.losses()["unfilled"] + sum(
            play.turns["input_tokens"][turn] is None for turn in play.sent
        )
        other += longer
    assert exact > 10 * other or which == "small"
    assert exact


def test_a_fill_stays_with_its_message(sample: Dataset) -> None:
    """A prompt that extends another sends the same messages again, fills included."""
    for play in Load(sample, LoadOptions(prefix="aa"), text=True).plays():
        assert play.prompts is not None
        last: dict[int, int] = {}
        for turn in play.sent:
            lane = play.turns["lane"][turn]
            before = last.get(lane)
            last[lane] = turn
            if before is not None and play.prompts.extends(before, turn):
                added = [play.prompts.message(one) for one in play.prompts.added(before, turn)]
                assert messages(play, before) + added == messages(play, turn)


def test_fronts_are_the_same_for_one_version_of_an_agent(sample: Dataset) -> None:
    """What is put before the main lanes of one agent version begins with the same words."""
    fronts: dict[str, list[str]] = {}
    for play in Load(sample, LoadOptions(), text=True).plays():
        if play.lengths.fronts.get(("main", "")):
            first = messages(play, play.sent[0])[0]
            fronts.setdefault(play.agent, []).append(first["content"])
    assert any(len(found) > 1 for found in fronts.values())
    for found in fronts.values():
        for one, other in pairwise(found):
            assert one[:200] == other[:200]


def test_text_sends_what_there_is(small: Dataset) -> None:
    """Under lengths text nothing is put before or behind a message; counts are the dataset's."""
    for play in Load(small, LoadOptions(lengths="text"), text=True).plays():
        for turn in play.sent:
            assert counted(play, turn) == play.turns["counted_input_tokens"][turn]
            assert play.input_tokens(turn) == play.turns["counted_input_tokens"][turn]


def test_other_tokenizers_count_anew(small: Dataset) -> None:
    """With another tokenizer, text counts as that one counts it, prefixes included."""
    options = LoadOptions(tokenizer="cl100k_base", lengths="text", prefix="aa", prefix_tokens=SIZE)
    count = open_tokenizer("cl100k_base").count
    for play in Load(small, options, text=True).plays():
        for turn in play.sent:
            found = [text for message in messages(play, turn) for text in texts(message)]
            tools = play.prompt_tokens.get(play.turns["tools_id"][turn], 0)
            assert sum(count(found)) + tools == play.input_tokens(turn)


# --- prefixes ---------------------------------------------------------------------------------


def fronts(dataset: Dataset, policy: str, phase: int, **more: Any) -> list[tuple[str, str, str]]:
    """Of each request: its play, the start of its first message, the start of the first user's."""
    options = LoadOptions(
        prefix=policy, prefix_tokens=SIZE, lengths="text", phases=2, plays=2, **more
    )
    found = []
    for play in Load(dataset, options, text=True).plays(phase):
        for turn in play.sent:
            sent = messages(play, turn)
            user = next((one["content"] for one in sent if one["role"] == "user"), "")
            found.append((f"{play.name} {play.turns['lane'][turn]}", sent[0]["content"], user))
    return found


@pytest.mark.parametrize("policy", PREFIX_POLICIES)
def test_same_options_give_the_same_prefixes(small: Dataset, policy: str) -> None:
    """Prefixes are drawn from the options alone."""
    assert fronts(small, policy, 1) == fronts(small, policy, 1)


@pytest.mark.parametrize("policy", PREFIX_POLICIES)
@pytest.mark.parametrize("change", [{"seed": "1"}, {"run": "again"}, {"phase": 1}])
def test_other_runs_have_other_prefixes(
    small: Dataset, policy: str, change: dict[str, Any]
) -> None:
    """Another seed, run or phase changes every prompt of every policy but none."""
    before = fronts(small, policy, 0)
    after = fronts(small, policy, **{"phase": 0, **change})
    for (_, one, user), (_, other, other_user) in zip(before, after, strict=True):
        assert (policy == "none") == (one == other and user == other_user)


def first_words(text: str) -> str:
    return " ".join(text.split()[:12])


def test_who_shares_a_prefix(small: Dataset) -> None:
    """aa: a play. shared-system: a play, in the user's message alone. mlperf: the phase in front, a
    play in the user's message."""
    for policy, in_front, in_user in (("aa", 4, 0), ("shared-system", 0, 4), ("mlperf", 1, 4)):
        plain = {(one, user) for _, one, user in fronts(small, "none", 0)}
        found = fronts(small, policy, 0)
        if in_front:
            assert len({first_words(one) for _, one, _ in found}) == in_front
        else:
            assert {one for _, one, _ in found if one in {p[0] for p in plain}}
        if in_user:
            assert len({first_words(user) for _, _, user in found if user}) == in_user


def test_contexts_have_prefixes_of_their_own(small: Dataset) -> None:
    """Policy context: as many prefixes as a play has contexts, and each context keeps its own."""
    options = LoadOptions(prefix="context", prefix_tokens=SIZE, lengths="text")
    for play in Load(small, options, text=True).plays():
        found: dict[tuple[int, int], set[str]] = {}
        for turn in play.sent:
            key = play.turns["lane"][turn], play.turns["context"][turn]
            found.setdefault(key, set()).add(first_words(messages(play, turn)[0]["content"]))
        assert all(len(one) == 1 for one in found.values())
        assert len({word for one in found.values() for word in one}) == len(found)


@pytest.mark.parametrize("policy", ["aa", "shared-system", "mlperf", "context"])
def test_prefixes_have_their_length(sample: Dataset, policy: str) -> None:
    """A prompt with prefixes has exactly their tokens more than one without: nothing merges."""
    options = {"lengths": "text", "prefix_tokens": 50, "prefix_align": 16}
    plain = Load(sample, LoadOptions(lengths="text"), text=True).plays()
    for one, other in zip(
        plain, Load(sample, LoadOptions(prefix=policy, **options), text=True).plays(), strict=True
    ):
        for turn in one.sent:
            more = counted(other, turn) - counted(one, turn)
            assert more == other.prefix_tokens(turn)
            assert more == (128 if policy == "mlperf" else 64)


@settings(max_examples=200)
@given(st.lists(st.tuples(*[st.text(max_size=3)] * 2), min_size=2, max_size=2, unique=True))
def test_keys_do_not_run_together(pair: list[tuple[str, str]]) -> None:
    """Different seeds and runs have different keys, however their texts join."""
    keys = {
        Prefixes(LoadOptions(prefix="aa", seed=seed, run=run), 0, "t", 0).front(0, 0)
        for seed, run in pair
    }
    assert len(keys) == 2


def test_names_are_of_play_and_phase(small: Dataset) -> None:
    """Every play of every phase has a name of its own."""
    load = Load(small, LoadOptions(phases=2, plays=3), text=False)
    names = [play.name for phase in range(2) for play in load.plays(phase)]
    assert len(set(names)) == len(names) == 12


# --- what is left out -------------------------------------------------------------------------


@pytest.mark.parametrize("policy", ["none", "aa"])
def test_a_trajectory_ends_before_what_is_too_long(small: Dataset, policy: str) -> None:
    """Requests up to the first one that is longer than the context are sent, the rest counted."""
    whole = {play.name: play for play in Load(small, LoadOptions(prefix=policy), text=True).plays()}
    longest = max(
        play.input_tokens(turn) + play.output_tokens(turn)
        for play in whole.values()
        for turn in play.sent
    )
    limit = longest - 1
    options = LoadOptions(prefix=policy, max_context=limit)
    cut = 0
    for play in Load(small, options, text=True).plays():
        before = whole[play.name]
        fits = [before.input_tokens(x) + before.output_tokens(x) <= limit for x in before.sent]
        expected = fits.index(False) if False in fits else len(fits)
        assert play.sent == before.sent[:expected]
        assert play.cut == len(fits) - expected
        cut += play.cut
    assert cut


def test_the_ceiling_before_the_cut_is_told(sample: Dataset, tmp_path: Path) -> None:
    """A limit of context changes what a cache can find: both rates are in the report."""
    whole = export(sample, "weka", tmp_path / "whole")
    cut = export(sample, "weka", tmp_path / "cut", LoadOptions(max_context=9000))
    assert whole.uncut_hit_rate is None
    assert cut.uncut_hit_rate == whole.ideal_hit_rate != cut.ideal_hit_rate


def trajectories(tmp_path: Path, kinds: list[tuple[str, str, int]]) -> Dataset:
    tables: rows.Tables = {name: [] for name in ("trajectories", "turns", "messages")}
    for number, (language, use, turns) in enumerate(kinds):
        name = f"s{number}"
        head = rows.trajectory(name, language=language, use_case=use)
        tables["trajectories"].append(head)
        tables["messages"].append(rows.message(name, 0, "user", "go"))
        for turn in range(turns):
            over = {"input": [{"start": 0, "stop": 1}], "output": None, "status": "error"}
            waits = [turn - 1] if turn else []
            tables["turns"].append(
                rows.turn(name, turn, turn * 10, turn * 10 + 5, wait_for=waits, **over)
            )
    tables |= {"tool_calls": [], "prompts": []}
    return Dataset.open(rows.write(tmp_path / "many", rows.complete(tables)))


def test_a_sample_looks_like_the_dataset(tmp_path: Path) -> None:
    """Each stratum has its share, to less than one; the seed chooses within it."""
    kinds = [(language, "fix", turns) for language in ("c", "rust") for turns in (1, 2, 3)] * 8
    dataset = trajectories(tmp_path, kinds)
    heads = dataset.table("trajectories").to_pylist()
    of = {row["trajectory_id"]: (row["language"], row["totals"]["turns"]) for row in heads}
    for count in (1, 7, 12, 48):
        chosen = choose(dataset, count, "a")
        assert len(chosen) == count
        shares = Counter(of[one] for one in chosen)
        assert all(abs(shares[kind] - count * 8 / 48) < 1 for kind in set(of.values()))
    assert choose(dataset, 12, "a") == choose(dataset, 12, "a") != choose(dataset, 12, "b")
    with pytest.raises(UsageError, match="48 trajectories"):
        choose(dataset, 49, "a")


def test_a_sample_is_what_is_exported(sample: Dataset, tmp_path: Path) -> None:
    """Only the chosen trajectories are written."""
    export(sample, "weka", tmp_path / "out", LoadOptions(sample=4))
    written = {path.stem for path in (tmp_path / "out" / "traces").iterdir()}
    assert written == choose(sample, 4, "0")


@pytest.mark.parametrize(
    "wrong",
    [
        {"prefix": "aaa"},
        {"lengths": "long"},
        {"output": "free"},
        {"tool_time": "fast"},
        {"tool_time": "scaled:x"},
        {"tool_time": "baseline:nowhere.toml"},
        {"user_time": "cap:"},
        {"tokenizer": "no_such"},
        {"sample": 99},
        {"sample": 0},
        {"phases": 0},
        {"max_context": -1},
        {"split": "private"},
    ],
)
def test_wrong_options_are_refused_before_anything_is_written(
    small: Dataset, tmp_path: Path, wrong: dict[str, Any]
) -> None:
    """One line of error, and no folder."""
    with pytest.raises(UsageError) as error:
        export(small, "aiperf-dag", tmp_path / "out", LoadOptions(**wrong))
    assert "\n" not in str(error.value)
    assert [one.name for one in tmp_path.iterdir()] == ["dataset"]


def test_phases_are_file_sets(small: Dataset, tmp_path: Path) -> None:
    """Each phase has its files in a folder, alike but for prefixes, and export.json lists all."""
    options = LoadOptions(prefix="aa", phases=2)
    report = export(small, "aiperf-dag", tmp_path / "out", options)
    folders = [phase["folder"] for phase in report.phases]
    assert folders == ["phase-000", "phase-001"]
    written = {
        path.relative_to(tmp_path / "out").as_posix()
        for path in (tmp_path / "out").rglob("*")
        if path.is_file()
    }
    assert written == {file["name"] for file in report.files} | {"export.json"}
    one, two = ((tmp_path / "out" / folder / "dag.jsonl").read_bytes() for folder in folders)
    assert one != two
    lines = [[json.loads(line) for line in text.splitlines()] for text in (one, two)]
    for first, second in zip(*lines, strict=True):
        delays = [[turn.get("delay") for turn in line.get("turns", ())] for line in (first, second)]
        assert delays[0] == delays[1]
