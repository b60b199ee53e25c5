"""Trajectories without text: generated words as long as recorded, and shared as was recorded."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise, takewhile
from pathlib import Path
from types import SimpleNamespace

import msgspec
import pyarrow as pa
import pytest
import toktok
from hypothesis import given, settings
from hypothesis import strategies as st

from conftest import SAMPLES
from traj.dataset import Dataset
from traj.engine.parameters import open_parameters
from traj.engine.prompts import MARKS, OPENING
from traj.errors import UsageError
from traj.exporters import TARGETS, export, exporter
from traj.exporters.whole_prompts import WholePrompts
from traj.pipeline import record
from traj.release import text_free
from traj.replay import ReplayOptions, replay
from traj.validation import validate
from traj.workload import shared_fronts
from traj.workload.generated import generate
from traj.workload.load import Load
from traj.workload.options import LoadOptions
from traj.workload.turns import Columns

WEKA = SAMPLES / "hand_made" / "weka_trace.json"
ROUNDS = SAMPLES / "hand_made" / "tracelab_rounds.jsonl"
SENT = [target for target in TARGETS if hasattr(exporter(target), "prompts")]
BLOCK = 64
NO_TEXT = pa.table({"losses": [[{"kind": "no_text", "count": 1}]]})
HEAD = SimpleNamespace(trajectory_id="t", trajectories=NO_TEXT)


def trace(name: str, seed: int) -> dict:
    """A trace with sub-agents, rewinds, compactions and prompts that repeat another lane's."""
    ids: dict[tuple, int] = {}
    time, requests, main = 0.0, [], []

    def request(blocks: list, rest: int) -> dict:
        nonlocal time
        time += 3.0
        named = [ids.setdefault(tuple(blocks[: end + 1]), len(ids)) for end in range(len(blocks))]
        tokens = len(blocks) * BLOCK + rest
        found = {"t": time, "type": "n", "model": "m", "in": tokens, "out": 7 + tokens % 90}
        return found | {"hash_ids": named, "api_time": 1.0, "think_time": 2.0}

    for step in range(12):
        if step % 5 == 4:
            main = main[: (seed + step) % len(main)]  # a rewind, to the very front at times
        main = [*main, *((step, number) for number in range(1 + (seed + step) % 4))]
        requests.append(request(main, (seed * 31 + step * 17) % BLOCK))
        if step % 4 == 2:
            front = main[: seed % 3]
            inner = [*front, ("own", step)], [*front, ("own", step), ("more", step)]
            entry = {"t": time, "type": "subagent", "agent_id": f"a{step}", "models": ["m"]}
            made = [request(blocks, seed % BLOCK) for blocks in inner]
            requests.append(entry | {"subagent_type": "Explore", "requests": made})
    return {"id": name, "models": ["m"], "block_size": BLOCK, "requests": requests}


@pytest.fixture(scope="module")
def traces(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Files of traces, that made by hand among them."""
    folder = tmp_path_factory.mktemp("traces")
    for seed in range(1, 5):
        (folder / f"{seed}.json").write_text(json.dumps(trace(f"trace-{seed}", seed)))
    return [WEKA, *sorted(folder.iterdir())]


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory, traces) -> Dataset:
    """Those traces, recorded."""
    out = tmp_path_factory.mktemp("bare") / "bare.traj"
    assert not record(traces, out).problems
    return Dataset.open(out)


@pytest.fixture(scope="module")
def view(tmp_path_factory: pytest.TempPathFactory, sample: Dataset) -> Dataset:
    """The sample data with its text taken away."""
    return text_free(sample, tmp_path_factory.mktemp("view") / "view.traj")


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """Sessions with text beside a trace and rounds without."""
    out = tmp_path_factory.mktemp("mixed") / "mixed.traj"
    record([WEKA, ROUNDS, SAMPLES / "hand_made" / "claude_compaction.jsonl"], out)
    return Dataset.open(out)


def fronts(document: dict) -> list[tuple]:
    """Of a trace's requests by time: lengths, and how many blocks an earlier one began with."""
    listed = [one.get("requests", [one]) for one in document["requests"]]
    whole = [
        one
        | {
            "t": entry["t"] + one["t"]
            if "subagent_type" in entry and one["t"] < entry["t"]
            else one["t"]
        }
        for entry, inner in zip(document["requests"], listed, strict=True)
        for one in inner
    ]
    seen, found = set(), []
    for one in sorted(whole, key=lambda one: one["t"]):
        held = sum(1 for _ in takewhile(seen.__contains__, one["hash_ids"]))
        seen.update(one["hash_ids"])
        found.append((one["in"], one["out"], len(one["hash_ids"]), held))
    return found


def check_round_trip(paths: list[Path], tmp_path: Path) -> None:
    record(paths, tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    report = export(dataset, "weka", tmp_path / "e")
    record([tmp_path / "e" / "traces"], tmp_path / "again")
    again = Dataset.open(tmp_path / "again")
    assert validate(again).ok
    heads = {row["trajectory_id"]: row for row in again.table("trajectories").to_pylist()}
    names = {name: row["source"]["session_id"] for name, row in heads.items()}
    found = {names[one.trajectory_id]: one.turns.to_pylist() for one in again.trajectories()}
    columns = ("input_tokens", "output_tokens", "counted_cached_tokens", "lane_kind")
    sums = Counter()
    for one in dataset.trajectories():
        wanted = [[turn[name] for name in columns] for turn in one.turns.to_pylist()]
        mine = [[turn[name] for name in columns] for turn in found[one.trajectory_id]]
        assert mine == wanted
        sums.update(whole=sum(row[0] for row in wanted), cached=sum(row[2] for row in wanted))
        written = json.loads((tmp_path / "e" / "traces" / f"{one.trajectory_id}.json").read_text())
        session = one.trajectories.to_pylist()[0]["source"]["session_id"]
        (source,) = (made for made in map(_read, paths) if made["id"] == session)
        assert fronts(written) == fronts(source)
    assert report.cache.hit_tokens[BLOCK]["within"] == sums["cached"]
    assert report.cache.rate(BLOCK, "within") == report.ideal_hit_rate
    assert report.ideal_hit_rate == round(sums["cached"] / sums["whole"], 6)


def _read(path: Path) -> dict:
    return json.loads(path.read_text())


def test_traces_come_back_as_they_were(traces, tmp_path):
    """Recorded and exported, a trace has its lengths, its cached lengths and its shared blocks."""
    check_round_trip(traces, tmp_path)


def test_published_traces_come_back_as_they_were(shared, tmp_path):
    """The same of real ones."""
    check_round_trip(sorted((shared / "corpus" / "kvcache_tester").rglob("*.json")), tmp_path)


def by_hand(name: str, folder: Path, ids) -> tuple[int, dict[int, int]]:
    """Tokens of a target's prompts, and how many of them earlier ones of the play began with, by
    blocks: from every prompt's tokens, of the files that were written."""
    plays: dict[str, list[list]] = {}
    total, hits = 0, Counter()
    for prompt in exporter(name).prompts(folder, 0):
        earlier = plays.setdefault(prompt.play, [])
        if hasattr(prompt, "blocks"):
            row = [one for one in prompt.blocks for _ in range(prompt.block_size)]
            row += [object() for _ in range(prompt.tokens - len(row))]
        else:
            row = list(earlier[prompt.after]) if prompt.after is not None else []
            for part in prompt.parts:
                row += [
                    (number, one) for text in part.texts for number, one in enumerate(ids(text))
                ]
        most = max((common(row, other) for other in earlier), default=0)
        earlier.append(row)
        total += len(row)
        for size in (16, BLOCK):
            hits[size] += min(most, len(row) - 1) // size * size
    return total, hits


def common(one: list, other: list) -> int:
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


@pytest.mark.parametrize("target", SENT)
def test_every_target_shares_what_the_record_says(bare, target, tmp_path):
    """What the files hold has the recorded lengths, and a cache finds in them the recorded part to
    within a block; the simulation finds what a comparison of all tokens does."""
    report = export(bare, target, tmp_path / "out")
    turns = bare.table("turns").to_pylist()
    assert report.counts["requests"] == len(turns)
    (loss,) = (one for one in report.losses if one["kind"] == "generated")
    assert loss["count"] == len(turns)
    assert "words" in loss["why"]
    ids = toktok._encoding("o200k_base").encode_ordinary
    total, hits = by_hand(target, tmp_path / "out", ids)
    assert report.cache.tokens == total
    sizes = [size for size in hits if size in report.cache.hit_tokens]
    assert {size: report.cache.hit_tokens[size]["within"] for size in sizes} == {
        size: hits[size] for size in sizes
    }
    if target == "sglang-agentic":
        return  # the engine's own replies, of one length, stand in its prompts
    wanted = [(turn["input_tokens"], turn["counted_cached_tokens"]) for turn in turns]
    cached = sum(min(cached, tokens - 1) // BLOCK * BLOCK for tokens, cached in wanted)
    losses = {one["kind"] for one in report.losses}
    slack = losses & {"flattened", "merged", "roles", "longer"}  # not every prompt goes as it is
    if BLOCK in sizes:
        assert abs(hits[BLOCK] - cached) <= (BLOCK * len(turns) // 2 if slack else 0)
    assert 0 <= total - sum(tokens for tokens, _ in wanted) <= (cached // 50 if slack else 0)


def test_prompts_that_grow_are_one_conversation(tmp_path):
    """A trace tells what is shared in whole blocks: a prompt that has all of those of the one
    before it goes on from it, its answer repeated, and is no new conversation."""
    record([WEKA, ROUNDS], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    report = export(dataset, "aiperf-dag", tmp_path / "out")
    assert report.counts["sessions"] == 2 + 2  # the trace's two lanes, two sessions of rounds
    for play in plays(dataset):
        lanes: dict[int, int] = {}
        for turn in play.sent:
            lane = play.turns["lane"][turn]
            if lane in lanes:
                added = play.prompts.added(lanes[lane], turn)
                roles = [play.prompts.message(one)["role"] for one in added]
                assert roles == ["assistant", "user"]
            lanes[lane] = turn


def sent(dataset: Dataset, options: LoadOptions | None = None, *, text: bool = False) -> list:
    """What is sent of each trajectory: lengths, delays, and who waits for whom."""
    return sorted(
        [
            (
                play.input_tokens(turn),
                play.output_tokens(turn),
                play.delay_us(turn),
                play.schedule.waits(turn),
                play.turns["lane"][turn],
            )
            for turn in play.sent
        ]
        for play in Load(dataset, options or LoadOptions(), text=text).plays()
    )


def test_a_view_is_sent_as_its_dataset_is(sample, view):
    """Without its text the sample data has the same requests, lengths, delays and waits, under
    every tool time."""
    for options in (LoadOptions(), LoadOptions(tool_time="none", user_time="cap:1", prefix="aa")):
        assert sent(view, options) == sent(sample, options)
        assert sent(view, options, text=True) == sent(view, options)


def test_a_view_shares_what_its_dataset_shares(sample, view, tmp_path):
    """Hit rates within trajectories are those of the sample data with its text."""
    whole, bare = (
        export(data, "weka", tmp_path / name) for name, data in (("s", sample), ("v", view))
    )
    assert bare.cache.tokens == whole.cache.tokens
    rates = [report.cache.rate(BLOCK, "within") for report in (whole, bare)]
    assert rates[0] == pytest.approx(rates[1], abs=0.01)
    assert whole.ideal_hit_rate == bare.ideal_hit_rate


def drawn_turns(rows: list[tuple]) -> Columns:
    """Turns of a trajectory without text: lane, tokens, cached tokens, answer's tokens."""
    lanes, tokens, cached, outputs = (list(column) for column in zip(*rows, strict=True))
    count = len(rows)
    columns = {
        **{name: [None] * count for name in (*shared_fronts.COLUMNS, "unseen_input_tokens")},
        "lane": lanes,
        "lane_kind": ["main" if lane == 0 else "subagent" for lane in lanes],
        "context": [0] * count,
        "input": pa.array(
            [[]] * count, pa.list_(pa.struct({"start": pa.int32(), "stop": pa.int32()}))
        ),
        "output": [None] * count,
        "status": ["ok"] * count,
        "input_tokens": tokens,
        "counted_input_tokens": tokens,
        "counted_cached_tokens": cached,
        "output_tokens": outputs,
        "reasoning_tokens": [None] * count,
    }
    return Columns(pa.table(columns), tuple(columns))


def made_prompts(turns: Columns) -> tuple[list[list], Columns, object]:
    made = generate(HEAD, turns, "0")
    rows = [
        [
            (number, place)
            for start, stop in turns.ranges(turn)
            for number in range(start, stop)
            for place in range(made.tokens[number])
        ]
        for turn in range(len(turns["lane"]))
    ]
    return rows, made.columns(), made


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 3), st.integers(1, 700), st.floats(0, 1.2), st.integers(1, 90)),
        min_size=1,
        max_size=25,
    )
)
def test_prompts_share_as_much_as_was_cached(drawn):
    """Of any lengths: each prompt is as long as recorded, and the longest front that it has in
    common with an earlier one is what was cached of it, less than a block beyond that, or all that
    there was to share."""
    rows = [
        (lane, tokens, min(tokens, int(tokens * share)), out) for lane, tokens, share, out in drawn
    ]
    turns = drawn_turns(rows)
    prompts, messages, _ = made_prompts(turns)
    for turn, (_, tokens, cached, output) in enumerate(rows):
        assert len(prompts[turn]) == tokens
        shared = max((common(prompts[turn], other) for other in prompts[:turn]), default=0)
        longest = max((row[1] for row in rows[:turn]), default=0)
        assert min(cached, longest) <= shared < max(cached, min(cached, longest)) + BLOCK
        assert shared == 0 or cached
        whole = {row[1] for row in rows[:turn]}  # only whole prompts are more than what was cached
        assert shared == min(cached, longest) or shared in whole
        answer = turns["output"][turn]
        assert messages["role"][answer] == "assistant"
        assert 1 <= messages["tokens"][answer] <= output
        spans = turns.ranges(turn)
        assert all(stop != start for (_, stop), (start, _) in pairwise(spans))


def test_many_prompts_that_begin_alike_cost_no_walk_up_the_session(monkeypatch):
    """Where each of many side requests begins like the end of a long session, finding the place
    takes steps by a logarithm, not by the session's length."""
    from traj.workload import generated

    steps = 0

    class Counted(dict):
        def __getitem__(self, key):
            nonlocal steps
            steps += 1
            return super().__getitem__(key)

    class Watched(generated._Stretches):
        def __init__(self):
            super().__init__()
            self._start = Counted(self._start)

    monkeypatch.setattr(generated, "_Stretches", Watched)
    rows = [(0, 100 * turn + 100, 100 * turn, 5) for turn in range(1000)]
    # Each is cached beyond what any of its own kind has, so the main agent's last has its front.
    rows += [(2 + turn, 155 + 10 * turn, 150 + 10 * turn, 5) for turn in range(1000)]
    turns = drawn_turns(rows)
    made = generate(HEAD, turns, "0")
    assert set(made.fronts.before.values()) == {None, *range(1000)}
    assert steps < 60 * len(rows)


def test_unknown_figures_are_losses_not_zeros(tmp_path):
    """Where nobody told the cached part a growing prompt goes on from the one before; where nobody
    told the length it is as long as that one; both are counted."""
    turns = drawn_turns([(0, 100, 0, 5), (0, 150, None, 5), (0, None, None, 5), (0, 40, None, 5)])
    prompts, _, made = made_prompts(turns)
    assert [len(prompt) for prompt in prompts] == [100, 150, 150, 40]
    assert common(prompts[0], prompts[1]) == 100
    assert common(prompts[2], prompts[3]) == 0
    assert made.fronts.guessed == {1, 2, 3}
    assert made.fronts.unmeasured == {2}


def test_a_provider_s_cached_tokens_decide_where_there_are_no_blocks(tmp_path):
    """Rounds have the lengths and the cached lengths that their lines tell."""
    record([ROUNDS], tmp_path / "d")
    dataset = Dataset.open(tmp_path / "d")
    report = export(dataset, "vllm-timed-trace", tmp_path / "out")
    turns = dataset.table("turns").to_pylist()
    assert report.cache.tokens == sum(turn["input_tokens"] for turn in turns)
    # The first round of a session may have found what another session left.
    told = [turn["cached_tokens"] // 16 * 16 for turn in turns if turn["wait_for"]]
    assert report.cache.hit_tokens[16]["within"] == sum(told)


def test_a_mixed_dataset_is_sent_whole(mixed, tmp_path):
    """Trajectories with text are sent as they would be alone, the others beside them."""
    alone = tmp_path / "alone"
    record([SAMPLES / "hand_made" / "claude_compaction.jsonl"], alone)
    texts = {play.name: spoken(play) for play in plays(Dataset.open(alone))}
    found = {play.name: spoken(play) for play in plays(mixed)}
    assert len(found) == len(texts) + 3
    assert {name: found[name] for name in texts} == texts
    report = export(mixed, "aiperf-dag", tmp_path / "out")
    (loss,) = (one for one in report.losses if one["kind"] == "generated")
    assert loss["count"] == 9


def plays(dataset: Dataset, **options):
    return Load(dataset, LoadOptions(**options), text=True).plays()


def spoken(play) -> list:
    whole = WholePrompts(play)
    return [[play.prompts.message(one) for one in whole.of(turn)] for turn in play.sent]


def test_the_same_seed_gives_the_same_words(mixed):
    """Another seed gives other words of the same lengths; a message is as long as its text."""
    one, same, other = (
        {play.name: (play, spoken(play)) for play in plays(mixed, seed=seed)} for seed in "112"
    )
    assert {name: said for name, (_, said) in one.items()} == {
        name: said for name, (_, said) in same.items()
    }
    count = Load(mixed, LoadOptions(), text=True).tokenizer.count
    for name, (play, said) in one.items():
        if play.generated is None:
            continue
        assert said != other[name][1]
        for turn, messages in zip(play.sent, said, strict=True):
            assert sum(count([message["content"] for message in messages])) == play.input_tokens(
                turn
            )
            assert {message["role"] for message in messages} <= {"user", "assistant"}
            assert messages[-1]["role"] == "user"


@pytest.mark.parametrize("target", ["aiperf-dag", "weka", "dynamo-agentic", "guidellm-graph"])
@pytest.mark.parametrize("prefix", ["aa", "shared-system", "mlperf", "context"])
def test_prefixes_stand_in_front_as_ever(bare, target, prefix, tmp_path):
    """Each prompt is longer by its prefixes, and no phase finds anything of another."""
    options = LoadOptions(prefix=prefix, prefix_tokens=128, phases=2)
    report = export(bare, target, tmp_path / "out", options)
    turns = bare.table("turns").to_pylist()
    places = 2 if prefix == "mlperf" else 1
    whole = sum(turn["input_tokens"] + 128 * places for turn in turns)
    assert report.cache.tokens == 2 * whole
    assert all(not hits["across_phases"] for hits in report.cache.hit_tokens.values())


def test_a_context_limit_cuts_what_is_too_long(bare):
    """Requests from the first one on that is too long are left out."""
    for play in Load(bare, LoadOptions(max_context=600), text=True).plays():
        assert all(play.input_tokens(turn) + play.output_tokens(turn) <= 600 for turn in play.sent)
        whole = spoken(play)
        assert len(whole) == len(play.sent)


@pytest.mark.parametrize("target", ["atif", "hub-traces", "openai-jsonl", "otel"])
def test_an_archive_holds_no_generated_messages(mixed, view, target, tmp_path):
    """What archives a record's own messages refuses a dataset without any, in one line; beside
    others, what has no text is kept as it is, and none is made."""
    with pytest.raises(UsageError, match="without text") as raised:
        export(view, target, tmp_path / "out")
    assert target in str(raised.value)
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "out").exists()
    report = export(mixed, target, tmp_path / "out")
    assert "generated" not in report.losses


@pytest.mark.parametrize("target", ["aiperf-dag", "weka"])
def test_text_alone_cannot_be_asked_of_what_has_none(bare, target, tmp_path):
    """--lengths text sends a record's own text: where there is none it is refused."""
    with pytest.raises(UsageError, match="--lengths text"):
        export(bare, target, tmp_path / "out", LoadOptions(lengths="text"))


def test_an_engine_is_sent_the_recorded_lengths(mixed, tmp_path):
    """Replayed on a simulated engine, each request has the prompt and the answer that were planned
    by the engine's own count, and its cache holds what was predicted."""
    pytest.importorskip("aiohttp", reason="a replay's client")
    from traj.engine.serving import in_thread

    quick = msgspec.structs.replace(
        open_parameters("demo"), step_us=300, sequence_us=0, prefill_us=0.1, arrive_us=0, reply_us=0
    )
    load = LoadOptions(tool_time="none", user_time="none", prefix="aa", prefix_align=16)
    with in_thread(quick) as url:
        run = replay(mixed, ReplayOptions(url, "demo", agents=1, load=load))
    rows = run.requests
    assert rows["status"].unique().to_list() == ["ok"]
    found = {(row["trajectory_id"], row["turn"]): row for row in rows.iter_rows(named=True)}
    checked = 0
    for play in Load(mixed, load, text=True).plays():
        for turn, said in zip(play.sent, spoken(play), strict=True):
            row = found[play.trajectory_id, turn]
            assert row["output_tokens"] == play.output_tokens(turn)
            if play.generated is None:
                continue
            marks = MARKS * len(said) + OPENING
            assert row["input_tokens"] == play.input_tokens(turn) + marks
            assert row["planned_input_tokens"] == play.input_tokens(turn)
            shared = row["predicted_cached_tokens"]
            assert shared - quick.block_tokens < row["cached_tokens"] <= shared + marks
            checked += 1
    assert checked == 9
