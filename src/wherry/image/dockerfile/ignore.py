"""``.dockerignore``: what of a build context is left out.

A pattern is matched against the whole path below the context's top, and leaves out all below a directory that it
matches. ``*`` and ``?`` stop at slashes, ``**`` does not; ``!`` takes back in; the last pattern that matches decides.
Comments, blank lines, leading and trailing slashes are as docker has them. The Dockerfile and the ignore file may be
left out, too: the builder has read them by then, and COPY does not see them.

Source: docs.docker.com/build/concepts/context, ".dockerignore files"; Go's path/filepath, "Match".
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import TypeAlias

from wherry.core.errors import InvalidInput
from wherry.image.dockerfile.problems import Place
from wherry.image.dockerfile.words import SPACE

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_PATTERNS = 10_000
MAX_PATTERN_CHARS = 4096
MAX_DOUBLE_STARS = 4
"""Within names, such as ``a**b``, in one pattern."""


def ignore_names(dockerfile: str) -> tuple[str, str]:
    """Returns where the ignore file of a Dockerfile may be; the first that exists counts.

    Args:
        dockerfile: the path of the Dockerfile. The first name stands beside it, the second at the context's top.
    """
    return f"{dockerfile}.dockerignore", ".dockerignore"


def parse_ignore(data: bytes, *, where: str = ".dockerignore") -> Ignore:
    """Reads an ignore file.

    Raises:
        InvalidInput: a pattern is malformed, or there are too many; points at its line.
    """
    if len(data) > MAX_FILE_BYTES:
        raise InvalidInput(f"longer than {MAX_FILE_BYTES} bytes", where=where)
    found: list[_Rule] = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").split(b"\n"), 1):
        text = raw.decode("utf-8", "surrogateescape").rstrip("\r")
        if text.startswith("#") or not text.strip(SPACE):
            continue
        if len(found) == MAX_PATTERNS:
            raise InvalidInput(f"more than {MAX_PATTERNS} patterns", where=where)
        found.append(_rule(text.strip(SPACE), Place(where=where, line=number, text=text)))
    return Ignore(rules=tuple(found))


def path_patterns(patterns: tuple[str, ...], place: Place) -> Ignore:
    """Returns the matcher of several ``--exclude``.

    Raises:
        InvalidInput: a pattern is malformed.
    """
    return Ignore(rules=tuple(_rule(text, place) for text in patterns))


_Parts: TypeAlias = tuple[re.Pattern[str] | None, ...]
"""A pattern for each part of a path; None is ``**``, any number of parts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Rule:
    include: bool
    """Whether it begins with ``!``."""
    ways: tuple[_Parts, ...]
    """It matches when one of these does: ``a**b`` is ``a*b`` or ``a*/**/*b``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ignore:
    """A list of patterns. Paths are relative, with slashes, without a slash at either end."""

    rules: tuple[_Rule, ...] = ()

    def excludes(self, path: str) -> bool:
        """Returns whether a path is left out; a directory may be, and something below it not."""
        parts = path.split("/")
        for rule in reversed(self.rules):
            if _matches(rule, parts):
                return not rule.include
        return False

    def prunes(self, directory: str) -> bool:
        """Returns whether a directory and all that may be below it are left out, so that no walk needs to go there."""
        parts = directory.split("/")
        for rule in reversed(self.rules):
            if rule.include and _may_match_below(rule, parts):
                return False
            if _matches(rule, parts):
                return not rule.include
        return False


def _rule(text: str, place: Place) -> _Rule:
    include = text.startswith("!")
    if include:
        text = text[1:].strip(SPACE)
        if not text:
            raise place.error("a ! without a pattern", "write !PATTERN")
    if len(text) > MAX_PATTERN_CHARS:
        raise place.error(f"a pattern longer than {MAX_PATTERN_CHARS} characters")
    clean = posixpath.normpath(text).lstrip("/")
    # "For historical reasons, the pattern . is ignored"; what begins with .. is outside, and matches nothing either.
    parts = [] if clean in ("", ".") else clean.split("/")
    if sum(part.count("**") for part in parts if part != "**") > MAX_DOUBLE_STARS:
        raise place.error(f"more than {MAX_DOUBLE_STARS} ** within names", "write ** as a name of its own: a/**/b")
    return _Rule(include=include, ways=tuple(_parts(way, place) for way in _ways(parts) if way))


def _ways(parts: list[str]) -> list[list[str]]:
    """Returns what a pattern stands for once every ``**`` is a part of its own."""
    found: list[list[str]] = [[]]
    for part in parts:
        choices = [[part]]
        while (
            split := next((way for way in choices for item in way if item != "**" and "**" in item), None)
        ) is not None:
            choices.remove(split)
            index = next(index for index, item in enumerate(split) if item != "**" and "**" in item)
            before, _, after = split[index].partition("**")
            after = after.lstrip("*")
            choices.append([*split[:index], f"{before}*{after}", *split[index + 1 :]])
            choices.append([*split[:index], f"{before}*", "**", f"*{after}", *split[index + 1 :]])
        found = [[*way, *choice] for way in found for choice in choices]
    return found


def _parts(way: list[str], place: Place) -> _Parts:
    compiled: list[re.Pattern[str] | None] = []
    for part in way:
        if part != "**":
            compiled.append(compile_part(part, place))
        elif not compiled or compiled[-1] is not None:
            compiled.append(None)
    if compiled[-1] is None and len(compiled) > 1:
        compiled.append(compile_part("*", place))  # a/** is all below a, and not a
    return tuple(compiled)


def compile_part(part: str, place: Place) -> re.Pattern[str]:
    """Returns one part of a pattern as an expression, to be matched with a whole name (Go's ``filepath.Match``).

    Raises:
        InvalidInput: it is malformed.
    """
    result: list[str] = []
    index = 0
    while index < len(part):
        char = part[index]
        index += 1
        if char == "*":
            if not result or result[-1] != "*":
                result.append("*")
        elif char == "?":
            result.append(".")
        elif char == "[":
            end, text = _class(part, index, place)
            result.append(text)
            index = end
        elif char == "\\":
            if index == len(part):
                raise place.error("a pattern ends with a backslash", "write two for the character itself")
            result.append(re.escape(part[index]))
            index += 1
        else:
            result.append(re.escape(char))
    return re.compile(_without_backtracking(result), re.DOTALL)


def _without_backtracking(items: list[str]) -> str:
    """Joins the items; each star takes the shortest run up to what follows it, and never tries another.

    The first place where the piece after a star fits is always as good as a later one, but for the last piece, which
    has to be at the end. So no path makes matching slow.
    """
    pieces: list[list[str]] = [[]]
    for item in items:
        if item == "*":
            pieces.append([])
        else:
            pieces[-1].append(item)
    joined = ["".join(piece) for piece in pieces]
    if len(joined) == 1:
        return joined[0] + r"\Z"
    middle = "".join(f"(?>.*?{piece})" for piece in joined[1:-1])
    return f"{joined[0]}{middle}.*{joined[-1]}\\Z"


def _class(part: str, index: int, place: Place) -> tuple[int, str]:
    """Reads ``[a-z]`` or ``[^a-z]`` from behind its bracket; returns where it ends, and it as an expression."""
    negated = part[index : index + 1] in ("^", "!")
    index += negated
    ranges: list[str] = []
    while True:
        if part[index : index + 1] == "]" and ranges:
            return index + 1, f"[{'^' if negated else ''}{''.join(ranges)}]"
        index, low = _class_char(part, index, place)
        high = low
        if part[index : index + 1] == "-":
            index, high = _class_char(part, index + 1, place)
        if high < low:
            raise place.error(f"a range that goes backwards: {low}-{high}")
        ranges.append(f"{re.escape(low)}-{re.escape(high)}")


def _class_char(part: str, index: int, place: Place) -> tuple[int, str]:
    char = part[index : index + 1]
    if char == "\\":
        index += 1
        char = part[index : index + 1]
    elif char in ("-", "]"):
        raise place.error("a [ that is not closed as it should be", "put a backslash before - and ]")
    if not char:
        raise place.error("a [ without its ]", "put a backslash before [ for the character itself")
    return index + 1, char


def _matches(rule: _Rule, parts: list[str]) -> bool:
    """Returns whether a pattern matches a path or a directory above it."""
    for way in rule.ways:
        states = _closed(way, {0})
        for part in parts:
            states = _advance(way, states, part)
            if len(way) in states:
                return True
    return False


def _may_match_below(rule: _Rule, parts: list[str]) -> bool:
    """Returns whether a pattern may match something below a directory, or matches that."""
    if _matches(rule, parts):
        return True
    for way in rule.ways:
        states = _closed(way, {0})
        for part in parts:
            states = _advance(way, states, part)
        if states:
            return True
    return False


def _advance(way: _Parts, states: set[int], part: str) -> set[int]:
    """Returns where in a pattern a path may stand, one part further."""
    found: set[int] = set()
    for index in states:
        item = way[index] if index < len(way) else None
        if index < len(way) and item is None:
            found.add(index)
        elif item is not None and item.match(part):
            found.add(index + 1)
    return _closed(way, found)


def _closed(way: _Parts, states: set[int]) -> set[int]:
    """Adds where ``**`` is no part at all."""
    found = set(states)
    for index in states:
        while index < len(way) and way[index] is None:
            index += 1
            found.add(index)
    return found
