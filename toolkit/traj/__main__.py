"""`python -m traj`."""

from traj.cli import main

main()
