"""Chooses trajectories: `--where FIELD=VALUE`.

FIELD is any column or struct field of the trajectories table that holds one value or a list of
words, `trajectory_id` (its first digits), `session_id`, or `repository` (host/owner/name, with `*`
for any letters). An empty VALUE: it is unknown.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, cast

from traj import schema
from traj.dataset import Dataset
from traj.dataset.repositories import plain_name, repository_name
from traj.errors import UsageError

if TYPE_CHECKING:
    import polars as pl

_SPECIAL = {"trajectory_id": "trajectory_id", "session_id": "source", "repository": "repository"}


def parse(text: str, option: str) -> tuple[str, str]:
    """FIELD and VALUE. Raises UsageError."""
    field, equals, value = text.partition("=")
    if not equals or not field.strip():
        raise UsageError(f"{option} {text!r}: write FIELD=VALUE")
    return field.strip(), value.strip()


def chosen(dataset: Dataset, where: Sequence[str]) -> set[str]:
    """The trajectories for which all of `where` holds.

    Raises UsageError for an unknown field, or where there is no such trajectory.
    """
    import polars as pl

    wanted = [parse(text, "--where") for text in where]
    columns = {_SPECIAL.get(field, field.partition(".")[0]) for field, _ in wanted}
    known = dict(schema.walk(schema.table("trajectories").columns))
    for field, _ in wanted:
        column = known.get(field)
        if field not in _SPECIAL and (column is None or "struct" in column.type):
            near = difflib.get_close_matches(field, [*known, *_SPECIAL], 1)
            hint = f": did you mean {near[0]}?" if near else ""
            raise UsageError(f"--where {field}: no such field{hint}")
    table = dataset.table("trajectories", list({"trajectory_id", *columns}))
    heads = cast("pl.DataFrame", pl.from_arrow(table))
    for field, value in wanted:
        heads = heads.filter(_holds(heads, field, value))
    if heads.is_empty():
        raise UsageError(f"{dataset.path}: no trajectory has {' and '.join(where)}")
    return set(heads["trajectory_id"].to_list())


def repository_is(names: pl.Expr, pattern: str) -> pl.Expr:
    """Whether host/owner/name is this, `*` standing for any letters."""
    parts = [re.escape(part) for part in plain_name(pattern).split("*")]
    return names.str.contains(f"^{'.*'.join(parts)}$")


def _holds(heads: pl.DataFrame, field: str, value: str) -> pl.Expr:
    import polars as pl

    if field == "trajectory_id":
        return pl.col(field).str.starts_with(value)
    if field == "repository":
        names = [repository_name(one) for one in heads["repository"].to_list()]
        here = pl.lit(pl.Series(names, dtype=pl.String))
        return repository_is(here, value) if value else here.is_null()
    name, _, inner = ("source", "", "session_id") if field == "session_id" else field.partition(".")
    found = pl.col(name).struct.field(inner) if inner else pl.col(name)
    if isinstance(heads.select(found).to_series().dtype, pl.List):
        return found.list.contains(value) if value else found.list.len() == 0
    text = found.cast(pl.String)
    return text == value if value else text.is_null() | (text == "unknown")
