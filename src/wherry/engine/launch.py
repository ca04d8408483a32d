"""How a monitor comes to life: forked off twice, in a session of its own, with nothing of its parent's open.

The monitor reports over a pipe, in one line of JSON, when the container runs or why it does not; the end of the
pipe without a line means that it was killed.
"""

from __future__ import annotations

import gc
import json
import os
from collections.abc import Callable

from wherry.core.errors import WherryError, all_errors

MAX_REPORT_BYTES = 64 * 1024


def fork_monitor(work: Callable[[dict[str, int]], None], fds: dict[str, int]) -> None:
    """Runs `work` in a new process that nobody waits for, and comes back at once.

    Args:
        work: given the descriptors by name, under new numbers; the process ends when it returns.
        fds: the only descriptors that stay open in the process, besides /dev/null as 0, 1 and 2.
    """
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        gc.freeze()  # nothing of the parent's may be collected here: it could close a descriptor of ours
        work(_keep_only(fds))
    finally:
        os._exit(1)


def _keep_only(fds: dict[str, int]) -> dict[str, int]:
    """Closes everything but `fds` and /dev/null; returns the new numbers."""
    first = 3
    high = max(fds.values(), default=2) + len(fds) + first + 1
    # out of the way of the final places first, then into them
    parked = {name: os.dup2(fd, high + index, inheritable=False) for index, (name, fd) in enumerate(fds.items())}
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd, inheritable=True)
    placed = {name: os.dup2(fd, first + index, inheritable=False) for index, (name, fd) in enumerate(parked.items())}
    from wherry.linux.process import close_from

    close_from(first + len(placed))
    return placed


def report_started(fd: int) -> None:
    """Says that the container runs."""
    _report(fd, {"started": True})


def report_error(fd: int, error: WherryError) -> None:
    """Says why it does not."""
    _report(fd, {"error": type(error).__name__, "what": error.what, "where": error.where, "hint": error.hint})


def _report(fd: int, value: dict[str, object]) -> None:
    try:
        os.write(fd, json.dumps(value).encode()[: MAX_REPORT_BYTES - 1] + b"\n")
    except OSError:
        pass  # the caller is gone; the container is not


def await_report(fd: int) -> None:
    """Waits for the monitor's word.

    Raises:
        WherryError: the one that the monitor met.
    """
    data = b""
    while not data.endswith(b"\n") and len(data) < MAX_REPORT_BYTES:
        more = os.read(fd, MAX_REPORT_BYTES)
        if not more:
            raise WherryError("the container's monitor was killed", hint="try again; look at dmesg for the OOM killer")
        data += more
    value = json.loads(data)
    if "error" in value:
        classes = {cls.__name__: cls for cls in all_errors()}
        found = classes.get(value["error"], WherryError)
        try:
            error = found(value["what"], where=value["where"], hint=value["hint"])
        except TypeError:  # a class that needs more than a message
            error = WherryError(value["what"], where=value["where"], hint=value["hint"])
        raise error
