"""Starts a command, waits for it, and writes what it used as JSON to a file; run by `measure.py`.

    python -S -E launch.py REPORT COMMAND...

The kernel counts the memory of the process that starts a child into the child's peak. This one
imports next to nothing, so that peaks from about 10 MB on are the command's own.
"""

import os
import sys
import time


def main(report: str, command: list[str]) -> None:
    start = time.perf_counter()
    child = os.posix_spawnp(command[0], command, os.environ)
    _, status, used = os.wait4(child, 0)
    wall = time.perf_counter() - start
    # Linux gives ru_maxrss in KiB, macOS in bytes.
    peak = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    cpu = used.ru_utime + used.ru_stime
    code = os.waitstatus_to_exitcode(status)
    with open(report, "w") as out:  # noqa: PTH123 - pathlib would cost memory
        out.write(f'{{"wall_s":{wall},"cpu_s":{cpu},"peak_bytes":{peak},"exit_code":{code}}}')


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
