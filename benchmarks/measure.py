"""Runs one command and writes down what it took: ``python -I -S measure.py RESULT LOG COMMAND...``.

A process of its own, and a small one: the peak memory that the kernel tells of a child begins with its parent's.
"""

import json
import os
import sys
import time


def main() -> None:
    result, log, *command = sys.argv[1:]
    actions = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644),
        (os.POSIX_SPAWN_DUP2, 1, 2),
    ]
    begin = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=actions)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - begin
    with open(result, "w") as file:
        json.dump(
            {
                "seconds": seconds,
                "cpu_seconds": usage.ru_utime + usage.ru_stime,
                "rss_bytes": usage.ru_maxrss * 1024,
                "status": os.waitstatus_to_exitcode(status),
            },
            file,
        )


main()
