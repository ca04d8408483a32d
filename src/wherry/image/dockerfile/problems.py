"""Errors that point at a line of a Dockerfile, and the nearest word to a misspelt one."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from dataclasses import dataclass

from wherry.core.errors import InvalidInput

MAX_QUOTED_CHARS = 120


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where something stands."""

    where: str
    """The file."""
    line: int
    text: str = ""
    """The instruction."""

    def __str__(self) -> str:
        text = quoted(self.text)
        return f"{self.where}:{self.line}: {text}" if text else f"{self.where}:{self.line}"

    def error(self, what: str, hint: str | None = None) -> InvalidInput:
        """Returns an error about this place, to be raised."""
        return InvalidInput(what, where=self, hint=hint)


def quoted(text: str) -> str:
    """Returns one line of text, short enough and without control characters, to show in an error."""
    first = text.strip().replace("\n", " ").replace("\t", " ")
    shown = "".join(
        char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in first[: MAX_QUOTED_CHARS + 1]
    )
    return shown if len(shown) <= MAX_QUOTED_CHARS else shown[: MAX_QUOTED_CHARS - 3] + "..."


def nearest(word: str, known: Iterable[str], prefix: str = "") -> str | None:
    """Returns the hint ``did you mean X?``, None when nothing is near.

    Args:
        word: what was written.
        known: what it may be.
        prefix: what a word is shown with, such as ``--``.
    """
    found = difflib.get_close_matches(word[:MAX_QUOTED_CHARS], list(known), n=1, cutoff=0.6)
    return f"did you mean {prefix}{found[0]}?" if found else None
