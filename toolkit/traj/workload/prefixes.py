"""Dynamic prefixes: what stands in front of which prompt, so that no cache outlives its phase.

A prefix is keyed by (seed, run, phase, trajectory, play) and, by policy, the context, so the same
options give the same prefixes anywhere, and a change of any of these gives others that differ from
the first tokens on. Its text is words without sense, of an exact length: `traj.workload.words`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from traj.workload.options import LoadOptions
from traj.workload.words import aligned


@dataclass(frozen=True, slots=True)
class Prefixes:
    """The prefixes of one play; None where the policy puts nothing."""

    options: LoadOptions
    phase: int
    trajectory_id: str
    play: int

    def tokens(self) -> int:
        """Length of one prefix: a multiple of the alignment; 0 under policy none."""
        if self.options.prefix == "none":
            return 0
        return aligned(self.options.prefix_tokens, self.options.prefix_align)

    def front(self, lane: int, context: int) -> bytes | None:
        """Key of what stands before the system prompt."""
        match self.options.prefix:
            case "aa":
                return self._key("play", *self._play())
            case "context":
                return self._key("context", *self._play(), lane, context)
            case "mlperf":
                return self._key("phase")
        return None

    def user(self) -> bytes | None:
        """Key of what stands in front of the first user message."""
        if self.options.prefix in ("shared-system", "mlperf"):
            return self._key("play", *self._play())
        return None

    def _play(self) -> tuple[str, int]:
        return self.trajectory_id, self.play

    def _key(self, level: str, *more: str | int) -> bytes:
        parts = (self.options.seed, self.options.run, str(self.phase), level, *map(str, more))
        # Lengths before texts: no two lists of parts run together to the same bytes.
        data = b"".join(b"%d:%s" % (len(part.encode()), part.encode()) for part in parts)
        return hashlib.blake2b(data, digest_size=16, person=b"traj prefix").digest()
