"""The card's text, put together."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from traj.publish.card import figures, licences, provenance, set_apart, usage
from traj.publish.card.figures import CACHE, LANES, LANGUAGES, OUTCOMES, SIZES, SPREADS, TOOLS
from traj.publish.card.front_matter import front_matter, pretty_name
from traj.publish.card.markup import count, share

if TYPE_CHECKING:
    from traj.dataset import Dataset
    from traj.publish.card.frames import Frames
    from traj.publish.card.names import Names
    from traj.publish.card.plots import Plot

SHEETS = (
    *(SIZES, SPREADS, CACHE, LANES, TOOLS, LANGUAGES, figures.USE_CASES, OUTCOMES),
    *(provenance.GAPS, provenance.WEIGHTS),
)


def readme(dataset: Dataset, frames: Frames, names: Names, plots: Sequence[Plot]) -> bytes:
    """README.md: YAML, then Markdown."""
    blocks = [
        f"---\n{front_matter(dataset, frames, names)}\n---",
        f"# {pretty_name(dataset, names)}",
        summary(frames),
        *_figures(frames, {plot.name: plot for plot in plots}),
        figures.queries(names, SHEETS),
        *usage.loading(names),
        *usage.replaying(names),
        *provenance.recorded(frames),
        *licences.section(licences.of(frames)),
        *usage.columns(names, dataset.manifest.schema_version),
        *provenance.limits(frames),
        *set_apart.private_split(dataset.manifest, names),
        *set_apart.canary(dataset.manifest.canary),
    ]
    return ("\n\n".join(blocks) + "\n").encode()


def summary(frames: Frames) -> str:
    """What the dataset is, in two sentences."""
    trajectories, turns, calls = (
        len(frames.tables[name]) for name in ("trajectories", "turns", "tool_calls")
    )
    (whole,) = frames.row(SIZES.figures[-2].query)
    (cached,) = frames.row(CACHE.figures[0].query)
    agents = provenance.words(provenance.agents(frames))
    by = f" of {agents}" if agents else ""
    tokens = "" if whole is None else f", {count(whole)} input tokens"
    hits = "" if cached is None else f", of which providers had {share(cached)} in their caches"
    return (
        f"{count(trajectories)} recorded sessions{by}, with every request that they made to a "
        f"model: {count(turns)} requests, {count(calls)} tool calls{tokens}{hits}. Made to be "
        "replayed on inference engines and to study the load that coding agents are: lengths, "
        "cache reuse, tool times and sub-agents are columns, and each text is stored once."
    )


def _figures(frames: Frames, drawn: dict[str, Plot]) -> list[str]:
    return [
        "## Key figures",
        SIZES.block(frames),
        _picture(drawn["lengths"]),
        SPREADS.block(frames),
        """\
Percentiles are over the known values; each is a value that occurs. `known`: the share of rows that
have one.""",
        "### Cache",
        _picture(drawn["cached_share"]),
        CACHE.block(frames),
        LANES.block(frames),
        "### Tool time",
        _picture(drawn["tool_times"]),
        TOOLS.block(frames),
        f"In `tool_calls`: `{figures.WORK}`.",
        "### What was worked on",
        _picture(drawn["languages"]),
        LANGUAGES.block(frames),
        figures.USE_CASES.block(frames),
        OUTCOMES.block(frames),
    ]


def _picture(plot: Plot) -> str:
    return f"![{plot.alt}]({plot.path})"
