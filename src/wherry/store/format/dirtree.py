"""Reading and writing of dirtrees ``(a(say)a(sayay))`` by hand, which is quicker than the general codec.

Nearly every command reads every dirtree of a commit. `read` takes what is in normal form and right in every respect,
and says nothing about the rest: that is left to the general codec, which finds the words for it.
Source: GVariant specification 1.0, section 2.5 (framing offsets).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

from wherry.core.digest import Checksum
from wherry.store.format.variant import offset_size

_DIGEST_BYTES = 32
_CODES = {1: "B", 2: "H", 4: "I", 8: "Q"}

FileEntry = tuple[str, Checksum]
"""Name and checksum."""
DirEntry = tuple[str, Checksum, Checksum]
"""Name, and the checksums of dirtree and dirmeta."""


def write(files: Iterable[FileEntry], dirs: Iterable[DirEntry]) -> bytes:
    """Returns the bytes of a dirtree.

    Args:
        files: names and checksums, in order.
        dirs: names, and the checksums of dirtree and dirmeta, in order.
    """
    items = []
    for name, checksum in files:
        head = name.encode() + b"\0"
        body = head + bytes.fromhex(checksum)
        items.append(body + len(head).to_bytes(offset_size(len(body), 1), "little"))
    first = _array(items)
    items = []
    for name, tree, meta in dirs:
        head = name.encode() + b"\0"
        body = head + bytes.fromhex(tree) + bytes.fromhex(meta)
        width = offset_size(len(body), 2)
        end = len(head)
        items.append(body + (end + _DIGEST_BYTES).to_bytes(width, "little") + end.to_bytes(width, "little"))
    both = first + _array(items)
    return both + len(first).to_bytes(offset_size(len(both), 1), "little")


def _array(items: list[bytes]) -> bytes:
    if not items:
        return b""
    ends = []
    at = 0
    for item in items:
        at += len(item)
        ends.append(at)
    code = _CODES[offset_size(at, len(ends))]
    return b"".join(items) + struct.pack(f"<{len(ends)}{code}", *ends)


def read(data: bytes) -> tuple[list[FileEntry], list[DirEntry]] | None:
    """Returns files and directories; None when anything about the bytes is not as it must be."""
    halves = _halves(data)
    if halves is None:
        return None
    files: list[FileEntry] = []
    dirs: list[DirEntry] = []
    if not _read_items(halves[0], 1, files) or not _read_items(halves[1], 2, dirs):
        return None
    if files and dirs and not {entry[0] for entry in files}.isdisjoint([entry[0] for entry in dirs]):
        return None
    return files, dirs


def read_digests(data: bytes) -> tuple[list[bytes], list[bytes], list[bytes]] | None:
    """Returns only the checksums of files, dirtrees and dirmetas; None when the bytes are not laid out as they must be.

    Quicker than `read`, for those who need no names: these are not looked at.
    """
    halves = _halves(data)
    if halves is None:
        return None
    files: list[bytes] = []
    trees: list[bytes] = []
    metas: list[bytes] = []
    for half, count in zip(halves, (1, 2), strict=True):
        ends = _ends(half)
        if ends is None:
            return None
        digests = count * _DIGEST_BYTES
        start = 0
        for end in ends:
            one = 1 if end - start <= 0xFF else 2
            at = end - count * one - digests
            if at < start + 2 or int.from_bytes(half[end - one : end], "little") != at - start:
                return None
            second = at - start + _DIGEST_BYTES
            if count == 2 and int.from_bytes(half[end - 2 * one : end - one], "little") != second:
                return None
            first = half[at : at + _DIGEST_BYTES]
            if count == 1:
                files.append(first)
            else:
                trees.append(first)
                metas.append(half[at + _DIGEST_BYTES : at + digests])
            start = end
    return files, trees, metas


def _halves(data: bytes) -> tuple[bytes, bytes] | None:
    """Returns the arrays of files and of directories."""
    width = _width(len(data))
    rest = len(data) - width
    split = int.from_bytes(data[rest:], "little")
    if rest < 0 or split > rest or offset_size(rest, 1) != width:
        return None
    return data[:split], data[split:rest]


def _ends(data: bytes) -> tuple[int, ...] | None:
    """Returns where each item of an array ends; the last one where the offsets begin, none before the one before it."""
    if not data:
        return ()
    width = _width(len(data))
    body = int.from_bytes(data[-width:], "little")
    number, odd = divmod(len(data) - body, width)
    if number <= 0 or odd or offset_size(body, number) != width:
        return None
    ends = struct.unpack_from(f"<{number}{_CODES[width]}", data, body)
    return ends if ends[-1] == body and sorted(ends) == list(ends) else None


def _read_items(data: bytes, count: int, into: list[Any]) -> bool:
    """Reads an array of names with `count` checksums each; False when something about it is wrong."""
    ends = _ends(data)
    if ends is None:
        return False
    last = b""
    start = 0
    digests = count * _DIGEST_BYTES
    for end in ends:
        size = end - start
        one = 1 if size <= 0xFF else 2
        at = size - digests - count * one  # where the checksums begin, behind the NUL
        if at < 2 or offset_size(size - count * one, count) != one:
            return False
        if int.from_bytes(data[end - one : end], "little") != at:
            return False
        if count == 2 and int.from_bytes(data[end - 2 * one : end - one], "little") != at + _DIGEST_BYTES:
            return False
        at += start
        name = data[start : at - 1]
        if name <= last or data[at - 1] or len(name) > 0xFF or b"\0" in name or b"/" in name or name in (b".", b".."):
            return False
        try:
            text = name.decode()
        except UnicodeDecodeError:
            return False
        first = data[at : at + _DIGEST_BYTES].hex()
        if count == 1:
            into.append((text, first))
        else:
            into.append((text, first, data[at + _DIGEST_BYTES : at + digests].hex()))
        last = name
        start = end
    return True


def _width(length: int) -> int:
    return 1 if length <= 0xFF else 2 if length <= 0xFFFF else 4 if length <= 0xFFFFFFFF else 8
