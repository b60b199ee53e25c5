"""How many agents a system carries within a service level, by the procedure of AA-AgentPerf.

tiers       service levels: data, each with where it was published
procedure   what a phase must see, and what falls short of it
phase       one phase: which requests count, and whether a tier is met
search      doubling, halving and confirming, knowing nothing of how phases are run
live        phases against an engine, through the reference harness
simulated   phases on a simulated engine, in virtual time
results     agents a tier, normalised, as JSON
"""

from __future__ import annotations

from traj.capacity.live import measure
from traj.capacity.procedure import Procedure
from traj.capacity.results import Capacity
from traj.capacity.simulated import plan
from traj.capacity.tiers import Tier, find_tiers

__all__ = ["Capacity", "Procedure", "Tier", "find_tiers", "measure", "plan"]
