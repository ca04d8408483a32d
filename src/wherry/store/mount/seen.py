"""Which commits are mounted, as this process sees it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from wherry.core.digest import Checksum, is_checksum

SOURCE = "wherry:"
"""What stands before the commit's checksum in the first column of ``mount``."""
MOUNTINFO = Path("/proc/self/mountinfo")
MAX_MOUNTINFO_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A mount of a commit, as this process sees it."""

    commit: Checksum
    target: Path
    options: str
    """Of the overlay, as the kernel tells them."""
    read_only: bool


def mounts() -> list[Seen]:
    """Returns the mounted commits that can be seen in this mount namespace."""
    with open(MOUNTINFO, "rb") as file:
        text = file.read(MAX_MOUNTINFO_BYTES).decode(errors="surrogateescape")
    found: list[Seen] = []
    for line in text.splitlines():
        left, _, right = line.partition(" - ")
        fields, behind = left.split(" "), right.split(" ")
        if len(fields) < 6 or len(behind) < 3 or not behind[1].startswith(SOURCE):
            continue
        commit = behind[1].removeprefix(SOURCE)
        if is_checksum(commit):
            found.append(
                Seen(
                    commit=Checksum(commit),
                    target=Path(_unescape(fields[4])),
                    options=behind[2],
                    read_only="ro" in fields[5].split(",") or "ro" in behind[2].split(","),
                )
            )
    return found


def mounted_commits() -> dict[Checksum, Path]:
    """Returns the commits that can be seen mounted here, each with one of its places."""
    return {seen.commit: seen.target for seen in mounts()}


def _unescape(text: str) -> str:
    """Returns a path of mountinfo, where blanks and backslashes are octal numbers."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
