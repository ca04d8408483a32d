"""``--chmod`` of ADD and COPY, in octal and in chmod(1)'s symbols.

Source: Dockerfile reference, "COPY --chmod"; POSIX.1-2017, chmod, "EXTENDED DESCRIPTION" (without the permcopy of
another file and with no umask: a clause without a class is for all).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from wherry.image.dockerfile.problems import Place

_OCTAL = re.compile(r"[0-7]{1,5}\Z")
_CLAUSE = re.compile(r"([ugoa]*)((?:[-+=](?:[rwxXst]*|[ugo]))+)\Z")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_CLASSES = {"u": (6, 0o4000), "g": (3, 0o2000), "o": (0, 0o1000)}
MAX_CHMOD_CHARS = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class ModeChange:
    """What becomes of a file's permission bits."""

    octal: int | None = None
    """All bits; None when the change is symbolic."""
    clauses: tuple[tuple[str, str, str], ...] = ()
    """Classes (some of ``ugo``), operator, permissions."""

    def apply(self, mode: int, *, directory: bool) -> int:
        """Returns the permission bits (0 to 0o7777) that a file of this mode gets."""
        mode &= 0o7777
        if self.octal is not None:
            return self.octal
        for classes, operator, permissions in self.clauses:
            mode = _applied(mode, classes, operator, permissions, directory=directory)
        return mode


def parse_chmod(text: str, place: Place) -> ModeChange:
    """Returns what a ``--chmod`` asks for.

    Raises:
        InvalidInput: neither octal nor symbols.
    """
    if _OCTAL.match(text) and int(text, 8) <= 0o7777:
        return ModeChange(octal=int(text, 8))
    found: list[tuple[str, str, str]] = []
    for clause in text[: MAX_CHMOD_CHARS + 1].split(","):
        match = _CLAUSE.match(clause)
        if match is None or len(text) > MAX_CHMOD_CHARS:
            raise place.error(f"--chmod: not a mode: {text[:60]!r}", "write it as 755 or u=rwX,go=rX")
        classes = "ugo" if "a" in match[1] or not match[1] else "".join(sorted(set(match[1])))
        found += ((classes, action[1], action[2]) for action in _ACTION.finditer(match[2]))
    return ModeChange(clauses=tuple(found))


def _applied(mode: int, classes: str, operator: str, permissions: str, *, directory: bool) -> int:
    bits = 0
    clear = 0
    for name in classes:
        shift, special = _CLASSES[name]
        bits |= _bits(permissions, mode, directory=directory) << shift
        if "s" in permissions and name in "ug":
            bits |= special
        clear |= 0o7 << shift
        if name == "o" or not directory:  # chmod(1) of GNU keeps a directory's set-id bits through "="
            clear |= special
    if "t" in permissions and "o" in classes:
        bits |= 0o1000
    if operator == "+":
        return mode | bits
    if operator == "-":
        return mode & ~bits
    return mode & ~clear | bits


def _bits(permissions: str, mode: int, *, directory: bool) -> int:
    if permissions in ("u", "g", "o"):
        return mode >> _CLASSES[permissions][0] & 0o7
    found = sum({"r": 4, "w": 2, "x": 1}[name] for name in set(permissions) & set("rwx"))
    if "X" in permissions and (directory or mode & 0o111):
        found |= 1
    return found
