"""Subordinate ids: which ranges a user may map in a user namespace, and the programs that do it.

Source: subuid(5), newuidmap(1).
"""

from __future__ import annotations

import os

MAX_RANGES = 64
"""Of one user in one file; more are left out."""
MAX_FILE_BYTES = 1024 * 1024
SEARCH = ("/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin")
PATH = ":".join(SEARCH)


def find_tool(name: str) -> str | None:
    """Returns where newuidmap or newgidmap is; None when it is not there."""
    return next((f"{place}/{name}" for place in SEARCH if os.access(f"{place}/{name}", os.X_OK)), None)


def user_name(uid: int) -> str:
    """Returns a user's name; its number when nobody knows it."""
    import pwd

    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def ranges_of(path: str, uid: int) -> list[tuple[int, int]]:
    """Returns the ranges of a user in /etc/subuid or /etc/subgid: first id and size; odd lines are skipped."""
    try:
        with open(path, "rb") as file:
            text = file.read(MAX_FILE_BYTES).decode(errors="replace")
    except OSError:
        return []
    return parse_ranges(text, {str(uid), user_name(uid)})


def parse_ranges(text: str, names: set[str]) -> list[tuple[int, int]]:
    """Returns the ranges of a user in the text of such a file.

    Args:
        text: lines of ``NAME:FIRST:COUNT``.
        names: the user's name and number.
    """
    found = []
    for line in text.splitlines():
        fields = line.strip().split(":")
        if len(fields) == 3 and fields[0] in names and all(word.isascii() and word.isdigit() for word in fields[1:]):
            first, size = int(fields[1]), int(fields[2])
            if first and size > 0 and first + size < 2**32:
                found.append((first, size))
    return found[:MAX_RANGES]
