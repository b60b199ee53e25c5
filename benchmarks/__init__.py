"""Benchmarks of `traj`: what is measured and how is told in README.md."""
