"""The schema: data that everything else agrees with."""

from __future__ import annotations

import tomllib

import pyarrow as pa
import pytest

import traj
from conftest import ROOT
from traj import schema
from traj.errors import DatasetError
from traj.events import Lane, Message, Rebase, Session, ToolRun, Turn, Usage

KEPT = {  # rows of the datasets in sample_data/datasets
    "1.0": {"trajectories": 16, "turns": 31, "messages": 72, "tool_calls": 17, "prompts": 1},
}


@pytest.mark.parametrize("name", schema.TABLES)
def test_every_table_is_one_toml_file_with_described_columns(name):
    """Each column has a sentence, a known type, and its key columns cannot be null."""
    table = schema.table(name)
    assert table.name == name
    for path, column in schema.walk(table.columns):
        assert column.description.endswith("."), path
        assert not column.fields or "struct" in column.type
    assert all(not table.column(key).nullable for key in table.key)
    assert isinstance(schema.arrow(name), pa.Schema)


def test_references_lead_to_columns():
    """What `references` names exists."""
    for name in schema.TABLES:
        for path, column in schema.walk(schema.table(name).columns):
            if column.references:
                table, _, target = column.references.partition(".")
                assert schema.table(table).column(target), path


def test_the_hub_can_read_every_type():
    """`datasets` makes features of all columns: no maps, no exotic types."""
    datasets = pytest.importorskip("datasets")
    for name in schema.TABLES:
        assert datasets.Features.from_arrow_schema(schema.arrow(name))


def test_the_files_are_shipped_in_the_wheel():
    """The build copies the schema and the sample sessions into the package."""
    build = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    carried = build["targets"]["wheel"]["force-include"]
    assert carried["schema/v1"] == "traj/_schema/v1"
    assert all((ROOT / source).is_dir() for source in carried)


@pytest.mark.parametrize("version", ["1.0", "1.7", "0.9"])
def test_older_and_minor_versions_are_read(version):
    """Readers accept every older version, and newer minors, which only add columns."""
    schema.check_version(version, "here")


@pytest.mark.parametrize("version", ["2.0", "10.1"])
def test_a_newer_major_version_is_refused_with_the_remedy(version):
    """A version from the future is an error that names it."""
    with pytest.raises(DatasetError, match=f"{version} is newer"):
        schema.check_version(version, "here")


def test_the_events_words_are_the_schemas():
    """Enumerations that sources write are those of the columns they end up in."""
    turns = schema.table("turns")
    assert Turn(None).clock in turns.column("clock").enum
    assert Turn(None).status in turns.column("status").enum
    assert Turn(None).api in turns.column("api").enum
    assert Turn(None).earlier_reasoning in turns.column("earlier_reasoning").enum
    assert Usage().source in turns.column("usage_source").enum
    assert ToolRun().status in schema.table("tool_calls").column("status").enum
    assert Message("user").role in schema.table("messages").column("role").enum
    assert Lane("main").kind in turns.column("lane_kind").enum
    assert Rebase("compaction").reason in turns.column("context_reason").enum
    assert Session("x", "y", "z").losses == {}


@pytest.mark.parametrize(
    "path", sorted((ROOT / "sample_data" / "datasets").iterdir()), ids=lambda path: path.name
)
def test_a_dataset_of_every_version_is_read_for_ever(path):
    """The dataset kept of each schema version opens, is sound, and holds what it did."""
    dataset = traj.load(path)
    assert dataset.manifest.schema_version == path.name
    assert traj.validate(dataset).ok
    rows = {name: dataset.table(name).num_rows for name in schema.TABLES}
    assert rows == KEPT[path.name]
