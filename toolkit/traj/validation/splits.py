"""Checks of the split into public and private: whose sessions lie where, and what the manifest
says of it. What the sessions hold is compared in split_content, how long they are in
split_distances."""

from __future__ import annotations

from typing import TYPE_CHECKING

from traj.dataset.repositories import repository_name
from traj.validation.report import Check, Fault, NotApplicableError, faults

if TYPE_CHECKING:
    from collections.abc import Iterator

    import polars as pl

    from traj.validation.tables import Tables

SPLITS = ("public", "private")


def sides(tables: Tables) -> pl.DataFrame:
    """Who lies where: trajectory_id, split, repository (host/owner/name), commit."""
    import polars as pl

    rows = tables.frame("trajectories", ["trajectory_id", "split", "repository"])
    known = rows["repository"].to_list()
    return rows.select(
        "trajectory_id",
        "split",
        pl.Series("repository", [repository_name(one) for one in known], pl.String),
        commit=pl.col("repository").struct.field("commit"),
    )


def both_sides(tables: Tables) -> pl.DataFrame:
    """The trajectories of both splits.

    Raises NotApplicableError where one of them is not here.
    """
    import polars as pl

    found = tables.once(sides).filter(pl.col("split").is_in(list(SPLITS)))
    if found["split"].n_unique() < len(SPLITS):
        raise NotApplicableError("public and private trajectories are not both here")
    return found


def split_repositories(tables: Tables) -> Iterator[Fault]:
    """No repository lies in both splits, by its name or by the commit that sessions started at."""
    import polars as pl

    rows = both_sides(tables)
    for name in ("repository", "commit"):
        twice = rows.drop_nulls(name).filter(pl.col("split").n_unique().over(name) > 1)
        twice = twice.filter(pl.col("split") == "private")
        yield from faults("trajectories", twice, f"the {name} lies in public too", show=[name])


def split_forks(tables: Tables) -> Iterator[Fault]:
    """No two repositories of one name lie in different splits: forks, unless a families file says
    otherwise.
    """
    import polars as pl

    rows = both_sides(tables).drop_nulls("repository")
    rows = rows.with_columns(name=pl.col("repository").str.split("/").list.last())
    public = rows.filter(pl.col("split") == "public").select("name", other="repository")
    private = rows.filter(pl.col("split") == "private")
    alike = private.join(public.unique("name"), on="name", maintain_order="left")
    alike = alike.filter(pl.col("repository") != pl.col("other"))
    what = "a public repository has the same name: is one a fork of the other?"
    yield from faults("trajectories", alike, what, show=["repository", "other"])


def split_rest(tables: Tables) -> Iterator[Fault]:
    """Where a split was made no trajectory is left without one: the next `traj split` assigns what
    was recorded since.
    """
    import polars as pl

    rows = tables.once(sides)
    if not rows["split"].is_in(list(SPLITS)).any():
        raise NotApplicableError("the dataset is not split")
    rest = rows.filter(pl.col("split").is_null())
    yield from faults("trajectories", rest, "the trajectory is in neither split: run traj split")


def split_prompts(tables: Tables) -> Iterator[Fault]:
    """A split's prompts are those that its own turns refer to, and no others."""
    splits = [name for name in SPLITS if tables.dataset.files("prompts", name)]
    if not splits:
        raise NotApplicableError("no split has prompts of its own")
    for split in splits:
        used: set[str | None] = set()
        for file in tables.dataset.files("turns", split):
            for batch in tables.file_batches(file, ["system_id", "tools_id"]):
                used.update(*(column.unique() for column in batch))
        for file in tables.dataset.files("prompts", split):
            for batch in tables.file_batches(file, ["prompt_id"]):
                more = [name for name in batch["prompt_id"] if name not in used]
                if more:
                    what = f"no turn of split {split} refers to a prompt in its files"
                    yield Fault("prompts", f"prompt {more[0]}", what, count=len(more))


def split_canaries(tables: Tables) -> Iterator[Fault]:
    """Every split that the manifest describes has a canary of its own."""
    splits = tables.dataset.manifest.splits
    described = {name: splits[name] for name in SPLITS if isinstance(splits.get(name), dict)}
    if not described:
        raise NotApplicableError("the manifest describes no split")
    seen: set[object] = set()
    for name, facts in described.items():
        canary = facts.get("canary")
        if not isinstance(canary, str) or not canary:
            yield Fault("", f"split {name}", "a split has no canary")
        elif canary in seen:
            yield Fault("", f"split {name}", "two splits have the same canary")
        seen.add(canary)


def commitment_counts(tables: Tables) -> Iterator[Fault]:
    """The commitment counts the rows that the private split has."""
    commitment = tables.dataset.manifest.commitment
    counts = commitment.get("counts") if isinstance(commitment, dict) else None
    if not tables.dataset.files("trajectories", "private") or not isinstance(counts, dict):
        raise NotApplicableError("no commitment, or the private split lies elsewhere")
    for table, count in counts.items():
        rows = sum(file.rows for file in tables.dataset.files(table, "private"))
        if rows != count:
            what = "the commitment is to another number of rows: run traj split"
            yield Fault(table, "split private", what, f"{count}, not {rows}")


# What is to be so before a split is written; the others speak of what was.
PROOFS = (
    Check(split_repositories, scope="dataset"),
    Check(split_forks, "finding", scope="dataset"),
)
CHECKS = (
    *PROOFS,
    Check(split_rest, "finding", scope="dataset"),
    Check(split_prompts, scope="dataset"),
    Check(split_canaries, scope="dataset"),
    Check(commitment_counts, scope="dataset"),
)
