"""Recording: incremental, byte-identical, crash-safe, and clear about what is wrong."""

from __future__ import annotations

import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import traj
from conftest import SAMPLES
from test_sources import answer, claude, user
from traj.dataset import MANIFEST
from traj.errors import TrajError, UsageError
from traj.pipeline import record

CODEX, CLAUDE = SAMPLES / "codex", SAMPLES / "claude_code"


def tree(folder: Path) -> dict[str, str]:
    """Every file's hash by its relative path."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_the_same_input_gives_byte_identical_files(tmp_path):
    """Two recordings of the same sessions differ in nothing, in one process or two."""
    record([CODEX, CLAUDE], tmp_path / "a.traj")
    record([CLAUDE, CODEX], tmp_path / "b.traj", jobs=2)
    assert tree(tmp_path / "a.traj") == tree(tmp_path / "b.traj")


def test_what_is_added_later_gives_the_dataset_of_one_recording(tmp_path):
    """Recording piece by piece ends in the very files of recording at once."""
    record([CODEX], tmp_path / "a.traj")
    report = record([CODEX, CLAUDE], tmp_path / "a.traj")
    assert report.unchanged == 8
    assert report.recorded == 7
    record([CODEX, CLAUDE], tmp_path / "b.traj")
    assert tree(tmp_path / "a.traj") == tree(tmp_path / "b.traj")


def test_recording_again_changes_nothing(tmp_path):
    """A second run leaves every file as it is, times of change included."""
    out = tmp_path / "a.traj"
    record([CODEX], out)
    before = {path: path.stat().st_mtime_ns for path in out.rglob("*")}
    report = record([CODEX], out)
    assert (report.recorded, report.unchanged) == (0, 8)
    assert {path: path.stat().st_mtime_ns for path in out.rglob("*")} == before


def test_a_session_that_grew_is_recorded_anew(tmp_path):
    """Lines appended to a session replace its rows, once."""
    path = claude(tmp_path, user("a", None, "hi"), answer("b", "a", "m1", "yo"))
    record([path], tmp_path / "x.traj")
    lines = path.read_text()
    claude(
        tmp_path,
        user("a", None, "hi"),
        answer("b", "a", "m1", "yo"),
        user("c", "b", "more"),
        answer("d", "c", "m2", "yes"),
    )
    report = record([path], tmp_path / "x.traj")
    assert (report.recorded, report.turns) == (1, 2)
    assert traj.load(tmp_path / "x.traj").table("turns").num_rows == 2
    path.write_text(lines)
    assert record([path], tmp_path / "x.traj").kept_longer == 1
    assert traj.load(tmp_path / "x.traj").table("turns").num_rows == 2


def test_turns_that_two_sessions_hold_are_counted_once(tmp_path):
    """A fork's copied history is context in it, and stays the original's turns."""
    record([CLAUDE, CODEX], tmp_path / "x.traj")
    ids = traj.load(tmp_path / "x.traj").table("turns", ["response_id"]).column(0).drop_null()
    assert len(ids) == len(ids.unique())
    first, second = (
        SAMPLES / "hand_made" / f"claude_resume_{n}.jsonl" for n in ("first", "second")
    )
    record([second, first], tmp_path / "y.traj")
    rows = traj.load(tmp_path / "y.traj").table("trajectories").to_pylist()
    totals = [row["totals"] for row in rows]
    assert sum(t["turns"] for t in totals) == 2
    assert sum(t["input_tokens"] for t in totals) == 830
    assert sum(t["output_tokens"] for t in totals) == 6


def test_a_fork_recorded_after_its_original_adds_only_its_own_turns(tmp_path):
    """What the dataset holds stays there; the fork's copies are not counted again."""
    first, second = (
        SAMPLES / "hand_made" / f"claude_resume_{n}.jsonl" for n in ("first", "second")
    )
    record([first], tmp_path / "y.traj")
    report = record([second], tmp_path / "y.traj")
    assert (report.turns, report.losses["copied_turn"]) == (1, 1)


def test_a_killed_run_leaves_the_old_dataset_and_the_next_run_finishes(tmp_path):
    """kill -9 at any moment: the dataset opens, is sound, and running again gives the whole."""
    out, whole = tmp_path / "a.traj", tmp_path / "b.traj"
    record([CODEX], out)
    record([CODEX, CLAUDE], whole)
    old = set(tree(out))
    for delay in (0.3, 0.6, 0.9, 1.2):
        command = [sys.executable, "-m", "traj", "record", str(CODEX), str(CLAUDE)]
        process = subprocess.Popen(
            [*command, "-o", str(out), "--no-scrub"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        dataset = traj.load(out)
        named = {file.path for file in dataset.manifest.files}
        assert named <= set(tree(out))
        assert old <= set(tree(out)) or dataset.manifest == traj.load(whole).manifest
        assert dataset.table("turns").num_rows
    record([CODEX, CLAUDE], out)
    assert tree(out) == tree(whole)


def test_two_runs_at_once_do_not_mix(tmp_path):
    """The second writer is told to wait, and nothing of it is written."""
    from traj.dataset import write

    out = tmp_path / "a.traj"
    with write.locked(out), pytest.raises(TrajError, match="another traj is writing"):
        record([CODEX], out)


def test_a_full_disk_is_one_clear_error_and_keeps_the_old_dataset(tmp_path, monkeypatch):
    """Writing fails halfway: the error names the folder, the dataset is as before."""
    from traj.dataset.files import DataWriter

    out = tmp_path / "a.traj"
    record([CODEX], out)
    before = tree(out)

    def full(self: object, rows: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(DataWriter, "_write", full)
    with pytest.raises(TrajError, match="No space left on device"):
        record([CODEX, CLAUDE], out)
    monkeypatch.undo()
    assert tree(out) == before
    record([CODEX, CLAUDE], out)
    assert traj.validate(traj.load(out)).ok


def test_left_over_files_are_swept_away(tmp_path):
    """What a killed run left in the folder is gone after the next, and never read."""
    out = tmp_path / "a.traj"
    record([CODEX], out)
    stray = out / "data" / "turns" / ".unsplit-00000-1.tmp"
    stray.write_bytes(b"half a file")
    record([CODEX], out)
    assert not stray.exists()


def test_a_folder_that_holds_something_else_is_refused(tmp_path):
    """Recording never writes into a folder that is not a dataset."""
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UsageError, match="not a dataset"):
        record([CODEX], tmp_path)
    assert tree(tmp_path) == {"notes.txt": tree(tmp_path)["notes.txt"]}


def test_another_tokenizer_is_refused(tmp_path):
    """Counts of two tokenizers never stand in one dataset."""
    record([CODEX], tmp_path / "a.traj", tokenizer="cl100k_base")
    with pytest.raises(UsageError, match="--tokenizer cl100k_base"):
        record([CODEX], tmp_path / "a.traj")


@pytest.mark.parametrize(
    ("content", "losses"),
    [
        (b'{"type":"user","uu', {"truncated_line": 1}),
        (b"\xff\xfe broken\n", {"invalid_utf8": 1, "malformed_line": 1}),
        (b"[1, 2]\n42\nnull\n", {"malformed_line": 3}),
        (b'{"type":"user","sessionId":7,"uuid":["x"]}\n', {"malformed_field": 2}),
        (b"[" * 100_000 + b"\n", {"malformed_line": 1}),
        (b"\n\n   \n", {}),
    ],
    ids=["truncated", "invalid utf-8", "not objects", "wrong types", "deep nesting", "blank"],
)
def test_damaged_lines_are_counted_and_the_rest_is_kept(content, losses, tmp_path):
    """Whatever stands in a log, the sound lines are recorded and the others are listed."""
    path = claude(tmp_path, user("a", None, "hi"), answer("b", "a", "m1", "yo"))
    with path.open("ab") as file:
        file.write(content)
    report = record([path], tmp_path / "x.traj")
    assert report.turns == 1
    assert report.losses == losses
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok


def test_a_gigantic_line_is_kept_whole(tmp_path):
    """A tool result of 50 MB is one message of 50 MB."""
    path = claude(
        tmp_path,
        user("a", None, "x " * 25_000_000),
        answer("b", "a", "m1", "yo"),
    )
    record([path], tmp_path / "x.traj")
    (text, _) = traj.load(tmp_path / "x.traj").table("messages", ["content"]).column(0).to_pylist()
    assert len(text) == 50_000_000


def test_figures_that_no_column_holds_are_unknown(tmp_path):
    """Absurd figures in a log are dropped and listed, and do not stop the recording."""
    path = claude(
        tmp_path,
        user("a", None, "hi"),
        answer("b", "a", "m1", "yo", usage=(10**30, 5, 1, 3)),
        user("c", "b", "hi"),
        answer("d", "c", "m2", "yo", usage=(-4, 5, 1, 3)),
    )
    report = record([path], tmp_path / "x.traj")
    assert report.losses["malformed_field"] == 2
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok


def test_a_session_without_turns_is_recorded_as_such(tmp_path):
    """A prompt that was never answered is a trajectory of no turns."""
    record([claude(tmp_path, user("a", None, "hi"))], tmp_path / "x.traj")
    (row,) = traj.load(tmp_path / "x.traj").table("trajectories").to_pylist()
    assert (row["totals"]["turns"], row["totals"]["input_tokens"]) == (0, None)
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok


def test_many_shards_hold_what_one_does(tmp_path, monkeypatch):
    """Sharding by id changes where rows lie, not which; growth across shard counts is clean."""
    from traj.dataset import write

    record([CODEX, CLAUDE], tmp_path / "one.traj")
    monkeypatch.setattr(write, "_PER_SHARD", 2)
    record([CODEX], tmp_path / "many.traj")
    record([CODEX, CLAUDE], tmp_path / "many.traj")
    one, many = traj.load(tmp_path / "one.traj"), traj.load(tmp_path / "many.traj")
    assert many.manifest.shards == 8
    for name in ("trajectories", "turns", "messages", "tool_calls", "prompts"):
        assert many.table(name).equals(one.table(name))
    assert traj.validate(many).ok
    assert [r.trajectory_id for r in many.trajectories()] == [
        r.trajectory_id for r in one.trajectories()
    ]


def test_an_unreadable_file_is_listed_and_the_others_are_recorded(tmp_path):
    """One file without permission does not stop the rest."""
    if os.geteuid() == 0:
        pytest.skip("root may read anything")
    shutil.copytree(CODEX, tmp_path / "codex")
    victim = next((tmp_path / "codex").rglob("*.jsonl"))
    victim.chmod(0)
    report = record([tmp_path / "codex", victim], tmp_path / "x.traj")
    assert report.recorded
    assert any(str(victim) == path for path, _ in report.problems)


def test_the_manifest_is_what_the_files_are(tmp_path):
    """dataset.json names each file with its rows, bytes and hash, and the load it is."""
    record([CODEX], tmp_path / "x.traj")
    dataset = traj.load(tmp_path / "x.traj")
    files = tree(tmp_path / "x.traj")
    assert {f.path: f.sha256 for f in dataset.manifest.files} == {
        path: digest for path, digest in files.items() if path != MANIFEST
    }
    assert dataset.manifest.scrubbed is False
    facts = dataset.manifest.splits["unsplit"]
    turns = dataset.table("turns", ["input_tokens"]).column(0).drop_null().to_pylist()
    assert facts["rows"]["turns"] == len(turns)
    assert facts["fingerprint"]["input_tokens"]["max"] == max(turns)
    assert facts["fingerprint"]["input_tokens"]["p50"] in sorted(turns)


def test_texts_stand_in_no_footer(tmp_path):
    """A file says of ids and figures between what they lie, and nothing of what was said: a reader
    that looks at footers alone meets no word of a message."""
    path = claude(tmp_path, user("a", None, "a word"), answer("b", "a", "m1", "another"))
    record([path], tmp_path / "x.traj")
    (file,) = (tmp_path / "x.traj" / "data" / "messages").iterdir()
    group = pq.ParquetFile(file).metadata.row_group(0)
    columns = [group.column(place) for place in range(group.num_columns)]
    silent = {one.path_in_schema for one in columns if not one.is_stats_set}
    assert silent == {"content", "reasoning", "tool_calls.list.element.arguments"}
