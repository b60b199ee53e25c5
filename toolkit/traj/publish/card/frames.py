"""The columns that a card's figures are made of, and SQL over them.

Every figure is one line of SQL that polars and DuckDB read alike: it is what the card computes and
what it prints for the reader to compute again. Texts are never read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from traj import schema

if TYPE_CHECKING:
    import polars as pl

    from traj.dataset import Dataset, Manifest

COLUMNS = {
    "trajectories": (
        *("trajectory_id", "source", "agent", "started_at", "duration_us", "repository"),
        *("language", "use_case", "outcome", "totals", "redactions", "losses"),
    ),
    "turns": (
        *("trajectory_id", "lane", "lane_kind", "context_reason", "start_us", "first_token_us"),
        *("end_us", "delay_us", "tool_us", "user_us", "clock", "model", "system_id", "tools_id"),
        *("earlier_reasoning", "input_tokens", "cached_tokens", "output_tokens"),
        *("reasoning_tokens", "usage_source", "counted_input_tokens", "counted_cached_tokens"),
        "unseen_input_tokens",
    ),
    "messages": ("message",),
    "tool_calls": ("category", "start_us", "end_us", "permission_us", "clock", "status"),
    "prompts": ("tokens",),
}
_IDS = ("trajectory_id", "system_id", "tools_id")


def sql(values: Sequence[str], source: str, *rest: str) -> str:
    """A query as one line."""
    return " ".join(["select", ", ".join(values), "from", source, *rest])


@dataclass(frozen=True, slots=True)
class Frames:
    """A dataset's columns of numbers and words, by table."""

    manifest: Manifest
    tables: dict[str, pl.DataFrame]
    sql: pl.SQLContext[Any]

    @classmethod
    def of(cls, dataset: Dataset) -> Frames:
        import polars as pl

        tables = {}
        for name in schema.TABLES:
            frame = pl.DataFrame(dataset.table(name, COLUMNS[name]))
            # Ids of 64 digits a turn are most of what there is; as numbers they are little.
            ids = [column for column in _IDS if column in frame.columns]
            tables[name] = frame.with_columns(pl.col(*ids).cast(pl.Categorical)) if ids else frame
        return cls(dataset.manifest, tables, pl.SQLContext(frames=tables, eager=True))

    def rows(self, query: str) -> list[tuple[Any, ...]]:
        """What a query gives."""
        return list(self.sql.execute(query, eager=True).rows())

    def row(self, query: str) -> tuple[Any, ...]:
        """The one row that a query gives."""
        (row,) = self.rows(query)
        return row
