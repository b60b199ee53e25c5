"""What a working directory is when a run begins, as its log says it."""

from __future__ import annotations

from pathlib import Path

from traj.checkout import Checkout
from traj.checkout.licence import Licence
from traj.errors import MissingExtraError, UsageError
from traj.sources.live import wire


def checkout(folder: Path) -> wire.Checkout | None:
    """The git checkout that a folder lies in; None where there is none, or no git."""
    try:
        found = Checkout.open(folder)
    except UsageError:
        return None
    try:
        licence = found.licence(found.head)
    except MissingExtraError:  # `traj label` can say it later
        licence = Licence(None)
    return wire.Checkout(
        found.url,
        found.head,
        found.branch,
        found.is_clean,
        licence.expression,
        licence.source or None,
    )
