"""Initramfs archives: cpio in the form "newc", as the kernel unpacks it.

Inode numbers are counted, times are given, all device numbers are 0, and a file with several names has its bytes with
the last of them, as GNU cpio writes it. Names and sizes that the form has no room for are refused.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst; GNU cpio, "new ASCII format".
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from typing import TYPE_CHECKING

from wherry.build.images.contents import pieces
from wherry.build.images.trees import Entry
from wherry.core.errors import InvalidInput

if TYPE_CHECKING:
    from wherry.build.images.compression import Writer

MAX_FILE_BYTES = 2**32 - 1
_MAGIC = "070701"
_TRAILER = "TRAILER!!!"
_BLOCK_BYTES = 512

CONSOLE = Entry(path="dev/console", mode=stat.S_IFCHR | 0o600, device=(5, 1))
"""Without it, the kernel's first process has no standard output."""
DEV = Entry(path="dev", mode=stat.S_IFDIR | 0o755)


def write_cpio(entries: Iterable[Entry], out: Writer, *, time_s: int) -> None:
    """Writes an archive.

    Args:
        entries: each folder before what is in it; several names of one file in any order.
        out: where to.
        time_s: the time of everything.

    Raises:
        InvalidInput: a file is too long, or changes while it is read.
    """
    writer = _Writer(out, time_s)
    everything = list(entries)
    left = {entry.path: entry.links - 1 for entry in everything if entry.links > 1 and not entry.same_as}
    numbers: dict[str, int] = {}
    for entry in everything:
        first = entry.same_as or entry.path
        number = numbers.setdefault(first, len(numbers) + 1)
        last = True
        if entry.same_as:
            left[first] -= 1
            last = not left[first]
        elif entry.links > 1:
            last = False
        writer.add(entry, number, with_content=last)
    writer.close()


class _Writer:
    def __init__(self, out: Writer, time_s: int) -> None:
        self._out = out
        self._time_s = time_s
        self._written = 0

    def add(self, entry: Entry, number: int, *, with_content: bool) -> None:
        size = entry.size if entry.is_file and with_content else 0
        link = os.fsencode(entry.target) if entry.is_link else b""
        if size > MAX_FILE_BYTES:
            raise InvalidInput("a file of more than 4 GiB is too long for an initramfs", where=f"/{entry.path}")
        links = entry.links + 1 if entry.is_directory else entry.links
        self._head(entry, number, links, size or len(link), os.fsencode(entry.path or "."))
        if link:
            self._write(link)
        elif size and entry.source is not None:
            for piece in pieces(entry.source, size):
                self._write(piece)
        self._align(4)

    def close(self) -> None:
        self._head(Entry(path=_TRAILER, mode=0), 0, 1, 0, _TRAILER.encode(), time_s=0)
        self._align(_BLOCK_BYTES)

    def _head(self, entry: Entry, number: int, links: int, size: int, name: bytes, time_s: int | None = None) -> None:
        when = self._time_s if time_s is None else time_s
        major, minor = entry.device
        fields = (number, entry.mode, entry.uid, entry.gid, links, when, size, 0, 0, major, minor, len(name) + 1, 0)
        self._write((_MAGIC + "".join(f"{field:08x}" for field in fields)).encode() + name + b"\0")
        self._align(4)

    def _align(self, count: int) -> None:
        self._write(bytes(-self._written % count))

    def _write(self, data: bytes) -> None:
        if data:
            self._out.write(data)
            self._written += len(data)
