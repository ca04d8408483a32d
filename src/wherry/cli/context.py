"""What every command gets: the settings of this call, and the environment, read here and nowhere below."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

import click

from wherry.cli.places import enter_home
from wherry.core import trace
from wherry.core.errors import UsageError
from wherry.core.progress import QUIET, Progress


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The settings of one call of the command."""

    root: Path
    """This machine's images and containers: ``store/``, ``containers/``, ``volumes/``."""
    run_root: Path
    """State that a reboot may clear: network leases, locks."""
    debug: bool = False
    quiet: bool = False

    @classmethod
    def make(cls, *, root: str, run_root: str, debug: bool, quiet: bool) -> Settings:
        """Returns settings with absolute paths."""
        return cls(root=Path(root).absolute(), run_root=Path(run_root).absolute(), debug=debug, quiet=quiet)

    def enter_home(self) -> None:
        """Makes somebody without root the root of a user namespace of their own (``engine/home.py``); root stays.

        Called before anything is read or written, as this process may begin anew there.
        """
        enter_home(str(self.root), str(self.run_root))

    def progress(self) -> Progress:
        """Returns bars on a terminal, and silence elsewhere."""
        if self.quiet or not sys.stderr.isatty():
            return QUIET
        from wherry.cli.progress import Bars

        return Bars()


def settings() -> Settings:
    """Returns the settings of the current call."""
    found = click.get_current_context().find_object(Settings)
    if found is None:
        raise RuntimeError("no settings: the command was not called through the root command")
    return found


def secret(option: str, variable: str) -> str:
    """Returns a secret from the environment, so that it never stands in argv.

    Args:
        option: what it is, for the error.
        variable: the environment variable.

    Raises:
        UsageError: it is not set.
    """
    value = os.environ.get(variable, "")
    if not value:
        raise UsageError(f"{option} is not given", hint=f"set {variable} in the environment")
    return value


def arm_trace_points(text: str) -> None:
    """Arms trace points from ``WHERRY_TRACE``: see ``trace.arm_by_text``.

    For tests of races and of power cuts only (``docs/internals/trace-points.md``).
    """
    if text:
        trace.arm_by_text(text)
