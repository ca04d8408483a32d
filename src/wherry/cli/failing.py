"""What an error becomes on the command line: one line on standard error, and the exit status."""

from __future__ import annotations

import os
import sys

from wherry.core.durable import map_os_error
from wherry.core.errors import CannotInvoke, WherryError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

PROGRAM = "wherry"
EXIT_ENGINE = 125
EXIT_INTERRUPTED = 130
"""128 + SIGINT."""
EXIT_PIPE = 141
"""128 + SIGPIPE."""


def status_of(work: Callable[[], int], *, debug: bool) -> int:
    """Runs a command, and returns its exit status; prints the error when there is one.

    Args:
        work: the command.
        debug: raise what it raises.
    """
    try:
        return work()
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted", file=sys.stderr)
        return EXIT_INTERRUPTED
    except WherryError as error:
        if debug:
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        _abandon_stdout()
        return EXIT_PIPE
    except OSError as error:
        if debug:
            raise
        known = map_os_error(error, "the system says no", where=error.filename)
        _abandon_stdout()
        print(f"{PROGRAM}: {known}", file=sys.stderr)
        return known.exit_code


def failing_as_docker(function: Callable[[], int], *, debug: bool) -> int:
    """Returns what `function` does; an error that is not the container's command's own is 125, as with docker.

    Also a wrong flag: 2 could be the status of the command. Of the command it is 126 or 127.
    """
    try:
        return function()
    except WherryError as error:
        if debug:
            raise
        print(f"{PROGRAM}: {error}", file=sys.stderr)
        return error.exit_code if isinstance(error, CannotInvoke) else EXIT_ENGINE


def until_interrupted(work: Callable[[], None]) -> int:
    """Runs what goes on until the person has seen enough: Ctrl-C is no news then, and only shows in the status."""
    try:
        work()
    except KeyboardInterrupt:
        if sys.stderr.isatty():
            print(file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _abandon_stdout() -> None:
    """Sends what is still buffered for a closed or full standard output nowhere, so that the exit is quiet."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
