"""Initial RAM file systems for guests, written as cpio archives: the same content gives the same bytes.

Source: Linux, Documentation/driver-api/early-userspace/buffer-format.rst (``newc``).
"""

from __future__ import annotations

import stat
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import BinaryIO

from wherry.core.errors import InvalidInput

MAX_FILE_BYTES = (1 << 32) - 1
"""A size has eight hex digits."""
_TRAILER = "TRAILER!!!"


def write(file: BinaryIO, files: Mapping[str, tuple[int, bytes]]) -> None:
    """Writes an archive.

    Args:
        file: to write to.
        files: paths without a leading slash -> mode with its type, and content; folders above them are made.

    Raises:
        InvalidInput: a path or a size that the format cannot hold.
    """
    entries = dict(files)
    for path in files:
        for parent in PurePosixPath(path).parents:
            if str(parent) != ".":
                entries.setdefault(str(parent), (stat.S_IFDIR | 0o755, b""))
    for number, path in enumerate(sorted(entries), start=1):
        mode, data = entries[path]
        if path.startswith("/") or ".." in PurePosixPath(path).parts or "\0" in path or len(data) > MAX_FILE_BYTES:
            raise InvalidInput(f"not a file for an initial RAM file system: {path!r}")
        _write_entry(file, number, path, mode, data)
    _write_entry(file, 0, _TRAILER, 0, b"")


def _write_entry(file: BinaryIO, number: int, path: str, mode: int, data: bytes) -> None:
    name = path.encode() + b"\0"
    links = 2 if stat.S_ISDIR(mode) else 1
    fields = (number, mode, 0, 0, links, 0, len(data), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields)
    file.write(head + name + bytes(-(len(head) + len(name)) % 4))
    file.write(data + bytes(-len(data) % 4))
