"""Recording with scrubbing: what a session held of secrets is nowhere in the dataset."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from conftest import SAMPLES
from plants import plants
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.pipeline import record
from traj.validation import validate

ROLLOUT = min((SAMPLES / "codex").rglob("*.jsonl"))


@pytest.fixture(scope="module")
def secrets() -> list[str]:
    return [plant.secret for plant in plants(random.Random(7)) if "\n" not in plant.secret]


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory, secrets: list[str]) -> Path:
    """A real session with every kind of secret in the person's words, and an untouched one."""
    folder = tmp_path_factory.mktemp("sessions")
    words = "\n".join(plant.text for plant in plants(random.Random(7)))
    lines, done = [], False
    for line in ROLLOUT.read_text().splitlines():
        row = json.loads(line)
        payload = row.get("payload") or {}
        if not done and payload.get("type") == "message" and payload.get("role") == "user":
            payload["content"][-1]["text"] += f"\n{words}\n/home/ada.l/x, ada.l@corp-mail.org"
            done = True
        lines.append(json.dumps(row))
    assert done
    (folder / ROLLOUT.name).write_text("\n".join(lines) + "\n")
    other = sorted((SAMPLES / "codex").rglob("*.jsonl"))[1]
    (folder / other.name).write_bytes(other.read_bytes())
    return folder


@pytest.fixture(scope="module")
def scrubbed(sessions: Path, tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    out = tmp_path_factory.mktemp("scrubbed") / "x.traj"
    record([sessions], out, scrub=True)
    return Dataset.open(out)


def everything(dataset: Dataset) -> str:
    tables = ("trajectories", "turns", "messages", "tool_calls", "prompts")
    return "\n".join(str(dataset.table(name).to_pylist()) for name in tables)


def files(dataset: Dataset) -> dict[str, bytes]:
    found = [path for path in dataset.path.rglob("*") if path.is_file()]
    return {path.relative_to(dataset.path).as_posix(): path.read_bytes() for path in found}


def test_no_secret_reaches_the_dataset(scrubbed: Dataset, sessions: Path, secrets: list[str]):
    """Each is in the log and not in any column of any table; the dataset says what was done."""
    log, held = (sessions / ROLLOUT.name).read_text(), everything(scrubbed)
    assert all(json.dumps(secret)[1:-1] in log for secret in secrets)
    assert [secret for secret in secrets if secret in held] == []
    assert "ada.l" not in held
    assert "[REDACTED:" in held
    heads = scrubbed.table("trajectories", ["redactions"]).column(0).to_pylist()
    assert max(heads) > len(secrets) / 2
    assert str(scrubbed.manifest.scrubbed).startswith("1 ")


def test_what_is_scrubbed_is_sound(scrubbed: Dataset):
    """Token counts, hashes and lengths are those of the text that is stored."""
    assert validate(scrubbed).ok


@pytest.mark.parametrize("jobs", [1, 2])
def test_scrubbing_again_gives_the_same_bytes(scrubbed: Dataset, sessions: Path, tmp_path, jobs):
    """In one process or two: stand-ins are numbered by first appearance in their trajectory."""
    record([sessions], tmp_path / "x.traj", scrub=True, jobs=jobs)
    assert files(Dataset.open(tmp_path / "x.traj")) == files(scrubbed)


def test_scrubbed_and_unscrubbed_do_not_mix(scrubbed: Dataset, sessions: Path, tmp_path):
    """A dataset is one or the other, and the error says which."""
    with pytest.raises(UsageError, match=r"was scrubbed by .*, what is new would be not scrubbed"):
        record([sessions], scrubbed.path)
    record([sessions], tmp_path / "plain.traj")
    with pytest.raises(UsageError, match="was not scrubbed"):
        record([sessions], tmp_path / "plain.traj", scrub=True)


def test_a_teams_own_words_go_too(sessions: Path, tmp_path):
    """A rules file names words that the package cannot know."""
    rules = tmp_path / "own.toml"
    rules.write_text('[[words]]\nwords = ["garden"]\nkind = "code-name"\n')
    record([sessions], tmp_path / "x.traj", scrub=True, rules=rules)
    held = everything(Dataset.open(tmp_path / "x.traj"))
    assert "code-name" in held
    assert " garden " not in held
