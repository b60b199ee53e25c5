"""What token figures mean: the table in docs/sources.md, row by row, and the sums that follow."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import ROOT
from traj.events import Usage
from traj.sources import describe
from traj.sources.about import Meaning

ROWS = {
    row[0].strip("` "): [cell.strip() for cell in row[1:]]
    for line in (ROOT / "docs" / "sources.md").read_text().splitlines()
    if line.startswith("| `") and len(row := line.strip("| ").split(" | ")) == 6
}
KNOWN = {one.format: one.about for one in describe()}
FIGURES = st.none() | st.integers(0, 10_000)


@pytest.mark.parametrize("name", sorted(KNOWN))
def test_the_table_says_what_the_conversion_does(name: str) -> None:
    """A figure that the page calls inside changes no sum, one that it calls beside is added."""
    meaning = KNOWN[name].meaning
    _, lengths, *places = ROWS[name]
    assert lengths == KNOWN[name].lengths
    if meaning is None:
        assert places == ["-", "-", "-"]
        return
    cached, written, reasoning = places
    found = meaning.usage(100, 30, 50, written_tokens=10, reasoning_tokens=20)
    assert found.input_tokens == 100 + 30 * (cached == "beside input") + 10 * (
        written == "beside input"
    )
    assert found.output_tokens == 50 + 20 * (reasoning == "beside output")
    assert {cached, written} <= {"beside input", "inside input", "no figure"}
    assert reasoning in ("beside output", "inside output", "no figure")
    assert (found.cached_tokens, found.cache_write_tokens, found.reasoning_tokens) == (30, 10, 20)


@given(FIGURES, FIGURES, FIGURES, FIGURES, FIGURES, st.booleans())
def test_unknown_is_never_zero(
    input_tokens: int | None,
    cached: int | None,
    output: int | None,
    written: int | None,
    reasoning: int | None,
    whole: bool,
) -> None:
    """What was not given stays null; sums hold what was given; figures that are all zero are
    unknown; whole is what has all it needs and no part larger than its whole."""
    meaning = Meaning(cached="beside", written="beside", reasoning="inside")
    given_figures = (input_tokens, cached, output, written, reasoning)
    found = meaning.usage(
        input_tokens,
        cached,
        output,
        written_tokens=written,
        reasoning_tokens=reasoning,
        whole=whole,
    )
    if not any(given_figures):
        assert found == Usage()
        return
    parts = [one for one in (input_tokens, cached, written) if one is not None]
    assert found.input_tokens == (sum(parts) if parts else None)
    assert (found.cached_tokens, found.cache_write_tokens) == (cached, written)
    assert (found.output_tokens, found.reasoning_tokens) == (output, reasoning)
    if found.source == "reported":
        assert whole
        assert None not in (input_tokens, cached, written, output)
        assert (reasoning or 0) <= output
