"""`traj label --checkout`: what a git checkout tells, and what it does not."""

from __future__ import annotations

import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

import rows
import traj
from conftest import ROOT
from fleet import repository, session, together
from traj.checkout.licence import licence_of
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.label import Orders, label

pytest.importorskip("askalono", reason="the extra `label` is not installed")

MIT = """MIT License

Copyright (c) 2026 A. Person

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal
in the Software without restriction, including without limitation the rights
to use, copy, modify, merge, publish, distribute, sublicense, and/or sell
copies of the Software, and to permit persons to whom the Software is
furnished to do so, subject to the following conditions:

The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software.

THE SOFTWARE IS PROVIDED "AS IS", WITHOUT WARRANTY OF ANY KIND, EXPRESS OR
IMPLIED, INCLUDING BUT NOT LIMITED TO THE WARRANTIES OF MERCHANTABILITY,
FITNESS FOR A PARTICULAR PURPOSE AND NONINFRINGEMENT. IN NO EVENT SHALL THE
AUTHORS OR COPYRIGHT HOLDERS BE LIABLE FOR ANY CLAIM, DAMAGES OR OTHER
LIABILITY, WHETHER IN AN ACTION OF CONTRACT, TORT OR OTHERWISE, ARISING FROM,
OUT OF OR IN CONNECTION WITH THE SOFTWARE OR THE USE OR OTHER DEALINGS IN THE
SOFTWARE.
"""
APACHE = (ROOT / "LICENSE").read_text()
URL = "https://github.com/example/thing"
DAY = 86_400


def git(folder: Path, *words: str, at: int = 0) -> str:
    """Git, at a time in seconds since 1970, without the machine's own settings."""
    when = f"{1_700_000_000 + at} +0000"
    around = {
        **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_CONFIG_SYSTEM": os.devnull,
        **{f"GIT_{who}_NAME": "A <odd> name" for who in ("AUTHOR", "COMMITTER")},
        **{f"GIT_{who}_EMAIL": "a@example.org" for who in ("AUTHOR", "COMMITTER")},
        "GIT_AUTHOR_DATE": when,
        "GIT_COMMITTER_DATE": when,
    }
    done = subprocess.run(
        ["git", *words], cwd=folder, env=around, check=True, capture_output=True, text=True
    )
    return done.stdout.strip()


def save(folder: Path, at: int = 0, **files: str) -> str:
    """Commits files, whose names have `_` for the dot, and gives the commit."""
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "x", at=at)
    return git(folder, "rev-parse", "HEAD")


@pytest.fixture
def checkout(tmp_path) -> Path:
    """A repository under MIT with a little Rust and more C."""
    folder = tmp_path / "thing"
    folder.mkdir()
    git(folder, "init", "-q")
    git(folder, "remote", "add", "origin", "https://me:hunter2@github.com/example/thing.git")
    save(folder, LICENSE=MIT, src__a_c="int x;\n" * 50, src__b_rs="fn f() {}\n", notes_md="# x\n")
    return folder


def written(folder: Path, *heads: dict) -> Path:
    """A dataset of sessions s0, s1 ... whose heads say this."""
    tables = together(*(session(f"s{n}", None) for n in range(len(heads))))
    for n, (row, over) in enumerate(zip(tables["trajectories"], heads, strict=True)):
        row.update({"language": None, "languages": [], "languages_source": None} | over)
        row["started_at"] = datetime.fromtimestamp(1_700_000_000 + n * DAY, UTC)
    return rows.write(folder / "x.traj", tables, group_rows=False)


def heads(data: Path) -> dict[str, dict]:
    table = Dataset.open(data).table("trajectories").to_pylist()
    return {row["source"]["session_id"]: row for row in table}


def test_a_checkout_labels_the_sessions_of_its_repository(checkout, tmp_path):
    """By URL, in any spelling: licence by text, languages by the committed files. Others stay."""
    mine = repository("github.com/Example/Thing", url="https://github.com/Example/Thing")
    data = written(tmp_path, {"repository": mine}, {"repository": repository("github.com/a/b")})
    others = heads(data)["s1"]
    report = label(data, Orders(checkouts=(checkout,)))
    assert report.ok
    assert report.trajectories == 1
    row = heads(data)["s0"]
    assert row["repository"] == mine | {"license": "MIT"}
    assert row["license_source"] == "text"
    assert (row["language"], row["languages"]) == ("C", ["C", "Rust"])
    assert row["languages_source"] == "checkout"
    assert heads(data)["s1"] == others
    assert traj.validate(traj.load(data)).ok
    assert not label(data, Orders(checkouts=(checkout,))).written


def test_a_session_is_recognised_by_its_commit(checkout, tmp_path):
    """The checkout that has a session's commit is of its repository; its licence is read there,
    not where the checkout is now."""
    first = git(checkout, "rev-parse", "HEAD")
    save(checkout, at=DAY, LICENSE=APACHE)
    nowhere = dict.fromkeys(("host", "owner", "name", "url"))
    bare = {**repository("github.com/x/y"), **nowhere}
    strange = [{"repository": bare | {"commit": word}} for word in ("HEAD", "--all", "f" * 40)]
    data = written(tmp_path, {"repository": bare | {"commit": first}}, *strange)
    label(data, Orders(checkouts=(checkout,)))
    found = heads(data)
    assert found["s0"]["repository"]["license"] == "MIT"
    assert found["s0"]["repository"]["url"] == URL
    assert found["s0"]["repository"]["owner"] == "example"
    assert found["s0"]["repository"]["known_by"] == "checkout"
    assert {found[x]["repository"]["url"] for x in ("s1", "s2", "s3")} == {None}


def test_what_tools_touched_is_better_known_than_the_checkout(checkout, tmp_path):
    """Languages of a session whose tools touched files stay."""
    own = {"language": "Go", "languages": ["Go"], "languages_source": "tools"}
    data = written(tmp_path, {"repository": repository("github.com/example/thing")} | own)
    report = label(data, Orders(checkouts=(checkout,)))
    assert heads(data)["s0"]["languages"] == ["Go"]
    assert "languages" not in report.verdicts


def test_sessions_that_ran_in_a_checkout_get_the_commit_that_it_had(checkout, tmp_path):
    """Of a session that is said to have run here the reflog tells where HEAD was when it began; of
    one that began before the reflog nothing is said."""
    first = git(checkout, "rev-parse", "HEAD")
    second = save(checkout, at=DAY + 60, b_txt="later")
    third = save(checkout, at=3 * DAY, b_txt="much later")
    assert len({first, second, third}) == 3
    data = written(tmp_path, {}, {}, {}, {})
    reflog = checkout / ".git" / "logs" / "HEAD"
    reflog.write_text("".join(reflog.read_text().splitlines(keepends=True)[1:]))
    report = label(data, Orders(checkouts=(checkout,), where=("agent.name=tester",)))
    found = heads(data)
    commits = [found[f"s{n}"]["repository"]["commit"] for n in range(4)]
    assert commits == [None, None, second, third]
    assert {row["repository"]["license"] for row in heads(data).values()} == {"MIT"}
    assert {row["repository"]["url"] for row in heads(data).values()} == {URL}
    assert any("of 2 sessions the reflog" in note for note in report.notes)


def test_what_is_not_committed_says_nothing(checkout, tmp_path):
    """An agent may have written it."""
    (checkout / "LICENSE").write_text(APACHE)
    (checkout / "c.py").write_text("x = 1\n" * 1000)
    data = written(tmp_path, {"repository": repository("github.com/example/thing")})
    label(data, Orders(checkouts=(checkout,)))
    row = heads(data)["s0"]
    assert (row["repository"]["license"], row["languages"]) == ("MIT", ["C", "Rust"])


def test_git_is_asked_nothing_that_runs_a_program(checkout, tmp_path):
    """A hostile checkout's settings and hooks are not carried out."""
    trap = tmp_path / "trap.sh"
    trap.write_text(f"#!/bin/sh\ntouch {tmp_path}/sprung\n")
    trap.chmod(0o755)
    for name in ("core.fsmonitor", "core.pager", "core.sshCommand", "diff.external"):
        git(checkout, "config", name, str(trap))
    git(checkout, "config", "filter.x.smudge", str(trap))
    (checkout / ".git" / "info" / "attributes").write_text("* filter=x\n")
    data = written(tmp_path, {"repository": repository("github.com/example/thing")})
    assert label(data, Orders(checkouts=(checkout,))).trajectories == 1
    assert not (tmp_path / "sprung").exists()


def test_no_password_of_a_remote_comes_into_a_dataset(checkout, tmp_path):
    """Nor into the report."""
    data = written(tmp_path, {})
    report = label(data, Orders(checkouts=(checkout,), where=("session_id=s0",)))
    assert heads(data)["s0"]["repository"]["url"] == URL
    assert "hunter2" not in str(report)


def test_what_is_no_checkout_is_refused(checkout, tmp_path):
    """One line, whatever is wrong."""
    data = written(tmp_path, {}, {})
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    for path, said in ((empty, "with a commit"), (tmp_path / "none", "no such folder")):
        with pytest.raises(UsageError, match=said):
            label(data, Orders(checkouts=(path,)))
    with pytest.raises(UsageError, match="one --checkout"):
        label(data, Orders(checkouts=(checkout, checkout), where=("session_id=s0",)))
    report = label(data, Orders(checkouts=(checkout,)))
    assert (report.trajectories, report.written) == (0, False)
    assert "--where" in report.notes[0]


def test_what_is_unknown_stays_null_and_is_told(checkout, tmp_path):
    """A licence that nothing recognises is not guessed."""
    save(checkout, at=9, LICENSE="You may look at this on Sundays.\n")
    data = written(tmp_path, {"repository": repository("github.com/example/thing")})
    report = label(data, Orders(checkouts=(checkout,)))
    assert heads(data)["s0"]["repository"]["license"] is None
    assert heads(data)["s0"]["license_source"] is None
    assert any("LICENSE is the text of no licence" in note for note in report.notes)


@pytest.mark.parametrize(
    ("files", "expression", "source"),
    [
        ({"LICENSE": MIT}, "MIT", "text"),
        ({"COPYING.txt": APACHE}, "Apache-2.0", "text"),
        ({"LICENCE-MIT": MIT}, "MIT", "text"),
        ({"LICENSE-MIT": MIT, "LICENSE-APACHE": APACHE}, None, ""),
        (
            {
                "LICENSE-MIT": MIT,
                "LICENSE-APACHE": APACHE,
                "Cargo.toml": '[package]\nlicense = "MIT/Apache-2.0"',
            },
            "MIT OR Apache-2.0",
            "text",
        ),
        (
            {"LICENSE": MIT, "Cargo.toml": '[workspace.package]\nlicense = "mit OR apache-2.0"'},
            "MIT OR Apache-2.0",
            "manifest",
        ),
        ({"pyproject.toml": '[project]\nlicense = "BSD-3-Clause"'}, "BSD-3-Clause", "manifest"),
        ({"pyproject.toml": '[tool.poetry]\nlicense = "isc"'}, "ISC", "manifest"),
        ({"pyproject.toml": '[project]\nlicense = {text = "MIT"}'}, None, ""),
        ({"package.json": '{"license": "MIT"}'}, "MIT", "manifest"),
        ({"package.json": '{"license": "SEE LICENSE IN x"}', "LICENSE": MIT}, "MIT", "text"),
        ({"package.json": '{"license": "UNLICENSED"}'}, None, ""),
        ({"composer.json": '{"license": ["MIT", "ISC"]}'}, "MIT OR ISC", "manifest"),
        ({"package.json": '{"license": "ISC"}', "LICENSE": MIT}, None, ""),
        (
            {
                "package.json": '{"license": "ISC"}',
                "Cargo.toml": '[package]\nlicense = "MIT"',
            },
            None,
            "",
        ),
        ({"package.json": "[" * 100_000, "Cargo.toml": "= ="}, None, ""),
        ({"package.json": '{"license": {"type": "MIT"}}'}, None, ""),
        ({"LICENSE": ""}, None, ""),
        ({"LICENSE": "All rights reserved."}, None, ""),
        ({}, None, ""),
    ],
)
def test_a_licence_is_what_texts_and_manifests_agree_on(files, expression, source):
    """By text, by manifest, or unknown with a reason."""
    found = licence_of(files)
    assert (found.expression, found.source) == (expression, source)
    assert bool(found.reason) == (expression is None)


def test_the_gnu_licences_text_is_the_least_that_it_grants():
    """Later versions may be chosen only where a manifest says so."""
    home = Path("/usr/share/common-licenses/GPL-3")
    if not home.is_file():
        pytest.skip("this system carries no text of the GPL")
    text = home.read_text()
    assert licence_of({"COPYING": text}).expression == "GPL-3.0-only"
    later = '{"license": "GPL-3.0-or-later"}'
    found = licence_of({"COPYING": text, "package.json": later})
    assert (found.expression, found.source) == ("GPL-3.0-or-later", "text")
