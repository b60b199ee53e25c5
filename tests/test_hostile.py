"""Hostile sessions: whatever a log holds, recording ends, and what it writes is sound."""

from __future__ import annotations

import json
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import traj
from conftest import SAMPLES
from traj.errors import TrajError
from traj.pipeline import record

LOGS = [path for path in sorted(SAMPLES.rglob("*.jsonl")) if path.stat().st_size < 100_000]
ODD = [None, 0, -1, 10**25, 1.5, True, "", "x", [], {}, [1], {"a": 1}, "\ud800", "2026-01-01"]


def damaged(value: object, dice: random.Random) -> object:
    """A copy with some values replaced by odd ones, dropped or repeated."""
    if dice.random() < 0.02:
        return dice.choice(ODD)
    if isinstance(value, dict):
        return {k: damaged(v, dice) for k, v in value.items() if dice.random() > 0.01}
    if isinstance(value, list):
        items = [damaged(item, dice) for item in value]
        return items + items[:1] if dice.random() < 0.02 else items
    return value


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_damaged_logs_give_sound_datasets_or_one_clear_error(seed):
    """Values of wrong types, lines swapped, doubled and lost: no traceback, nothing unsound."""
    dice = random.Random(seed)
    path = dice.choice(LOGS)
    lines = path.read_bytes().split(b"\n")
    rows = [json.loads(line) for line in lines if line.strip().endswith(b"}")]
    rows[1:] = [damaged(row, dice) for row in rows[1:]]
    for _ in range(dice.randint(0, 5)):
        one, other = dice.randrange(1, len(rows) + 1), dice.randrange(len(rows))
        rows.insert(one, rows[other])
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / path.name
        log.write_text("".join(json.dumps(row) + "\n" for row in rows))
        try:
            record([log], Path(scratch) / "x.traj")
        except TrajError as error:
            assert str(error)
            return
        checked = traj.validate(traj.load(Path(scratch) / "x.traj"))
        assert checked.ok, checked.findings


@pytest.mark.parametrize("own_parent", [True, False])
def test_parents_that_lead_in_a_circle_are_survived(own_parent, tmp_path):
    """A line that is its own ancestor neither hangs the reader nor repeats a message."""
    parents = ["b", "c", "a"] if not own_parent else ["a", "b", "c"]
    rows = [
        {
            "type": "user",
            "uuid": uuid,
            "parentUuid": parent,
            "sessionId": "s",
            "message": {"role": "user", "content": uuid},
        }
        for uuid, parent in zip("abc", parents, strict=True)
    ]
    rows += [{**row, "uuid": row["uuid"] + "2", "parentUuid": row["uuid"]} for row in rows]
    log = tmp_path / "s.jsonl"
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    record([log], tmp_path / "x.traj")
    assert traj.validate(traj.load(tmp_path / "x.traj")).ok


def test_texts_reach_the_dataset_as_they_were(tmp_path):
    """Markup, escape codes, NUL and direction marks are data; a lone surrogate is replaced."""
    log = SAMPLES / "hand_made" / "claude_hostile_text.jsonl"
    report = record([log], tmp_path / "x.traj")
    texts = traj.load(tmp_path / "x.traj").table("messages", ["content"]).column(0).to_pylist()
    joined = "\n".join(text for text in texts if text)
    assert all(part in joined for part in ("\0", "\x1b", "\u202e", "<img src=x", "half:\ufffd"))
    assert report.losses["lone_surrogate"] == 1
