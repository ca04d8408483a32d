"""Shell patterns in variables: ``${name#p}``, ``${name%p}``, ``${name/p/r}``; ``*`` and ``?`` alone are special.

A pattern is matched by stepping through it once, with the set of places where the match may stand as the bits of one
number. So no pattern takes longer than its length times that of the text, whatever stars it has.

Source: Dockerfile reference, "Environment replacement"; POSIX.1-2017, 2.6.2 "Parameter Expansion".
"""

from __future__ import annotations

MAX_PATTERN_CHARS = 256
MAX_SUBJECT_CHARS = 16 * 1024

_ANY = "any"
_ONE = "one"


class Pattern:
    """One pattern, ready to be matched."""

    def __init__(self, text: str) -> None:
        self._parts: list[tuple[str, str]] = []
        index = 0
        while index < len(text):
            char = text[index]
            index += 1
            if char == "*":
                self._parts.append((_ANY, ""))
            elif char == "?":
                self._parts.append((_ONE, ""))
            else:
                if char == "\\" and index < len(text):
                    char = text[index]
                    index += 1
                self._parts.append(("", char))

    def ends(self, text: str, start: int) -> int:
        """Returns where a match that begins at `start` may end, as the bits of a number."""
        full = (1 << (len(text) + 1)) - 1
        at = 1 << start
        for kind, char in self._parts:
            if not at:
                return 0
            if kind == _ANY:
                at = full & ~((at & -at) - 1)
            elif kind == _ONE:
                at = at << 1 & full
            else:
                at = (at & _places(text, char)) << 1
        return at

    def reversed(self) -> Pattern:
        """Returns the pattern that matches a text read from its end."""
        other = Pattern("")
        other._parts = self._parts[::-1]
        return other


def _places(text: str, char: str) -> int:
    bits = 0
    at = text.find(char)
    while at >= 0:
        bits |= 1 << at
        at = text.find(char, at + 1)
    return bits


def remove_prefix(text: str, pattern: str, *, longest: bool) -> str:
    """Returns the text without what matches at its beginning."""
    ends = Pattern(pattern).ends(text, 0)
    if not ends:
        return text
    return text[ends.bit_length() - 1 if longest else (ends & -ends).bit_length() - 1 :]


def remove_suffix(text: str, pattern: str, *, longest: bool) -> str:
    """Returns the text without what matches at its end."""
    backwards = text[::-1]
    ends = Pattern(pattern).reversed().ends(backwards, 0)
    if not ends:
        return text
    return backwards[ends.bit_length() - 1 if longest else (ends & -ends).bit_length() - 1 :][::-1]


def replace(text: str, pattern: str, replacement: str, *, everywhere: bool) -> str:
    """Returns the text with the longest first match, or every one of them, replaced.

    A match of nothing counts in an empty text alone.
    """
    compiled = Pattern(pattern)
    if not text:
        return replacement if pattern and compiled.ends(text, 0) else text
    result: list[str] = []
    at = 0
    while at < len(text):
        end = compiled.ends(text, at).bit_length() - 1
        if end <= at:
            result.append(text[at])
            at += 1
            continue
        result.append(replacement)
        at = end
        if not everywhere:
            break
    return "".join(result) + text[at:]
