"""What a dataset holds of sessions that were found: all of them, more than is there now, or not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from traj.dataset import Dataset
from traj.sources import SessionFiles
from traj.sources.located import LIVE


@dataclass(frozen=True, slots=True)
class _Source:
    """What a trajectory is of."""

    format: str
    files: Sequence[dict[str, Any]]  # name, sha256, bytes


class Held:
    """The trajectories of a dataset by what they are of."""

    def __init__(self, dataset: Dataset) -> None:
        rows = dataset.table("trajectories", ["trajectory_id", "source"]).to_pylist()
        self._sources = {
            row["trajectory_id"]: _Source(row["source"]["format"], row["source"]["files"])
            for row in rows
        }
        self.ids = frozenset(self._sources)
        self.unchanged = 0
        self.kept_longer = 0  # of which the dataset has more

    def changed(
        self, sessions: Mapping[str, SessionFiles], *, join: bool
    ) -> dict[str, SessionFiles]:
        """Those of the sessions, by trajectory, that the dataset does not hold as they are now;
        counts the others. With `join` a log that a live recording was joined with is held."""
        live = [one for one in self._sources.values() if one.format == LIVE and join]
        joined = {file["sha256"] for one in live for file in one.files}
        todo: dict[str, SessionFiles] = {}
        for name, session in sessions.items():
            before = self._sources.get(name)
            if before is None:
                if joined and session.format != LIVE and _hashes(session) <= joined:
                    self.unchanged += 1
                else:
                    todo[name] = session
                continue
            size, held = session.bytes, sum(file["bytes"] for file in before.files)
            if size < held:
                self.kept_longer += 1
            elif size == held and _hashes(session) == {file["sha256"] for file in before.files}:
                self.unchanged += 1
            else:
                todo[name] = session
        return todo


def _hashes(session: SessionFiles) -> set[str]:
    return {file.sha256 for file in session.measured()}
