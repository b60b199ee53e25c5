"""`traj label`: what is known of trajectories beside their sessions, and how each is known.

values    traj.label.values     what a label can be
present   traj.label.present    what the dataset has; written out for people to fill in
said      traj.label.table      a table that was filled in      traj.label.where     --set on some
          traj.label.rules      a person's rules                traj.label.checkout  a git checkout
decide    traj.label.decide     who is believed
write     traj.label.writing    the rows that change, then one rename of the manifest
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from traj import schema
from traj.dataset import MANIFEST, SEALED, Dataset
from traj.dataset.labels import RANK
from traj.dataset.write import commit, locked
from traj.errors import DatasetError, UsageError
from traj.label import checkout as checkouts
from traj.label.decide import TO_WRITE, decide
from traj.label.present import Coverage, coverage, export, present
from traj.label.rules import apply_rules, read_rules
from traj.label.said import best, said
from traj.label.table import read_table
from traj.label.values import WRITTEN, BadValueError, checked, checked_source, languages_of
from traj.label.where import chosen, parse
from traj.label.writing import write_labels

if TYPE_CHECKING:
    import polars as pl

__all__ = ["Coverage", "LabelReport", "Orders", "describe", "label", "write_out"]


@dataclass(frozen=True, slots=True)
class Orders:
    """What is to be said of whom."""

    table: Path | None = None  # CSV or Parquet
    sets: tuple[str, ...] = ()  # FIELD=VALUE
    checkouts: tuple[Path, ...] = ()
    rules: Path | None = None
    where: tuple[str, ...] = ()  # FIELD=VALUE: of these trajectories alone
    source: str = "user"  # how a table's values and those of `sets` are known
    overwrite: bool = False
    private: bool = False  # label trajectories that a commitment is to as well
    dry_run: bool = False


@dataclass(frozen=True, slots=True)
class Conflict:
    """What was said, and what stands against it."""

    trajectory: str
    label: str
    known: str | None
    known_by: str | None
    said: str | None
    said_by: str
    place: str


@dataclass(slots=True)
class LabelReport:
    """What labelling did, or would do."""

    trajectories: int = 0  # whose labels changed
    verdicts: dict[str, dict[str, int]] = field(default_factory=dict)  # label, verdict
    conflicts: list[Conflict] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    raised_from: str | None = None  # the schema version that the dataset had
    split_again: bool = False  # the commitment is to rows as they were before
    written: bool = False

    @property
    def ok(self) -> bool:
        return not self.conflicts

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"ok": self.ok} | asdict(self)


def describe(path: Path) -> Coverage:
    """How many trajectories of a dataset have which label, and how they are known."""
    return coverage(present(Dataset.open(path)))


def write_out(path: Path, out: Path) -> int:
    """Writes a dataset's labels to a CSV or Parquet file that `label` takes back; gives the rows.

    Raises UsageError for another kind of file, TrajError where it cannot be written.
    """
    frame = present(Dataset.open(path))
    export(frame, out)
    return frame.height


def label(path: Path, orders: Orders) -> LabelReport:
    """Labels trajectories in place: the old files stand until the new ones are whole.

    Conflicts are not written, and are in the report; everything else is. Raises UsageError, and
    writes nothing, for a value that no label can have, a trajectory that is not there or not clear,
    an encrypted dataset, or private trajectories that a commitment is to.
    """
    if not path.is_dir():
        raise DatasetError(f"{path}: no such dataset folder")
    if (path / SEALED).exists() and not (path / MANIFEST).exists():
        raise UsageError(f"{path}: is encrypted: label before traj split --encrypt-to")
    with locked(path):
        dataset = Dataset.open(path)
        if _is_newer(dataset.manifest.schema_version):
            raise UsageError(
                f"{path}: has schema {dataset.manifest.schema_version}, and this traj writes "
                f"{schema.VERSION}: pip install --upgrade traj-toolkit"
            )
        report = LabelReport()
        frame = present(dataset)
        every = best(_said(dataset, frame, orders, report), RANK)
        decided = decide(every, frame, overwrite=orders.overwrite)
        _describe(report, decided)
        todo = decided.filter(decided["verdict"].is_in(list(TO_WRITE)))
        _check_private(dataset, frame, todo, orders, report)
        if schema.is_older(dataset.manifest.schema_version) and not todo.is_empty():
            report.raised_from = dataset.manifest.schema_version
        if not todo.is_empty() and not orders.dry_run:
            commit(path, write_labels(dataset, todo))
            report.written = True
    return report


def _said(
    dataset: Dataset, frame: pl.DataFrame, orders: Orders, report: LabelReport
) -> Iterator[pl.DataFrame]:
    """Everything that the orders say."""
    if orders.where and orders.table and not (orders.sets or orders.checkouts or orders.rules):
        raise UsageError("--where: a table names its trajectories itself")
    if not (orders.table or orders.sets or orders.checkouts or orders.rules):
        raise UsageError("nothing to say: give --import, --set, --checkout or --rules")
    some = chosen(dataset, orders.where) if orders.where else None
    everyone = set(frame["trajectory_id"].to_list())
    if orders.table:
        yield read_table(orders.table, frame, orders.source)
    yield from _sets(orders, sorted(everyone if some is None else some))
    if len(orders.checkouts) > 1 and some is not None:
        raise UsageError("--where: say of one --checkout at a time which sessions ran in it")
    for place in orders.checkouts:
        told = checkouts.ask(place, frame, _started(dataset), some or set())
        report.notes += told.notes
        yield told.said
    if orders.rules:
        found = apply_rules(dataset, read_rules(orders.rules))
        yield found if some is None else found.filter(found["trajectory_id"].is_in(list(some)))


def _sets(orders: Orders, ids: list[str]) -> Iterator[pl.DataFrame]:
    given: dict[str, str | None] = {}
    for text in orders.sets:
        name, value = parse(text, "--set")
        if name not in WRITTEN:
            raise UsageError(f"--set {name}: no such label: {', '.join(WRITTEN)}")
        if name in given:
            raise UsageError(f"--set {name}: is given twice")
        given[name] = _or_refuse(f"--set {name}", checked, name, value)
    if not {"language", "languages"}.isdisjoint(given):
        given["languages"] = languages_of(given.pop("language", None), given.get("languages"))
    for name, found in given.items():
        place = f"--set {name}"
        source = _or_refuse(place, checked_source, name, orders.source)
        yield said(ids, name, found, source or "user", place, asserted=True)


def _or_refuse(
    place: str, check: Callable[[str, str], str | None], name: str, text: str
) -> str | None:
    try:
        return check(name, text)
    except BadValueError as error:
        raise UsageError(f"{place}: {error}") from None


def _describe(report: LabelReport, decided: pl.DataFrame) -> None:
    counts = decided.group_by("label", "verdict").len().sort("label", "verdict")
    for name, verdict, count in counts.iter_rows():
        report.verdicts.setdefault(name, {})[verdict] = count
    todo = decided.filter(decided["verdict"].is_in(list(TO_WRITE)))
    report.trajectories = todo["trajectory_id"].n_unique()
    against = decided.filter(decided["verdict"] == "conflict")
    columns = ("trajectory_id", "label", "known", "known_by", "value", "source", "place")
    report.conflicts = [Conflict(*row) for row in against.select(columns).iter_rows()]


def _check_private(
    dataset: Dataset, frame: pl.DataFrame, todo: pl.DataFrame, orders: Orders, report: LabelReport
) -> None:
    """What is committed to does not change unnoticed."""
    if not dataset.manifest.commitment:
        return
    private = frame.filter(frame["split"] == "private")["trajectory_id"]
    count = private.is_in(todo["trajectory_id"].implode()).sum()
    if count and not orders.private:
        raise UsageError(
            f"{dataset.path}: {count} of these trajectories are private, and a commitment is to "
            "them as they are: leave them out with --where split=public, or give --private and run "
            "traj split afterwards, which commits to them anew"
        )
    report.split_again = bool(count)


def _is_newer(version: str) -> bool:
    return not schema.is_older(version) and version != schema.VERSION


def _started(dataset: Dataset) -> dict[str, int]:
    """When each session started, in microseconds since 1970."""
    rows = dataset.table("trajectories", ["trajectory_id", "started_at"]).drop_null()
    moments = rows["started_at"].cast("int64").to_pylist()
    return dict(zip(rows["trajectory_id"].to_pylist(), moments, strict=True))
