"""Views without text: lengths, times and categories, and nothing to trace them by."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import rows
import traj
from fleet import fleet, options
from traj.dataset import Dataset
from traj.errors import UsageError
from traj.release import split, text_free

KEPT = {
    "turns": (
        *("turn", "lane", "lane_kind", "context", "wait_for", "start_us", "end_us", "delay_us"),
        *("tool_us", "input", "output", "input_tokens", "cached_tokens", "output_tokens"),
        *("counted_input_tokens", "counted_cached_tokens", "unseen_input_tokens", "status"),
    ),
    "tool_calls": ("call", "turn", "category", "start_us", "end_us", "status", "result_tokens"),
    "trajectories": ("totals", "language", "use_case", "models", "duration_us", "losses", "split"),
}


@pytest.fixture(params=["small", "sample", "split"])
def dataset(request, sample, tmp_path) -> Dataset:
    """A dataset made by hand, a recorded one, and one that is split."""
    if request.param == "sample":
        return sample
    tables = rows.small() if request.param == "small" else fleet(8)
    data = rows.write(tmp_path / "x.traj", tables)
    if request.param == "split":
        assert split(data, options(tmp_path, private_share=0.5)).ok
    return Dataset.open(data)


def test_lengths_times_and_categories_are_those_of_the_dataset(dataset, tmp_path):
    """Trajectory by trajectory the numbers are the same, in another order; the view is sound."""
    view = text_free(dataset, tmp_path / "view")
    found = traj.validate(view)
    assert found.ok, found.findings

    def sessions(of):
        return sorted(
            repr([[row[name] for name in names] for row in one.tables[table].to_pylist()])
            for one in of.trajectories(tuple(KEPT))
            for table, names in KEPT.items()
        )

    assert sessions(view) == sessions(dataset)


def strings(value):
    """All texts of at least eight letters in a value."""
    if isinstance(value, str):
        return {value} if len(value) >= 8 else set()
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return {text for part in parts for text in strings(part)}


def test_no_text_and_no_id_of_the_dataset_is_in_the_view(dataset, tmp_path):
    """Every text that is in both is one of a few kinds of word, the same in all datasets."""
    view = text_free(dataset, tmp_path / "view")
    assert {file.table for file in view.manifest.files} == {"trajectories", "turns", "tool_calls"}
    found, known = set(), set()
    for table in ("trajectories", "turns", "messages", "tool_calls", "prompts"):
        known |= strings(dataset.table(table).to_pylist())
        found |= strings(view.table(table).to_pylist())
    words = {"compaction", "assistant", "answer_not_recorded", "measured", "cancelled", "subagent"}
    heads = dataset.table("trajectories").to_pylist()
    for row in heads:
        words |= {row["agent"]["name"], row["tokenizer"]["name"], row["tokenizer"]["sha256"]}
        words |= {row["source"]["format"], *row["models"], *row["languages"]}
        words |= {loss["kind"] for loss in row["losses"]} | {row["use_case"]}
    enums = {
        value
        for table in ("trajectories", "turns", "tool_calls")
        for column in _columns(table)
        for value in column.enum
    }
    assert found & known <= words | enums
    text = b"".join(p.read_bytes() for p in (tmp_path / "view").rglob("*") if p.is_file())
    assert not any(row["trajectory_id"].encode() in text for row in heads)


def _columns(table):
    from traj import schema

    return [column for _, column in schema.walk(schema.table(table).columns)]


def test_no_two_views_can_be_joined(dataset, tmp_path):
    """Ids and hashes are others in each view, and no prompt's id is in two trajectories."""
    views = [text_free(dataset, tmp_path / name) for name in ("one", "two")]
    seen = []
    for view in views:
        heads, turns = view.table("trajectories").to_pylist(), view.table("turns").to_pylist()
        ids = {row["trajectory_id"] for row in heads} | {row["content_sha256"] for row in heads}
        prompts = {}
        for row in turns:
            for name in ("system_id", "tools_id"):
                if row[name]:
                    prompts.setdefault(row[name], set()).add(row["trajectory_id"])
        assert all(len(found) == 1 for found in prompts.values())
        seen.append(ids | set(prompts) | {view.manifest.canary})
    assert not seen[0] & seen[1]


def test_the_view_of_a_split_is_of_that_split(tmp_path):
    """Only the private trajectories, with a canary of its own and no commitment."""
    data = rows.write(tmp_path / "x.traj", fleet(8))
    split(data, options(tmp_path, private_share=0.5))
    dataset = Dataset.open(data)
    view = text_free(dataset, tmp_path / "view", "private")
    assert (
        view.table("trajectories").num_rows
        == dataset.table("trajectories", split="private").num_rows
    )
    assert set(view.manifest.splits) == {"private"}
    assert not view.manifest.commitment
    assert view.manifest.canary not in (data / "dataset.json").read_text()


def test_a_view_takes_no_place_that_is_taken(tmp_path):
    """Nothing is overwritten, and a split that is not there is an error."""
    data = rows.write(tmp_path / "x.traj", fleet(2))
    other = Path(shutil.copytree(data, tmp_path / "y.traj"))
    for out, which, said in (
        (other, None, "already"),
        (tmp_path / "z", "private", "no trajectory"),
    ):
        with pytest.raises(UsageError, match=said):
            text_free(Dataset.open(data), out, which)
