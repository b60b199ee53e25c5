"""Which recorded turns a conversation of an export holds: `sessions.jsonl` in its folder.

A line an exported conversation: its id there, the trajectory, phase and play, and the turns in its
order. With it, what a harness reports by conversation and turn leads back to the dataset.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from traj.workload.play import Play

FILE = "sessions.jsonl"


def plays(out: Path) -> dict[str, str]:
    """The play that each conversation of a phase is of."""
    import orjson

    found: dict[str, str] = {}
    with (out / FILE).open("rb") as lines:
        for line in map(orjson.loads, lines):
            found[line["session_id"]] = f"{line['trajectory_id']} {line['play']}"
    return found


def note(sessions: IO[bytes], session_id: str, play: Play, turns: Sequence[int]) -> None:
    """Writes one line."""
    import orjson

    line = {
        "session_id": session_id,
        "trajectory_id": play.trajectory_id,
        "phase": play.phase,
        "play": play.number,
        "turns": list(turns),
    }
    sessions.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))
