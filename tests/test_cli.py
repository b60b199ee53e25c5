"""The command line: exit codes, one line of error, output for people and for machines."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from shutil import copyfile, copytree

import pytest

from conftest import ROOT, SAMPLES
from traj.schema import VERSION
from traj.sources import SOURCES


def traj(*words: object, **over) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "traj", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **over)


CODEX = SAMPLES / "codex"


def test_record_and_validate_end_with_0_and_say_what_they_did(tmp_path):
    """The two commands on sound input."""
    done = traj("record", CODEX, "-o", tmp_path / "x.traj", "--no-scrub")
    assert done.returncode == 0, done.stderr
    assert "recorded 8 sessions" in done.stdout
    assert "NOT SCRUBBED" in done.stdout
    checked = traj("validate", tmp_path / "x.traj")
    assert checked.returncode == 0
    assert "sound: " in checked.stdout


def test_json_is_for_machines(tmp_path):
    """With --json standard output is one JSON document."""
    done = traj("record", CODEX, "-o", tmp_path / "x.traj", "--no-scrub", "--json")
    assert json.loads(done.stdout)["recorded"] == 8
    checked = json.loads(traj("validate", tmp_path / "x.traj", "--json").stdout)
    assert checked["ok"] is True
    assert len(checked["checks"]) > 50
    assert json.loads(traj("schema", "--json").stdout)["schema_version"] == VERSION
    assert {row["format"] for row in json.loads(traj("sources", "--json").stdout)} == set(SOURCES)


def test_a_damaged_dataset_is_found_and_ends_with_1(tmp_path):
    """One flipped byte in a data file."""
    traj("record", CODEX, "-o", tmp_path / "x.traj", "--no-scrub")
    file = next((tmp_path / "x.traj" / "data" / "turns").iterdir())
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    checked = traj("validate", tmp_path / "x.traj")
    assert checked.returncode == 1
    assert "NOT SOUND" in checked.stdout
    assert "Traceback" not in checked.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["record", "nowhere", "-o", "x", "--no-scrub"], "nowhere: no such file or folder"),
        (["record", "empty.jsonl", "-o", "x", "--no-scrub"], "empty.jsonl: empty file"),
        (["record", "foreign.jsonl", "-o", "x", "--no-scrub"], "not a session log"),
        (["record", "folder", "-o", "x", "--no-scrub"], "folder: no sessions in it"),
        (
            ["record", "foreign.jsonl", "-o", "x", "--no-scrub", "--rules", "own.toml"],
            "leave --no-scrub out",
        ),
        (["record", "empty.jsonl", "-o", "x", "--no-scrub", "--format", "odd"], "unknown format"),
        (["record", "empty.jsonl", "-o", "x", "--no-scrub", "--tokenizer", "odd"], "odd"),
        (["validate", "nowhere"], "nowhere: no such dataset folder"),
        (["validate", "folder"], "no dataset.json in it"),
        (["export", "nowhere", "--format", "weka", "-o", "x"], "no such dataset"),
        (["export"], "--list"),
        (["demo", "-o", "folder"], "folder: exists"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_wrong_call_is_one_line_and_exit_2(words, said, tmp_path):
    """Missing, empty and foreign input; nothing is written."""
    (tmp_path / "empty.jsonl").touch()
    (tmp_path / "foreign.jsonl").write_text('{"hello": "world"}\n')
    (tmp_path / "folder").mkdir()
    done = traj(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "x").exists()


def test_a_foreign_file_among_good_ones_is_a_partial_failure(tmp_path):
    """The good are recorded, the foreign is named, and the exit code says 1."""
    foreign = tmp_path / "foreign.jsonl"
    foreign.write_text("{}\n")
    done = traj("record", CODEX, foreign, "-o", tmp_path / "x.traj", "--no-scrub")
    assert done.returncode == 1
    assert "foreign.jsonl: not a session log" in done.stderr
    assert "recorded 8 sessions" in done.stdout


def test_what_is_printed_of_sessions_cannot_steer_a_terminal(tmp_path):
    """Escape codes in a file's name are shown, not obeyed."""
    hostile = tmp_path / "\x1b[31mred.jsonl"
    hostile.write_text("{}\n")
    done = traj("record", hostile, "-o", tmp_path / "x.traj", "--no-scrub")
    assert "\x1b" not in done.stderr + done.stdout


@pytest.mark.parametrize("command", ["record", "validate", "export", "schema", "sources", "demo"])
def test_every_command_has_help_with_an_example(command):
    """--help ends with an example."""
    done = traj(command, "--help")
    assert done.returncode == 0
    assert f"Example: traj {command}" in done.stdout


def test_the_version_is_printed():
    """--version alone ends with 0."""
    done = traj("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "traj")


def test_help_loads_none_of_the_heavy_libraries():
    """`traj --help` stays quick: Arrow, polars and the tokenizers come when needed."""
    code = "import sys, traj.cli; print([m for m in sys.modules if '.' not in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    for heavy in ("pyarrow", "polars", "tiktoken", "toktok", "datasets", "orjson"):
        assert f"'{heavy}'" not in done.stdout


def test_the_readmes_commands_exist():
    """Every `traj ...` in the README is a command, with options that its help names."""
    helps: dict[str, str] = {}
    for line in (ROOT / "README.md").read_text().splitlines():
        words = line.strip().removeprefix("$ ").split("#")[0].split()
        if not words or words[0] != "traj" or not line.startswith("    "):
            continue
        command = words[1]
        text = helps.setdefault(command, traj(command, "--help").stdout)
        for word in words[2:]:
            if word.startswith("--"):
                assert word.partition("=")[0] in text, line
    assert {"record", "validate", "export"} <= set(helps)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--format", "mooncake"], "unknown export target 'mooncake'"),
        (["--format", "aiperf-dag", "--tokenizer", "missing.json"], "missing.json"),
        (["--format", "aiperf-dag", "--prefix", "a"], "unknown prefix policy 'a'"),
        (["--format", "weka", "--sample", "99"], "a sample of 99 from 8"),
        (["--format", "atif", "--prefix", "aa"], "atif does not take --prefix"),
        (["--format", "weka", "--tool-time", "baseline:none.toml"], "none.toml"),
        ([], "export needs DATASET, --format and --out"),
    ],
)
def test_a_wrong_export_is_one_line_and_writes_nothing(tmp_path, sample_codex, words, said):
    """Exit 2, the remedy or the known values, and no folder."""
    done = traj("export", sample_codex, "-o", tmp_path / "out", *words)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_text_free_datasets_are_sent_as_lengths(tmp_path, sample_codex):
    """A dataset without messages is exported with generated ones, and the export says so; what
    archives messages refuses it by name, before anything is written."""
    done = traj("export", sample_codex, "-f", "parquet", "--text-free", "-o", tmp_path / "free")
    assert done.returncode == 0, done.stderr
    sent = traj("export", tmp_path / "free", "-f", "aiperf-dag", "-o", tmp_path / "sent")
    assert sent.returncode == 0, sent.stderr
    assert "generated" in sent.stdout
    again = traj("export", tmp_path / "free", "-f", "atif", "-o", tmp_path / "out")
    assert again.returncode == 2
    assert "without text" in again.stderr
    assert not (tmp_path / "out").exists()


@pytest.fixture(scope="module")
def sample_codex(tmp_path_factory):
    out = tmp_path_factory.mktemp("codex") / "x.traj"
    assert traj("record", CODEX, "-o", out, "--no-scrub").returncode == 0
    return out


def test_discovery_takes_the_agents_folders_and_says_so_first(tmp_path):
    """--discover looks under home alone; with --dry-run it says what it would take and writes
    nothing; the numbers are those of the recording."""
    home = tmp_path / "home"
    copytree(SAMPLES / "codex", home / ".codex" / "sessions")
    (home / "other").mkdir()
    log = next(CODEX.rglob("*.jsonl"))
    copyfile(log, home / "other" / log.name)
    environment = {**os.environ, "HOME": str(home)}
    dry = traj("record", "--discover", "--dry-run", "--json", env=environment)
    found = json.loads(dry.stdout)["sessions"]
    assert found
    assert all(".codex" in file for session in found for file in session["files"])
    out = tmp_path / "x.traj"
    done = traj("record", "--discover", "-o", out, "--no-scrub", "--json", env=environment)
    assert json.loads(done.stdout)["recorded"] == len(found)
    assert (
        "sessions would be taken"
        in traj("record", "--discover", "--dry-run", env=environment).stdout
    )
    nothing = traj("record", "--discover", "-o", out, env={**os.environ, "HOME": str(tmp_path)})
    assert nothing.returncode == 2
    assert "no agent's sessions" in nothing.stderr
