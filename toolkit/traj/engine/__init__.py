"""A simulated engine: continuous batching over a finite prefix cache, in virtual or real time.

`parameters` say how fast it is and how much it holds; `scheduler` batches requests step by step
over the `cache`, and knows no clock but its own. `forward` drives it with agents in virtual time,
`server` puts it behind HTTP in real time. `known` are engines whose capacity is known beforehand.
"""
