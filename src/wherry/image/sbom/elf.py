"""Finding one section of an ELF file by its name: just that much of ELF, with a limit on each part.

Source: System V gABI 4.1, chapter 4, "ELF Header", "Sections".
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from wherry.image.sbom.tree import Unreadable, read_up_to

MAGIC = b"\x7fELF"
MIN_HEAD_BYTES = 52
MAX_SECTIONS = 4096
MAX_NAMES_BYTES = 1024 * 1024
MAX_SECTION_BYTES = 16 * 1024 * 1024


def sections(file: BinaryIO, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Returns the contents of those sections of an ELF file that are there.

    Args:
        file: can be read from anywhere; the magic number has been seen.
        wanted: names such as ``.go.buildinfo``.

    Raises:
        Unreadable: it is malformed, or a wanted section is longer than ``MAX_SECTION_BYTES``.
    """
    head = _at(file, 0, 64)
    if len(head) < MIN_HEAD_BYTES:
        raise Unreadable("an ELF file that is cut short")
    wide, order = head[4] == 2, ">" if head[5] == 2 else "<"
    try:
        if wide:
            offset, entry_size, count, index = struct.unpack_from(f"{order}40xQ10xHHH", head)
        else:
            offset, entry_size, count, index = struct.unpack_from(f"{order}32xI10xHHH", head)
    except struct.error:
        raise Unreadable("an ELF file that is cut short") from None
    layout = f"{order}I4xQQQQ" if wide else f"{order}IIIIII"
    if not offset or not count:
        return {}
    if count > MAX_SECTIONS or entry_size < struct.calcsize(layout) or entry_size > 256 or index >= count:
        raise Unreadable("an ELF file with a malformed table of sections")
    table = _at(file, offset, count * entry_size)
    if len(table) < count * entry_size:
        raise Unreadable("an ELF file that is cut short")
    entries = []
    for number in range(count):
        values = struct.unpack_from(layout, table, number * entry_size)
        entries.append((values[0], values[3], values[4]) if wide else (values[0], values[4], values[5]))
    _, names_offset, names_size = entries[index]
    names = _at(file, names_offset, min(names_size, MAX_NAMES_BYTES))
    found: dict[str, bytes] = {}
    for name_at, content_at, size in entries:
        name = names[name_at : names.find(b"\0", name_at)].decode("ascii", "replace") if name_at < len(names) else ""
        if name in wanted and name not in found:
            if size > MAX_SECTION_BYTES:
                raise Unreadable(f"a section {name} longer than {MAX_SECTION_BYTES} bytes")
            found[name] = _at(file, content_at, size)
    return found


def _at(file: BinaryIO, offset: int, size: int) -> bytes:
    if offset >= 1 << 62:
        raise Unreadable("an ELF file with an offset beyond its end")
    file.seek(offset)
    return read_up_to(file, size)
