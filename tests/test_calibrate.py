"""`traj tools calibrate`: what it measures, what it says of it, and what it leaves behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile

import pytest

import rows
from traj import calibrate as package
from traj.build.categories import category
from traj.calibrate import calibrate, machine, repository, tasks
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.report.calibration import calibrated, rounds
from traj.workload.tool_time import profiles, tool_time


def traj(*words: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "traj", "tools", "calibrate", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def once(tmp_path_factory):
    """A profile of one round, written by the command, and what the command printed."""
    path = tmp_path_factory.mktemp("calibrate") / "mine.toml"
    done = traj("--repeats", 1, "--json", "-o", path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return path, json.loads(done.stdout)


@pytest.fixture
def scratch(tmp_path, monkeypatch):
    """Where scratch folders are made."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def quick(monkeypatch):
    """Two tasks that take no time, one of which fails."""
    both = [
        tasks.Command("read", "nothing", "true", "true"),
        tasks.Command("edit", "fail", "sh", "echo out of paper >&2; exit 3"),
    ]
    monkeypatch.setattr(package, "commands", lambda: both)
    monkeypatch.setattr(package, "SETUP", {})


def test_the_profile_is_one_that_baseline_takes(once, tmp_path):
    """A written profile's figures are those that an export then draws from."""
    path, said = once
    dataset = Dataset.open(rows.write(tmp_path, rows.small()))
    report = tool_time(f"baseline:{path}", dataset).report()
    fits = {fit.category: fit for fit in report.profile}
    measured = said["categories"]
    assert {"read", "search", "edit", "execute", "test"} <= set(measured)
    for name, shape in measured.items():
        assert (fits[name].median_s, fits[name].sigma) == (shape["median_s"], shape["sigma"])
        assert fits[name].origin == "calibrated"
    assert fits["web"].origin == "default"
    assert report.dataset_median_s == 1


def test_a_profile_says_what_it_was_measured_on(once):
    """Hardware, versions, each task's runs; every kind of work is there or has a reason."""
    path, said = once
    profile = profiles.read(str(path))
    assert profile.hardware.cores >= 1
    assert profile.versions["python"].startswith("3.")
    assert profile.date
    assert profile.system
    assert len(profile.tasks) == len(said["tasks"]) >= 10
    assert all(task.runs == 1 for task in profile.tasks)
    for name, shape in profile.categories.items():
        assert shape.calls == sum(task.category == name for task in profile.tasks)
    reasons = {what.partition(":")[0] for what in profile.not_measured}
    assert set(profile.categories) | reasons == set(profiles.categories())


def test_the_table_shows_what_was_and_what_was_not_measured(once):
    """Every task, every category and every reason."""
    profile = profiles.read(str(once[0]))
    text = calibrated(profile)
    shown = [*(task.task for task in profile.tasks), *profile.categories, *profile.not_measured]
    assert all(name in text for name in [*shown, *profile.not_measured.values()])


def test_tasks_are_of_the_kind_that_recorded_calls_would_be():
    """A recorded shell call with the same command gets the category that the task counts for."""
    for command in tasks.commands():
        if command.task != "byte-compile Python":  # a build here, in a log a script like any other
            arguments = json.dumps({"command": command.line(1)})
            assert category("bash", arguments) == command.category, command.task


def test_what_is_not_installed_is_listed_and_not_measured(tmp_path, scratch, monkeypatch):
    """Without Git and a compiler there are no figures for them, and a reason."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("cat", "find", "grep", "ls", "sed", "tee"):
        (programs / name).symlink_to(shutil.which(name))
    monkeypatch.setenv("PATH", str(programs))
    profile = calibrate(repeats=1)
    assert "vcs" not in profile.categories
    assert profile.not_measured["vcs: commit"] == "no git on this machine"
    assert profile.not_measured["build: compile C with cc"] == "no cc on this machine"
    assert {task.task for task in profile.tasks if task.category == "build"} == {
        "byte-compile Python"
    }
    assert "search text with grep" in {task.task for task in profile.tasks}
    assert not list(scratch.iterdir())


def test_a_task_that_fails_is_no_measurement(quick):
    """It stands under not measured with what it said."""
    profile = calibrate(repeats=3)
    assert profile.not_measured["edit: fail"] == "ended with 3: out of paper"
    assert [(task.category, task.runs) for task in profile.tasks] == [("read", 3)]
    assert list(profile.categories) == ["read"]


def test_a_task_that_fails_later_leaves_its_other_runs(quick, monkeypatch):
    """A run that fails is listed with its round."""
    second = tasks.Command("edit", "fail twice", "test", "test {round} != 2")
    monkeypatch.setattr(package, "commands", lambda: [second])
    profile = calibrate(repeats=3)
    assert profile.categories["edit"].calls == 2
    assert profile.not_measured["edit: fail twice, round 2"] == "ended with 1: no message"


def test_without_a_number_of_rounds_time_is_the_limit(quick, monkeypatch):
    """At most 20 rounds; one at least; as many as are asked for whatever the time."""
    assert calibrate().tasks[0].runs == 20
    monkeypatch.setattr(package, "LONGEST_S", -1.0)
    assert calibrate().tasks[0].runs == 1
    assert calibrate(repeats=4).tasks[0].runs == 4


def test_a_command_that_hangs_is_given_up(quick, monkeypatch):
    """After a while, with the reason."""
    monkeypatch.setattr(package, "COMMAND_S", 0.2)
    monkeypatch.setattr(package, "commands", lambda: [tasks.Command("read", "s", "s", "sleep 60")])
    assert calibrate(repeats=1).not_measured["read: s"] == "took longer than 0 s"


def test_an_interrupted_calibration_leaves_nothing(quick, scratch, tmp_path):
    """Neither the file nor the scratch folder."""

    def interrupt(done: int, whole: int) -> None:
        assert list(scratch.iterdir())
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        calibrate(tmp_path / "mine.toml", progress=interrupt)
    assert not list(scratch.iterdir())
    assert not (tmp_path / "mine.toml").exists()


def test_a_profile_appears_whole_or_not_at_all(quick, tmp_path, monkeypatch):
    """A write that fails leaves no part of the file."""

    def full(self, target):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.replace", full)
    with pytest.raises(UsageError, match="No space left"):
        calibrate(tmp_path / "mine.toml", repeats=1)
    assert not list(tmp_path.iterdir())


def test_git_of_the_caller_is_left_alone(scratch, tmp_path, monkeypatch):
    """A calibration from within a hook, where GIT_DIR is set, commits nothing there."""
    if shutil.which("git") is None:
        pytest.skip("needs git")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "callers"))
    some = [one for one in tasks.commands() if one.program in ("git", "tee")]
    monkeypatch.setattr(package, "commands", lambda: some)
    profile = calibrate(repeats=1)
    assert not (tmp_path / "callers").exists()
    assert [task.runs for task in profile.tasks if task.category == "vcs"] == [1, 1, 1, 1]


def test_the_repository_is_as_large_as_the_profile_says(tmp_path):
    """Files, counted; made twice it is the same."""
    trees = []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        repository.make(tmp_path / name)
        paths = [path for path in sorted((tmp_path / name).rglob("*")) if path.is_file()]
        trees.append([(path.relative_to(tmp_path / name), path.read_bytes()) for path in paths])
    assert len(trees[0]) == repository.FILES
    assert trees[0] == trees[1]


@pytest.mark.parametrize("where", ["there.toml", "nowhere/mine.toml"])
def test_a_file_that_cannot_be_new_is_a_wrong_call(tmp_path, where):
    """Said before anything is measured: an existing file is kept, a folder is not made."""
    (tmp_path / "there.toml").write_text("mine")
    done = traj("-o", tmp_path / where)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert where.partition("/")[0] in done.stderr
    assert (tmp_path / "there.toml").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_what_cannot_be_found_out_about_a_machine_is_absent(monkeypatch):
    """No processor file, no sysctl, no memory figure, no load: None, and the table says unknown."""
    monkeypatch.setattr(machine, "Path", lambda name: machine_file)
    monkeypatch.setenv("PATH", "")

    def unknown(*_, **__):
        raise OSError

    machine_file = type("Absent", (), {"read_text": unknown})()
    monkeypatch.setattr("os.sysconf", unknown)
    monkeypatch.setattr("os.getloadavg", unknown)
    found = machine.hardware()
    assert (found.cpu, found.memory_bytes, machine.load()) == (None, None, None)
    assert set(machine.versions(["git"])) <= {"python", "traj-toolkit"}
    profile = profiles.Profile("x", "x", "x", {}, hardware=found, system="Test")
    assert "load unknown before, unknown after" in calibrated(profile)


def test_rounds_are_counted_on_a_terminal_alone(capsys):
    """On one line, which is gone at the end."""

    class Terminal:
        text = ""

        def isatty(self):
            return True

        def write(self, text):
            self.text += text

        def flush(self):
            pass

    terminal = Terminal()
    show = rounds(terminal)
    for done in range(3):
        show(done, 2)
    assert terminal.text == "\rround 1 of 2\x1b[K\rround 2 of 2\x1b[K\r\x1b[K"
    assert rounds(sys.stdout) is None
