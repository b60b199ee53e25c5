"""The draw: stable under growth, keyed, and nearer to the wanted share than chance alone."""

from __future__ import annotations

import random
from statistics import mean

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from traj.errors import UsageError
from traj.release.assign import PRIVATE, PUBLIC, Candidate, assign, length_level, levels_of
from traj.release.families import Session, families, read_families

ROWS = st.fixed_dictionaries(
    {
        "language": st.sampled_from(["Python", "Rust", None]),
        "use_case": st.sampled_from(["bug_fix", None]),
        "turns": st.integers(0, 300),
    }
)
FAMILIES = st.lists(
    st.tuples(st.text(max_size=12), st.lists(ROWS, min_size=1, max_size=4)),
    max_size=20,
    unique_by=lambda family: family[0],
)


def candidates(found, before=()):
    known = dict(before)
    return [Candidate(name, known.get(name), levels_of(rows)) for name, rows in found]


@given(FAMILIES, st.binary(min_size=32, max_size=32), st.floats(0.05, 0.95), st.data())
@settings(max_examples=300)
def test_whoever_is_assigned_never_moves(found, key, share, data):
    """However a dataset grows, and in whatever order, a family stays where it was."""
    order = data.draw(st.permutations(found))
    known = {}
    while order:
        step = data.draw(st.integers(1, len(order)))
        seen = [one for one in found if one[0] in known] + order[:step]
        now = assign(candidates(data.draw(st.permutations(seen)), known.items()), key, share)
        assert now.keys() == {name for name, _ in seen}
        assert {name: now[name] for name in known} == known
        known, order = now, order[step:]


@given(FAMILIES, st.binary(min_size=32, max_size=32), st.data())
def test_the_draw_does_not_depend_on_the_order_of_families(found, key, data):
    """The same families under the same key are assigned alike, in whatever order they come."""
    mixed = data.draw(st.permutations(found))
    assert assign(candidates(found), key, 0.3) == assign(candidates(mixed), key, 0.3)


def world(rng, count=100):
    """Families as repositories have them: most have one session, few have many."""
    found = []
    for number in range(count):
        size = min(60, int(rng.paretovariate(1.2)))
        language = rng.choice(["Python"] * 5 + ["TypeScript"] * 3 + ["Go", "Rust"])
        rows = [
            {
                "language": language,
                "use_case": rng.choice(["bug_fix", "feature", None]),
                "turns": int(rng.lognormvariate(3, 1.1)),
            }
            for _ in range(size)
        ]
        found.append((f"github.com/o/{number}", rows))
    return found


def off(found, splits, share):
    """How far the private shares of larger levels are from what was wanted, and that of all."""
    whole, private = {}, {}
    for name, rows in found:
        for level, count in levels_of(rows).items():
            whole[level] = whole.get(level, 0) + count
            private[level] = private.get(level, 0) + count * (splits[name] == PRIVATE)
    gaps = {one: abs(private[one] / whole[one] - share) for one in whole if whole[one] >= 20}
    return mean(gaps.values()), gaps["all", ""]


def test_the_private_share_is_even_over_languages_uses_and_lengths():
    """Over many datasets the leaning coin comes nearer to the share than the coin alone: in all,
    and in each language, use case and class of length; grown bit by bit as well as at once."""
    gaps = {"alone": [], "at once": [], "grown": []}
    for seed in range(30):
        rng = random.Random(seed)
        found, key = world(rng), rng.randbytes(32)
        gaps["alone"].append(off(found, assign(candidates(found), key, 0.2, lean=0), 0.2))
        gaps["at once"].append(off(found, assign(candidates(found), key, 0.2), 0.2))
        known = {}
        for stop in range(10, len(found) + 1, 10):
            known = assign(candidates(found[:stop], known.items()), key, 0.2)
        gaps["grown"].append(off(found, known, 0.2))
    by_level = {name: mean(gap[0] for gap in found) for name, found in gaps.items()}
    whole = {name: mean(gap[1] for gap in found) for name, found in gaps.items()}
    assert by_level["at once"] < by_level["alone"] / 2
    assert by_level["grown"] < by_level["alone"] / 2
    assert whole["at once"] < 0.02
    assert whole["grown"] < 0.02


def test_no_family_is_certain_of_its_split():
    """Without the key nothing can be said for sure: each family is public under some keys and
    private under others, alone as well as beside others that fill a split."""
    found = candidates(
        [(str(n), [{"language": "C", "use_case": None, "turns": 9}]) for n in range(9)]
    )
    full = [Candidate(f"p{n}", PRIVATE, found[0].levels) for n in range(9)]
    for others in ([], full):
        seen = [
            assign([*others, *found], random.Random(seed).randbytes(32), 0.5) for seed in range(300)
        ]
        for one in found:
            assert {splits[one.name] for splits in seen} == {PUBLIC, PRIVATE}


def test_lengths_are_classed_by_bounds_that_stay():
    """Classes of length do not depend on what else is in the dataset."""
    assert [length_level(n) for n in (0, 7, 8, 31, 32)] == [
        "0 to 7",
        "0 to 7",
        *["8 to 31"] * 2,
        "32 to 127",
    ]


@pytest.mark.parametrize("share", [0, 1, -0.1, 20])
def test_a_share_that_leaves_a_split_empty_is_refused(share):
    """The private share lies strictly between 0 and 1."""
    with pytest.raises(UsageError, match="between 0 and 1"):
        assign([], bytes(32), share)


# Families


def named(*sessions, joined=(), lone=False):
    return [set(one.trajectories) for one in families(sessions, joined, lone=lone)]


def test_a_repository_is_a_family():
    """Sessions on one repository are together, those on others are not."""
    found = named(
        Session("a", "h/o/x", None), Session("b", "h/o/y", None), Session("c", "h/o/x", None)
    )
    assert found == [{"a", "c"}, {"b"}]


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (Session("a", "h/o/x", "c1"), Session("b", "h/p/y", "c1")),
        (Session("a", "h/o/x", None, (7, 8)), Session("b", "h/p/y", None, (8,))),
        (Session("a", "h/o/x", "c1"), Session("b", None, "c1")),
    ],
    ids=["start commit", "answer", "commit, unknown repository"],
)
def test_what_shares_history_is_a_family(one, other):
    """A common start commit, or a common answer, makes one family of two repositories."""
    assert named(one, other, lone=True) == [{"a", "b"}]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.toml", '[families]\nx = ["https://H/o/X.git", "git@h:p/y.git"]\n'),
        ("x.csv", "family,repository\nx,H/o/X\nx,h/p/y\n"),
    ],
)
def test_a_families_file_joins_renames_and_forks(file, text, tmp_path):
    """Repositories that the file names together are one family, however their URLs are spelt."""
    (tmp_path / file).write_text(text)
    joined = read_families(tmp_path / file)
    sessions = (
        Session("a", "h/o/x", None),
        Session("b", "h/p/y", None),
        Session("c", "h/q/z", None),
    )
    assert named(*sessions, joined=joined) == [{"a", "b"}, {"c"}]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("x.toml", "families = 3"),
        ("x.toml", '[families]\nx = "h/o/x"'),
        ("x.toml", "[families"),
        ("x.csv", "a,b\n1,2\n"),
        ("x.csv", "family,repository\nx\n"),
        ("x.toml", None),
    ],
)
def test_what_is_no_families_file_is_refused(file, text, tmp_path):
    """A file that cannot be understood is an error that names it, never an empty list."""
    if text is not None:
        (tmp_path / file).write_text(text)
    with pytest.raises(UsageError, match=file):
        read_families(tmp_path / file)


def test_unknown_repositories_are_refused_unless_told():
    """A session without a repository needs a word of the user: that it stands for itself, or where
    it belongs."""
    lost = Session("0" * 32, None, None)
    with pytest.raises(UsageError, match="--lone-sessions"):
        named(lost, Session("b", "h/o/x", None))
    assert named(lost, Session("b", "h/o/x", None), lone=True) == [{"0" * 32}, {"b"}]
    joined = [("0" * 32, "h/o/x")]
    assert named(lost, Session("b", "h/o/x", None), joined=joined) == [{"0" * 32, "b"}]
