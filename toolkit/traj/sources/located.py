"""Where a session lies: what a source says of a file that it recognised, and where agents' folders
are."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

LIVE = "live"  # the format that the agents' own logs are joined with
HISTORY = "(history)"  # the part of a file that is read only for what came before


class Located(NamedTuple):
    """A file that belongs to a session, or the share of one session in a file of several."""

    path: Path
    format: str
    session_id: str
    part: str | None = None  # the sub-agent that the file is of; None for the session's own file
    parent: str | None = None  # session that started this one, where the source splits them by file
    history: str | None = None  # session whose file holds the beginning of this one's conversation
    share: int | None = None  # bytes of the file that are this session's; None: it has all of it

    @property
    def bytes(self) -> int:
        """How much there is to read."""
        return self.path.stat().st_size if self.share is None else self.share


# Variables by which agents are told to keep their folders elsewhere.
_MOVED_BY = {
    "CLAUDE_CONFIG_DIR": ".claude",
    "CODEX_HOME": ".codex",
    "PI_CODING_AGENT_DIR": ".pi/agent",
    "QWEN_HOME": ".qwen",
    "XDG_CONFIG_HOME": ".config",
    "XDG_DATA_HOME": ".local/share",
}


def placed(home: Path, name: Path, variables: Mapping[str, str]) -> Path:
    """Where a folder of an agent's is that lies under the home directory by default."""
    for variable, folder in _MOVED_BY.items():
        if variables.get(variable) and name.is_relative_to(folder):
            return Path(variables[variable], name.relative_to(folder))
    return home / name
