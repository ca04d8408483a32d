"""``--preserve-fds``: the caller's own descriptors, from 3 on, for a container's command."""

from __future__ import annotations

import os

from wherry.cli.container_options import whole
from wherry.core.errors import UsageError

MAX_PRESERVED = 256
FIRST_FD = 3


def preserved_fds(text: str) -> tuple[int, ...]:
    """Returns the descriptors that ``--preserve-fds N`` hands down: 3 to 3+N-1.

    What this program has opened itself is closed on exec; what it was given is not, which tells the two apart.

    Raises:
        UsageError: it is no number, or one of them was not open when this command was called.
    """
    found = tuple(range(FIRST_FD, FIRST_FD + whole(text or "0", "--preserve-fds", most=MAX_PRESERVED)))
    for fd in found:
        try:
            given = os.get_inheritable(fd)
        except OSError:
            given = False
        if not given:
            raise UsageError(f"--preserve-fds: descriptor {fd} is not open", hint=f"open it first: ... {fd}<FILE")
    return found


def check_once(*, detached: bool, restart: str) -> None:
    """Refuses descriptors for a container that outlives this command.

    Raises:
        UsageError: it does.
    """
    if detached or restart not in ("", "no"):
        flag = "-d" if detached else "--restart"
        raise UsageError(
            f"--preserve-fds and {flag}: a descriptor lives no longer than this command", hint="leave one out"
        )
