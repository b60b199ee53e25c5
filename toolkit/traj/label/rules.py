r"""A person's own rules: what follows from a trajectory's rows, decided by nothing but the rules.

    [[rules]]
    name = "fixes"                       # what the report calls it
    [rules.when]                         # all of it must hold
    repository = "github.com/example/*"  # host/owner/name, * for any letters
    branch = "^fix/"                     # regular expressions, found anywhere: branch, title,
    title = "(?i)\\bfix"                   # session_id, prompt (what people wrote before the first
    prompt = "(?i)regression"            # answer)
    agent = "claude_code"                # the agent's name
    called = ["edit", "test"]            # categories of tool calls, all of which occur
    last_call = {category = "test", status = "ok"}  # the last call of a category, how it ended
    [rules.set]
    use_case = "bug_fix"

A label follows from the first rule that holds and sets it. What follows is known by `rule`; an
outcome needs `outcome_source` beside it, `tests` or `benchmark`: the evidence that the rule reads.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from traj.dataset import Dataset
from traj.dataset.repositories import repository_name
from traj.errors import DatasetError, UsageError
from traj.label.said import nothing, said
from traj.label.values import BY_NAME, BadValueError, checked, sources
from traj.label.where import repository_is
from traj.schema import table

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa

_SETS = ("use_case", "outcome", "repository.license", "repository.visibility")
_TEXTS = ("branch", "title", "session_id", "prompt")


@dataclass(frozen=True, slots=True)
class Rule:
    """One rule, its values checked."""

    place: str
    when: Mapping[str, Any]
    sets: Mapping[str, tuple[str | None, str]]  # label: value, source


def read_rules(file: Path) -> list[Rule]:
    """Reads a rules file. Raises UsageError naming the rule for whatever is wrong in it."""
    try:
        data = tomllib.loads(file.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: not TOML ({error})") from None
    listed = data.get("rules")
    if not isinstance(listed, list) or not listed or set(data) != {"rules"}:
        raise UsageError(f"{file}: write [[rules]] with `when` and `set`, and nothing else")
    return [_rule(file, number, one) for number, one in enumerate(listed, 1)]


def apply_rules(dataset: Dataset, rules: list[Rule]) -> pl.DataFrame:
    """What follows from the rules, as `said`. Raises UsageError for a regular expression that is
    none."""
    import polars as pl

    facts = _facts(dataset, {name for rule in rules for name in rule.when})
    parts = []
    for rule in rules:
        try:
            ids = facts.filter(*_conditions(rule))["trajectory_id"].to_list()
        except pl.exceptions.PolarsError as error:
            first = str(error).partition("\n")[0]
            raise UsageError(f"{rule.place}: no regular expression ({first})") from None
        parts += [
            said(ids, name, value, source, rule.place, asserted=False)
            for name, (value, source) in rule.sets.items()
        ]
    every = pl.concat([nothing(), *parts])
    return every.unique(["trajectory_id", "label"], keep="first", maintain_order=True)


def _rule(file: Path, number: int, data: Any) -> Rule:
    place = f"{file}: rule {number}"
    if not isinstance(data, dict) or not {"when", "set"} <= set(data) <= {"name", "when", "set"}:
        raise UsageError(f"{place}: has `when` and `set`, and may have a `name`")
    if data.get("name"):
        place = f"{file}: rule {str(data['name'])!r}"
    when, sets = data["when"], data["set"]
    if not isinstance(when, dict) or not when:
        raise UsageError(f"{place}: `when` says nothing: a rule for everything is --set")
    for name, value in when.items():
        if name not in _SHAPES or not _SHAPES[name](value):
            raise UsageError(f"{place}: `when` has {name} = {value!r}, which no rule can have")
    if not isinstance(sets, dict) or not sets:
        raise UsageError(f"{place}: `set` says nothing")
    return Rule(place, when, dict(_sets(place, sets)))


def _sets(place: str, data: Mapping[str, Any]) -> Iterator[tuple[str, tuple[str | None, str]]]:
    flat = {k: v for k, v in data.items() if k != "repository"}
    inner = data.get("repository", {})
    if isinstance(inner, dict):
        flat |= {f"repository.{k}": v for k, v in inner.items()}
    for name, value in flat.items():
        if name in ("use_case_source", "outcome_source"):
            continue
        if name not in _SETS or not isinstance(value, str):
            raise UsageError(f"{place}: a rule sets {', '.join(_SETS)}, not {name} = {value!r}")
        try:
            found = checked(name, value)
        except BadValueError as error:
            raise UsageError(f"{place}: {error}") from None
        source = flat.get(f"{name}_source", "rule")
        allowed = [one for one in sources(BY_NAME[name]) if one not in ("user", "text", "manifest")]
        if source not in allowed:
            raise UsageError(
                f"{place}: {name} cannot be known by {source!r} here: "
                f"write {name}_source = {' or '.join(map(repr, allowed))}"
            )
        yield name, (found, source)


def _conditions(rule: Rule) -> Iterator[pl.Expr]:
    import polars as pl

    for name, value in rule.when.items():
        if name == "repository":
            yield repository_is(pl.col(name), value)
        elif name == "agent":
            yield pl.col(name) == value
        elif name == "prompt":
            yield pl.col(name).list.eval(pl.element().str.contains(value)).list.any()
        elif name in _TEXTS:
            yield pl.col(name).str.contains(value)
        elif name == "called":
            for category in value:
                yield pl.col("called").list.contains(category)
        else:
            last = pl.col("last_call").list.eval(
                pl.element().filter(pl.element().struct.field("category") == value["category"])
            )
            last = last.list.last()
            for key, wanted in value.items():
                yield last.struct.field(key) == wanted


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value)


def _is_call(value: Any) -> bool:
    """A category, and a status or an exit code, in the schema's words."""
    if not isinstance(value, dict) or not {"category"} < set(value) <= set(_CALL):
        return False
    exit_code = value.get("exit_code", 0)
    calls = table("tool_calls")
    return (
        value["category"] in calls.column("category").enum
        and value.get("status", "ok") in calls.column("status").enum
        and type(exit_code) is int
    )


def _is_categories(value: Any) -> bool:
    known = table("tool_calls").column("category").enum
    return isinstance(value, list) and bool(value) and all(one in known for one in value)


_CALL = ("category", "status", "exit_code")
_SHAPES: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("repository", "agent", *_TEXTS), _is_text),
    "called": _is_categories,
    "last_call": _is_call,
}


def _facts(dataset: Dataset, wanted: set[str]) -> pl.DataFrame:
    """What rules look at, a row a trajectory; prompts and tool calls are read where some rule asks
    for them."""
    import polars as pl

    names = ["trajectory_id", "source", "agent", "repository", "task"]
    heads = _frame(dataset.table("trajectories", names))
    known = [repository_name(one) for one in heads["repository"].to_list()]
    facts = heads.select(
        "trajectory_id",
        session_id=pl.col("source").struct.field("session_id"),
        agent=pl.col("agent").struct.field("name"),
        branch=pl.col("repository").struct.field("branch"),
        title=pl.col("task").struct.field("title"),
        repository=pl.Series(known, dtype=pl.String),
    )
    if "prompt" in wanted:
        facts = facts.join(_prompts(dataset), on="trajectory_id", how="left")
    if wanted & {"called", "last_call"}:
        facts = facts.join(_calls(dataset), on="trajectory_id", how="left")
    return facts


def _prompts(dataset: Dataset) -> pl.DataFrame:
    """What people wrote before the first answer of the main lane, read a row group at a time."""
    import polars as pl
    import pyarrow as pa

    columns = ["trajectory_id", "message", "lane", "role", "content"]
    found = [pl.DataFrame(schema={"trajectory_id": pl.String, "prompt": pl.List(pl.String)})]
    first = pl.col("message").filter(pl.col("role") == "assistant").min().over("trajectory_id")
    asked = (pl.col("role") == "user") & (pl.col("message") < first).fill_null(value=True)
    for file in dataset.files("messages"):
        try:
            with dataset.parquet(file) as parquet:
                for group in range(parquet.num_row_groups):
                    rows = _frame(parquet.read_row_group(group, columns=columns))
                    rows = rows.filter(pl.col("lane") == 0).filter(asked)
                    texts = rows.group_by("trajectory_id").agg(
                        prompt=pl.col("content").drop_nulls()
                    )
                    found.append(texts)
        except (OSError, pa.ArrowException) as error:
            raise DatasetError(f"{dataset.path / file.path}: {error}") from None
    return pl.concat(found)


def _calls(dataset: Dataset) -> pl.DataFrame:
    """The categories of the tool calls, and the calls of each in order."""
    import polars as pl

    rows = _frame(dataset.table("tool_calls", ["trajectory_id", "call", *_CALL]))
    return (
        rows.sort("trajectory_id", "call")
        .group_by("trajectory_id", maintain_order=True)
        .agg(called=pl.col("category").unique(), last_call=pl.struct(_CALL))
    )


def _frame(table: pa.Table) -> pl.DataFrame:
    import polars as pl

    return cast("pl.DataFrame", pl.from_arrow(table))
