"""Runs the `traj` of this checkout, installed or not; what the benchmarks measure by default."""

import runpy
import sys
from pathlib import Path

sys.path[0] = str(Path(__file__).resolve().parent.parent / "toolkit")
runpy.run_module("traj", run_name="__main__", alter_sys=True)
