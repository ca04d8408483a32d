"""The archive of an initramfs: cpio in the form "newc", the same bytes in every run.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from wherry.build.initramfs import Item

_TRAILER = "TRAILER!!!"
_BLOCK_BYTES = 512


class Writer(Protocol):
    """What bytes are written to."""

    def write(self, data: bytes, /) -> object:
        """Takes bytes."""


def write_cpio(items: Iterable[Item], out: Writer, *, time_s: int) -> None:
    """Writes an archive of files that are root's.

    Args:
        items: each folder before what is in it.
        out: where to.
        time_s: the time of everything.
    """
    written = 0

    def put(data: bytes) -> None:
        nonlocal written
        padded = data + bytes(-len(data) % 4)
        out.write(padded)
        written += len(padded)

    def head(number: int, mode: int, links: int, time: int, size: int, device: tuple[int, int], name: bytes) -> None:
        fields = (number, mode, 0, 0, links, time, size, 0, 0, *device, len(name) + 1, 0)
        put(("070701" + "".join(f"{field:08x}" for field in fields)).encode() + name + b"\0")

    for number, item in enumerate(items, 1):
        links = 2 if item.mode & 0o170000 == 0o040000 else 1
        head(number, item.mode, links, time_s, len(item.data), item.device, item.path.encode())
        if item.data:
            put(item.data)
    head(0, 0, 1, 0, 0, (0, 0), _TRAILER.encode())
    out.write(bytes(-written % _BLOCK_BYTES))
