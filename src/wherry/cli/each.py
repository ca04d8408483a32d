"""Doing one thing to each of several names, as docker does: what fails is told, and does not keep the others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable

from wherry.cli.context import settings
from wherry.core.errors import WherryError


def each(names: Iterable[str], work: Callable[[str], object], *, silent: bool = False) -> int:
    """Calls `work` with each name, and prints the name, or what `work` returned.

    Args:
        names: of containers, volumes ...
        work: returns what to print; None: the name.
        silent: print nothing but errors.

    Returns:
        0, or the status of the last failure.
    """
    status = 0
    debug = settings().debug
    for name in names:
        try:
            result = work(name)
        except WherryError as error:
            if debug:
                raise
            print(f"wherry: {error}", file=sys.stderr)
            status = error.exit_code
        else:
            if not silent:
                print(name if result is None else result)
    return status
