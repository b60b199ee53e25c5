"""What there is to be split: the dataset's own folder and the private one beside it, as one.

A trajectory that lies in both is read from the dataset's folder: it was recorded again (then the
labels that it had stay with it), or a split was stopped between its two commits.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from heapq import merge
from operator import itemgetter
from typing import TYPE_CHECKING

from traj.dataset import Dataset, Span
from traj.dataset.labels import COLUMNS, Kept
from traj.dataset.write import Prompts, prompts_of, shard_of
from traj.errors import DatasetError, UsageError
from traj.release.assign import PRIVATE, PUBLIC
from traj.validation.splits import sides
from traj.validation.tables import Tables

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

Place = tuple[int, str]  # which folder, and which split of it


@dataclass(frozen=True, slots=True)
class Parts:
    """The datasets, the dataset's own folder first, and where in them each trajectory is read."""

    datasets: tuple[Dataset, ...]
    places: Mapping[str, Place]
    assigned: Mapping[str, str]  # trajectory: split, where it has one already
    shadowed: tuple[tuple[int, str, str], ...]  # folder, split, trajectory: lies there unread
    labels: Kept  # of those

    @classmethod
    def of(cls, home: Dataset, apart: Dataset | None) -> Parts:
        """Raises UsageError where a trajectory is public in one folder and private in the other."""
        datasets = (home,) if apart is None else (home, apart)
        places: dict[str, Place] = {}
        assigned: dict[str, str] = {}
        shadowed: list[tuple[int, str, str]] = []
        for number in reversed(range(len(datasets))):
            for split in sorted({file.split for file in datasets[number].manifest.files}):
                ids = datasets[number].table("trajectories", ["trajectory_id"], split)
                for name in ids.column(0).to_pylist():
                    if name in places:
                        shadowed.append((*places[name], name))
                    places[name] = number, split
                    if split not in (PUBLIC, PRIVATE):
                        continue
                    if assigned.setdefault(name, split) != split:
                        raise UsageError(
                            f"{datasets[-1].path}: trajectory {name} is private there and public "
                            f"in {home.path}: these two do not belong together"
                        )
        known = Kept.of(datasets[-1], [name for part, _, name in shadowed if part])
        return cls(datasets, places, assigned, tuple(shadowed), known)

    def table(self, name: str, columns: Sequence[str], ids: Collection[str]) -> pa.Table:
        """Columns of a table, for the trajectories `ids`; `trajectory_id` is to be among them."""
        import pyarrow as pa
        import pyarrow.compute as pc

        found = []
        whole = name == "trajectories" and bool(self.labels.rows)
        wanted = list(dict.fromkeys([*columns, *COLUMNS])) if whole else columns
        for number, split in sorted({self.places[one] for one in ids}):
            own = pa.array([x for x in ids if self.places[x] == (number, split)], pa.string())
            rows = self.datasets[number].table(name, wanted, split)
            rows = rows.filter(pc.is_in(rows["trajectory_id"], own))
            found.append(self.labels.onto_rows(rows).select(columns) if whole else rows)
        return pa.concat_tables(found) if found else self.datasets[0].table(name, columns, "none")

    def rows(self, ids: Collection[str], split: str) -> Iterator[tuple[str, dict[str, Span]]]:
        """Whole trajectories in the order of their ids, their `split` filled in."""
        streams = []
        for number, where in sorted({self.places[name] for name in ids}):
            own = {name for name in ids if self.places[name] == (number, where)}
            streams.append(_only(self.datasets[number], where, own))
        for name, spans in merge(*streams, key=itemgetter(0)):
            heads = self.labels.onto_rows(spans["trajectories"].rows())
            yield name, spans | {"trajectories": _marked(heads, split)}

    def prompts(self, ids: Collection[str]) -> Prompts:
        """The prompts that these trajectories name. Raises DatasetError where one is missing."""
        turns = self.table("turns", ["trajectory_id", "system_id", "tools_id"], ids)
        used = {x for column in turns.columns[1:] for x in column.unique().to_pylist() if x}
        known: Prompts = {}
        for dataset in self.datasets:
            known |= prompts_of(dataset)
        missing = sorted(used - known.keys())
        if known and missing:  # a dataset without text has none
            home = self.datasets[0].path
            raise DatasetError(f"{home}: prompt {missing[0]} is missing; run traj validate")
        return {name: known[name] for name in used & known.keys()}


class Proposed(Tables):
    """All of it as the checks of a split see it, before any of it is written."""

    def __init__(self, parts: Parts) -> None:
        super().__init__(parts.datasets[0])
        self._parts, self._ids = parts, frozenset(parts.places)

    def propose(self, splits: Mapping[str, str]) -> None:
        """From now on each trajectory lies in the split that is given for it."""
        import polars as pl

        known = sides(self)
        given = pl.Series([splits[name] for name in known["trajectory_id"]], dtype=pl.String)
        self.assume(sides, known.with_columns(split=given))

    def frame(self, table: str, columns: Sequence[str]) -> pl.DataFrame:
        import polars as pl

        wanted = list(dict.fromkeys(["trajectory_id", *columns]))
        found = pl.from_arrow(self._parts.table(table, wanted, self._ids))
        assert isinstance(found, pl.DataFrame)
        return found.select(columns)

    def batches(self, table: str, columns: Sequence[str]) -> Iterator[pl.DataFrame]:
        import polars as pl

        wanted = list(dict.fromkeys(["trajectory_id", *columns]))
        for number, dataset in enumerate(self._parts.datasets):
            tables = Tables(dataset)
            for file in dataset.files(table):
                place = (number, file.split)
                own = pl.Series([x for x in self._ids if self._parts.places[x] == place]).implode()
                for batch in tables.file_batches(file, wanted):
                    yield batch.filter(pl.col("trajectory_id").is_in(own)).select(columns)


def _only(
    dataset: Dataset, split: str, ids: Collection[str]
) -> Iterator[tuple[str, dict[str, Span]]]:
    """These trajectories of a split; shards that hold none of them are not read."""
    shards = {shard_of(name, dataset.manifest.shards) for name in ids}
    files = tuple(file for file in dataset.manifest.files if file.shard in shards)
    narrowed = replace(dataset, manifest=replace(dataset.manifest, files=files))
    for name, spans in narrowed.spans(split=split):
        if name in ids:
            yield name, spans


def _marked(rows: pa.Table, split: str) -> Span:
    import pyarrow as pa

    at = rows.schema.get_field_index("split")
    values = pa.array([split] * rows.num_rows, pa.string())
    rows = rows.set_column(at, rows.schema.field(at), values)
    return Span(rows, 0, rows.num_rows)
