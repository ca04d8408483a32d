"""Progress of long work, told by the library and shown by the command line.

A library function takes a ``Progress`` and tells it; the default says nothing. ``cli/`` hands in one that
draws bars on a terminal and is quiet elsewhere.
"""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Somebody who wants to know how far the work is."""

    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Says that `done` of `total` units of `task` are done; `total` is None while it is not known.

        Args:
            task: what is being done, stable over its life: ``fetching objects``.
            done: units done so far.
            total: units in all.
            unit: ``B`` for bytes, else a plural noun such as ``objects``.
        """


class _Quiet:
    def update(self, task: str, done: int, total: int | None, *, unit: str = "") -> None:
        """Says nothing."""


QUIET: Progress = _Quiet()
