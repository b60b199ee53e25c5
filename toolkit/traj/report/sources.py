"""The session formats: for the terminal, and as the page docs/sources.md (`make docs`)."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from traj.sources import Described
    from traj.sources.about import About, Place

_SEEN = {
    "real sessions": "real sessions",
    "fixtures": "fixtures of other projects",
    "documentation": "its documentation alone",
}
_LENGTHS = {
    "request": "token figures of every request",
    "session": "token figures of a whole session only",
    "none": "no token figures",
}
_PAGE = """\
# Session formats

Made from the sources' own words: `python -m traj.report.sources > docs/sources.md`.

`traj record` tells formats by what is in the files. Providers count differently: cached tokens
stand inside the input figure or beside it, reasoning inside the output figure or beside it. In a
dataset input always includes what was cached, output always includes reasoning; the columns below
say what the format itself means, and conversion follows them (`Meaning` in `traj.sources.about`).
A clock is `measured` on the wire, `logged` by the agent, `derived` from neighbouring time stamps,
or `none`. What came of real files is in [corpus.md](corpus.md).
"""


def source_list(found: Sequence[Described]) -> str:
    """The formats one by one, with what they can and cannot tell."""
    return "\n\n".join("\n".join(_lines(one)) for one in found)


def _lines(one: Described) -> list[str]:
    about = one.about
    lines = [
        f"{one.format}  {about.agents}",
        f"    {_LENGTHS[about.lengths]}; {_meant(about)}",
        f"    {_times(about)}; tried on {_SEEN[about.seen]}",
    ]
    if about.places:
        lines.append("    kept in " + ", ".join(f"~/{place}" for place in about.places))
    if about.lacks:
        wrapped = textwrap.wrap("lacks " + "; ".join(about.lacks), 94)
        lines += [f"    {line}" for line in wrapped]
    return lines


def _times(about: About) -> str:
    return f"requests {_clock(about.turn_clock)}, tools {_clock(about.tool_clock)}"


def _meant(about: About) -> str:
    meaning = about.meaning
    if meaning is None:
        return "nothing to convert"
    parts = [("cached", meaning.cached, "input"), ("reasoning", meaning.reasoning, "output")]
    told = [f"{name} {place} {whole}" for name, place, whole in parts if place is not None]
    return ", ".join(told) or "neither cached nor reasoning tokens"


def _clock(clock: str) -> str:
    return "without times" if clock == "none" else clock


def page(found: Sequence[Described]) -> str:
    """docs/sources.md."""
    heads = ("format", "agent", "figures of", "cached", "cache writes", "reasoning")
    rows = [(f"`{o.format}`", o.about.agents, o.about.lengths, *_places(o.about)) for o in found]
    times = [
        (f"`{o.format}`", o.about.turn_clock, o.about.tool_clock, _SEEN[o.about.seen])
        for o in found
    ]
    lacks = [(f"`{o.format}`", "; ".join(o.about.lacks) or "nothing that is known") for o in found]
    tables = [
        "## Token figures\n\n" + _markdown(heads, rows),
        "## Times, and what it was tried on\n\n"
        + _markdown(("format", "requests", "tools", "tried on"), times),
        "## What cannot be recovered\n\n" + _markdown(("format", "lacks"), lacks),
    ]
    return "\n".join([_PAGE, *tables])


def _places(about: About) -> tuple[str, str, str]:
    meaning = about.meaning
    if meaning is None:
        return "-", "-", "-"
    return (
        _place(meaning.cached, "input"),
        _place(meaning.written, "input"),
        _place(meaning.reasoning, "output"),
    )


def _place(place: Place | None, whole: str) -> str:
    return "no figure" if place is None else f"{place} {whole}"


def _markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


if __name__ == "__main__":
    from traj.sources import describe

    print(page(describe()), end="")
