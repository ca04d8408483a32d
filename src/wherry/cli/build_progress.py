"""How a build goes on, on standard error."""

from __future__ import annotations

import click


class Lines:
    """Tells how a build goes on, a line for each step; nothing when it is to be quiet."""

    def __init__(self, quiet: bool, prefix: str) -> None:
        self._quiet, self._prefix = quiet, prefix
        self._told = ""

    def begin(self, stage: str, number: int, total: int, text: str) -> None:
        """Says which step it is."""
        words = " ".join(text.split())
        self._told = f"[{self._prefix}{stage} {number}/{total}] {words}"
        if not self._quiet:
            click.echo(f"=> {self._told[:160]}", err=True)

    def end(self, seconds: float, *, cached: bool) -> None:
        """Says that it is done, where that is worth a line."""
        if self._quiet:
            return
        if cached:
            click.echo("   CACHED", err=True)
        elif seconds >= 0.05:
            click.echo(f"   done, {seconds:.1f} s", err=True)
