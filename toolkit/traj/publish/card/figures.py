"""The card's figures: each a label, one line of SQL, and how its answer reads.

Percentiles are `quantile_disc`'s: the smallest value that so large a share of the known values does
not exceed, so each is one that occurs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from traj.publish.card.frames import COLUMNS, Frames, sql
from traj.publish.card.markup import code, count, fenced, folded, share, span, table
from traj.publish.card.names import Names

Read = Callable[[Any], str]
WORK = "end_us - start_us - coalesce(permission_us, 0)"
_CUTS = (0.05, 0.5, 0.95)


@dataclass(frozen=True, slots=True)
class Figure:
    """A query, and how each cell of its rows reads."""

    label: str  # what the comment above the query says
    query: str
    cells: tuple[Read, ...]
    note: str = ""

    def rows(self, frames: Frames) -> list[list[str]]:
        """Its rows as Markdown cells."""
        found = frames.rows(self.query)
        return [[read(cell) for read, cell in zip(self.cells, row, strict=True)] for row in found]


@dataclass(frozen=True, slots=True)
class Sheet:
    """Figures that stand in one table; `named` where each is a row under its own label."""

    heads: tuple[str, ...]
    figures: tuple[Figure, ...]
    named: bool = True
    noted: bool = True

    def block(self, frames: Frames) -> str:
        rows = [
            [*([figure.label] if self.named else []), *row, *([figure.note] if self.noted else [])]
            for figure in self.figures
            for row in figure.rows(frames)
        ]
        last = len(self.heads) - (1 if self.noted else 0)
        return table(self.heads, rows, range(1, last))


def quantiles(value: str) -> list[str]:
    return [f"quantile_disc({value}, {cut})" for cut in _CUTS]


def _rows(name: str, note: str) -> Figure:
    return Figure(name.replace("_", " "), sql(["count(*)"], name), (count,), note)


def _spread(label: str, source: str, value: str, read: Read, note: str) -> Figure:
    more = (f"max({value})", f"avg({value})", f"count({value}) / count(*)")
    query = sql([*quantiles(value), *more], source)
    return Figure(label, query, (*[read] * 5, share), note)


def _tokens(name: str) -> Figure:
    return _spread(name.replace("_", " "), "turns", name, count, f"`turns.{name}`")


def _cached(label: str, cached: str, whole: str, note: str) -> Figure:
    known = f"{cached} is not null and {whole} is not null"
    query = sql([f"sum({cached}) / sum({whole})"], "turns", "where", known)
    return Figure(label, query, (share,), note)


SIZES = Sheet(
    ("", "", "is"),
    (
        _rows("trajectories", "sessions, sub-agents included: rows of `trajectories`"),
        _rows("turns", "requests to a model and their answers: rows of `turns`"),
        _rows("tool_calls", "rows of `tool_calls`"),
        _rows("messages", "messages, each stored once: rows of `messages`"),
        _rows("prompts", "distinct system prompts and lists of tools: rows of `prompts`"),
        Figure(
            "lanes",
            "select count(*) from (select distinct trajectory_id, lane from turns)",
            (count,),
            "conversations of agents and sub-agents: distinct `trajectory_id, lane` in `turns`",
        ),
        Figure(
            "compactions",
            "select count(*) from turns where context_reason = 'compaction'",
            (count,),
            "contexts that follow a summary of the one before: `turns.context_reason`",
        ),
        Figure(
            "sum of input tokens",
            "select sum(input_tokens) from turns",
            (count,),
            "as the providers counted: `turns.input_tokens`",
        ),
        Figure(
            "sum of output tokens",
            "select sum(output_tokens) from turns",
            (count,),
            "as the providers counted: `turns.output_tokens`",
        ),
    ),
)
SPREADS = Sheet(
    ("", "p5", "median", "p95", "max", "mean", "known", "is"),
    (
        _tokens("input_tokens"),
        _tokens("cached_tokens"),
        _tokens("output_tokens"),
        _tokens("reasoning_tokens"),
        _spread("turns of a trajectory", "trajectories", "totals.turns", count, "`totals.turns`"),
        _spread("length of a trajectory", "trajectories", "duration_us", span, "`duration_us`"),
        _spread("time of a turn", "turns", "end_us - start_us", span, "`end_us - start_us`"),
        _spread("time before a turn", "turns", "delay_us", span, "`turns.delay_us`"),
        _spread("of it tools", "turns", "tool_us", span, "`turns.tool_us`"),
        _spread("of it a person", "turns", "user_us", span, "`turns.user_us`"),
    ),
)
CACHE = Sheet(
    ("", "of all input tokens", "is"),
    (
        _cached(
            "cached share, as logged",
            "cached_tokens",
            "input_tokens",
            "what providers read from their caches: `cached_tokens / input_tokens`",
        ),
        _cached(
            "cached share, counted, ideal",
            "counted_cached_tokens",
            "counted_input_tokens",
            "what a cache that forgets nothing would find of a trajectory's own earlier text: "
            "`counted_cached_tokens / counted_input_tokens`",
        ),
    ),
)
LANES = Sheet(
    ("lane", "lanes", "turns", "median input", "median output", "cached share, as logged"),
    (
        Figure(
            "by kind of lane",
            "select lane_kind, count(distinct trajectory_id || '/' || cast(lane as text)), "
            "count(*), quantile_disc(input_tokens, 0.5), quantile_disc(output_tokens, 0.5), "
            "sum(case when input_tokens is not null then cached_tokens end) / "
            "sum(case when cached_tokens is not null then input_tokens end) "
            "from turns group by lane_kind order by lane_kind",
            (code, count, count, count, count, share),
        ),
    ),
    named=False,
    noted=False,
)
TOOLS = Sheet(
    ("category", "calls", "time known", "p5", "median", "p95", "max", "sum"),
    (
        Figure(
            "tool time by category",
            sql(
                [
                    *("category", "count(*)", f"count({WORK}) / count(*)", *quantiles(WORK)),
                    *(f"max({WORK})", f"sum({WORK})"),
                ],
                "tool_calls group by category order by count(*) desc, category",
            ),
            (code, count, share, *[span] * 5),
        ),
    ),
    named=False,
    noted=False,
)


def _by(column: str) -> Sheet:
    order = f"order by count(*) desc, {column}"
    values = [column, "count(*)", "sum(totals.turns)"]
    query = sql(values, "trajectories", "group by", column, order)
    figure = Figure(f"by {column.replace('_', ' ')}", query, (code, count, count))
    heads = (column.replace("_", " "), "trajectories", "turns")
    return Sheet(heads, (figure,), named=False, noted=False)


LANGUAGES, USE_CASES, OUTCOMES = (_by(name) for name in ("language", "use_case", "outcome"))


def views(names: Names) -> list[str]:
    """A view for each table that is published, so that queries stay short."""
    found = []
    for config in COLUMNS:
        splits = names.files.get(config, {})
        paths = [path for split in splits for path in names.patterns(config, split)]
        if paths:
            places = ", ".join(f"'{names.root}/{path}'" for path in paths)
            read = sql(["*"], f"read_parquet([{places}])")
            found.append(f"create view {config} as {read};")
    return found


def queries(names: Names, sheets: Sequence[Sheet]) -> str:
    """Every figure's line of SQL, for DuckDB."""
    text = fenced("sql", "\n".join(_sql(names, sheets)))
    return folded("Every figure of this page, computed again (DuckDB)", text)


def _sql(names: Names, sheets: Sequence[Sheet]) -> Iterator[str]:
    yield from views(names)
    for sheet in sheets:
        for figure in sheet.figures:
            yield from ("", f"-- {figure.label}", f"{figure.query};")
