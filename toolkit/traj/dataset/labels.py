"""Labels: what is known of a trajectory beside its session, and how each is known.

A label is a value with a source in a column of its own. Some of them a session log can tell too
(sources `log` and `tools`); all the others come from people, benchmarks, rules and checkouts, and
stay with a trajectory when its session grows and is recorded anew.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traj.build.rows import Columns

if TYPE_CHECKING:
    import pyarrow as pa

    from traj.dataset import Dataset

# Who is believed before whom.
_BETTER = (
    ("none",),
    ("rule",),
    ("checkout", "manifest"),
    ("text", "log", "tools"),
    ("tests", "benchmark"),
    ("user",),
)
RANK = {source: rank for rank, sources in enumerate(_BETTER) for source in sources}
OWN = ("log", "tools")  # the session itself
_BLANK: dict[str, dict[str, Any]] = {
    "repository": {
        **dict.fromkeys(("host", "owner", "name", "url", "commit", "branch", "license")),
        "visibility": "unknown",
        "known_by": "user",
    },
    "task": {"url": None, "title": None},
}
_UNKNOWN: tuple[Any, ...] = (None, [], "unknown")


@dataclass(frozen=True, slots=True)
class Label:
    """One label: its name, the fields of a row that it fills, and the one that says how it is
    known. Dots lead into structs."""

    name: str
    fields: tuple[str, ...]
    source: str


LABELS = (
    Label(
        "repository.url",
        ("repository.host", "repository.owner", "repository.name", "repository.url"),
        "repository.known_by",
    ),
    Label("repository.commit", ("repository.commit",), "commit_source"),
    Label("repository.license", ("repository.license",), "license_source"),
    Label("repository.visibility", ("repository.visibility",), "visibility_source"),
    Label("languages", ("language", "languages"), "languages_source"),
    Label("use_case", ("use_case",), "use_case_source"),
    Label("task.url", ("task.url",), "task_url_source"),
    Label("task.title", ("task.title",), "task_title_source"),
    Label("outcome", ("outcome",), "outcome_source"),
)
COLUMNS = tuple(
    dict.fromkeys(path.partition(".")[0] for one in LABELS for path in (*one.fields, one.source))
)

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Kept:
    """The label columns of trajectories that are about to be written anew."""

    rows: Mapping[str, Row]

    @classmethod
    def of(cls, dataset: Dataset, trajectories: Collection[str]) -> Kept:
        """Those of `trajectories` that lie in the dataset."""
        if not trajectories or not dataset.files("trajectories"):
            return cls({})
        import pyarrow as pa
        import pyarrow.compute as pc

        table = dataset.table("trajectories", ["trajectory_id", *COLUMNS])
        wanted = pa.array(list(trajectories), pa.string())
        found = table.filter(pc.is_in(table["trajectory_id"], wanted)).to_pylist()
        return cls({row.pop("trajectory_id"): row for row in found})

    def onto(self, trajectory: str, tables: Mapping[str, Columns]) -> Mapping[str, Columns]:
        """The tables of a trajectory that was built anew, with the labels that it had: those that
        are better known than what the session says now."""
        heads = tables["trajectories"]
        if trajectory not in self.rows or not len(heads):
            return tables
        fresh = self._labelled(trajectory, {name: heads[name][0] for name in heads.names})
        return {**tables, "trajectories": Columns.of_rows("trajectories", [fresh])}

    def onto_rows(self, rows: pa.Table) -> pa.Table:
        """The same of rows of `trajectories` that are written already, label columns among them."""
        import pyarrow as pa

        if self.rows.keys().isdisjoint(rows["trajectory_id"].to_pylist()):
            return rows
        labelled = [self._labelled(row["trajectory_id"], row) for row in rows.to_pylist()]
        return pa.Table.from_pylist(labelled, rows.schema)

    def _labelled(self, trajectory: str, fresh: Row) -> Row:
        old = self.rows.get(trajectory)
        if old is None:
            return fresh
        for label in list(_taken(old, fresh)):
            for path in (*label.fields, label.source):
                _put(fresh, path, _get(old, path), old)
        return fresh


def rank(row: Row, label: Label) -> int:
    """How well a row's label is known: 0 where it is not."""
    if all(_get(row, path) in _UNKNOWN for path in label.fields):
        return 0
    # Rows of schema 1.0 name no source for what their session said.
    return RANK[_get(row, label.source) or "log"]


def _taken(old: Row, fresh: Row) -> Iterator[Label]:
    for label in LABELS:
        source = _get(old, label.source)
        if source not in (None, *OWN) and rank(old, label) > rank(fresh, label):
            yield label


def _get(row: Row, path: str) -> Any:
    name, _, field = path.partition(".")
    value = row[name]
    return value[field] if field and value is not None else value


def _put(row: Row, path: str, value: Any, old: Row) -> None:
    name, _, field = path.partition(".")
    if not field:
        row[name] = value
        return
    known = row[name]
    if known is None:
        known = _BLANK[name] | ({"known_by": old[name]["known_by"]} if name == "repository" else {})
    row[name] = known | {field: value}
