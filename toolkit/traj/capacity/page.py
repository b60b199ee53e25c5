"""A capacity as one page that needs nothing else: the result, the curve, what it rests on."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

from traj.errors import MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from matplotlib.axes import Axes

    from traj.capacity.phase import Phase, Spread
    from traj.capacity.results import Capacity

_STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; margin: 1rem 0 }
th, td { padding: .3rem .8rem; text-align: right; border-bottom: 1px solid #ddd }
th:first-child, td:first-child, td.text, th.text { text-align: left }
.note { background: #fff3d6; padding: .5rem .8rem }
svg { max-width: 100%; height: auto }
"""
_LEGEND = """<p>Points are phases, bars the interval that holds the true percentile 95 times of 100.
Lines are the service levels.</p>"""
_INK, _LEVELS = "#1b4965", ("#b23a48", "#c9822b", "#4f772d", "#6c4ab6")


def page(capacity: Capacity) -> str:
    """The page as HTML. Raises MissingExtraError without matplotlib."""
    system = capacity.system
    name = escape(" ".join(part for part in (system.name, system.model) if part))
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>",
        '<meta name="viewport" content="width=device-width">',
        f"<title>Capacity of {name}</title><style>{_STYLE}</style>",
        f"<h1>How many agents {name} carries</h1>",
        f"<p>{_about(capacity)}</p>",
        *(f"<p class=note>{escape(note)}</p>" for note in _notes(capacity)),
        _tiers(capacity),
        "<h2>Speed and time to first token</h2>",
        _curve(capacity),
        _LEGEND,
        "<h2>Phases</h2>",
        _phases(capacity),
        "</html>",
    ]
    return "\n".join(parts)


def _about(capacity: Capacity) -> str:
    told = [
        f"Measured {escape(capacity.measured_at)}",
        f"dataset {escape(str(capacity.dataset['name'] or capacity.dataset['sha256'][:12]))}",
        f"prefixes {escape(capacity.load['prefix'])}",
        f"tool time {escape(capacity.load['tool_time'])}",
    ]
    system = capacity.system
    if system.accelerators:
        told.append(f"{system.accelerators} accelerators")
    if system.power_w:
        told.append(f"{system.power_w:,.0f} W {escape(system.power_known_by or '')}")
    return ", ".join(told) + "."


def _notes(capacity: Capacity) -> list[str]:
    notes = []
    if capacity.simulated:
        notes.append("A simulated engine: a model's figures, not a measurement of any system.")
    if capacity.reduced:
        notes.append("Reduced: " + ", ".join(capacity.reduced) + ".")
    return notes


def _tiers(capacity: Capacity) -> str:
    rows = [
        (
            f"{tier.tier['name']}",
            f"{tier.agents:,}",
            _figure(tier.agents_per_accelerator),
            _figure(tier.agents_per_megawatt),
            tier.statement + (f" ({tier.missed})" if tier.missed else ""),
        )
        for tier in capacity.tiers
    ]
    heads = ("tokens/s / s to first token", "agents", "per accelerator", "per MW", "how sure")
    return _table(heads, rows, text=(4,))


def _phases(capacity: Capacity) -> str:
    rows = [
        (
            f"{phase.agents:,}",
            _spread(phase.speed, 1, "{:.1f}"),
            _spread(phase.ttft_us, 1e6, "{:.2f}"),
            f"{phase.answered:,}",
            f"{phase.failed:,}",
            f"{phase.plays:,}",
            "-" if phase.cached_share is None else f"{phase.cached_share:.1%}",
            f"{phase.output_tokens_per_s:,.0f}",
            "; ".join(phase.trouble),
        )
        for phase in sorted(capacity.phases, key=lambda phase: (phase.agents, phase.number))
    ]
    heads = (
        *("agents", "P25 tokens/s", "P95 s to first token", "requests", "failed"),
        *("trajectories", "cached", "tokens/s in all", "trouble"),
    )
    return _table(heads, rows, text=(8,))


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]], text: Sequence[int] = ()) -> str:
    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = (" class=text" if place in text else "" for place in range(len(row)))
        pairs = zip(row, kinds, strict=True)
        return "".join(f"<{tag}{kind}>{escape(cell)}</{tag}>" for cell, kind in pairs)

    body = "".join(f"<tr>{cells('td', row)}</tr>" for row in rows)
    return f"<table><tr>{cells('th', heads)}</tr>{body}</table>"


def _curve(capacity: Capacity) -> str:
    """Both percentiles over the number of agents, as SVG."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtraError("a page", "replay") from None
    mpl.use("svg")
    import matplotlib.pyplot as plt

    with mpl.rc_context({"svg.hashsalt": "traj", "font.size": 10, "axes.spines.top": False}):
        figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
        phases = [phase for phase in capacity.phases if phase.speed and phase.ttft_us]
        _draw(axes[0], phases, lambda phase: phase.speed, 1, "P25 of output speed, tokens/s")
        _draw(axes[1], phases, lambda phase: phase.ttft_us, 1e6, "P95 of time to first token, s")
        for tier, color in zip(capacity.tiers, _LEVELS * 8, strict=False):
            label = f"{tier.tier['name']}: {tier.agents} agents"
            axes[0].axhline(tier.tier["output_tokens_per_s"], color=color, lw=1, label=label)
            axes[1].axhline(tier.tier["ttft_s"], color=color, lw=1)
        axes[0].legend(frameon=False, fontsize=9)
        out = io.StringIO()
        figure.savefig(out, format="svg", metadata={"Date": None})
        plt.close(figure)
    return out.getvalue()[out.getvalue().index("<svg") :]


def _draw(
    axes: Axes,
    phases: Sequence[Phase],
    of: Callable[[Phase], Spread | None],
    scale: float,
    title: str,
) -> None:
    points = sorted((phase.agents, found) for phase in phases if (found := of(phase)))
    agents = [number for number, _ in points]
    values = [found.value / scale for _, found in points]
    low = [max(0.0, found.value - found.low) / scale for _, found in points]
    high = [max(0.0, found.high - found.value) / scale for _, found in points]
    axes.errorbar(agents, values, yerr=[low, high], fmt="o-", ms=4, lw=1, color=_INK, capsize=2)
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.set_xlabel("agents")
    axes.set_title(title, fontsize=11, loc="left")
    axes.grid(visible=True, alpha=0.25)


def _spread(found: Spread | None, scale: float, form: str) -> str:
    if found is None:
        return "-"
    value, low, high = (form.format(each / scale) for each in (found.value, found.low, found.high))
    return f"{value} ({low} to {high})"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:,.1f}"
