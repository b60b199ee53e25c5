"""Scrubbing a dataset that exists: the rows of recording it scrubbed, sound and final."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

import traj
from conftest import SAMPLES
from plants import plants
from traj import pipeline
from traj.errors import UsageError
from traj.rescrub import scrub_dataset
from traj.schema import TABLES
from traj.scrub import ScrubError, open_detector
from traj.scrub.redaction import Redaction


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    """Sample sessions with secrets and a home directory put into their texts."""
    secrets = [p.secret for p in plants(random.Random(3)) if "\n" not in p.secret]
    found = sorted((SAMPLES / "claude_code").rglob("*.jsonl"))
    for number, path in enumerate(found):
        text = path.read_text("utf-8")
        planted = f"{secrets[number % len(secrets)]} in /home/zkuehn/src, "
        planted = json.dumps(planted)[1:-1]
        text = text.replace('"text":"', f'"text":"{planted}').replace("the ", f"the {planted}", 3)
        out = tmp_path / "logs" / path.relative_to(SAMPLES)
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, "utf-8")
    return tmp_path / "logs"


def test_a_scrubbed_dataset_is_as_if_recorded_scrubbed(logs: Path, tmp_path: Path) -> None:
    """Every row but the count of redactions is what recording with scrubbing gives; it
    validates; a second time changes nothing; and what is new can be recorded into it."""
    detector = open_detector()
    late, early = tmp_path / "late.traj", tmp_path / "early.traj"
    pipeline.record([logs], late)
    plain = traj.load(late).table("messages").column("content").to_pylist()
    assert any("zkuehn" in (text or "") for text in plain), "nothing was planted"
    assert scrub_dataset(late, detector).redactions > 0
    pipeline.record([logs], early, scrub=True)
    for name in TABLES:
        one, other = (traj.load(path).table(name).to_pylist() for path in (late, early))
        assert len(one) == len(other) > 0
        for row in [*one, *other]:
            row.pop("redactions", None)
        assert one == other, name
    assert "zkuehn" not in json.dumps(traj.load(late).table("messages").to_pylist())
    assert traj.validate(traj.load(late)).ok
    assert scrub_dataset(late, detector).redactions == 0
    assert pipeline.record([logs], late, scrub=True).unchanged > 0


def test_figures_of_a_trace_without_text_stay(tmp_path: Path) -> None:
    """Where there is no text to count, the counts are the source's: scrubbing changes no row but
    for saying that it was done."""
    trace = {
        "id": "t",
        "models": ["m"],
        "block_size": 64,
        "hash_id_scope": "local",
        "tool_tokens": 10,
        "system_tokens": 20,
        "requests": [
            {"t": 0.0, "type": "n", "model": "m", "in": 128, "out": 9, "hash_ids": [1, 2]},
            {"t": 5.0, "type": "n", "model": "m", "in": 192, "out": 7, "hash_ids": [1, 2, 3]},
        ],
    }
    log, out = tmp_path / "trace.json", tmp_path / "x.traj"
    log.write_text(json.dumps(trace))
    pipeline.record([log], out)
    before = {name: traj.load(out).table(name).to_pylist() for name in TABLES}
    scrub_dataset(out, open_detector())
    after = {name: traj.load(out).table(name).to_pylist() for name in TABLES}
    assert before["turns"][1]["counted_cached_tokens"] == 128
    for row in before["trajectories"]:
        row["redactions"] = 0
    assert after == before
    assert traj.validate(traj.load(out)).ok


def test_what_cannot_be_removed_leaves_the_dataset_as_it_was(
    logs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It fails closed: an error, the old manifest and the old files."""
    out = tmp_path / "x.traj"
    pipeline.record([logs], out)
    before = (out / "dataset.json").read_bytes()
    monkeypatch.setattr(Redaction, "_replace", lambda self, text, *rest: text)
    with pytest.raises(ScrubError):
        scrub_dataset(out, open_detector())
    assert (out / "dataset.json").read_bytes() == before
    assert traj.validate(traj.load(out)).ok


def test_a_split_dataset_is_not_scrubbed(tmp_path: Path) -> None:
    """Its private rows are committed to: they cannot change behind the commitment."""
    from traj.release import SplitOptions, split

    out = tmp_path / "x.traj"
    pipeline.record([SAMPLES / "codex"], out)
    split(out, SplitOptions(tmp_path / "key", lone_sessions=True))
    with pytest.raises(UsageError, match="is split"):
        scrub_dataset(out, open_detector())
