"""Real sessions, those whose licence allows it, from their logs to a public repository and its
private companion. Skipped with a reason where ../shared is absent."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from fleet import options, repository
from hub_double import serving
from released import Row, relabelled
from test_publish import CLIENTS, PRIVATE, PUBLIC, both, published, whole
from traj.dataset import Dataset
from traj.pipeline import record
from traj.publish.licences import permits
from traj.release import split

pytest.importorskip("huggingface_hub")

FORMATS = ("claude_code", "codex_rollout")


def allowed(shared: Path) -> dict[str, Row]:
    """The manifest's rows of sessions that may be passed on, by the hash of their file."""
    with (shared / "corpus" / "MANIFEST.tsv").open() as file:
        rows = list(csv.DictReader(file, delimiter="\t"))
    return {
        row["sha256"]: row
        for row in rows
        if row["format"] in FORMATS and row["kind"] == "real" and permits(row["licence"])
    }


def test_the_corpus_becomes_a_public_and_a_private_repository(shared, tmp_path):
    """Recorded, scrubbed, labelled by its manifest, split by repository, published, loaded back."""
    known = allowed(shared)
    home = tmp_path / "my.traj"
    record([shared / "corpus" / row["path"] for row in known.values()], home, scrub=True)

    def label(row: Row) -> Row:
        file = row["source"]["files"][0]
        facts = known[file["sha256"][:16]]
        over = {"license": facts["licence"], "visibility": "public", "known_by": "user"}
        return row | {"repository": repository(f"github.com/{facts['repo'].lower()}", **over)}

    relabelled(home, label)
    private = tmp_path / "private.traj"
    report = split(home, options(tmp_path, private_share=0.3, private_out=private))
    assert report.ok, report.findings
    with serving() as hub:
        told = published(hub, tmp_path, *both(tmp_path))
        assert {(one["client"], one["status"]) for one in told["loaded"]} == {
            (client, "same") for client in CLIENTS
        }
        assert whole(hub.repos[PUBLIC].tree())
        assert whole(hub.repos[PRIVATE].tree())
    rows = sum(one.rows for one in Dataset.open(home).files("turns"))
    assert rows > 200
