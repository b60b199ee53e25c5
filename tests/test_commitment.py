"""Commitments: whatever was committed to can be proven, and nothing else."""

from __future__ import annotations

import copy
import hashlib
import hmac
import json
import shutil
from pathlib import Path

import pytest
import rfc8785
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import rows
from fleet import fleet, key_file, options
from traj import schema
from traj.dataset import MANIFEST, Dataset
from traj.errors import DatasetError, UsageError
from traj.release import commitment, merkle, reveal, split, verify
from traj.release.keys import read_key

# The tree


@given(st.lists(st.binary(min_size=32, max_size=32), min_size=1, max_size=40), st.data())
@settings(max_examples=300)
def test_any_leaves_prove_themselves_and_no_others(leaves, data):
    """Some leaves and what they lack give the root; with any leaf changed, or any hash changed,
    added or left out, they do not."""
    places = sorted(data.draw(st.sets(st.integers(0, len(leaves) - 1), min_size=1)))
    root, missing = merkle.root(leaves), merkle.prove(leaves, places)
    known = {place: leaves[place] for place in places}
    assert merkle.recompute(len(leaves), known, missing) == root
    wrong = data.draw(st.binary(min_size=32, max_size=32).filter(lambda x: x not in leaves))
    place = data.draw(st.sampled_from(places))
    assert merkle.recompute(len(leaves), known | {place: wrong}, missing) != root
    assert merkle.recompute(len(leaves), known, [*missing, wrong]) is None
    if missing:
        at = data.draw(st.integers(0, len(missing) - 1))
        assert merkle.recompute(len(leaves), known, missing[:at] + missing[at + 1 :]) != root
        changed = [wrong if n == at else one for n, one in enumerate(missing)]
        assert merkle.recompute(len(leaves), known, changed) != root
    if len(places) > 1:
        fewer = {other: leaf for other, leaf in known.items() if other != place}
        assert merkle.recompute(len(leaves), fewer, missing) != root


def test_the_tree_is_that_of_rfc_6962():
    """Against the definition in the RFC, written down as it stands there."""

    def plain(leaves):
        if len(leaves) == 1:
            return leaves[0]
        cut = 1
        while cut * 2 < len(leaves):
            cut *= 2
        return hashlib.sha256(b"\x01" + plain(leaves[:cut]) + plain(leaves[cut:])).digest()

    leaves = [hashlib.sha256(bytes([n])).digest() for n in range(70)]
    for count in range(1, 71):
        assert merkle.root(leaves[:count]) == plain(leaves[:count])


def test_an_inner_node_is_no_leaf():
    """A leaf's hash cannot be passed off as that of two: the two begin with other bytes."""
    left, right = (merkle.leaf(b"s" * 32, bytes([n])) for n in range(2))
    assert merkle.root([left, right]) != merkle.leaf(left, right)


# Disclosures


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A public and a private folder, the key, and the private ids."""
    folder = tmp_path_factory.mktemp("released")
    data = rows.write(folder / "x.traj", fleet(12), group_rows=False)
    assert split(data, options(folder, private_share=0.4, private_out=folder / "private.traj")).ok
    private = Dataset.open(folder / "private.traj")
    ids = private.table("trajectories", ["trajectory_id"]).column(0).to_pylist()
    assert len(ids) > 5
    return Dataset.open(data), private, folder / "split.key", ids


@pytest.fixture(scope="module")
def disclosed(released, tmp_path_factory):
    """A disclosure of two trajectories, as JSON."""
    _, private, key, ids = released
    file = tmp_path_factory.mktemp("disclosed") / "d.json"
    reveal(private, [ids[1], ids[4]], file, key)
    return json.loads(file.read_bytes())


def verdict(disclosure, public, folder):
    file = folder / "disclosure.json"
    file.write_text(json.dumps(disclosure))
    return verify(file, public)


def test_what_was_committed_to_is_proven(released, tmp_path):
    """Any trajectory, several, and all of them; named by their first digits too."""
    public, private, key, ids = released
    for chosen in (ids[:1], [ids[0][:12], ids[-1]], ids):
        out = reveal(private, chosen, tmp_path / "d.json", key)
        found = verify(tmp_path / "d.json", public)
        assert found.ok
        assert len(found.trajectories) == len(chosen)
        assert found.rows == {name: count for name, count in sorted(out.rows.items()) if count}
    assert found.rows == dict(sorted(public.manifest.commitment["counts"].items()))


def test_a_disclosure_holds_the_rows_as_they_are(released, disclosed):
    """All rows of the trajectories, and of their prompts, as the private dataset has them."""
    _, private, _, ids = released
    for table in schema.TABLES:
        found = [row["row"] for row in disclosed["rows"] if row["table"] == table]
        held = private.table(table).to_pylist()
        if table == "prompts":
            used = {row["row"]["system_id"] for row in disclosed["rows"] if row["table"] == "turns"}
            assert found == [row for row in held if row["prompt_id"] in used]
        else:
            assert found == [row for row in held if row["trajectory_id"] in (ids[1], ids[4])]


def test_a_leaf_is_what_the_format_says(released, disclosed):
    """Salts and leaves, computed from the definition alone, give the published root when all is
    disclosed."""
    public, private, key, ids = released
    secret = read_key(key).derive("commitment")
    out = key.parent / "all.json"
    reveal(private, ids, out, key)
    leaves = []
    for row in json.loads(out.read_bytes())["rows"]:
        own = [row["table"], *(row["row"][name] for name in schema.table(row["table"]).key)]
        salt = hmac.new(secret, rfc8785.dumps(own), "sha256").digest()
        assert row["salt"] == salt.hex()
        leaves.append(hashlib.sha256(b"\0" + salt + rfc8785.dumps(row["row"])).digest())
    assert merkle.root(leaves).hex() == public.manifest.commitment["root"]
    assert len(leaves) == sum(public.manifest.commitment["counts"].values())


def values(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return st.just(not value)
    if isinstance(value, int | float):
        return st.integers(-(2**53) + 1, 2**53 - 1).filter(lambda other: other != value)
    if isinstance(value, str):
        return st.text(max_size=20).filter(lambda other: other != value)
    if isinstance(value, dict):
        return st.sampled_from(sorted(value)).flatmap(
            lambda name: values(value[name]).map(lambda other: value | {name: other})
        )
    if isinstance(value, list):
        return st.just([*value, None])
    return st.integers(0, 5) | st.just("")


@given(data=st.data())
@settings(
    max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_changed_row_is_always_caught(released, disclosed, tmp_path, data):
    """Any other value in any column of any row, any field of a struct included."""
    forged = copy.deepcopy(disclosed)
    row = data.draw(st.sampled_from(forged["rows"]))["row"]
    column = data.draw(st.sampled_from(sorted(row)))
    row[column] = data.draw(values(row[column]))
    assert not verdict(forged, released[0], tmp_path).ok


@given(data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_dropped_row_is_always_caught(released, disclosed, tmp_path, data):
    """Any rows left out, and with them any of the hashes, or with the trajectory's name."""
    forged = copy.deepcopy(disclosed)
    drop = data.draw(st.sets(st.integers(0, len(forged["rows"]) - 1), min_size=1))
    forged["rows"] = [row for n, row in enumerate(forged["rows"]) if n not in drop]
    if data.draw(st.booleans()):
        keep = data.draw(st.sets(st.integers(0, len(forged["missing"]))))
        forged["missing"] = [one for n, one in enumerate(forged["missing"]) if n in keep]
    if data.draw(st.booleans()):
        forged["trajectories"] = forged["trajectories"][1:]
    assert not verdict(forged, released[0], tmp_path).ok


@given(data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_an_added_row_is_always_caught(released, disclosed, tmp_path, data):
    """A row more: at any place, of any table, a copy or one made up after it."""
    forged = copy.deepcopy(disclosed)
    row = copy.deepcopy(data.draw(st.sampled_from(forged["rows"])))
    row["place"] = data.draw(
        st.integers(-2, 2000) | st.sampled_from(forged["rows"]).map(lambda x: x["place"])
    )
    row["table"] = data.draw(st.sampled_from([*schema.TABLES, "odd"]))
    number = schema.table(row["table"]).key[-1] if row["table"] in schema.TABLES else "turn"
    if data.draw(st.booleans()):
        row["row"][number] = data.draw(st.integers(0, 99))
    at = data.draw(st.integers(0, len(forged["rows"])))
    forged["rows"].insert(at, row)
    if data.draw(st.booleans()):
        forged["rows"].sort(key=lambda one: one["place"])
    assert not verdict(forged, released[0], tmp_path).ok


@given(data=st.data())
@settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_moved_rows_and_changed_proofs_are_caught(released, disclosed, tmp_path, data):
    """Two rows exchanged, another salt, another place, another hash beside the rows, one more."""
    forged = copy.deepcopy(disclosed)
    one, other = data.draw(
        st.lists(
            st.sampled_from(forged["rows"]), min_size=2, max_size=2, unique_by=lambda x: x["place"]
        )
    )
    what = data.draw(st.sampled_from(["exchange", "salt", "place", "hash", "more"]))
    if what == "exchange":
        one["row"], other["row"] = other["row"], one["row"]
    elif what == "salt":
        one["salt"] = other["salt"]
    elif what == "place":
        one["place"] += data.draw(st.integers(-3, 3).filter(bool))
    elif what == "hash":
        at = data.draw(st.integers(0, len(forged["missing"]) - 1))
        forged["missing"][at] = one["salt"]
    else:
        forged["missing"].append(one["salt"])
    assert not verdict(forged, released[0], tmp_path).ok


@pytest.fixture(scope="module")
def everything(released, tmp_path_factory):
    """All private rows, disclosed, and the hashes of their leaves."""
    _, private, key, ids = released
    file = tmp_path_factory.mktemp("everything") / "d.json"
    reveal(private, ids, file, key)
    rows_ = json.loads(file.read_bytes())["rows"]
    leaves = [merkle.leaf(bytes.fromhex(r["salt"]), rfc8785.dumps(r["row"])) for r in rows_]
    return rows_, leaves


@given(data=st.data())
@settings(
    max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_a_part_of_a_trajectory_proves_nothing(released, disclosed, everything, tmp_path, data):
    """The key's holder, who can prove any rows, cannot leave out some of a trajectory, nor show
    rows of another beside it: its own totals contradict him."""
    rows_, leaves = everything
    own = {row["place"] for row in disclosed["rows"]}
    drop = data.draw(st.sets(st.sampled_from(sorted(own)), max_size=3))
    more = data.draw(st.sets(st.integers(0, len(leaves) - 1), max_size=3)) - own
    shown = sorted(own - drop | more)
    forged = disclosed | {
        "rows": [rows_[place] for place in shown],
        "missing": [one.hex() for one in merkle.prove(leaves, shown)],
    }
    assert verdict(forged, released[0], tmp_path).ok is (shown == sorted(own))


def test_a_row_may_stand_once_and_no_prompt_may_lack(released, everything, disclosed, tmp_path):
    """A forged row beside the true one of the same place, of any table; a prompt that the turns
    refer to left out by one who can prove the rest."""
    for table in schema.TABLES:
        at = next(n for n, row in enumerate(disclosed["rows"]) if row["table"] == table)
        for after in (0, 1):
            forged = copy.deepcopy(disclosed)
            row = copy.deepcopy(forged["rows"][at])
            row["row"]["schema_version"] = "9"
            forged["rows"].insert(at + after, row)
            assert not verdict(forged, released[0], tmp_path).ok
    rows_, leaves = everything
    shown = [row["place"] for row in disclosed["rows"]]
    assert rows_[shown[-1]]["table"] == "prompts"
    missing = [one.hex() for one in merkle.prove(leaves, shown[:-1])]
    forged = disclosed | {"rows": disclosed["rows"][:-1], "missing": missing}
    assert not verdict(forged, released[0], tmp_path).ok


def test_a_trajectory_that_was_never_in_the_set_is_not_proven(released, tmp_path):
    """What another private split committed to is not what this one did."""
    other = rows.write(tmp_path / "x.traj", fleet(8))
    assert split(other, options(tmp_path, private_share=0.5)).ok
    private = Dataset.open(other)
    (name, *_) = private.table("trajectories", ["trajectory_id"], "private").column(0).to_pylist()
    reveal(private, [name], tmp_path / "d.json", tmp_path / "split.key")
    assert verify(tmp_path / "d.json", private).ok
    assert not verify(tmp_path / "d.json", released[0]).ok


def test_the_root_does_not_give_rows_away(released, tmp_path):
    """Under another key equal rows have another root: without the salts no guess can be checked."""
    public, _, key, ids = released
    assert read_key(key).mark == public.manifest.commitment["key"]
    roots = set()
    for text in ("11" * 32, "22" * 32):
        data = rows.write(tmp_path / text[:2], fleet(12), group_rows=False)
        secret = read_key(key_file(tmp_path, f"TRAJ-SPLIT-KEY-1-{text}")).derive("commitment")
        spans = [one for one in Dataset.open(data).spans() if one[0] in ids]
        roots.add(commitment.root(commitment.leaves(spans, {}, secret)))
    assert len(roots) == 2


@pytest.mark.parametrize(
    "value",
    [
        2**53,
        -(2**63),
        float("nan"),
        float("inf"),
        float("-inf"),
        1e300,
        5e-324,
        -0.0,
        "\x00\ud7ff\U0010ffff",
    ],
)
def test_any_value_of_a_column_has_a_canonical_form(value):
    """What JSON numbers cannot hold is committed to as text."""
    import pyarrow as pa

    from traj.dataset import Span

    table = pa.table({"x": pa.array([value])})
    (row,) = commitment.plain_rows(Span(table, 0, 1))
    assert commitment.canonical(row)
    assert json.loads(json.dumps(row, allow_nan=False)) == row


# Refusals


def test_rows_that_changed_since_cannot_be_revealed(released, tmp_path):
    """A private dataset whose rows are not those of its commitment is not disclosed from."""
    _, private, key, ids = released
    folder = Path(shutil.copytree(private.path, tmp_path / "private.traj"))
    data = json.loads((folder / MANIFEST).read_bytes())
    data["commitment"]["root"] = "0" * 64
    (folder / MANIFEST).write_text(json.dumps(data))
    with pytest.raises(DatasetError, match="not those that were committed to"):
        reveal(Dataset.open(folder), ids[:1], tmp_path / "d.json", key)
    assert not (tmp_path / "d.json").exists()


def test_what_cannot_be_revealed_is_said(released, tmp_path):
    """Unknown and ambiguous ids, another key, a dataset that was never split."""
    public, private, key, ids = released
    out = tmp_path / "d.json"
    for chosen, said in (
        (["zz"], "no private trajectory 'zz'"),
        ([""], "private trajectories"),
        ([], "no trajectory"),
    ):
        with pytest.raises(UsageError, match=said):
            reveal(private, chosen, out, key)
    with pytest.raises(UsageError, match="not the key"):
        reveal(private, ids[:1], out, key_file(tmp_path, "TRAJ-SPLIT-KEY-1-" + "0" * 64))
    plain = Dataset.open(rows.write(tmp_path / "x.traj", fleet(1)))
    with pytest.raises(UsageError, match="run traj split"):
        reveal(plain, ids[:1], out, key)
    with pytest.raises(UsageError, match="no commitment"):
        verify(tmp_path / "x.traj" / MANIFEST, plain)
    with pytest.raises(UsageError, match="no private trajectory"):
        reveal(public, ids[:1], out, key)
    assert not out.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{}", "[]", "null", '{"format": "other"}', "[" * 100_000, '{"format":"traj-disclosure-1"}']
    + [
        json.dumps(
            {"format": "traj-disclosure-1", "trajectories": ["a"], "missing": [], "rows": rows_}
        )
        for rows_ in (3, [3], [{}], [{"table": "turns", "place": 0, "salt": "xy", "row": {}}])
    ],
)
def test_what_is_no_disclosure_is_an_error_of_one_line(text, released, tmp_path):
    """Foreign, damaged and hostile files."""
    (tmp_path / "d.json").write_text(text)
    with pytest.raises(UsageError, match=r"d\.json: ") as caught:
        verify(tmp_path / "d.json", released[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("total", [10**15, -1, None, "9", True])
def test_absurd_totals_are_no_proof(total, released, disclosed, tmp_path):
    """Figures of a forged disclosure are compared, never counted up to."""
    forged = copy.deepcopy(disclosed)
    forged["rows"][0]["row"]["totals"]["turns"] = total
    assert not verdict(forged, released[0], tmp_path).ok
    forged["rows"][0]["place"] = 10**15
    assert not verdict(forged, released[0], tmp_path).ok
