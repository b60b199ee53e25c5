"""Sends plans, each time in a process of its own that may be killed at any moment.

Everything is imported once. For each line on standard input, the path of pickled plans, a process
is forked and its id printed; the next line lets it begin, and how it ended is printed.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from dataclasses import asdict
from pathlib import Path

from huggingface_hub import hf_api, utils  # noqa: F401 (imported before the forks)

from traj.errors import TrajError
from traj.publish.hub import Hub
from traj.publish.publication import send


def carry_out(file: str, result: int) -> int:
    """Sends the plans of a file; writes what became of it."""
    try:
        told = [asdict(one) for one in send(Hub.from_environment(), load(file))]
        code = 0
    except TrajError as error:
        told, code = str(error), error.exit_code
    os.write(result, json.dumps(told).encode())
    return code


def load(file: str) -> tuple:
    return pickle.loads(Path(file).read_bytes())


def main() -> None:
    for line in sys.stdin:
        begin, opener = os.pipe()
        told, result = os.pipe()
        pid = os.fork()
        if not pid:
            os.read(begin, 1)
            os._exit(carry_out(line.strip(), result))
        os.close(result)
        print(pid, flush=True)
        sys.stdin.readline()
        os.write(opener, b"x")
        with os.fdopen(told, "rb") as reader:
            text = reader.read()
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        print(json.dumps({"code": code, "told": json.loads(text or "null")}), flush=True)
        os.close(begin)
        os.close(opener)


if __name__ == "__main__":
    main()
