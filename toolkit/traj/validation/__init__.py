"""Proves that a dataset is what the schema says, or says where it is not.

CHECKS is the whole of it: small functions, each of which proves one thing and yields what speaks
against it. `validate` runs them over one shard after another, so memory is bounded by the shard.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from traj.errors import TrajError
from traj.validation import (
    cached_length,
    columns,
    figures,
    files,
    hashes,
    heads,
    inputs,
    order,
    split_content,
    split_distances,
    splits,
    times,
    tokens,
    tools,
)
from traj.validation.report import Check, CheckResult, Finding, Report, UnavailableError
from traj.validation.run import Run
from traj.validation.tables import Count, Tables, parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from traj.dataset import Dataset

__all__ = ["CHECKS", "Check", "CheckResult", "Finding", "Report", "validate"]

# In the order in which a reader of the report best meets them: the files, single values, rows among
# each other, what is computed anew from the text, and last the splits against each other.
CHECKS: tuple[Check, ...] = (
    *files.CHECKS,
    *columns.CHECKS,
    *order.CHECKS,
    *heads.CHECKS,
    *inputs.CHECKS,
    *times.CHECKS,
    *tools.CHECKS,
    *figures.CHECKS,
    *hashes.CHECKS,
    *tokens.CHECKS,
    *cached_length.CHECKS,
    *splits.CHECKS,
    *split_content.CHECKS,
    *split_distances.CHECKS,
)


def validate(
    dataset: Dataset,
    *,
    tokenizer: str | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Report:
    """Runs all CHECKS over a dataset.

    `tokenizer` is what `open_tokenizer` takes, by default the name in the manifest; it must have
    the manifest's SHA-256. `progress` is told how many steps (the whole, then each shard) of how
    many are done. A damaged dataset raises nothing: what is wrong is a finding, and a check that
    lacks something, as the tokenizer, is reported as not run, with the reason.
    """

    @cache
    def counter() -> Count:
        return _open(dataset, tokenizer)

    whole = Tables(dataset, counter=counter)
    shards = list(parts(dataset, counter))
    run = Run(CHECKS)
    for done, tables in enumerate([whole, *shards]):
        if progress is not None:
            progress(done, 1 + len(shards))
        scope = "dataset" if tables is whole else "part"
        run.carry_out([check for check in CHECKS if check.scope == scope], tables)
        tables.close()
    if progress is not None:
        progress(1 + len(shards), 1 + len(shards))
    return run.report(whole.rows)


def _open(dataset: Dataset, tokenizer: str | None) -> Count:
    """The dataset's tokenizer. Raises UnavailableError where it cannot be had here."""
    from traj.build.tokens import open_tokenizer

    wanted = dataset.manifest.tokenizer
    name = tokenizer or wanted.get("name", "")
    try:
        found = open_tokenizer(name)
    except (TrajError, ImportError, OSError) as error:
        raise UnavailableError(f"tokenizer {name!r} is not available here: {error}") from None
    if found.sha256 != wanted.get("sha256"):
        raise UnavailableError(
            f"tokenizer {name!r} here has SHA-256 {found.sha256}, but the dataset was counted "
            f"with {wanted.get('sha256')}"
        )
    return found.count
