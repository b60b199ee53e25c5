"""The simulated cache: equal to one that hashes blocks of token ids, and lean with memory."""

from __future__ import annotations

import dataclasses
import re
import tracemalloc
from array import array
from itertools import takewhile

import pytest
import toktok
from hypothesis import example, given, settings
from hypothesis import strategies as st

from traj.build.tokens import Tokenizer, open_tokenizer
from traj.report import exports as report
from traj.workload.cache_simulation import BlockPrompt, CacheHits, Part, Prompt, simulate
from traj.workload.sibling_texts import KEPT

SCOPES = ("within", "across_trajectories", "across_phases")
SIZES = (1, 2, 3, 16)
TOKEN = re.compile(r" ?(?:aa|ab|ba|a|b)|\n+|.", re.DOTALL)


def with_ids(ids, name="toy"):
    """A tokenizer made of a function that gives ids."""

    def common(one, other):
        pairs = zip(ids(one), ids(other), strict=False)
        return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

    return Tokenizer(name, "0", lambda texts: [len(ids(text)) for text in texts], common)


TOY = with_ids(TOKEN.findall)


def tokens_of(parts, ids):
    """The ids of a prompt, each with the ends of texts and parts that stand before it."""
    found, ends = [], ""
    for texts in parts:
        for text in texts:
            for token in ids(text):
                found.append((ends, token))
                ends = ""
            ends += "t"
        ends += "p"
    return found


def hashed(prompts, sizes=SIZES):
    """What a cache of hashed blocks finds: the sums by block size and scope.

    `prompts` are (phase, play, tokens). A block's hash covers all that stands before it.
    """
    hits = {size: dict.fromkeys(SCOPES, 0) for size in sizes}
    longest = dict.fromkeys(SCOPES, 0)
    for size in {1, *sizes}:
        cached: list[tuple[int, str, list[int]]] = []
        for phase, play, tokens in prompts:
            chain, last = [], 0
            for start in range(0, len(tokens) - size + 1, size):
                last = hash((last, *tokens[start : start + size]))
                chain.append(last)
            for scope, among in {
                "within": [c for p, y, c in cached if (p, y) == (phase, play)],
                "across_trajectories": [c for p, y, c in cached if p == phase and y != play],
                "across_phases": [c for p, y, c in cached if p < phase],
            }.items():
                known = {block for one in among for block in one}
                usable = chain[: max(0, len(tokens) - 1) // size]
                found = sum(1 for _ in takewhile(known.__contains__, usable)) * size
                if size in sizes:
                    hits[size][scope] += found
                if size == 1:
                    longest[scope] = max(longest[scope], found)
            cached.append((phase, play, chain))
    return hits, longest


def whole(prompts):
    """Prompts with all their parts each: (phase, play, parts)."""
    found, of_play = [], {}
    for prompt in prompts:
        earlier = of_play.setdefault((prompt.phase, prompt.play), [])
        front = [] if prompt.after is None else earlier[prompt.after]
        earlier.append([*front, *(part.texts for part in prompt.parts)])
        found.append((prompt.phase, prompt.play, earlier[-1]))
    return found


def loads(words):
    """Prompts in phases and plays, of a few parts that begin alike."""
    # Long enough to be read again, and to be kept as a hash.
    long = "ab b\nab" * 60
    cuts = [long[:40], long[:90], long[:300], long[:300], long[:410]]
    fronts = st.sampled_from(["", "", "", "a" * 70, "a" * 300, *cuts])
    text = st.tuples(fronts, words).map("".join)
    pools = st.lists(st.lists(text, max_size=3).map(tuple), min_size=1, max_size=6)
    prompt = st.tuples(st.lists(st.integers(0, 5), max_size=3), st.none() | st.integers(0, 4))
    plays = st.lists(st.lists(prompt, min_size=1, max_size=5), min_size=1, max_size=4)
    return st.tuples(pools, st.lists(plays, min_size=1, max_size=3)).map(lambda drawn: load(*drawn))


def load(pool, phases):
    prompts, store = [], []
    for phase, plays in enumerate(phases):
        for play, drawn in enumerate(plays):
            for number, (picks, after) in enumerate(drawn):
                parts = []
                for pick in picks:
                    store.append(pool[pick % len(pool)])
                    parts.append(Part(store[-1], len(store) - 1))
                back = None if after is None or after >= number else after
                prompts.append(Prompt(phase, f"play {play}", parts, back))
    return prompts, store


def check(prompts, tokenizer, ids, read=None):
    found = simulate(prompts, tokenizer, read, SIZES)
    plain = [(phase, play, tokens_of(parts, ids)) for phase, play, parts in whole(prompts)]
    hits, longest = hashed(plain)
    assert found.tokens == sum(len(tokens) for _, _, tokens in plain)
    assert found.prompts == len(plain)
    assert found.plays == len({(phase, play) for phase, play, _ in plain})
    assert found.hit_tokens == hits
    assert found.longest_tokens == longest


@settings(max_examples=300, deadline=None)
@given(drawn=loads(st.text("aab  \nc", max_size=8)), lean=st.booleans())
def test_hits_are_those_of_hashed_blocks(drawn, lean):
    """For any load the sums equal a cache of chained block hashes, texts kept or read again."""
    prompts, store = drawn
    check(prompts, TOY, TOKEN.findall, store.__getitem__ if lean else None)


PIECES = [
    " the",
    " read",
    "file",
    "ing",
    " react",
    "  ",
    "\n",
    'x="',
    '{"a":',
    "1",
    "23",
    "Foo",
    "un",
]
PIECES += [";\n", "/", "'s", " don't", "ed", "able", "aaaa", "   x", "\t", "é", "文件", "🧠", " ε"]


@settings(max_examples=150, deadline=None)
@given(drawn=loads(st.lists(st.sampled_from(PIECES), max_size=6).map("".join)))
def test_hits_are_exact_with_a_real_tokenizer(drawn):
    """Comparing the words around the place where texts part gives what all their ids give."""
    ids = toktok._encoding("o200k_base").encode_ordinary
    prompts, store = drawn
    check(prompts, with_ids(ids, "o200k_base"), ids, store.__getitem__)


@settings(max_examples=150, deadline=None)
@example(rows=["ab", "ac", "a", "b", "b", "b"])
@given(rows=st.lists(st.text("abc", min_size=1, max_size=6), min_size=2, max_size=60))
def test_of_many_siblings_the_one_that_shares_most_counts(rows):
    """Where many parts begin alike, one with fewer equal characters may share more tokens."""
    prompts = [
        Prompt(
            number % 2 if number * 2 >= len(rows) else 0,
            f"play {number}",
            [Part((row,)), Part(("what follows",))],
        )
        for number, row in enumerate(rows)
    ]
    check(sorted(prompts, key=lambda prompt: prompt.phase), TOY, TOKEN.findall)


block_loads = st.lists(
    st.lists(
        st.lists(st.tuples(st.text("ab", max_size=12), st.integers(0, 1)), min_size=1, max_size=4),
        min_size=1,
        max_size=3,
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=200, deadline=None)
@given(phases=block_loads, block_size=st.sampled_from([1, 2]))
def test_hits_of_block_ids_are_those_of_hashed_blocks(phases, block_size):
    """Ids of blocks lead to the same sums as the tokens that they stand for."""
    ids: dict[str, int] = {}
    plain, prompts = [], []
    for phase, plays in enumerate(phases):
        for play, rows in enumerate(plays):
            for blocks, rest in rows:
                tokens = "".join(letter * block_size for letter in blocks)
                fronts = (blocks[: end + 1] for end in range(len(blocks)))
                row = [ids.setdefault(front, len(ids)) for front in fronts]
                # What fills no block has no id, so nobody can share it.
                tail = [object()] if rest and block_size > 1 else []
                plain.append((phase, f"play {play}", [*tokens, *tail]))
                length = len(tokens) + len(tail)
                prompts.append(BlockPrompt(phase, f"play {play}", row, block_size, length))
    sizes = [size for size in (1, 2, 4) if size % block_size == 0]
    found = simulate(prompts, block_sizes=(1, 2, 4))
    assert found.hit_tokens == hashed(plain, sizes)[0]
    assert found.tokens == sum(len(tokens) for _, _, tokens in plain)


def apart(one, other, ids):
    """Checks prompts of one part each, in two plays; the parts are long enough not to be kept."""
    store = [one, other]
    prompts = [Prompt(0, f"{number}", [Part((store[number],), number)]) for number in (0, 1)]
    check(prompts, with_ids(ids), ids, lambda place: (store[place],))


def test_a_word_is_kept_to_its_end():
    """What stands behind the kept text of a part may change the tokens in front of its end."""
    ids = re.compile(r" ?(?:abbbb|ab|ba|a|b)|.").findall
    front = "c " * ((KEPT - 4) // 2)
    kept, other = f"{front}abbbb and so on", f"{front}abba and so on"
    assert kept[:KEPT] == f"{front}abbb"
    apart(kept, other, ids)


def test_texts_that_end_where_the_kept_text_ends():
    """A part of which one whole text is kept, and no more, is read again to tell what follows."""
    store = [("c" * (KEPT - 1), "and so on"), ("c" * (KEPT - 1), "and so forth")]
    prompts = [Prompt(0, f"{number}", [Part(store[number], number)]) for number in (0, 1)]
    prompts.append(Prompt(1, "0", [Part(store[0], 0)]))
    check(prompts, TOY, TOKEN.findall, store.__getitem__)


def test_tokens_that_reach_over_spaces_are_counted_in_whole_texts():
    """Where words cannot be counted by themselves, nothing is taken for shared that is not."""
    apart("cca bc" * 20 + "cabc", "cca bc" * 20 + "bacb", re.compile("a b|.").findall)


def test_words_without_an_end_are_compared_to_the_token():
    """A long run without a space is cut for comparing, not miscounted."""
    for front in ("", "c"):
        row = front + "ab" * 1500
        apart(row + "aab" * 300, row + "b" + "aab" * 300, TOKEN.findall)


def test_what_a_play_had_too_still_counts_for_others():
    """A part that another play had, then this one, is an earlier prompt in both scopes."""
    parts = [Part(("a common front and an end",)), Part(("a common front, no end",))]
    prompts = [Prompt(0, "x", parts[:1]), Prompt(0, "y", parts[:1]), Prompt(0, "y", parts[1:])]
    check(prompts, TOY, TOKEN.findall)
    found = simulate(prompts[2:] + prompts[:1], TOY)
    assert found.longest_tokens["across_trajectories"] > 0


def test_additions_to_earlier_prompts_give_what_whole_prompts_give():
    """A conversation told by its additions and one told from the front are the same load."""
    parts = [Part((f"message {number} of the conversation",), number) for number in range(20)]
    deltas = [
        Prompt(phase, "p", parts[:2] if turn == 0 else parts[turn * 2 : turn * 2 + 2], before)
        for phase in range(2)
        for turn in range(10)
        for before in [turn - 1 if turn else None]
    ]
    full = [Prompt(phase, "p", parts[: turn * 2 + 2]) for phase in range(2) for turn in range(10)]
    found = simulate(deltas, TOY)
    assert found == simulate(full, TOY)
    # Every prompt but a phase's first repeats the one before it, and phase 1 repeats phase 0.
    lengths = [len(tokens_of(parts, TOKEN.findall)) for _, _, parts in whole(full)]
    assert found.longest_tokens["within"] == lengths[8]
    assert found.longest_tokens["across_phases"] == lengths[9] - 1


def test_a_leak_between_phases_is_found_to_the_token():
    """A front that two phases share shows with its exact length; where none is, there is 0."""
    tokenizer = open_tokenizer()
    front = " ".join(f"word{number}" for number in range(300))
    clean = [Prompt(0, "x", [Part((f"A {front}",))]), Prompt(1, "x", [Part((f"B {front}",))])]
    found = simulate(clean, tokenizer)
    assert found.longest_tokens["across_phases"] == 0
    assert {hits["across_phases"] for hits in found.hit_tokens.values()} == {0}

    leaking = [
        Prompt(0, "x", [Part(("sys",)), Part((front + " and so it went on",))]),
        Prompt(1, "y", [Part(("sys",)), Part((front + " but not today",))]),
    ]
    found = simulate(leaking, tokenizer)
    shared = sum(tokenizer.count(["sys", front]))
    assert found.longest_tokens == dict.fromkeys(SCOPES, 0) | {"across_phases": shared}
    hits = {size: scopes["across_phases"] for size, scopes in found.hit_tokens.items()}
    assert hits == {size: shared // size * size for size in (16, 64, 128, 512)}


def test_a_repeated_prompt_is_found_but_for_its_last_token():
    """An engine computes at least one token, so of 32 equal ones a cache gives 31, or one block."""
    prompts = [Prompt(0, "x", [Part(("c" * 32,))])] * 2
    found = simulate(prompts, TOY, block_sizes=(1, 16, 32))
    assert [found.hit_tokens[size]["within"] for size in (1, 16, 32)] == [31, 16, 0]


def test_texts_are_read_again_only_where_siblings_begin_alike():
    """Parts that differ early are told apart by what is kept; the others are read, once."""
    store = [
        "one sentence that is longer than what is kept of any part of a prompt",
        "two sentences. This one and that one, and they are longer than what is kept.",
        "one sentence that is longer than what is kept of any part of an export",
        "one sentence that is longer than what is kept of anything at all",
    ]
    assert min(map(len, store)) > KEPT
    read: list[int] = []

    def again(place):
        read.append(place)
        return (store[place],)

    ids = TOKEN.findall
    prompts = [Prompt(0, f"{number}", [Part((store[number],), number)]) for number in range(4)]
    check(prompts[:2], TOY, ids, again)
    assert read == []
    check(prompts[:3], TOY, ids, again)
    assert read == [0]
    read.clear()
    check(prompts, TOY, ids, again)
    assert read == [0]


def test_a_place_that_holds_another_part_is_noticed():
    """What is read again must be what was there before."""
    prompts = [Prompt(0, f"{number}", [Part(("a" * (80 + number),), number)]) for number in (0, 1)]
    with pytest.raises(ValueError, match="place 0 holds another part"):
        simulate(prompts, TOY, lambda place: ("something else",))


def test_texts_are_not_held_while_they_can_be_read_again():
    """The memory of a simulation does not follow the length of the texts."""

    def text(index):
        number = index + index // 3  # of every four texts the last is left out
        front = f"{number // 4} and what follows it in all of four texts, {number // 2} in two: "
        return front + "the text of a message " * 4000 + f"{number}"

    def prompts():
        for number in range(200):
            # Half of them follow the same prompt and begin alike, and must be read again.
            after = None if number < 100 else number - 1
            yield Prompt(0, "x", [Part((text(number),), number)], after)

    tokenizer = dataclasses.replace(TOY, count=lambda texts: [len(text) for text in texts])
    tracemalloc.start()
    try:
        found = simulate(prompts(), tokenizer, lambda place: (text(place),))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert found.prompts == 200
    assert peak < 200 * len(text(0)) / 7


def test_equal_parts_are_counted_once():
    """Later phases and plays repeat the texts of earlier ones; no tokenizer sees them again."""
    seen: list[str] = []

    def count(texts):
        seen.extend(texts)
        return [len(text) for text in texts]

    parts = [Part((f"{number} is a text",)) for number in range(5)]
    prompts = [
        Prompt(phase, f"{play}", [Part((f"({phase} {play})",)), *parts])
        for phase in range(2)
        for play in range(300)
    ]
    simulate(prompts, dataclasses.replace(TOY, count=count))
    assert all(seen.count(part.texts[0]) == 1 for part in parts)


def test_block_sizes_that_blocks_cannot_tell_are_unknown():
    """Ids of 64 tokens say nothing of blocks of 16; nor is there a rate of nothing."""
    prompts = [BlockPrompt(0, "x", array("q", [1, 2]), 64, 150)] * 2
    found = simulate(prompts)
    assert sorted(found.hit_tokens) == [64, 128, 512]
    assert found.rate(16, "within") is None
    assert found.rate(64, "within") == round(128 / 300, 6)
    assert simulate([]).rate(64, "within") is None


def test_blocks_that_are_not_told_are_not_shared():
    """A prompt that is longer than its ids shares the blocks that have ids."""
    found = simulate([BlockPrompt(0, "x", [1], 64, 1000)] * 2)
    assert found.hit_tokens[64]["within"] == found.longest_tokens["within"] == 64


@pytest.mark.parametrize(
    ("order", "message"),
    [
        ([(0, "a", None), (0, "b", None), (0, "a", None)], "play a in phase 0 are not together"),
        ([(1, "a", None), (0, "b", None)], "phase 0 comes after phase 1"),
        ([(0, "a", None), (0, "a", 1)], "no prompt 1 to go on from"),
        ([(0, "a", None), (0, "b", 0)], "no prompt 0 to go on from"),
    ],
)
def test_prompts_out_of_order_are_refused(order, message):
    """Scopes cannot be told apart in another order, so it is an error, not a wrong number."""
    prompts = [Prompt(phase, play, [], after) for phase, play, after in order]
    with pytest.raises(ValueError, match=message):
        simulate(prompts, TOY)


def test_text_needs_a_tokenizer():
    """Block ids can do without one; texts cannot."""
    with pytest.raises(ValueError, match="need a tokenizer"):
        simulate([Prompt(0, "a", [])])


def test_the_report_tells_nothing_from_next_to_nothing():
    """A rate of exactly 0 reads otherwise than one that only rounds to 0."""
    hits = {16: {"within": 900_000, "across_trajectories": 16, "across_phases": 0}}
    longest = {"within": 5000, "across_trajectories": 17, "across_phases": 3}
    found = CacheHits(2, 4, 100, 1_000_000, hits, longest)
    head, heads, row, last = report.hit_rates(found).splitlines()
    assert "100 prompts" in head
    assert "1,000,000 tokens" in head
    assert heads.split("  ")[-1].strip() == "across phases"
    assert row.split() == ["16", "90.00%", "<0.01%", "0"]
    assert "17 tokens across trajectories, 3 across phases" in last
    assert found.to_dict()["by_block_size"]["16"]["across_phases"] == {"hit_tokens": 0, "rate": 0.0}
