"""Runs harbor's Claude Code converter on one session; started with harbor's own Python.

    python harbor_convert.py LOGS OUT.json

harbor has no command for it: the converter reads the folder that a harbor trial leaves behind,
`LOGS/sessions/projects/<project>/<session>.jsonl`.
"""

import sys
from pathlib import Path

from harbor.agents.installed.claude_code import (  # type: ignore[import-not-found,unused-ignore]
    ClaudeCode,
)


def main(logs: Path, out: Path) -> None:
    trajectory = ClaudeCode(logs_dir=logs).convert_trajectory(logs)
    if trajectory is None:
        sys.exit(f"harbor found no session in {logs}")
    out.write_text(trajectory.model_dump_json(exclude_none=True))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
