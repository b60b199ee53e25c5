"""Fixtures: where things lie, and datasets recorded once for many tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

from traj.dataset import Dataset
from traj.pipeline import record

ROOT = Path(__file__).resolve().parent.parent
SAMPLES = ROOT / "sample_data"
SHARED = ROOT.parent / "shared"

# Examples follow from the tests themselves: a run says the same twice. New ones are looked for by
# HYPOTHESIS_PROFILE=explore pytest, and by make fuzz.
settings.register_profile("repeatable", derandomize=True)
settings.register_profile("explore", derandomize=False)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "repeatable"))


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    """The sample sessions, recorded."""
    out = tmp_path_factory.mktemp("sample") / "sample.traj"
    report = record([SAMPLES / "claude_code", SAMPLES / "codex"], out)
    assert not report.problems
    return Dataset.open(out)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The corpus of real sessions and captures, where it lies beside the project."""
    if not SHARED.is_dir():
        pytest.skip("no ../shared beside the project: its corpus of real sessions is needed")
    return SHARED


@pytest.fixture(scope="session")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Hugging Face cache with one small tokenizer, for harnesses."""
    import harness

    home = tmp_path_factory.mktemp("hub")
    harness.make_hub(home)
    return home
