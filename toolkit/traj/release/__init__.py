"""Releases: a dataset cut into a public and a private split, and what is proven of the private one.

split      assigns by repository family, proves that the splits share nothing, writes both
reveal     discloses private trajectories with their proofs
verify     holds a disclosure against the commitment that the public dataset carries
text_free  a view of lengths, times and categories, whose rows cannot be traced
"""

from __future__ import annotations

from traj.release.disclosure import Revealed, Verdict, reveal, verify
from traj.release.splitting import SplitOptions, SplitReport, public_manifest, split
from traj.release.text_free import text_free

__all__ = [
    "Revealed",
    "SplitOptions",
    "SplitReport",
    "Verdict",
    "public_manifest",
    "reveal",
    "split",
    "text_free",
    "verify",
]
