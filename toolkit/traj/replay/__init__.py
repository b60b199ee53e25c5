"""The reference harness: a dataset's sessions sent to an engine as they were recorded.

It is the format's executable definition, small on purpose: a closed loop of agents, each of which
plays trajectories one after another. The recorded history is sent, the live answer is measured and
dropped, and the next request goes out when all that it waits for is complete and its delay is over.

options    what to send where, with how many agents
scripts    plays as bytes: made ahead, by another process, so that the clock's process only sends
apis       how engines are asked, and what their streams say
client     requests over HTTP: streamed, timed, every failure named; connection, outcome
player     one play: its graph of waits and delays
run        agents, windows, interrupts; processes
results    a row a request, Parquet, and the run's manifest
"""

from __future__ import annotations

from traj.replay.options import ReplayOptions
from traj.replay.results import Run
from traj.replay.run import replay

__all__ = ["ReplayOptions", "Run", "replay"]
