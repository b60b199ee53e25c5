"""How to load the dataset and replay it; and its columns."""

from __future__ import annotations

from collections.abc import Iterable

from traj import schema
from traj.publish.card.markup import fenced, folded, prose, table
from traj.publish.card.names import DEFAULT, TRACES, Names

_BY_DATASETS = """\
from datasets import load_dataset

turns = load_dataset("{repo_id}", "{config}", split="{split}", revision="{version}")"""
_TRACES_BY_DATASETS = """\
from datasets import load_dataset

traces = load_dataset("json", data_files={{{traces}}}, split="{split}")"""
_BY_POLARS = """\
import polars as pl

turns = pl.scan_parquet({turns})
known = turns.drop_nulls(["input_tokens", "cached_tokens"])
length = (pl.col("input_tokens") // 10_000 * 10_000).alias("tokens_from")
shares = pl.col("cached_tokens").sum() / pl.col("input_tokens").sum()
print(known.group_by(length).agg(shares, pl.len()).sort("tokens_from").collect())"""
_BY_DUCKDB = """\
select lane_kind, sum(tool_us) / 6e7 as tool_minutes, sum(user_us) / 6e7 as user_minutes
from read_parquet({turns}) group by lane_kind;"""
_BY_TRAJ = """\
import traj

dataset = traj.load("{repo_id}")
dataset.table("turns", ["input_tokens", "cached_tokens", "tool_us"])"""
_PROMPT_OF_A_TURN = """\
import polars as pl

turns = pl.scan_parquet({turns})
messages = pl.scan_parquet({messages})
longest = turns.sort("input_tokens", descending=True, nulls_last=True).head(1)
prompt = (
    longest.select("trajectory_id", "input")
    .explode("input")
    .unnest("input")
    .join(messages, on="trajectory_id")
    .filter(pl.col("message").is_between(pl.col("start"), pl.col("stop"), closed="left"))
    .sort("start", "message")
    .select("message", "role", "content", "reasoning", "tool_calls")
    .collect()
)"""
_REPLAY = """\
pip install "traj-toolkit[hub]"
hf download {repo_id} --repo-type dataset --revision {version} --local-dir {name}
traj validate {name}
traj export {name} --format aiperf-dag --prefix aa --phases 3 --tool-time baseline -o replay"""


def loading(names: Names) -> list[str]:
    """Code for datasets, polars, DuckDB and traj."""
    splits = list(names.files.get(DEFAULT, {}))
    turns, quoted = _places(names, DEFAULT, '"'), _places(names, DEFAULT, "'")
    by_datasets = _BY_DATASETS.format(
        repo_id=names.repo_id,
        config=DEFAULT,
        split=splits[0] if splits else "",
        version=names.version,
    )
    blocks = [
        "## Load it",
        f"""\
Configs: {_listed(names.files)}; split: {_listed(splits)}. Every version has a tag; this is
`{names.version}`. With datasets:""",
        fenced("python", by_datasets),
        "With polars, the cached share by length of prompt:",
        fenced("python", _BY_POLARS.format(turns=turns)),
        "With DuckDB, where the time between requests goes:",
        fenced("sql", _BY_DUCKDB.format(turns=quoted)),
        "With [traj](https://github.com/traj-toolkit/traj), as the dataset that it is:",
        fenced("python", _BY_TRAJ.format(repo_id=names.repo_id)),
    ]
    if "messages" in names.files:
        messages = _places(names, "messages", '"')
        body = """\
Each message is stored once; a turn's `input` names ranges of them. Before them stand the texts of
`prompts` that `system_id` and `tools_id` lead to."""
        example = fenced("python", _PROMPT_OF_A_TURN.format(turns=turns, messages=messages))
        blocks.append(folded("The prompt of a request, put together", body, example))
    if TRACES in names.files:
        traces = ", ".join(
            f'"{part}": {_places(names, TRACES, chr(34), part)}' for part in names.files[TRACES]
        )
        split = next(iter(names.files[TRACES]))
        blocks += [
            f"""\
`{TRACES}` holds the same sessions as files for the Hub's trace viewer, a lane a file: to look at,
without lengths and times. They are JSON lines, and `datasets` knows one kind of file a repository,
so it is told of them by their paths (and needs the package teich):""",
            fenced("python", _TRACES_BY_DATASETS.format(traces=traces, split=split)),
        ]
    return blocks


def replaying(names: Names) -> list[str]:
    """Commands that put the recorded load on an inference engine."""
    from traj.exporters import describe

    commands = _REPLAY.format(repo_id=names.repo_id, version=names.version, name=names.name)
    rows = [
        (f"`{target['target']}`", prose(target["harness"]), prose(target["summary"]))
        for target in describe()
    ]
    return [
        "## Replay it",
        """\
As files for a benchmark harness: with prompts as long as they were, prefixes that keep one phase's
cache from the next, and tool times from one baseline.""",
        fenced("sh", commands),
        """\
`replay/export.json` says what was written, what was lost on the way, what a cache can find of it,
and which command replays it.""",
        folded(f"All {len(rows)} formats", table(("`--format`", "for", "what it writes"), rows)),
    ]


def columns(names: Names, version: str) -> list[str]:
    """Every column of every published table, in the version that its files follow."""
    blocks = [
        "## Columns",
        """\
Null is unknown, never zero. Figures without `counted_` are the provider's, with it ours, over the
stored text. Times are microseconds from the trajectory's start.""",
    ]
    for name in schema.TABLES:
        if name in names.files:
            definition, own = schema.table(name), schema.names(name, version)
            rows = [
                _column(path, column)
                for path, column in schema.walk(definition.columns)
                if path.partition(".")[0] in own
            ]
            blocks.append(
                folded(
                    f"<code>{name}</code>: a row is {prose(definition.row)}",
                    f"Key: {_listed(definition.key)}.",
                    table(("column", "type", "unit", "null", "is"), rows),
                )
            )
    return blocks


def _column(path: str, column: schema.Column) -> tuple[str, ...]:
    words = prose(column.description)
    if column.enum:
        words += f" One of {_listed(column.enum)}."
    if column.references:
        words += f" Refers to `{column.references}`."
    null = "yes" if column.nullable else ""
    return f"`{path}`", f"`{column.type}`", prose(column.unit), null, words


def _listed(words: Iterable[str]) -> str:
    return ", ".join(f"`{word}`" for word in words)


def _places(names: Names, config: str, quote: str, split: str | None = None) -> str:
    """A config's files, or one split's, as Python and DuckDB write one or a list of them."""
    splits = [split] if split else names.files.get(config, {})
    paths = [path for part in splits for path in names.patterns(config, part)]
    places = [f"{quote}{names.root}/{path}{quote}" for path in paths]
    return places[0] if len(places) == 1 else f"[{', '.join(places)}]"
