"""split, reveal, verify on the command line: exit codes, one line of error, JSON."""

from __future__ import annotations

import json

import pytest

import rows
from fleet import fleet, repository, session, together
from test_cli import traj


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """A folder with a dataset that was split by the command, its private part apart."""
    folder = tmp_path_factory.mktemp("cli")
    rows.write(folder / "my.traj", fleet(12), group_rows=False)
    words = ["--private-share", "0.4", "--private-out", "private.traj"]
    done = traj("split", "my.traj", *words, cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "made a key, my.traj.key" in done.stdout
    assert "committed to the private split" in done.stdout
    return folder


def test_split_reveal_verify(released):
    """The three commands one after another, each with 0."""
    again = traj("split", "my.traj", "--private-out", "private.traj", "--json", cwd=released)
    told = json.loads(again.stdout)
    assert told["ok"] is True
    assert told["assigned"] == {"public": 0, "private": 0}
    import pyarrow.parquet as pq

    (file,) = (released / "private.traj" / "data" / "trajectories").iterdir()
    name = pq.ParquetFile(file).read(columns=["trajectory_id"]).column(0)[0].as_py()
    words = ["private.traj", name[:10], "--key", "my.traj.key", "-o", "d.json"]
    done = traj("reveal", *words, cwd=released)
    assert done.returncode == 0, done.stderr
    checked = traj("verify", "d.json", "--public", "my.traj", cwd=released)
    assert checked.returncode == 0
    assert checked.stdout.startswith("PROVEN: 1 trajectories")
    forged = json.loads((released / "d.json").read_bytes())
    forged["rows"][0]["row"]["outcome"] = "resolved"
    (released / "forged.json").write_text(json.dumps(forged))
    checked = traj("verify", "forged.json", "--public", "my.traj", "--json", cwd=released)
    assert checked.returncode == 1
    assert json.loads(checked.stdout)["ok"] is False
    quiet = traj("verify", "forged.json", "--public", "my.traj", "--quiet", cwd=released)
    assert (quiet.returncode, quiet.stdout) == (1, "")


def test_a_split_that_would_leak_ends_with_1(tmp_path):
    """What would be shared is listed, and nothing is written."""
    sessions = [
        session(f"s{n}", repository(f"h/o/r{n}"), prompt=rows.words(90, str(n // 2)))
        for n in range(40)
    ]
    rows.write(tmp_path / "my.traj", together(*sessions), group_rows=False)
    done = traj("split", "my.traj", cwd=tmp_path)
    assert done.returncode == 1
    assert "NOTHING WRITTEN" in done.stdout
    assert not list((tmp_path / "my.traj" / "data" / "turns").glob("private*"))


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["split", "none"], "no such dataset folder"),
        (["split", "lone.traj"], "--lone-sessions"),
        (["split", "lone.traj", "--private-share", "2"], "between 0 and 1"),
        (["split", "lone.traj", "--key", "lone.traj/x.key"], "must not lie in"),
        (["split", "lone.traj", "--families", "none.toml"], "none.toml"),
        (["reveal", "lone.traj", "abc", "--key", "lone.traj.key", "-o", "x"], "no split key"),
        (["verify", "none.json", "--public", "lone.traj"], "no commitment"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_wrong_call_is_one_line_and_exit_2(words, said, tmp_path):
    """Missing, foreign and contradictory input; nothing is written."""
    rows.write(tmp_path / "lone.traj", together(session("a", None)), group_rows=False)
    before = sorted(tmp_path.rglob("*"))
    done = traj(*words, cwd=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("command", ["split", "reveal", "verify"])
def test_every_command_has_help_with_an_example(command):
    """--help ends with an example."""
    done = traj(command, "--help")
    assert done.returncode == 0
    assert f"Example: traj {command}" in done.stdout
