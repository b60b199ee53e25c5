"""Which licence expressions permit publishing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from traj.errors import UsageError
from traj.publish.licences import PERMITTED, canonical, check_named, permits

pytest.importorskip("packaging.licenses")

known = st.sampled_from(sorted(PERMITTED))
others = st.sampled_from(["BUSL-1.1", "SSPL-1.0", "CC-BY-NC-4.0", "Elastic-2.0", "LicenseRef-Ours"])


def test_every_listed_licence_is_an_spdx_identifier():
    """In SPDX's own spelling."""
    assert {name: canonical(name) for name in PERMITTED} == {name: name for name in PERMITTED}


@given(known, known, others)
def test_or_needs_one_and_and_needs_all(one, two, other):
    """In whatever order and depth."""
    assert permits(one)
    assert not permits(other)
    for expression in (f"{one} OR {other}", f"{other} OR {one}", f"{one} AND {two}"):
        assert permits(expression)
        assert permits(f"({expression}) OR {other}")
        assert not permits(f"({expression}) AND {other}")
    assert not permits(f"{one} AND {other}")
    assert permits(f"{one} AND ({two} OR {other})")
    assert not permits(f"{other} AND {one} OR {other}")
    assert permits(f"{other} AND {one} OR {two}")


@given(known, others)
def test_what_is_permitted_beside_the_list_counts_as_listed(one, other):
    """By identifier, whatever its capitals, or as a whole expression."""
    assert permits(other, [other.lower()])
    assert permits(f"{one} AND {other}", [other])
    assert permits(f"{other} AND BSD-4-Clause-UC", [f"{other} AND BSD-4-Clause-UC"])


@pytest.mark.parametrize(
    "text", ["", "proprietary", "MIT AND", "see LICENSE", "MIT,", "(MIT", "OR"]
)
def test_what_is_no_expression_permits_nothing(text):
    """Nor can it be permitted by name."""
    assert not permits(text)
    with pytest.raises(UsageError, match="no SPDX licence"):
        check_named([text])


def test_exceptions_and_later_versions_permit_what_the_licence_does():
    """WITH adds a permission; + is the licence or a later one."""
    assert permits("GPL-2.0-only WITH Classpath-exception-2.0")
    assert permits("Apache-2.0+ AND MIT")
    assert not permits("SSPL-1.0 WITH Classpath-exception-2.0 AND MIT")
