"""The card's pictures, as PNG: lengths, cached share, tool times, languages.

PNG and not SVG: the Hub shows it wherever it shows a card, in mails and previews too, no word from
a log can turn into markup in it, and reduced to a few colours it is as small. The ground is white
and opaque, since the Hub's dark mode is a switch of its own that no picture hears of.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from io import BytesIO
from math import log10
from typing import TYPE_CHECKING, Any

from traj.errors import MissingExtraError
from traj.publish.card import bars
from traj.publish.card.markup import UNKNOWN, count, share, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from traj.publish.card.frames import Frames

FOLDER = "plots"
_DPI = 160
_COLOURS = 24
_INK, _SOFT, _FAINT = "#1f2328", "#59636e", "#d9dee3"
_BLUE, _ORANGE, _GREY = "#3b76b8", "#c8651b", "#afb8c1"
_STYLE: dict[Any, Any] = {
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same everywhere
    "font.size": 9,
    "text.color": _INK,
    "text.parse_math": False,  # a dollar sign in a name is no formula
    "axes.edgecolor": _FAINT,
    "axes.labelcolor": _SOFT,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": "#eceff2",
    "xtick.color": _SOFT,
    "ytick.color": _SOFT,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "xtick.minor.visible": False,
    "legend.frameon": False,
}


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture, and what it shows in words."""

    name: str
    alt: str
    png: bytes

    @property
    def path(self) -> str:
        return f"{FOLDER}/{self.name}.png"


def plots(frames: Frames) -> list[Plot]:
    """All pictures. Raises MissingExtraError without matplotlib."""
    try:
        import matplotlib as mpl
    except ImportError:
        raise MissingExtraError("a dataset card's plots", "hub") from None
    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        return [_lengths(frames), _cached(frames), _tool_times(frames), _languages(frames)]


def _lengths(frames: Frames) -> Plot:
    from matplotlib.ticker import MaxNLocator

    figure, axes = _figure(3.1, 2)
    said = []
    for axis, name in zip(axes, ("input_tokens", "output_tokens"), strict=True):
        found = bars.lengths(frames.tables["turns"], name)
        words = name.replace("_", " ")
        axis.set_title(f"{words} of a turn")
        if found.known:
            low = [10**edge for edge in found.edges[:-1]]
            wide = [10**b - 10**a for a, b in zip(found.edges, found.edges[1:], strict=False)]
            heights = [100 * value / found.known for value in found.counts]
            axis.bar(low, heights, wide, align="edge", color=_BLUE, edgecolor="white", lw=0.4)
            if found.median:
                _mark(axis, found.median, f"median {count(found.median)}")
        axis.set_xscale("log")
        powers = range(round(found.edges[0]), round(found.edges[-1]) + 1)
        _ticks(axis, [10.0**power for power in powers], _tokens)
        axis.grid(visible=False, axis="x")
        axis.set_ylim(0, 1.18 * max([1.0, *axis.get_ylim()]))
        axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        axis.set_ylabel("% of turns with a known figure")
        zero = f", {count(found.zero)} of no tokens not drawn" if found.zero else ""
        axis.set_xlabel(f"tokens (log); {count(found.known)} turns{zero}")
        cuts = (found.p5, found.median, found.p95)
        known = "5 % have up to {}, half up to {}, 95 % up to {}".format(*map(count, cuts))
        said.append(f"{words} of a turn: {known if found.known else UNKNOWN}")
    return _plot("lengths", "Two histograms. " + "; ".join(said) + ".", figure)


def _cached(frames: Frames) -> Plot:
    figure, (axis,) = _figure(3.1, 1)
    said = []
    for label, prefix, colour in (
        ("as logged", "", _BLUE),
        ("counted, ideal", "counted_", _ORANGE),
    ):
        found = bars.cached_shares(frames.tables["turns"], prefix)
        whole = share(found.overall)
        known = f"{whole} of all input tokens, {count(found.turns)} turns"
        text = f"{label}: {known if found.turns else UNKNOWN}"
        heights = [100 * value / max(1, found.turns) for value in found.counts]
        edges = [5 * step for step in range(len(heights) + 1)]
        fill = prefix == ""
        axis.stairs(
            heights,
            edges,
            fill=fill,
            color=colour,
            alpha=0.85 if fill else 1,
            lw=0 if fill else 1.6,
            label=text,
        )
        high = f"{whole} of all input tokens, {share(found.high)} of turns from 95 %"
        said.append(f"{label} {high if found.turns else UNKNOWN}")
    axis.set_title("cached share of a turn's input")
    axis.set_xlim(0, 100)
    axis.set_ylim(0, 1.3 * max(1.0, axis.get_ylim()[1]))  # room for the legend
    axis.set_xticks(range(0, 101, 20), [f"{tick} %" for tick in range(0, 101, 20)])
    axis.grid(visible=False, axis="x")
    axis.set_ylabel("% of turns")
    axis.set_xlabel("of the turn's input tokens, read from cache")
    axis.legend(loc="upper left", bbox_to_anchor=(0, 1.0), handlelength=1.2)
    return _plot(
        "cached_share", "Histogram of turns by cached share: " + "; ".join(said) + ".", figure
    )


def _tool_times(frames: Frames) -> Plot:
    found = bars.tool_times(frames.tables["tool_calls"])
    lines = max(3, len(found))
    figure, (axis,) = _figure(1.1 + 0.27 * lines, 1)
    axis.set_title("tool time by category")
    ticks = bars.time_ticks([x for one in found for x in (one.p5, one.p95)])
    floor = ticks[0]
    for place, one in enumerate(found):
        ends = [max(floor, x) for x in (one.p5, one.p25, one.p50, one.p75, one.p95)]
        axis.plot([ends[0], ends[4]], [place, place], color=_BLUE, lw=1.4, solid_capstyle="butt")
        axis.plot([ends[1], ends[3]], [place, place], color=_BLUE, lw=7, solid_capstyle="butt")
        axis.plot([ends[2]], [place], "o", color="white", mec=_INK, mew=1.2, ms=5)
        _beside(axis, place, (span(one.p50), count(one.calls)))
    _beside(axis, -1, ("median", "calls"), _INK)
    axis.set_yticks(range(len(found)), [one.category for one in found])
    axis.tick_params(axis="y", length=0, labelcolor=_INK)
    axis.set_ylim(lines - 0.4, -0.6)
    axis.set_xscale("log")
    _ticks(axis, ticks, span)
    axis.grid(visible=False, axis="y")
    under = f", below {span(floor)} drawn there" if any(one.p5 < floor for one in found) else ""
    axis.set_xlabel(f"log; line p5 to p95, bar p25 to p75, dot median{under}")
    said = ", ".join(f"{one.category} {span(one.p50)} (p95 {span(one.p95)})" for one in found)
    return _plot("tool_times", f"Tool times by category, medians: {said or 'none known'}.", figure)


def _languages(frames: Frames) -> Plot:
    from matplotlib.ticker import MaxNLocator

    found = bars.languages(frames.tables["trajectories"])
    lines = max(3, len(found))
    figure, (axis,) = _figure(1.0 + 0.27 * lines, 1)
    axis.set_title("main language of a trajectory")
    whole = sum(number for _, number in found)
    for place, (label, number) in enumerate(found):
        grey = label in (UNKNOWN, bars.OTHER)
        axis.barh(place, number, 0.7, color=_GREY if grey else _BLUE)
        text = f" {count(number)}  ·  {share(number / whole)}"
        axis.text(number, place, text, va="center", color=_SOFT)
    axis.set_yticks(range(len(found)), [label for label, _ in found])
    axis.tick_params(axis="y", length=0, labelcolor=_INK)
    axis.set_ylim(lines - 0.4, -0.6)
    axis.set_xlim(0, 1.22 * max([1, *(number for _, number in found)]))
    axis.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axis.grid(visible=False, axis="y")
    axis.set_xlabel("trajectories")
    said = ", ".join(f"{label} {count(number)}" for label, number in found)
    return _plot("languages", f"Trajectories by main language: {said or 'none'}.", figure)


def _figure(height: float, columns: int) -> tuple[Figure, list[Axes]]:
    # Not pyplot: it keeps figures, and chooses a window system.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.12, h_pad=0.1)
    figure = Figure(figsize=(8, height), dpi=_DPI, facecolor="white", layout=layout)
    FigureCanvasAgg(figure)
    return figure, list(figure.subplots(1, columns, squeeze=False)[0])


def _plot(name: str, alt: str, figure: Figure) -> Plot:
    from PIL import Image

    drawn, small = BytesIO(), BytesIO()
    figure.savefig(drawn, format="png", metadata={"Software": None})
    with Image.open(drawn) as picture:
        cut = Image.Quantize.MAXCOVERAGE  # keeps a legend's few dots in their colour
        few = picture.convert("RGB").quantize(_COLOURS, cut, dither=Image.Dither.NONE)
        few.save(small, format="png", optimize=True)
    return Plot(name, alt, small.getvalue())


def _mark(axis: Axes, place: float, text: str) -> None:
    axis.axvline(place, color=_INK, lw=1, ymax=0.88)
    low, high = axis.get_xlim()
    left = log10(place) > (log10(max(low, 1)) + log10(max(high, 10))) / 2
    axis.annotate(
        text,
        (place, 0.95),
        xycoords=("data", "axes fraction"),
        xytext=(-4 if left else 4, 0),
        textcoords="offset points",
        ha="right" if left else "left",
        va="center",
    )


def _ticks(axis: Axes, ticks: Sequence[float], label: Callable[[float], str]) -> None:
    axis.set_xlim(ticks[0], ticks[-1])
    axis.set_xticks(ticks, [label(tick) for tick in ticks])
    axis.minorticks_off()


def _tokens(value: float) -> str:
    if value >= 1e6:
        return f"{value / 1e6:.0f}M"
    return f"{value / 1e3:.0f}k" if value >= 1e3 else f"{value:.0f}"


def _beside(axis: Axes, place: float, texts: tuple[str, str], colour: str = _SOFT) -> None:
    """Two columns of text on the right: across in shares of the axes, down in data."""
    for across, text in zip((1.1, 1.19), texts, strict=True):
        where = axis.get_yaxis_transform()
        axis.text(across, place, text, transform=where, ha="right", va="center", color=colour)
