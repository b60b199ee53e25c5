"""Copilot CLI's figures, as the schema has them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from traj.events import Usage
from traj.sources.about import Meaning
from traj.sources.copilot_cli import wire

MEANING = Meaning(cached="inside", written="inside", reasoning="inside")


def usage(spent: wire.Spent) -> Usage:
    """The schema's figures."""
    return MEANING.usage(
        spent.input_tokens,
        spent.cache_read_tokens,
        spent.output_tokens,
        written_tokens=spent.cache_write_tokens,
        reasoning_tokens=spent.reasoning_tokens,
    )


def _sum(figures: Iterable[int | None]) -> int | None:
    known = [figure for figure in figures if figure is not None]
    return sum(known) if known else None


def whole_session(metrics: Mapping[str, wire.ModelMetric], *, whole: bool) -> Usage | None:
    """The sums over all models; None where there are none."""
    spent = [one.usage for one in metrics.values() if one.usage is not None]
    if not spent:
        return None
    return MEANING.usage(
        _sum(one.input_tokens for one in spent),
        _sum(one.cache_read_tokens for one in spent),
        _sum(one.output_tokens for one in spent),
        written_tokens=_sum(one.cache_write_tokens for one in spent),
        reasoning_tokens=_sum(one.reasoning_tokens for one in spent),
        whole=whole,
    )
