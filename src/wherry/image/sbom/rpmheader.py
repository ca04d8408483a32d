"""Reading one header of rpm's database.

::

    il  dl                    numbers of entries and of bytes of data, big-endian
    il * (tag type at count)  where each value lies
    data

Source: RPM 4 manual, "RPM V4 Package format" ("Header Format", without the lead and the magic number); lib/rpmtag.h.
"""

from __future__ import annotations

import struct

from wherry.image.sbom.tree import Unreadable

MAX_ENTRIES = 65_536
MAX_DATA_BYTES = 256 * 1024 * 1024
MAX_COUNT = 2_000_000
"""Values of one tag: a kernel's package has 100,000 files."""

NAME, VERSION, RELEASE, EPOCH, SUMMARY = 1000, 1001, 1002, 1003, 1004
VENDOR, LICENSE, URL, ARCH, SOURCERPM = 1011, 1014, 1020, 1022, 1044
FILEFLAGS, PROVIDENAME, REQUIRENAME = 1037, 1047, 1049
DIRINDEXES, BASENAMES, DIRNAMES, SHA256HEADER = 1116, 1117, 1118, 273

Value = tuple[str, ...] | tuple[int, ...]

_INT32 = 4
_STRINGS = (6, 8, 9)
_ENTRY = struct.Struct(">IIII")


def parse_header(data: bytes, wanted: frozenset[int]) -> dict[int, Value]:
    """Returns the values of some tags; a tag of another type than text or 32-bit numbers is left out.

    Raises:
        Unreadable: it is malformed.
    """
    if len(data) < 8:
        raise Unreadable("a header that is cut short")
    entries, size = struct.unpack_from(">II", data)
    start = 8 + entries * _ENTRY.size
    if entries > MAX_ENTRIES or size > MAX_DATA_BYTES or start + size > len(data):
        raise Unreadable("a header whose sizes are wrong")
    end = start + size
    found: dict[int, Value] = {}
    for number in range(entries):
        tag, kind, at, count = _ENTRY.unpack_from(data, 8 + number * _ENTRY.size)
        if tag not in wanted or tag in found:
            continue
        if at >= size or count > MAX_COUNT:
            raise Unreadable(f"a header whose tag {tag} lies outside of it")
        if kind == _INT32:
            if start + at + 4 * count > end:
                raise Unreadable(f"a header whose tag {tag} lies outside of it")
            found[tag] = struct.unpack_from(f">{count}I", data, start + at)
        elif kind in _STRINGS:
            found[tag] = _strings(data, start + at, end, count if kind != 6 else 1, tag)
    return found


def _strings(data: bytes, at: int, end: int, count: int, tag: int) -> tuple[str, ...]:
    texts = []
    for _ in range(count):
        stop = data.find(b"\0", at, end)
        if stop < 0:
            raise Unreadable(f"a header whose tag {tag} has no end")
        texts.append(data[at:stop].decode("utf-8", "replace"))
        at = stop + 1
    return tuple(texts)
