"""Record the live sample sessions: real agents under ``traj record --live``, in a network that has
loopback alone, with the scripted models of the other recordings.

    python3 record_live.py --scratch <empty folder> [name ...]

As root on Linux, in an environment that has ``traj`` with its extras ``live`` and ``test``. The runs
are those of ``tests/live_agents.py``, which installs the agents.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[2] / "tests"))

import live_agents  # noqa: E402

SAMPLES = {  # by the run, what it is published as: one of each API
    "claude-helped": "anthropic_messages",
    "codex-helped": "openai_responses",
    "pi": "openai_chat",
    "gemini": "gemini",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scratch", type=Path, required=True)
    parser.add_argument("names", nargs="*", default=list(SAMPLES))
    args = parser.parse_args()
    for one in live_agents.RUNS:
        if one.name in args.names:
            base = args.scratch / one.name
            shutil.rmtree(base, ignore_errors=True)
            base.mkdir(parents=True)
            found = live_agents.run(one, base)
            if found.exit_code:
                raise SystemExit(found.said)
            print(one.name)


if __name__ == "__main__":
    main()
