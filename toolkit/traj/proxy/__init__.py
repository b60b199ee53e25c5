"""A recording proxy between agents and their models.

It passes requests on to the upstreams that it was given and answers back, byte for byte and as
they come, and writes both into a log that `traj.sources.live` reads.

    server.py     HTTP on both sides             upstreams.py   where requests may go
    sockets.py    WebSockets on both sides       conversation.py   what is said on one
    noting.py     what is logged, and when
    log.py        the log's file                 bodies.py      what of a body is written
    run.py        one command under the proxy    headers.py     which headers are written
    checkout.py   the working directory at the start
"""

from __future__ import annotations
