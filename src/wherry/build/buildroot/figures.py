"""How long packages took to build, and which files are theirs, from the lists that Buildroot writes.

Source: the Buildroot manual, "Graphing the build duration of packages" and "Graphing the filesystem size contribution
of packages"; support/scripts/graph-build-time and size-stats, by the files that they read.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wherry.core.errors import InvalidInput

TIMES, FILES = "build-time.log", "packages-file-list.txt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """A package's time."""

    package: str
    seconds: float


def times(log: Path) -> list[Figure]:
    """Returns how many seconds each package took, the longest first.

    Args:
        log: ``build-time.log``: lines of ``SECONDS:start|end:STEP:PACKAGE``.

    Raises:
        InvalidInput: a line is none of those; says which.
    """
    begun: dict[tuple[str, str], float] = {}
    spent: dict[str, float] = {}
    for number, line in enumerate(log.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        words = [word.strip() for word in line.split(":", 3)]
        if len(words) != 4 or words[1] not in ("start", "end") or not _is_number(words[0]):
            raise InvalidInput(f"not a line of a log of times: {line[:60]!r}", where=f"{log}:{number}")
        when, word, step, package = words
        if word == "start":
            begun[package, step] = float(when)
        elif (package, step) in begun:
            spent[package] = spent.get(package, 0.0) + max(0.0, float(when) - begun.pop((package, step)))
    return _sorted(spent)


def owners(listing: Path) -> dict[str, str]:
    """Returns the package that each file is of, by the file's path in the root.

    Args:
        listing: ``packages-file-list.txt``: lines of ``PACKAGE,./PATH``; of a file of two packages the last one counts.

    Raises:
        InvalidInput: a line is none of those; says which.
    """
    found: dict[str, str] = {}
    for number, line in enumerate(listing.read_text(encoding="utf-8", errors="surrogateescape").splitlines(), 1):
        package, comma, path = line.partition(",")
        if not comma or not path.startswith("./"):
            raise InvalidInput(f"not a line of a list of files: {line[:60]!r}", where=f"{listing}:{number}")
        found[path[2:]] = package
    return found


def _sorted(found: dict[str, float]) -> list[Figure]:
    every = (Figure(package=package, seconds=seconds) for package, seconds in found.items())
    return sorted(every, key=lambda figure: (-figure.seconds, figure.package))


def _is_number(text: str) -> bool:
    return text.replace(".", "", 1).isdecimal()
