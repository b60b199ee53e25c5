"""`traj label`: who is believed, what is refused, and what survives."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import rows
import traj
from conftest import ROOT, SAMPLES
from fleet import fleet, key_file, options, repository, session, together
from test_cli import traj as command
from test_pipeline import tree
from test_sources import answer, claude, user
from traj import schema
from traj.dataset import MANIFEST, Dataset
from traj.dataset.files import DataWriter
from traj.dataset.labels import COLUMNS, LABELS, RANK
from traj.dataset.write import commit
from traj.errors import TrajError, UsageError
from traj.label import Orders, describe, label, write_out
from traj.label.values import BY_NAME, sources
from traj.pipeline import record
from traj.release import commitment, reveal, split, verify
from traj.release.keys import read_key
from traj.release.parts import Parts
from traj.release.text_free import text_free

ONE, TWO = rows.trajectory_id("one"), rows.trajectory_id("two")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def data(tmp_path) -> Path:
    """Two sessions of which nothing is known but what is in them."""
    return rows.write(tmp_path / "x.traj", rows.small())


def heads(folder: Path) -> dict[str, dict]:
    table = Dataset.open(folder).table("trajectories")
    return {row["trajectory_id"]: row for row in table.to_pylist()}


def put(folder: Path, *sets: str, **over) -> object:
    return label(folder, Orders(sets=sets, **over))


def write_csv(folder: Path, names: list[str], *lines: list[str]) -> Path:
    file = folder / "labels.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerows([names, *lines])
    return file


def take(data: Path, file: Path, **over) -> object:
    return label(data, Orders(table=file, **over))


# What is said


def test_a_person_sets_labels_and_the_rows_say_so(data):
    """Every label that is set is in the row with its source, and the dataset is sound."""
    report = put(
        data,
        "repository.url=git@GitHub.com:Owner/name.git",
        f"repository.commit={COMMIT.upper()}",
        "repository.license=mit or apache-2.0",
        "repository.visibility=Public",
        "language=rust",
        "languages=C; rust",
        "use_case=bug fix",
        "task.url=https://github.com/Owner/name/issues/1",
        "task.title=The pager",
        "outcome=resolved",
        where=("session_id=one",),
    )
    assert report.ok
    assert (report.trajectories, report.written) == (1, True)
    one, two = heads(data)[ONE], heads(data)[TWO]
    assert one["repository"] == {
        "host": "github.com",
        "owner": "Owner",
        "name": "name",
        "url": "https://github.com/Owner/name",
        "commit": COMMIT,
        "branch": None,
        "license": "MIT OR Apache-2.0",
        "visibility": "public",
        "known_by": "user",
    }
    assert (one["language"], one["languages"]) == ("Rust", ["C", "Rust"])
    assert one["task"] == {"url": "https://github.com/Owner/name/issues/1", "title": "The pager"}
    assert (one["use_case"], one["outcome"]) == ("bug_fix", "resolved")
    assert {one[x.source] for x in LABELS if "." not in x.source} == {"user"}
    assert two == heads(data)[TWO]
    assert (two["repository"], two["task"], two["outcome_source"]) == (None, None, "none")
    assert traj.validate(traj.load(data)).ok


def test_only_the_heads_of_changed_shards_are_written(tmp_path, monkeypatch):
    """Files of other tables and other shards keep their names, hence their bytes."""
    from traj.dataset import write

    monkeypatch.setattr(write, "_PER_SHARD", 2)
    record([SAMPLES / "codex", SAMPLES / "claude_code"], tmp_path / "x.traj")
    before = tree(tmp_path / "x.traj")
    name = min(heads(tmp_path / "x.traj"))
    made: list[str] = []
    close = DataWriter.close
    monkeypatch.setattr(DataWriter, "close", lambda self: made.append(self) or close(self))
    put(tmp_path / "x.traj", "use_case=test", where=(f"trajectory_id={name}",))
    after = tree(tmp_path / "x.traj")
    changed = {path for path in after if after[path] != before.get(path)} - {MANIFEST}
    assert (len(changed), len(made)) == (1, 1)
    assert changed.pop().startswith("data/trajectories/unsplit-00000-")
    assert len(before) == len(after)


def test_labelling_again_changes_nothing(data):
    """What is so already is not written."""
    put(data, "use_case=feature", "language=Go")
    before = tree(data)
    report = put(data, "use_case=feature", "language=Go")
    assert (report.trajectories, report.written) == (0, False)
    assert tree(data) == before


def test_a_dry_run_writes_nothing_and_tells_the_same(data):
    """The verdicts of a dry run are those of the run."""
    before = tree(data)
    dry = put(data, "outcome=aborted", dry_run=True)
    assert tree(data) == before
    done = put(data, "outcome=aborted")
    assert (dry.verdicts, dry.trajectories) == (done.verdicts, 2)
    assert (dry.written, done.written) == (False, True)


def _name(row: dict) -> str | None:
    return row["repository"] and row["repository"]["name"]


@pytest.mark.parametrize(
    ("where", "holds"),
    [
        ("repository=github.com/Owner0/Name0", lambda row: _name(row) == "name0"),
        ("repository=github.com/owner1*", lambda row: (_name(row) or "").startswith("name1")),
        ("repository=https://github.com/owner3/name3.git", lambda row: _name(row) == "name3"),
        ("repository=", lambda row: _name(row) is None),
        ("repository.visibility=", lambda row: True),
        ("language=Python", lambda row: row["language"] == "Python"),
        ("languages=Python", lambda row: "Python" in row["languages"]),
        ("use_case=", lambda row: row["use_case"] is None),
        ("use_case=feature", lambda row: row["use_case"] == "feature"),
        ("agent.name=tester", lambda row: True),
        ("totals.turns=3", lambda row: row["totals"]["turns"] == 3),
        ("session_id=lone", lambda row: row["source"]["session_id"] == "lone"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_where_chooses_by_any_field(where, holds, tmp_path):
    """The trajectories that are labelled are those that the rows say."""
    tables = together(session("lone", None))
    for name, more in fleet(24).items():
        tables[name] += more
    data = rows.write(tmp_path / "x.traj", tables, group_rows=False)
    wanted = {name for name, row in heads(data).items() if holds(row)}
    assert wanted
    put(data, "task.title=chosen", where=(where,))
    assert {name for name, row in heads(data).items() if row["task"]} == wanted


@pytest.mark.parametrize(
    ("sets", "said"),
    [
        (["license=MIT"], "no such label"),
        (["repository.owner=me"], "no such label"),
        (["use_case"], "FIELD=VALUE"),
        (["use_case=bugs"], "give one of bug_fix"),
        (["outcome=won"], "give one of resolved"),
        (["repository.license=MIT/Apache"], "SPDX"),
        (["repository.license=NOASSERTION"], "SPDX"),
        (["repository.commit=abc123"], "40 or 64"),
        (["repository.commit=HEAD"], "40 or 64"),
        (["repository.url=name"], "https://host/owner/name"),
        (["repository.url=/srv/git/x"], "https://host/owner/name"),
        (["task.url=issue 4"], "http"),
        (["task.url=ftp://x/y"], "http"),
        (["task.url=https://me:secret@x/y"], "credentials"),
        (["language=C; Rust"], "one language"),
        (["use_case=test", "use_case=test"], "given twice"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_a_value_that_no_label_can_have_is_refused(sets, said, data):
    """One line with the remedy, no secret in it, and nothing is written."""
    before = tree(data)
    with pytest.raises(UsageError, match=said) as caught:
        put(data, *sets)
    assert "secret" not in str(caught.value)
    assert tree(data) == before


def test_credentials_in_a_repository_are_left_out(data):
    """The URL is what anyone may know of it."""
    put(data, "repository.url=https://me:hunter2@github.com/a/b.git?token=x")
    assert heads(data)[ONE]["repository"]["url"] == "https://github.com/a/b"


def test_a_label_can_be_taken_back(data):
    """An empty value: unknown again, as before it was set."""
    before = heads(data)
    put(data, "outcome=resolved", "use_case=test", "languages=C", "task.title=x")
    put(data, "outcome=", "use_case=", "languages=", "task.title=")
    after = heads(data)
    for name, row in before.items():
        assert after[name]["task"] in (None, {"url": None, "title": None})
        assert {**after[name], "task": None} == {**row, "task": None}


# Who is believed


@given(
    st.sampled_from(["use_case", "outcome", "repository.commit", "repository.license"]),
    st.data(),
    st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_better_known_is_never_replaced_unless_told(name, drawn, overwrite):
    """Whatever is said after whatever: a value that is known better stands, a contradiction is
    listed, and every value in the row was said with the source that is beside it."""
    from traj.label.decide import TO_WRITE, decide
    from traj.label.present import present
    from traj.label.said import said

    values = {
        "use_case": ["test", "feature"],
        "outcome": ["resolved", "aborted"],
        "repository.commit": ["a" * 40, "b" * 40],
        "repository.license": ["MIT", "ISC"],
    }[name]
    allowed = list(sources(BY_NAME[name]))
    frame = _EMPTY.get("frame")
    if frame is None:
        frame = _EMPTY["frame"] = present(_EMPTY["dataset"])
    known = drawn.draw(st.sampled_from([None, *values]))
    by = drawn.draw(st.sampled_from(allowed)) if known else None
    value = drawn.draw(st.sampled_from(values))
    source = drawn.draw(st.sampled_from([x for x in allowed if x != "log"]))
    asserted = drawn.draw(st.booleans())
    frame = frame.with_columns(
        pl.lit(known, pl.String).alias(name), pl.lit(by, pl.String).alias(f"{name} source")
    )
    told = said([ONE], name, value, source, "here", asserted=asserted)
    verdict = decide(told, frame, overwrite=overwrite)["verdict"][0]
    written = verdict in TO_WRITE
    if known is None:
        assert verdict == "new"
    elif value == known:
        assert written == (by != "log" and RANK[source] > RANK[by])
    elif asserted and overwrite:
        assert written
    elif by == "log" or RANK[source] < RANK[by]:
        assert verdict == ("conflict" if asserted else "kept")
    elif RANK[source] > RANK[by]:
        assert written
    else:
        assert written == (not asserted or source == "user")


@pytest.fixture(autouse=True, scope="module")
def _empty(tmp_path_factory):
    folder = rows.write(tmp_path_factory.mktemp("label") / "x.traj", rows.small())
    _EMPTY["dataset"] = Dataset.open(folder)
    yield
    _EMPTY.clear()


_EMPTY: dict = {}


def test_a_conflict_is_listed_and_the_rest_is_written(data):
    """What a benchmark says does not replace a person's word; of others it is taken."""
    put(data, "outcome=resolved", where=("session_id=one",))
    report = put(data, "outcome=unresolved", source="benchmark")
    assert not report.ok
    (conflict,) = report.conflicts
    assert (conflict.trajectory, conflict.known, conflict.known_by) == (ONE, "resolved", "user")
    assert (conflict.said, conflict.said_by) == ("unresolved", "benchmark")
    assert [heads(data)[x]["outcome"] for x in (ONE, TWO)] == ["resolved", "unresolved"]
    assert put(data, "outcome=unresolved", source="benchmark", overwrite=True).ok
    assert heads(data)[ONE]["outcome_source"] == "benchmark"


def test_what_the_session_says_stays_unless_a_person_insists(tmp_path):
    """The log's repository is not replaced by a person's word without --overwrite."""
    where = repository("github.com/a/b")
    data = rows.write(tmp_path / "x.traj", together(session("a", where)))
    assert len(put(data, "repository.url=https://github.com/c/d").conflicts) == 1
    (row,) = heads(data).values()
    assert row["repository"] == where
    assert put(data, "repository.url=https://github.com/c/d", overwrite=True).ok
    (row,) = heads(data).values()
    assert (row["repository"]["owner"], row["repository"]["known_by"]) == ("c", "user")
    assert row["repository"]["branch"] == "main"


def test_a_source_that_a_label_cannot_have_is_refused(data):
    """Only what the schema's enum holds."""
    with pytest.raises(UsageError, match="give one of tests, user, benchmark"):
        put(data, "outcome=resolved", source="rule")


def test_the_ranks_name_every_source_of_the_schema():
    """No source of any label is without its place in the order, nor the other way round."""
    named = {source for one in LABELS for source in sources(one)}
    assert named | {"none"} == set(RANK)


# Tables


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_what_is_exported_is_imported_without_a_change(kind, data, tmp_path):
    """Round trip: formulas, quotes, line breaks and all."""
    put(data, "task.title==HYPERLINK(1)", "outcome=aborted", where=("session_id=one",))
    put(data, 'task.title=\'=x, "y"\r\n z ', "languages=C; Rust", where=("session_id=two",))
    before = tree(data)
    file = tmp_path / f"labels.{kind}"
    assert write_out(data, file) == 2
    if kind == "csv":
        assert "'=HYPERLINK(1)" in file.read_text()
        with file.open(newline="") as stream:
            assert not any(cell.startswith("=") for row in csv.reader(stream) for cell in row)
    report = take(data, file)
    assert report.ok
    assert set().union(*report.verdicts.values()) == {"same"}
    assert tree(data) == before


def test_a_table_is_filled_in_by_a_person_and_imported(data, tmp_path):
    """Export, change some cells, import: the rows say just that, known by the person."""
    write_out(data, tmp_path / "labels.csv")
    table = pl.read_csv(tmp_path / "labels.csv", infer_schema=False)
    filled = table.with_columns(
        pl.when(pl.col("session_id") == "one").then(pl.lit("refactor")).alias("use_case"),
        pl.lit("MIT").alias("repository.license"),
    )
    filled.write_csv(tmp_path / "labels.csv")
    report = take(data, tmp_path / "labels.csv")
    assert report.verdicts == {"repository.license": {"new": 2}, "use_case": {"new": 1}}
    found = heads(data)
    assert [found[x]["use_case"] for x in (ONE, TWO)] == ["refactor", None]
    assert [found[x]["use_case_source"] for x in (ONE, TWO)] == ["user", None]
    assert {row["license_source"] for row in found.values()} == {"user"}
    assert describe(data).known["repository.license"] == {"user": 2}


def test_a_value_that_changed_while_its_source_did_not_is_a_conflict(data, tmp_path):
    """Whoever edits a cell that a benchmark filled must say that it is their word now."""
    put(data, "use_case=feature", source="benchmark")
    names = ["session_id", "use_case", "use_case_source"]
    stale = write_csv(tmp_path, names, ["one", "bug_fix", "benchmark"])
    assert len(take(data, stale).conflicts) == 1
    for source in ("user", ""):
        file = write_csv(tmp_path, names, ["one", "bug_fix", source])
        assert take(data, file).ok
    assert heads(data)[ONE]["use_case"] == "bug_fix"


def test_repositories_label_all_their_sessions(tmp_path):
    """A table by repository, in any spelling."""
    data = rows.write(tmp_path / "x.traj", fleet(5), group_rows=False)
    file = write_csv(
        tmp_path,
        ["repository", "repository.license", "repository.visibility"],
        ["https://github.com/Owner1/name1.git", "MIT", "public"],
        ["github.com/owner2/name2", "", "private"],
        ["", "", ""],
    )
    assert take(data, file).trajectories == 4
    found = {}
    for row in heads(data).values():
        known = row["repository"]
        found.setdefault(known["name"], set()).add((known["license"], known["visibility"]))
    assert found["name1"] == {("MIT", "public")}
    assert found["name2"] == {(None, "private")}
    assert found["name3"] == {(None, "unknown")}


def test_a_table_of_another_country_is_read(data, tmp_path):
    """Semicolons between cells, a byte order mark, and the first digits of ids."""
    text = f"\ufefftrajectory_id;languages\n{ONE[:8]};Rust, C\n"
    (tmp_path / "x.csv").write_text(text, "utf-8")
    take(data, tmp_path / "x.csv")
    assert heads(data)[ONE]["languages"] == ["C", "Rust"]


def test_a_parquet_table_may_hold_lists(data, tmp_path):
    """As a program writes them."""
    table = pl.DataFrame({"session_id": ["one"], "languages": [["Rust", "C"]], "language": ["C"]})
    table.write_parquet(tmp_path / "x.parquet")
    take(data, tmp_path / "x.parquet", source="benchmark")
    row = heads(data)[ONE]
    assert (row["language"], row["languages"]) == ("C", ["C", "Rust"])
    assert row["languages_source"] == "benchmark"


@pytest.mark.parametrize(
    ("names", "lines", "said"),
    [
        (["session_id", "use_cas"], [["one", "test"]], "'use_cas' .* mean use_case"),
        (["session_id", "totals"], [["one", "1"]], "'totals' is no label"),
        (["session_id", "repository.owner"], [["one", "x"]], "repository.url"),
        (["session_id", "use_case", "use_case"], [["one", "test", "test"]], "twice"),
        (["use_case"], [["test"]], "names no trajectory"),
        (["session_id"], [["one"]], "no label"),
        (["session_id", "use_case"], [["one", "test"], ["six", "test"]], "line 3: .*'six'"),
        (["session_id", "use_case"], [["one", "test"], ["", "test"]], "line 3: .*empty"),
        (["session_id", "use_case"], [["one", "test"], ["one", ""]], "line 2: line 3"),
        (["session_id", "use_case"], [["two", "test"], ["one", "tests"]], "line 3: .*give one"),
        (["session_id", "use_case"], [["one"]], "line 2: has 1 cells, not 2"),
        (["trajectory_id", "use_case"], [["ffffffff", "test"]], "line 2: there is no"),
        (["trajectory_id", "use_case"], [[ONE[:3], "test"]], "line 2: there is no"),
        (["trajectory_id", "session_id", "outcome"], [[ONE, "two", "aborted"]], "not that of"),
        (["session_id", "outcome", "outcome_source"], [["one", "aborted", "rule"]], "line 2: .*by"),
        (["session_id", "language"], [["one", "C; Rust"]], "line 2: .*one language"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_table_that_is_not_clear_is_refused_by_its_line(names, lines, said, data, tmp_path):
    """The error names the line, and nothing is written."""
    before = tree(data)
    with pytest.raises(UsageError, match=said):
        take(data, write_csv(tmp_path, names, *lines))
    assert tree(data) == before


@pytest.mark.parametrize(
    "content", [b"", b"\xff\xfe\x00", b'session_id,use_case\n"one', b"PAR1", b"a\x00b,c\n1,2\n"]
)
@pytest.mark.parametrize("name", ["x.csv", "x.parquet", "none.csv"])
def test_what_is_no_table_is_refused(name, content, data, tmp_path):
    """Whatever the bytes: one line, no traceback."""
    if name != "none.csv":
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=name):
        take(data, tmp_path / name)


def test_an_edited_value_that_still_says_it_is_the_sessions_is_refused(tmp_path):
    """Nothing can be passed off as what the log says."""
    data = rows.write(tmp_path / "x.traj", together(session("a", repository("github.com/a/b"))))
    names = ["session_id", "repository.url", "repository.known_by"]
    file = write_csv(tmp_path, names, ["a", "https://github.com/c/d", "log"])
    with pytest.raises(UsageError, match=r"line 2: .*still log"):
        take(data, file, overwrite=True)


# Rules


def rules(folder: Path, text: str) -> Path:
    file = folder / "rules.toml"
    file.write_text(text)
    return file


def test_the_first_rule_that_holds_labels(data, tmp_path):
    """By prompt, tool calls and repository; in order; known by the rule."""
    put(data, "repository.url=https://github.com/a/b", where=("session_id=two",))
    file = rules(
        tmp_path,
        """
        [[rules]]
        name = "leaks"
        when = {prompt = "(?i)find the leak", called = ["read"]}
        set = {use_case = "investigation"}
        [[rules]]
        when = {repository = "github.com/a/*"}
        set = {use_case = "feature", repository = {visibility = "public"}}
        [[rules]]
        when = {prompt = "What happened so far"}
        set = {use_case = "other"}
        [[rules]]
        when = {last_call = {category = "read", status = "ok"}, agent = "tester"}
        set = {outcome = "resolved", outcome_source = "tests"}
        """,
    )
    assert label(data, Orders(rules=file)).ok
    one, two = heads(data)[ONE], heads(data)[TWO]
    # The summary is a user's message too, but behind the first answer.
    assert (one["use_case"], two["use_case"]) == (None, "investigation")
    assert (two["use_case_source"], two["visibility_source"]) == ("rule", "rule")
    assert (one["outcome"], one["outcome_source"]) == ("resolved", "tests")
    assert not label(data, Orders(rules=file)).trajectories


def test_a_rule_yields_to_a_person_without_ado(data, tmp_path):
    """That is no conflict: rules are run again and again."""
    put(data, "use_case=test", where=("session_id=one",))
    file = rules(tmp_path, '[[rules]]\nwhen={agent="tester"}\nset={use_case="review"}')
    report = label(data, Orders(rules=file))
    assert report.ok
    assert report.verdicts == {"use_case": {"kept": 1, "new": 1}}
    assert heads(data)[ONE]["use_case"] == "test"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "write"),
        ("x = [", "not TOML"),
        ("rules = 3", "write"),
        ('[[rules]]\nset={use_case="test"}', "rule 1: has `when`"),
        ('[[rules]]\nwhen={}\nset={use_case="test"}', "says nothing"),
        ('[[rules]]\nwhen={prompt=3}\nset={use_case="test"}', "prompt = 3"),
        ('[[rules]]\nwhen={color="x"}\nset={use_case="test"}', "color"),
        ('[[rules]]\nwhen={called=["sing"]}\nset={use_case="test"}', "sing"),
        ('[[rules]]\nwhen={last_call={status="ok"}}\nset={use_case="test"}', "last_call"),
        ('[[rules]]\nname="n"\nwhen={title="("}\nset={use_case="test"}', "'n': no regular"),
        ('[[rules]]\nwhen={title="x"}\nset={use_case="tests"}', "give one of"),
        ('[[rules]]\nwhen={title="x"}\nset={task={title="y"}}', "a rule sets"),
        ('[[rules]]\nwhen={title="x"}\nset={outcome="resolved"}', "outcome_source = 'tests'"),
        (
            '[[rules]]\nwhen={title="x"}\nset={outcome="resolved",outcome_source="user"}',
            "cannot be known by 'user'",
        ),
    ],
)
def test_a_rule_that_is_none_is_refused(text, said, data, tmp_path):
    """The error names the rule."""
    with pytest.raises(UsageError, match=said):
        label(data, Orders(rules=rules(tmp_path, text)))


# What survives


def test_labels_stay_when_a_session_grows(tmp_path):
    """Recorded again, a session keeps what people said of it; what only the log said is new."""
    home = tmp_path / "x.traj"
    lines = [user("a", None, "hi"), answer("b", "a", "m1", "yo")]
    path = claude(tmp_path, *lines)
    record([path], home)
    put(home, "repository.license=MIT", "outcome=resolved", "task.title=Mine", "languages=Zig")
    put(home, "repository.url=https://github.com/a/b", f"repository.commit={COMMIT}")
    (before,) = heads(home).values()
    claude(tmp_path, *lines, user("c", "b", "more"), answer("d", "c", "m2", "yes"))
    assert record([path], home).recorded == 1
    (after,) = heads(home).values()
    assert after["totals"]["turns"] == 2
    labels = set(COLUMNS)
    assert {x: after[x] for x in labels} == {x: before[x] for x in labels}
    assert traj.validate(traj.load(home)).ok


def test_recording_again_does_not_bring_back_what_is_better_known(tmp_path):
    """A log that says more than a checkout did is believed; a person still more."""
    from traj.build.rows import Columns
    from traj.dataset.labels import Kept

    names = [c.name for c in schema.table("trajectories").columns][2:]
    blank = rows.trajectory("one") | {"content_sha256": "", "totals": {}, "models": []}
    old = {x: blank[x] for x in COLUMNS}
    known = repository("h/o/n", commit="a" * 40, known_by="checkout")
    old |= {"repository": known, "commit_source": "checkout", "use_case": "test"}
    old |= {"use_case_source": "user"}
    fresh = blank | {
        "repository": repository("h/o/m", commit="b" * 40),
        "commit_source": "log",
    }
    columns = Columns.of_rows("trajectories", [{x: fresh[x] for x in names}])
    made = Kept({"x": old}).onto("x", {"trajectories": columns})["trajectories"]
    assert made["repository"][0] == fresh["repository"]
    assert (made["commit_source"][0], made["use_case"][0]) == ("log", "test")
    assert Kept({}).onto("x", {"trajectories": columns})["trajectories"] is columns


def test_labels_go_along_into_a_split_and_do_not_move_it(tmp_path):
    """Public rows are labelled after a split too; who lies where stays, and so does the load."""
    data = rows.write(tmp_path / "x.traj", fleet(), group_rows=False)
    put(data, "repository.license=MIT")
    assert split(data, options(tmp_path)).ok
    before = Dataset.open(data).manifest
    report = put(data, "outcome=resolved", where=("split=public",))
    assert (report.ok, report.split_again) == (True, False)
    after = Dataset.open(data).manifest
    assert after.splits == before.splits
    assert after.commitment == before.commitment
    assert {row["repository"]["license"] for row in heads(data).values()} == {"MIT"}
    assert {row["outcome"] for row in heads(data).values() if row["split"] == "public"} == {
        "resolved"
    }
    checked = traj.validate(traj.load(data))
    assert checked.ok
    assert split(data, options(tmp_path)).root == before.commitment["root"]


def test_private_trajectories_are_labelled_only_where_that_is_asked_for(tmp_path):
    """The commitment is to their rows: it is refused, or done and mended by the next split."""
    data = rows.write(tmp_path / "x.traj", fleet(), group_rows=False)
    root = split(data, options(tmp_path)).root
    before = tree(data)
    for over in ({}, {"dry_run": True}):
        with pytest.raises(UsageError, match="traj split"):
            put(data, "outcome=resolved", **over)
    assert tree(data) == before
    report = put(data, "outcome=resolved", private=True)
    assert report.split_again
    again = split(data, options(tmp_path))
    assert again.ok
    assert again.root != root
    private = [name for name, row in heads(data).items() if row["split"] == "private"]
    reveal(Dataset.open(data), private[:1], tmp_path / "d.json", key_file(tmp_path))
    assert verify(tmp_path / "d.json", Dataset.open(data)).ok


@pytest.mark.parametrize("apart", [False, True])
def test_labels_stay_when_a_private_session_grows(apart, tmp_path):
    """Recorded again into a split dataset, wherever its private part lies: the next split puts the
    new rows there, with the old labels, and knows by them whose family it is."""

    def log(name: str, turns: int) -> Path:
        (tmp_path / name).mkdir(exist_ok=True)
        lines = [user("a", None, rows.words(60, name)), answer("b", "a", f"m{name}", "yo")]
        lines += [user("c", "b", "more"), answer("d", "c", f"n{name}", "yes")]
        own = [line | {"sessionId": name} for line in lines[: 2 * turns]]
        return claude(tmp_path / name, *own).replace(tmp_path / name / f"{name}.jsonl")

    home = tmp_path / "x.traj"
    record([log(name, 1) for name in "abcdefgh"], home)
    for name, row in heads(home).items():
        url = f"repository.url=https://h/o/{row['source']['session_id']}"
        put(home, url, "repository.license=MIT", where=(f"trajectory_id={name}",))
    over = {"private_share": 0.4} | ({"private_out": tmp_path / "p.traj"} if apart else {})
    assert split(home, options(tmp_path, **over)).ok
    private = tmp_path / "p.traj" if apart else home
    grown = next(row for row in heads(private).values() if row["split"] == "private")
    path = log(grown["source"]["session_id"], 2)
    assert record([path], home).recorded == 1
    assert split(home, options(tmp_path, **over)).ok
    after = heads(private)[grown["trajectory_id"]]
    assert after["totals"]["turns"] == 2
    assert {x: after[x] for x in COLUMNS} == {x: grown[x] for x in COLUMNS}
    assert (after["split"], after["license_source"]) == ("private", "user")


def test_an_encrypted_dataset_is_refused(tmp_path):
    """Its labels are set before it is encrypted."""
    pyrage = pytest.importorskip("pyrage")
    data = rows.write(tmp_path / "x.traj", fleet(12), group_rows=False)
    mine = str(pyrage.x25519.Identity.generate().to_public())
    private = tmp_path / "private.traj"
    assert split(data, options(tmp_path, private_out=private, encrypt_to=(mine,))).ok
    with pytest.raises(UsageError, match="encrypted: label before"):
        put(private, "outcome=resolved")


# Whole or not at all


def test_a_full_disk_leaves_the_dataset_as_it_was(data, monkeypatch):
    """No file is left behind, and labelling again finishes."""
    before = tree(data)

    def full(self: object, rows: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DataWriter, "_write", full)
    with pytest.raises(TrajError, match="No space left on device"):
        put(data, "outcome=resolved")
    monkeypatch.undo()
    assert tree(data) == before
    assert put(data, "outcome=resolved").ok


def test_a_dataset_that_is_being_written_is_left_alone(data):
    """The second writer is told to wait."""
    from traj.dataset.write import locked

    with locked(data), pytest.raises(TrajError, match="another traj is writing"):
        put(data, "outcome=resolved")


# Older datasets


@pytest.fixture
def old(tmp_path) -> Path:
    """The dataset that is kept of schema 1.0."""
    return Path(shutil.copytree(ROOT / "sample_data" / "datasets" / "1.0", tmp_path / "old.traj"))


def test_a_dataset_of_an_older_schema_is_labelled(old):
    """All its rows are of the newest schema then, the same but for what is labelled."""
    before = {name: Dataset.open(old).table(name).to_pylist() for name in schema.TABLES}
    report = put(old, "repository.license=MIT")
    assert report.raised_from == "1.0"
    dataset = Dataset.open(old)
    assert dataset.manifest.schema_version == schema.VERSION
    for name in schema.TABLES:
        found = dataset.table(name).to_pylist()
        if name == "trajectories":
            for row, was in zip(found, before[name], strict=True):
                assert row["license_source"] == "user"
                row["license_source"] = None
                row["repository"] = was["repository"]
        assert found == before[name]
    checked = traj.validate(dataset)
    assert checked.ok
    assert not checked.findings


def test_a_dataset_of_an_older_schema_is_recorded_into(old):
    """What is new and what was there are of one schema, in every file."""
    manifest = Dataset.open(old).manifest
    before = Dataset.open(old).table("turns").num_rows
    record([SAMPLES / "claude_code"], old, tokenizer=manifest.tokenizer["name"])
    dataset = Dataset.open(old)
    assert dataset.manifest.schema_version == schema.VERSION
    assert dataset.table("turns").num_rows > before
    assert set(dataset.table("turns", ["schema_version"]).column(0).to_pylist()) == {schema.VERSION}
    assert traj.validate(dataset).ok


def aged(folder: Path) -> Path:
    """A dataset as schema 1.0 would have it: without the newer columns."""
    dataset = Dataset.open(folder)
    files = []
    for file in dataset.manifest.files:
        path = folder / file.path
        table = pq.ParquetFile(path).read().select(schema.names(file.table, "1.0"))
        at = table.schema.get_field_index("schema_version")
        versions = pa.array(["1.0"] * table.num_rows, pa.string())
        pq.write_table(table.set_column(at, table.schema.field(at), versions), path)
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        files.append(replace(file, sha256=digest, bytes=path.stat().st_size))
    commit(folder, replace(dataset.manifest, schema_version="1.0", files=tuple(files)))
    return folder


def versions(folder: Path) -> set[str]:
    """The schema versions that the manifest and the files' rows name."""
    manifest = Dataset.open(folder).manifest
    named = {manifest.schema_version}
    for file in manifest.files:
        table = pq.ParquetFile(folder / file.path).read(columns=["schema_version"])
        named |= set(table.column(0).to_pylist())
    return named


def test_every_writer_raises_an_older_dataset_whole(tmp_path, monkeypatch):
    """Recording into it and splitting it again, of which each writes few shards otherwise, leave no
    row of the older schema."""
    from traj.dataset import write

    monkeypatch.setattr(write, "_PER_SHARD", 4)
    sessions = sorted((SAMPLES / "codex").rglob("*.jsonl"))
    record(sessions[:7], tmp_path / "x.traj")
    assert versions(aged(tmp_path / "x.traj")) == {"1.0"}
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok
    before = Dataset.open(tmp_path / "x.traj").manifest.shards
    assert record(sessions[:8], tmp_path / "x.traj").recorded == 1
    assert Dataset.open(tmp_path / "x.traj").manifest.shards == before == 2
    assert versions(tmp_path / "x.traj") == {schema.VERSION}
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok
    data = rows.write(tmp_path / "y.traj", fleet(), group_rows=False)
    assert split(data, options(tmp_path)).ok
    assert versions(aged(data)) == {"1.0"}
    assert split(data, options(tmp_path)).ok
    assert versions(data) == {schema.VERSION}
    assert traj.validate(traj.load(data)).ok


def test_a_root_outlives_the_schema_that_it_was_made_under(tmp_path):
    """A private split that was committed to under schema 1.0 is proven under this one, before and
    after its dataset is raised."""
    data = rows.write(tmp_path / "x.traj", fleet(12), group_rows=False)
    assert split(data, options(tmp_path)).ok
    manifest = Dataset.open(aged(data)).manifest
    secret = read_key(tmp_path / "split.key").derive("commitment")
    parts = Parts.of(Dataset.open(data), None)
    ids = [name for name, its in parts.assigned.items() if its == "private"]
    leaves = commitment.leaves(parts.rows(ids, "private"), parts.prompts(ids), secret, "1.0")
    said = {x: y for x, y in manifest.commitment.items() if x != "schema_version"}
    said["root"] = commitment.root(leaves)
    assert said["root"] != manifest.commitment["root"]
    commit(data, replace(manifest, commitment=said))
    assert describe(data).known["languages"] == {"tools": 24}
    for step in ("before", "after"):
        file = tmp_path / f"{step}.json"
        reveal(Dataset.open(data), ids[:1], file, tmp_path / "split.key")
        assert verify(file, Dataset.open(data)).ok
        for row in json.loads(file.read_bytes())["rows"]:
            assert row["row"]["schema_version"] == "1.0"
            assert set(row["row"]) == set(schema.names(row["table"], "1.0"))
        put(data, "outcome=resolved", where=("split=public",))
    assert versions(data) == {schema.VERSION}


def test_a_view_without_text_tells_no_repository_by_its_labels(data, tmp_path):
    """Nor how they are known; categories stay."""
    put(data, "repository.license=MIT", "repository.visibility=public", "outcome=resolved")
    put(data, f"repository.commit={COMMIT}", "task.url=https://h/x", "task.title=secret")
    view = text_free(Dataset.open(data), tmp_path / "view.traj")
    for row in view.table("trajectories").to_pylist():
        told = {name for name in COLUMNS if row[name] not in (None, [])}
        assert told == {"outcome", "outcome_source"}


def test_a_newer_schema_is_read_and_not_written(data):
    """Its columns would be lost."""
    manifest = json.loads((data / MANIFEST).read_bytes())
    (data / MANIFEST).write_text(json.dumps(manifest | {"schema_version": "1.99"}))
    assert describe(data).trajectories == 2
    with pytest.raises(UsageError, match="upgrade"):
        put(data, "outcome=resolved")


# The command


def test_the_command_shows_exports_imports_and_ends_with_1_on_a_conflict(data, tmp_path):
    """As its help says; JSON for machines."""
    shown = command("label", data)
    assert shown.returncode == 0, shown.stderr
    assert "2 trajectories" in shown.stdout
    file = tmp_path / "l.csv"
    assert command("label", data, "--export", file).returncode == 0
    done = command("label", data, "--set", "use_case=test", "--json")
    assert json.loads(done.stdout)["trajectories"] == 2
    assert command("label", data, "--import", file, "--quiet").stdout == ""
    done = command("label", data, "--set", "use_case=review", "--source", "benchmark")
    assert done.returncode == 1
    assert "--overwrite" in done.stdout
    told = command("label", data, "--json").stdout
    assert json.loads(told)["known"]["use_case"] == {"user": 2}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["none.traj"], "no such dataset folder"),
        (["x.traj", "--set", "use_case=fun"], "give one of"),
        (["x.traj", "--where", "session_id=one"], "--set"),
        (["x.traj", "--where", "session=one", "--set", "outcome=aborted"], "no such field"),
        (["x.traj", "--where", "session_id=six", "--set", "outcome=aborted"], "no trajectory"),
        (["x.traj", "--export", "x.xls"], ".csv or .parquet"),
        (["x.traj", "--export", "none/x.csv"], "cannot write"),
        (["x.traj", "--import", "none.csv"], "none.csv"),
        (["x.traj", "--rules", "none.toml"], "none.toml"),
        (["x.traj", "--checkout", "none"], "no such folder"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_errors_are_one_line(words, said, data):
    """No traceback, and exit code 2 (1 where the disk is at fault)."""
    done = command("label", *words, cwd=data.parent)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
